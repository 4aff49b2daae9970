package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Resend puts an unknown or failed message back at the end of the queue. Its age and its
// retries begin again at 0.
//
// Call it only if the message was certainly not sent, and no worker is about to send it: a
// worker whose machine was frozen in the middle of an attempt still makes the attempt when it
// wakes. Otherwise the recipient gets the message twice. Repeating Resend is safe: a message
// that is queued already stays in the queue once.
//
// The error says so if the message is being sent or was sent. It wraps [ErrNotFound] if there
// is none, and [ErrClosed] after Close. After any other error Resend may be repeated.
func (o *Outbox) Resend(ctx context.Context, id string) error {
	return o.decide(ctx, id, "resend", message.Resent)
}

// Drop gives up an unknown or queued message: it becomes failed, with the Reason "dropped", and
// is not sent. If a webhook proves that it had been sent, it becomes sent. Repeating Drop is
// safe.
//
// The error says so if the message is being sent, was sent or has failed. It wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Drop(ctx context.Context, id string) error {
	return o.decide(ctx, id, "drop", message.Dropped)
}

// Park makes a queued message unknown, with the Reason "parked". It is not sent until a webhook
// or a person settles it. This is for a database that has forgotten what was sent last: see
// [Outbox.ParkAll]. Repeating Park is safe.
//
// The error says so if the message is being sent, was sent or has failed. It wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Park(ctx context.Context, id string) error {
	return o.decide(ctx, id, "park", message.Parked)
}

// decide carries out a person's decision.
func (o *Outbox) decide(ctx context.Context, id, verb string, kind message.EventKind) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil {
		return err
	}
	if _, err = o.apply(ctx, verb, current, message.Event{Kind: kind}); err != nil {
		return fmt.Errorf("outbox: cannot %s message %q: %w", verb, id, err)
	}
	return nil
}

// Delete deletes a message with its payload and everything about it. A queued message is not
// sent any more. A hash of its id stays until the retention is over, so that Enqueue takes a
// message with the same id for the same message and does not send it. The database may keep the
// deleted bytes until it reuses their place. Repeating Delete is safe.
//
// The error says so if the message is being sent. It wraps [ErrNotFound] if there is none, and
// [ErrClosed] after Close.
func (o *Outbox) Delete(ctx context.Context, id string) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	return o.delete(ctx, id)
}

func (o *Outbox) delete(ctx context.Context, id string) error {
	for {
		current, err := o.find(ctx, id)
		if errors.Is(err, ErrNotFound) {
			if deleted, looking := o.store.IsDeleted(ctx, id); deleted || looking != nil {
				return looking
			}
		}
		if err != nil {
			return err
		}
		if current.State == StateSending {
			return fmt.Errorf("outbox: cannot delete message %q: %w", id, message.Refusal("it is being sent"))
		}
		err = o.store.Delete(ctx, current)
		if !errors.Is(err, store.ErrConflict) {
			if err != nil {
				err = fmt.Errorf("outbox: cannot delete message %q: %w", id, err)
			}
			return err
		}
	}
}

// ErrRefused is in the chain of the error if the state of a message does not allow a decision,
// such as [Outbox.Drop] of a message that was sent.
var ErrRefused = message.ErrRefused
