package page

import (
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// states are the states of a message, in the order of its life.
var states = []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}

// functions are the functions of the templates.
var functions = template.FuncMap{
	"count":   words.Count,
	"seconds": words.Span,
	"moment":  newMoment,
	"why":     why,
	"title":   words.Title,
	"advice":  words.Advice,
	"plain":   words.Plain,
	"link":    link,
	"states":  func() []outbox.State { return states },
}

// link returns a relative link with these parts of a query.
func link(page string, queries ...string) string {
	return page + "?" + strings.Join(slices.DeleteFunc(queries, func(q string) bool { return q == "" }), "&")
}

// moment is a time, with the present time beside it.
type moment struct {
	at, now time.Time
}

func newMoment(at, now time.Time) moment { return moment{at, now} }

// IsZero reports whether the time is zero.
func (m moment) IsZero() bool { return m.at.IsZero() }

// Exact returns the time in RFC 3339.
func (m moment) Exact() string { return m.at.UTC().Format(time.RFC3339) }

// Away returns how far the time is from now, as in "12s ago" or "in 3m".
func (m moment) Away() string { return words.Away(m.at, m.now) }

// Span returns how long ago the time is, as in "12s".
func (m moment) Span() string { return words.Span(max(0, m.now.Sub(m.at))) }

// why returns why a message is in its state, Meta's title first.
func why(s outbox.Status) string { return words.Why(s.Reason, s.Graph) }

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
