// Package words is how the command and the pages for operators write times, numbers and what
// Meta said.
package words

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/graphretry/graphretry"
)

// Count returns a number with its thousands apart.
func Count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Away returns how far a time is from now, as in "12s ago" or "in 3m". Now may be a little
// late, so less than a second to come is no time ago.
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

// ParseAge reads a length of time as [time.ParseDuration] does, and days as in 3d.
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// Title returns the title of what Meta said: that of the catalogue, or else Meta's own text.
func Title(e *graphretry.Error) string {
	for _, title := range []string{catalogued(e, "title"), e.UserTitle, e.Message} {
		if title != "" {
			return Plain(title)
		}
	}
	return fmt.Sprintf("code %d", e.Code)
}

// Advice returns what the catalogue advises.
func Advice(e *graphretry.Error) string { return catalogued(e, "advice") }

// catalogued returns what the catalogue has of an error, which its group for logs tells.
func catalogued(e *graphretry.Error, key string) string {
	for _, attribute := range e.LogValue().Group() {
		if attribute.Key == key {
			return attribute.Value.String()
		}
	}
	return ""
}

// Plain returns a text of somebody else's without what would turn the direction of the text
// around it, draw on a terminal, or cannot be seen. Its lines stay.
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
