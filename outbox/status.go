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
	// Enqueued is when it was first enqueued, Changed when the state last
	// changed, both by the clock of the machine that did it.
	Enqueued, Changed time.Time
}

func (r *record) status() Status {
	return Status{
		ID: r.ID, PhoneNumberID: r.PhoneNumberID, State: r.State, MessageID: r.MessageID,
		Graph: r.Graph, Reason: r.Reason, Retries: r.retries(), NotBefore: r.NotBefore,
		Enqueued: r.Enqueued, Changed: r.Changed,
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
	flags, err := o.store.flags(ctx)
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the unknown messages: %w", err)
	}
	var parked []Status
	for _, flag := range flags {
		current, err := o.store.load(ctx, flag.key)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("outbox: cannot list the unknown messages: %w", err)
		case current.State == StateUnknown:
			parked = append(parked, current.status())
		}
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
	again := false // it is queued already, and is put there once more in case its message is gone
	err := o.decree(ctx, id, "resend", func(r *record) (bool, error) {
		switch r.State {
		case StateQueued:
			again = true
			return false, nil
		case StateUnknown, StateFailed:
			r.toQueued(o.now())
			return true, nil
		}
		return false, fmt.Errorf("it is %s: only an unknown or a failed message can be sent again", r.State)
	})
	if err != nil || !again {
		return err
	}
	return o.requeue(ctx, id)
}

// Drop gives up a message that is unknown or queued: it becomes failed, with the
// Reason "dropped", and is not sent any more. A webhook that proves that it had
// been sent makes it sent still. Repeating Drop is safe.
//
// The error says so if the message is being sent, was sent or has failed, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Drop(ctx context.Context, id string) error {
	return o.decree(ctx, id, "drop", func(r *record) (bool, error) {
		switch {
		case r.State == StateFailed && r.Reason == reasonDropped:
			return false, nil
		case r.State == StateUnknown || r.State == StateQueued:
			r.toFailed(nil, reasonDropped)
			return true, nil
		}
		return false, fmt.Errorf("it is %s: only an unknown or a queued message can be dropped", r.State)
	})
}

const reasonDropped = "dropped"

// decree carries out a person's decision.
func (o *Outbox) decree(ctx context.Context, id, verb string, alter func(*record) (bool, error)) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil {
		return err
	}
	var refusal error
	_, err = o.change(ctx, current, func(r *record) bool {
		var changed bool
		changed, refusal = alter(r)
		return changed
	})
	if err = cmp.Or(refusal, err); err != nil {
		return fmt.Errorf("outbox: cannot %s message %q: %w", verb, id, err)
	}
	return nil
}

// find is the record of a message that somebody asked for by its id.
func (o *Outbox) find(ctx context.Context, id string) (stored, error) {
	if err := checkID(id); err != nil {
		return stored{}, err
	}
	current, err := o.store.load(ctx, keyOf(id))
	switch {
	case errors.Is(err, ErrNotFound):
		return stored{}, fmt.Errorf("outbox: message %q: %w", id, ErrNotFound)
	case err != nil:
		return stored{}, fmt.Errorf("outbox: cannot look up message %q: %w", id, err)
	}
	return current, nil
}
