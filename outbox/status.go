package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
)

// Status is what is known of a message.
type Status struct {
	// ID is the id that it was enqueued with.
	ID string
	// PhoneNumberID is the business's phone number that it is sent from.
	PhoneNumberID string
	// State is where it is in its life.
	State State
	// MessageID is the id that Meta gave it, as in "wamid.HBgL...". It is empty
	// before StateSent, and for a success that named no message.
	MessageID string
	// Graph is what Meta said last, if it refused the message or failed to
	// deliver it; otherwise nil. Its Raw is not kept.
	Graph *graphretry.Error
	// Reason says in words why the state is StateFailed or StateUnknown, or why
	// a queued message waits for another attempt.
	Reason string
	// Retries is how often it was retried, 0 after its first attempt. Resend
	// begins to count anew.
	Retries int
	// NotBefore is when the next attempt may be made, the zero Time if nothing is
	// to be waited for.
	NotBefore time.Time
	// Delivered and Read are when a webhook says that it was, by Meta's clock; the
	// zero Time if none has.
	Delivered, Read time.Time
	// Enqueued is when it was first enqueued, Changed when its record last
	// changed, both by the clock of the NATS server.
	Enqueued, Changed time.Time
	// Revision grows with each change of any message: [Outbox.List] goes by it.
	Revision uint64
}

func (r *stored) status() Status {
	return Status{
		ID: r.ID, PhoneNumberID: r.number, State: r.State, MessageID: r.MessageID,
		Graph: r.Graph, Reason: r.Reason, Retries: r.retries(), NotBefore: r.NotBefore.Time,
		Delivered: r.Delivered.Time, Read: r.Read.Time,
		Enqueued: r.Enqueued.Time, Changed: r.Changed.Time, Revision: r.revision,
	}
}

// Status tells what is known of the message with that id. On a cluster it may
// lag a moment behind. The error wraps [ErrNotFound] if no such message was
// enqueued, or if its record is older than the retention; [ErrClosed] after
// Close.
func (o *Outbox) Status(ctx context.Context, id string) (Status, error) {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return Status{}, err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	return current.status(), nil
}

// Unknown lists the messages that are parked as unknown, the longest parked
// first. It takes a time that grows with their number, not with that of all
// messages.
//
// A message whose worker has died is listed once JetStream has delivered it
// again, which takes [WithAckWait] and a worker in Run.
func (o *Outbox) Unknown(ctx context.Context) ([]Status, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	parked, err := o.list(ctx, Filter{States: []State{StateUnknown}})
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the unknown messages: %w", err)
	}
	slices.SortFunc(parked, func(a, b Status) int {
		return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.ID, b.ID))
	})
	return parked, nil
}

// Resend puts a message that is unknown or failed back into the queue, as if it
// were new: its age and its retries begin again. It is for a person, or a
// program, that knows that the message was not sent, and that nobody is about to
// send it: a worker whose machine was frozen in the middle of an attempt still
// makes it when it awakes. Otherwise the receiver gets it twice. Repeating Resend
// is safe: a message that is queued already stays there once.
//
// The error says so if the message is being sent or was sent, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close. After any other
// error Resend may be called again.
func (o *Outbox) Resend(ctx context.Context, id string) error {
	return o.decree(ctx, id, "resend", eventResent)
}

// Drop gives up a message that is unknown or queued: it becomes failed, with the
// Reason "dropped", and is not sent any more. A webhook that proves that it had
// been sent makes it sent still. Repeating Drop is safe.
//
// The error says so if the message is being sent, was sent or has failed, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Drop(ctx context.Context, id string) error {
	return o.decree(ctx, id, "drop", eventDropped)
}

// decree carries out a person's decision.
func (o *Outbox) decree(ctx context.Context, id, verb string, kind eventKind) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil {
		return err
	}
	if _, err = o.apply(ctx, current, event{kind: kind}); err != nil {
		return fmt.Errorf("outbox: cannot %s message %q: %w", verb, id, err)
	}
	return nil
}

// Delete takes a message out of the outbox with all that is known of it, and its payload.
// What stays, until the retention is over, is a hash of its id, so that Enqueue takes a
// message of the same id for the same message and does not send it. The disk keeps the
// bytes until the server uses them again. A message in the queue is not sent any more.
// Repeating Delete is safe.
//
// The error says so if the message is being sent, wraps [ErrNotFound] if there is none,
// and [ErrClosed] after Close.
func (o *Outbox) Delete(ctx context.Context, id string) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	for {
		current, err := o.find(ctx, id)
		if errors.Is(err, errDeleted) {
			return o.clearAll(ctx, current)
		}
		if err != nil {
			return err
		}
		if current.State == StateSending {
			return fmt.Errorf("outbox: cannot delete message %q: it is being sent", id)
		}
		next := current
		next.record = record{State: stateDeleted}
		gone := current
		gone.State = stateDeleted
		puts, worthless, _, err := o.takeTurn(ctx, gone)
		if err == nil {
			puts = append(puts, put{subject: o.store.subject(kindDeleted, current.number, current.key)})
			_, err = o.store.save(ctx, next, puts...)
		}
		if err == nil {
			o.tidy(ctx, worthless)
			err = o.clearAll(ctx, current)
		}
		if !errors.Is(err, errConflict) {
			if err != nil {
				err = fmt.Errorf("outbox: cannot delete message %q: %w", id, err)
			}
			return err
		}
		if err := pause(ctx, conflictWait); err != nil {
			return err
		}
	}
}

// clearAll takes out of the stream all of a message but its record.
func (o *Outbox) clearAll(ctx context.Context, r stored) error {
	for _, kind := range []string{kindPayload, kindWait, kindQueue, kindUrgent, kindAfter, kindFailed, kindUnknown} {
		if err := o.store.clear(ctx, o.store.subject(kind, r.number, r.key)); err != nil {
			return err
		}
	}
	return nil
}

// find is the record of a message that somebody asked for by its id. Of one that was
// deleted it returns, beside the error, where it was.
func (o *Outbox) find(ctx context.Context, id string) (stored, error) {
	if err := checkID(id); err != nil {
		return stored{}, err
	}
	current, err := o.store.load(ctx, keyOf(id))
	switch {
	case errors.Is(err, ErrNotFound):
		return current, fmt.Errorf("outbox: message %q: %w", id, err)
	case err != nil:
		return stored{}, fmt.Errorf("outbox: cannot look up message %q: %w", id, err)
	}
	return current, nil
}
