package outbox

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// queue is the messages in the database and what becomes of them. Calls, Runs and attempts
// share it.
type queue struct {
	settings
	*clock
	store     *store.Store
	rules     message.Rules
	life      life
	reporting reporting
	runs      runs        // those of this process
	held      heldNumbers // because of webhooks
}

// apply applies an event to a message, and returns the message as it is afterwards. If another
// writer changes the message meanwhile, apply reads it again and applies the event to that.
// name is the name of the write, for tests.
func (q *queue) apply(ctx context.Context, name string, current store.Stored, e message.Event) (store.Stored, error) {
	for {
		saved, err := q.applyOnce(ctx, name, current, e)
		if !errors.Is(err, store.ErrConflict) {
			return saved, err
		}
		if current, err = q.store.Load(ctx, current.ID); err != nil {
			return current, err
		}
	}
}

// applyOnce is apply, except that the error wraps ErrConflict if another writer has changed the
// message since it was read. The message that it returns is then as it would have been.
func (q *queue) applyOnce(ctx context.Context, name string, current store.Stored, e message.Event) (store.Stored, error) {
	next, effects := message.Step(current.Record, e, q.atMost(), &q.rules)
	if !effects.Write {
		return current, effects.Refused
	}
	if effects.Hold {
		// The hold comes before the message is queued again, so that no Run sends it in
		// between.
		if err := q.holdByWebhook(ctx, &next); err != nil {
			return current, err
		}
	}
	saved, err := q.store.Save(ctx, name, current, next, !effects.DropPayload, effects.Outcomes...)
	if err != nil {
		return saved, err
	}
	q.settled(saved)
	q.announce(ctx, &saved, effects.Outcomes)
	return saved, nil
}

// settled wakes the Runs of this process if the message, or another one of its recipient, can
// go now.
func (q *queue) settled(m store.Stored) {
	if m.State == StateQueued && m.Due.After(q.now()) {
		return
	}
	if m.State == StateQueued || q.recipientOrder {
		q.runs.ring(map[string]bool{m.Number: m.Urgent && m.State == StateQueued})
	}
}

// announce logs failed and unknown messages, and passes the outcomes on.
func (q *queue) announce(ctx context.Context, m *store.Stored, kinds []OutcomeKind) {
	for _, kind := range kinds {
		attributes := []any{idOf(m.ID), numberOf(m.Number), reasonOf(m.Reason)}
		if m.Graph != nil {
			attributes = append(attributes, slog.Any("graph", m.Graph))
		}
		switch kind {
		case OutcomeFailed:
			q.logger.Warn("outbox: a message has failed", attributes...)
		case OutcomeUnknown:
			q.logger.Warn("outbox: a message is parked as unknown", attributes...)
		}
	}
	q.publish(ctx, m, kinds)
}

// publish passes outcomes that are written to the observers, and wakes the Runs of this process to
// report them.
func (q *queue) publish(ctx context.Context, m *store.Stored, kinds []OutcomeKind) {
	if len(kinds) == 0 {
		return
	}
	for _, kind := range kinds {
		e := eventOf(EventOutcome, m)
		e.Outcome, e.Age = kind, m.Changed.Sub(m.Enqueued)
		if kind == OutcomeFailed {
			e.Graph = m.Graph
		}
		q.observe(ctx, e)
	}
	if q.onOutcome != nil {
		q.runs.report()
	}
}

// observe calls the observers with an event.
func (q *queue) observe(ctx context.Context, e Event) {
	e.Outbox, e.Time = q.name, q.now()
	ctx = context.WithoutCancel(ctx)
	for _, observer := range q.observers {
		observer.call(ctx, q.logger, e)
	}
}

// hold holds a number on all machines, and reports whether it was not held before.
func (q *queue) hold(ctx context.Context, number string, wait time.Duration, ambiguous, byWebhook bool, reason string) (first bool, err error) {
	first, err = q.store.Hold(ctx, number, wait, ambiguous, byWebhook, message.Shorten(reason))
	if err != nil || !first {
		return false, err
	}
	if number != lane.All {
		q.logger.Warn("outbox: a phone number is held", numberOf(number), reasonOf(reason))
	}
	return true, nil
}

// unhold ends the hold of a number. It reports whether it was held.
func (q *queue) unhold(ctx context.Context, number string, byWebhook bool) (was bool, err error) {
	was, err = q.store.Unhold(ctx, number, byWebhook)
	if was && number != lane.All {
		q.logger.Warn("outbox: a phone number is no longer held", numberOf(number))
	}
	return was, err
}

// holdByWebhook holds the number of a message on all machines, because of a webhook.
func (q *queue) holdByWebhook(ctx context.Context, m *message.Record) error {
	wait := q.probeWait(0)
	first, err := q.hold(ctx, m.Number, wait, false, true, m.Graph.Error())
	if first {
		q.observe(ctx, Event{Kind: EventHeld, PhoneNumberID: m.Number, Graph: m.Graph, Reason: m.Graph.Error(), Wait: wait})
	}
	q.held.forget()
	q.runs.look()
	return err
}

// probeWait returns the wait of the schedule before the next probe of a number, after that many
// probes.
func (q *queue) probeWait(probes int) time.Duration {
	return q.rules.Policy.Next(nil, errHeld, graphretry.History{Held: probes}).Wait
}

// errHeld is a failure for which the Policy returns OutcomeHeld, whatever the options.
var errHeld = &net.OpError{Op: "dial", Err: errors.New("held")}
