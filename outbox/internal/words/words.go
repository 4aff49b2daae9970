// Package words writes times, numbers and Meta's errors for the command and the pages for
// operators.
package words

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/graphretry/graphretry"
)

// Count returns a number with commas between its thousands.
func Count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Away returns how far a time is from now, as in "12s ago" or "in 3m". now may be a little
// late, so a time that is less than a second later counts as now.
func Away(at, now time.Time) string {
	if away := now.Sub(at); away > -time.Second {
		return Span(max(0, away)) + " ago"
	}
	return "in " + Span(at.Sub(now))
}

// Span returns a length of time in its largest unit, rounded down.
func Span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// ParseAge parses a length of time as [time.ParseDuration] does, or in days as in "3d".
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// Title returns the title of an error: that of the catalogue, or else Meta's own text.
func Title(e *graphretry.Error) string {
	for _, title := range []string{catalogued(e, "title"), e.UserTitle, e.Message} {
		if title != "" {
			return Plain(title)
		}
	}
	return fmt.Sprintf("code %d", e.Code)
}

// Advice returns the catalogue's advice about an error.
func Advice(e *graphretry.Error) string { return catalogued(e, "advice") }

// catalogued returns what the catalogue has about an error, as the error's group of log
// attributes shows it.
func catalogued(e *graphretry.Error, key string) string {
	for _, attribute := range e.LogValue().Group() {
		if attribute.Key == key {
			return attribute.Value.String()
		}
	}
	return ""
}

// Plain returns a text of others without invisible characters and without those that change the
// direction of text or control a terminal. Line breaks stay.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' {
			return ' '
		}
		return r
	}, text)
}

// Line returns a text as Plain does, on one line.
func Line(text string) string { return strings.ReplaceAll(Plain(text), "\n", " ") }
