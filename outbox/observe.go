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
	// EventClaimed: a worker has a message, and is about to send it. Age is how long the
	// message was due.
	EventClaimed EventKind = iota + 1
	// EventAttempted: an attempt has ended, as Result says. Lasted is how long it took. Wait is
	// the time until the next attempt, if Result is OutcomeRetry or OutcomeHeld of package
	// graphretry.
	EventAttempted
	// EventOutcome: a message has the outcome Outcome. Age is the time since it was enqueued.
	EventOutcome
	// EventHeld: this process holds a phone number on all machines, for Reason. Wait is the
	// time until its first probe.
	EventHeld
	// EventReleased: this process has found out that the number need not be held any longer.
	EventReleased
)

var eventTexts = map[EventKind]string{
	EventClaimed: "claimed", EventAttempted: "attempted", EventOutcome: "outcome", EventHeld: "held", EventReleased: "released",
}

// String returns the kind in a word, or "EventKind(42)" for an unknown kind.
func (k EventKind) String() string {
	if text, ok := eventTexts[k]; ok {
		return text
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is something that happens in this process. An outcome is an Event of the process that
// has written it. An Event is reported once, when it happens. For events that must not be
// missed use [WithOutcome].
type Event struct {
	Kind EventKind
	// Outbox is the name of the outbox: see [WithName].
	Outbox string
	// Time is when it happened, by the database's clock.
	Time time.Time
	// ID and Label are those of the message, empty for an event of a phone number.
	ID, Label string
	// PhoneNumberID is the business's phone number.
	PhoneNumberID string
	// Outcome is the outcome, for EventOutcome.
	Outcome OutcomeKind
	// Result is the result of the attempt, for EventAttempted.
	Result graphretry.Outcome
	// Graph is Meta's error, nil if there is none: why an attempt or a message failed. Its
	// Class is that of the failure.
	Graph *graphretry.Error
	// Reason says why, in words.
	Reason string
	// Wait, Age and Lasted are explained at the kinds, and are 0 for other kinds.
	Wait, Age, Lasted time.Duration
}

// eventOf returns an event of a message.
func eventOf(kind EventKind, m *store.Stored) Event {
	return Event{Kind: kind, ID: m.ID, Label: m.Label, PhoneNumberID: m.Number, Reason: m.Reason}
}

// observer is a function that was given to WithObserver.
type observer struct {
	observe func(context.Context, Event)
	// hangs is set if a call has not returned in time. It becomes true when the call has
	// returned.
	hangs atomic.Pointer[atomic.Bool]
}

// observerTimeout bounds a call of an observer. The goroutine that calls it has other work to
// do.
const observerTimeout = time.Second

// call calls the observer with an event. An observer that has not returned from an earlier call
// in time is skipped until it has.
func (o *observer) call(ctx context.Context, logger *slog.Logger, e Event) {
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
		logger.Error("outbox: an observer has not returned in time, and is skipped until it does", errorOf(err.Error()))
	}
}
