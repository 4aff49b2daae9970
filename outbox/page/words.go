package page

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

// states are those that a message can have, in the order of its life.
var states = []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}

// functions are those of the templates.
var functions = template.FuncMap{
	"count":   count,
	"seconds": seconds,
	"moment":  newMoment,
	"why":     why,
	"title":   titleOf,
	"advice":  adviceOf,
	"plain":   plain,
	"link":    link,
	"states":  func() []outbox.State { return states },
}

// link returns a relative link with these parts of a query.
func link(page string, queries ...string) string {
	return page + "?" + strings.Join(slices.DeleteFunc(queries, func(q string) bool { return q == "" }), "&")
}

// count returns a number with its thousands apart.
func count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// moment is a time beside now.
type moment struct {
	at, now time.Time
}

func newMoment(at, now time.Time) moment { return moment{at, now} }

// IsZero reports whether it is no time.
func (m moment) IsZero() bool { return m.at.IsZero() }

// Exact returns the time as RFC 3339 has it.
func (m moment) Exact() string { return m.at.UTC().Format(time.RFC3339) }

// Away returns how far it is from now, as in "12s ago" or "in 3m". Now may be a little late.
func (m moment) Away() string {
	if away := m.now.Sub(m.at); away > -time.Second {
		return seconds(max(0, away)) + " ago"
	}
	return "in " + seconds(m.at.Sub(m.now))
}

// seconds returns a time in its largest unit, rounded down.
func seconds(d time.Duration) string {
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

// titleOf returns the title of what Meta said: that of the catalogue, or else Meta's own text.
func titleOf(e *graphretry.Error) string {
	for _, title := range []string{catalogued(e, "title"), e.UserTitle, e.Message} {
		if title != "" {
			return plain(title)
		}
	}
	return fmt.Sprintf("code %d", e.Code)
}

// adviceOf returns what the catalogue advises.
func adviceOf(e *graphretry.Error) string { return catalogued(e, "advice") }

// catalogued returns what the catalogue has of an error, which its group for logs tells.
func catalogued(e *graphretry.Error, key string) string {
	for _, attribute := range e.LogValue().Group() {
		if attribute.Key == key {
			return attribute.Value.String()
		}
	}
	return ""
}

// why returns why a message is in its state, Meta's title first.
func why(s outbox.Status) string {
	reason := plain(s.Reason)
	if s.Graph == nil {
		return reason
	}
	return strings.TrimSuffix(titleOf(s.Graph)+" · "+reason, " · ")
}

// plain returns a text of somebody else's without what would turn the direction of the text
// around it, or cannot be seen.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' {
			return ' '
		}
		return r
	}, text)
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
