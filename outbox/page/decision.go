package page

import (
	"context"
	"net/url"
	"slices"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// decision is a decision that a person can make.
type decision struct {
	// Verb is its name, and Name is the text of its button.
	Verb, Name string
	// Effect says what becomes of the messages.
	Effect string
	// done says what has become of them, as in "3 messages were dropped".
	done string
	// states are the states of the messages that it applies to, nil for a decision about
	// numbers.
	states []outbox.State
	// one carries it out for a message or a number, and all for all messages that match a
	// filter by then. all is nil if listed carries it out, for those that have not changed since
	// they were listed.
	one    func(*outbox.Outbox, context.Context, string) error
	all    func(*outbox.Outbox, context.Context, outbox.Filter) (int, error)
	listed func(*outbox.Outbox, context.Context, []outbox.Status) (int, error)
}

var decisions = map[string]decision{
	"resend": {"resend", "Resend", "They go back into the queue as if they were new. One that was sent after all is received twice.", "put back into the queue",
		[]outbox.State{outbox.StateFailed, outbox.StateUnknown}, (*outbox.Outbox).Resend, nil, (*outbox.Outbox).ResendListed},
	"drop": {"drop", "Drop", "They become failed and are not sent. Resend takes that back.", "dropped",
		[]outbox.State{outbox.StateQueued, outbox.StateUnknown}, (*outbox.Outbox).Drop, (*outbox.Outbox).DropAll, nil},
	"park": {"park", "Park", "They become unknown, since they may have been sent. They are not sent until a webhook or a person settles them.", "parked",
		[]outbox.State{outbox.StateQueued}, (*outbox.Outbox).Park, (*outbox.Outbox).ParkAll, nil},
	"delete": {"delete", "Delete", "Everything about them is deleted, with their payloads. Those that are queued are not sent. Nothing takes that back.", "deleted",
		[]outbox.State{outbox.StateQueued, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}, (*outbox.Outbox).Delete, (*outbox.Outbox).DeleteAll, nil},
	"pause": {"pause", "Pause", "No machine sends anything until a person resumes. Attempts that are under way are completed. Messages that become too old meanwhile fail.", "paused",
		nil, (*outbox.Outbox).Pause, nil, nil},
	"resume": {"resume", "Resume", "The machines send again. A number that is paused by itself stays paused.", "resumed",
		nil, (*outbox.Outbox).Resume, nil, nil},
}

func (d decision) takes(state outbox.State) bool { return slices.Contains(d.states, state) }

// Spares reports whether it leaves alone what changes after the user was asked.
func (d decision) Spares() bool { return d.listed != nil }

// Query returns the query that names the decision.
func (d decision) Query() string { return url.Values{"verb": {d.Verb}}.Encode() }

// report returns a sentence that says that it was carried out.
func (d decision) report(n int) string {
	switch {
	case d.states == nil && n == 0:
		return "All numbers were " + d.done + "."
	case d.states == nil:
		return "The number was " + d.done + "."
	case n == 1:
		return "1 message was " + d.done + "."
	}
	return words.Count(n) + " messages were " + d.done + "."
}

// decisionsOf returns the decisions that a person can make about messages of these states, or
// of all states.
func decisionsOf(given []outbox.State) []decision {
	var found []decision
	for _, verb := range []string{"resend", "drop", "park", "delete"} {
		d := decisions[verb]
		if len(given) == 0 || slices.ContainsFunc(given, d.takes) {
			found = append(found, d)
		}
	}
	return found
}
