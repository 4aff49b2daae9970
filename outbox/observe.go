package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// EventKind is what an [Event] is about.
type EventKind int

const (
	// EventClaimed: a worker has a message, and is about to send it. Age is for how long
	// that was due.
	EventClaimed EventKind = iota + 1
	// EventAttempted: an attempt has ended, as Result says. Lasted is how long it took; Wait
	// is how long the message waits for the next one, if Result is OutcomeRetry or
	// OutcomeHeld of package graphretry.
	EventAttempted
	// EventOutcome: a message has the outcome Outcome. Age is the time since it was enqueued.
	EventOutcome
	// EventHeld: this process holds a phone number for all machines, for Reason. Wait is the
	// time to its first probe.
	EventHeld
	// EventReleased: this process has found out that the number need be held no longer.
	EventReleased
)

var eventTexts = map[EventKind]string{
	EventClaimed: "claimed", EventAttempted: "attempted", EventOutcome: "outcome", EventHeld: "held", EventReleased: "released",
}

// String returns the kind in a word, or "EventKind(42)" for a number that is none.
func (k EventKind) String() string {
	if text, ok := eventTexts[k]; ok {
		return text
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is something that happens in this process. An outcome is an Event of the process that
// has written it down. An Event is told when it happens, and never again: for what must not be
// missed there is [WithOutcome].
type Event struct {
	Kind EventKind
	// Outbox is the name of the outbox: see [WithName].
	Outbox string
	// Time is when it happened, by the clock of the database.
	Time time.Time
	// ID and Label are the message's, empty for an event of a phone number.
	ID, Label string
	// PhoneNumberID is the business's phone number.
	PhoneNumberID string
	// Outcome is that of an EventOutcome.
	Outcome OutcomeKind
	// Result is that of an EventAttempted.
	Result graphretry.Outcome
	// Graph is what Meta said, nil if it did not: why an attempt or a message failed. Its
	// Class is that of the failure.
	Graph *graphretry.Error
	// Reason says in words why.
	Reason string
	// Wait, Age and Lasted are what the kind says, 0 for other kinds.
	Wait, Age, Lasted time.Duration
}

// eventOf returns an event of a message.
func eventOf(kind EventKind, m *store.Stored) Event {
	return Event{Kind: kind, ID: m.ID, Label: m.Label, PhoneNumberID: m.Number, Reason: m.Reason}
}

// observer is a function of the user's that is told of events.
type observer struct {
	observe func(context.Context, Event)
	// hangs is set if a call has not returned in time, and has true in it once it has.
	hangs atomic.Pointer[atomic.Bool]
}

// observerTimeout is how long an observer may take. It is called by who has something to do.
const observerTimeout = time.Second

// tell tells the observer of an event. One that has not returned from another event in time
// is passed over until it has.
func (o *observer) tell(ctx context.Context, logger *slog.Logger, e Event) {
	if returned := o.hangs.Load(); returned != nil && !returned.Load() {
		return
	}
	var returned atomic.Bool
	err := callUser(ctx, logger, "a function given to WithObserver", observerTimeout, func(ctx context.Context) {
		defer returned.Store(true)
		o.observe(ctx, e)
	})
	if err != nil && !returned.Load() {
		o.hangs.Store(&returned)
		logger.Error("outbox: an observer is passed over until it returns", errorOf(err.Error()))
	}
}
