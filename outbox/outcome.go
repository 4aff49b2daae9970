package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// OutcomeKind is what an [Outcome] tells.
type OutcomeKind = message.OutcomeKind

const (
	// OutcomeSent: Meta has taken the message.
	OutcomeSent = message.OutcomeSent
	// OutcomeDelivered: Meta says by webhook that it was delivered, or played.
	OutcomeDelivered = message.OutcomeDelivered
	// OutcomeRead: Meta says by webhook that it was read.
	OutcomeRead = message.OutcomeRead
	// OutcomeFailed: it will not be sent, or was not delivered, and is not tried again. A
	// message that somebody drops has failed, too.
	OutcomeFailed = message.OutcomeFailed
	// OutcomeUnknown: it may have been sent, and is not tried again until a webhook or a
	// person settles it.
	OutcomeUnknown = message.OutcomeUnknown
)

// Outcome is what has become of a message. A message can have several, one after the other:
// sent, delivered and read, or failed, and sent after a Resend.
type Outcome struct {
	Kind OutcomeKind
	// Time is when it became known, by the clock of the database.
	Time time.Time
	// Status is what is known of the message when it is told, which can be later: it may have
	// been delivered by then.
	Status Status
}

// telling is when outcomes are told.
type telling struct {
	every       time.Duration // how often a Run looks for what others owe
	first, most time.Duration // how long to wait after an error, at first and at most
	timeout     time.Duration // of a call
	lease       time.Duration // for how long one Run has a message to itself
}

var defaultTelling = telling{every: time.Second, first: 5 * time.Second, most: time.Minute, timeout: userTimeout, lease: time.Minute}

const (
	// tellPage is of how many messages a Run tells before it looks again, and tellPause how
	// long it waits for more of them before it does.
	tellPage  = 64
	tellPause = 25 * time.Millisecond
	// tellFlush is for how long what was told is not written down. A process that dies has it
	// told once more.
	tellFlush = 100 * time.Millisecond
)

// tellOutcomes tells of outcomes, one after the other, until ctx ends. What has not been told
// by then is told by another Run, or by a later one.
func (r *running) tellOutcomes(ctx context.Context) {
	errs := make(map[int64]int) // in a row, of messages
	for ctx.Err() == nil {
		began := time.Now()
		page, err := r.store.TakeOwed(ctx, r.now(), r.telling.lease, tellPage)
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot find out which outcomes are to be told", errorOf(err.Error()))
		}
		r.tellPage(ctx, page, began, errs)
		wait := r.telling.every
		if len(page) > 0 {
			wait = tellPause - time.Since(began)
			if len(page) == tellPage {
				wait = 0
			}
			pause(ctx, wait)
			continue
		}
		select {
		case <-r.owed:
			pause(ctx, tellPause)
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// tellPage tells what is to be told of some messages, of which this Run has had the lease for
// itself since then.
func (r *running) tellPage(ctx context.Context, page []store.Owed, began time.Time, errs map[int64]int) {
	var told []store.Told
	flushed := time.Now()
	flush := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		if err := r.store.Tell(ctx, told); err != nil {
			r.logger.Error("outbox: cannot write down which outcomes were told: they are told again", errorOf(err.Error()))
		}
		told, flushed = nil, time.Now()
	}
	for _, m := range page {
		t := store.Told{Owed: m, Again: r.now()}
		if len(m.Outcomes) == 0 { // somebody else has written there
			t.Again = r.now().Add(r.telling.most)
		}
		for _, outcome := range m.Outcomes {
			// Another Run gets it when the lease is over, and must not while this one tells.
			if ctx.Err() != nil || time.Since(began) > r.telling.lease-r.telling.timeout-2*grace {
				break
			}
			err := r.tell(ctx, Outcome{outcome.Kind, outcome.At, statusOf(&m.Stored)})
			if err != nil {
				wait := min(r.telling.first<<min(errs[m.Seq], 10), r.telling.most)
				errs[m.Seq]++
				t.Again = r.now().Add(wait)
				if ctx.Err() == nil {
					r.logger.Error("outbox: an outcome could not be told, and is told again", idOf(m.ID),
						slog.Float64("graphretry.wait_s", wait.Seconds()), errorOf(err.Error()))
				}
				break
			}
			t.N++
		}
		if t.N == len(m.Outcomes) {
			delete(errs, m.Seq)
		}
		told = append(told, t)
		if time.Since(flushed) > tellFlush {
			flush()
		}
	}
	flush()
}

// tell tells the user of an outcome.
func (o *Outbox) tell(ctx context.Context, outcome Outcome) error {
	result := make(chan error, 1)
	err := o.user(ctx, "the function given to WithOutcome", o.telling.timeout, func(ctx context.Context) {
		result <- o.onOutcome(ctx, outcome)
	})
	if err != nil {
		return err
	}
	return <-result
}

// report logs the outcomes that somebody should know of, and has the Runs of this process
// tell them.
func (o *Outbox) report(ctx context.Context, m *store.Stored, kinds []OutcomeKind) {
	for _, kind := range kinds {
		attributes := []any{idOf(m.ID), numberOf(m.Number), reasonOf(m.Reason)}
		if m.Graph != nil {
			attributes = append(attributes, slog.Any("graph", m.Graph))
		}
		switch kind {
		case OutcomeFailed:
			o.logger.Warn("outbox: a message has failed", attributes...)
		case OutcomeUnknown:
			o.logger.Warn("outbox: a message is parked as unknown", attributes...)
		}
	}
	o.came(ctx, m, kinds)
}

// came has it be known that a message has outcomes, which are written down.
func (o *Outbox) came(ctx context.Context, m *store.Stored, kinds []OutcomeKind) {
	if len(kinds) == 0 {
		return
	}
	for _, kind := range kinds {
		e := eventOf(EventOutcome, m)
		e.Outcome, e.Age = kind, m.Changed.Sub(m.Enqueued)
		if kind == OutcomeFailed {
			e.Graph = m.Graph
		}
		o.observe(ctx, e)
	}
	if o.onOutcome == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for r := range o.running {
		select {
		case r.owed <- struct{}{}:
		default:
		}
	}
}
