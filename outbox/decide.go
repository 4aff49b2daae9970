package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Resend puts a message that is unknown or failed back into the queue, as if it
// were new: its age and its retries begin again, and it stands at the end. It is for a person, or a
// program, that knows that the message was not sent, and that nobody is about to
// send it: a worker whose machine was frozen in the middle of an attempt still
// makes it when it awakes. Otherwise the receiver gets it twice. Repeating Resend
// is safe: a message that is queued already stays there once.
//
// The error says so if the message is being sent or was sent, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close. After any other
// error Resend may be called again.
func (o *Outbox) Resend(ctx context.Context, id string) error {
	return o.decree(ctx, id, "resend", message.Resent)
}

// Drop gives up a message that is unknown or queued: it becomes failed, with the
// Reason "dropped", and is not sent any more. A webhook that proves that it had
// been sent makes it sent still. Repeating Drop is safe.
//
// The error says so if the message is being sent, was sent or has failed, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Drop(ctx context.Context, id string) error {
	return o.decree(ctx, id, "drop", message.Dropped)
}

// Park has a queued message not be sent, as it may have been: it becomes unknown, with the
// Reason "parked", and webhooks or a person settle it. It is for a database that has
// forgotten what was sent last: see [Outbox.ParkAll]. Repeating Park is safe.
//
// The error says so if the message is being sent, was sent or has failed, wraps
// [ErrNotFound] if there is none, and [ErrClosed] after Close.
func (o *Outbox) Park(ctx context.Context, id string) error {
	return o.decree(ctx, id, "park", message.Parked)
}

// decree carries out a person's decision.
func (o *Outbox) decree(ctx context.Context, id, verb string, kind message.EventKind) error {
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

// Delete takes a message out of the outbox with all that is known of it, and its payload.
// What stays, until the retention is over, is a hash of its id, so that Enqueue takes a
// message of the same id for the same message and does not send it. A message in the queue
// is not sent any more. Repeating Delete is safe. The database may keep the bytes until it
// uses their place again.
//
// The error says so if the message is being sent, wraps [ErrNotFound] if there is none,
// and [ErrClosed] after Close.
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

// ErrRefused is in the chain of the error of a decision that the state of its message does
// not allow, such as [Outbox.Drop] of one that was sent.
var ErrRefused = message.ErrRefused
