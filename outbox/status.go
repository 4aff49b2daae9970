package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// State is where a message is in its life.
type State = message.State

const (
	// StateQueued: the message waits for a worker, or for its next attempt.
	StateQueued = message.StateQueued
	// StateSending: a worker has announced that it sends the message, and the
	// answer is not in yet. A process that dies here leaves this state behind; the
	// message is then parked as unknown once another Run has noticed, within 40 s.
	StateSending = message.StateSending
	// StateSent: Meta has taken the message.
	StateSent = message.StateSent
	// StateFailed: the message was not sent, or Meta could not deliver it, and it
	// will not be tried again.
	StateFailed = message.StateFailed
	// StateUnknown: the message may or may not have been sent, and is not sent
	// again until a webhook or a person settles it.
	StateUnknown = message.StateUnknown
)

// Status is what is known of a message.
type Status struct {
	// ID is the id that it was enqueued with.
	ID string
	// PhoneNumberID is the business's phone number that it is sent from.
	PhoneNumberID string
	// Label is that of [Label], "" if it has none.
	Label string
	// State is where it is in its life.
	State State
	// MessageID is the id that Meta gave it, as in "wamid.HBgL...". It is empty
	// before StateSent, and for a success that named no message.
	MessageID string
	// Graph is what Meta said last, if it refused the message or failed to
	// deliver it; otherwise nil. Its Raw is not kept.
	Graph *graphretry.Error
	// Reason says in words why the state is StateFailed or StateUnknown, or why
	// a queued message waits for another attempt. Of one that was delivered it says so if
	// Meta says that it failed, too; Graph is that failure then.
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
	// ParticipantFailures is to how many participants of a group it was not delivered, as
	// webhooks say, and ParticipantGraph is what Meta said of the last of them. The others
	// may have it, so it is not sent again for them.
	ParticipantFailures int
	ParticipantGraph    *graphretry.Error
	// Enqueued is when it was first enqueued, Changed when something last happened to it
	// that is written down, both by the clock of the database. A claim by a worker is not.
	Enqueued, Changed time.Time
}

func statusOf(m *store.Stored) Status {
	s := Status{
		ID: m.ID, PhoneNumberID: m.Number, Label: m.Label, State: m.State, MessageID: m.MessageID,
		Graph: m.Graph, Reason: m.Reason, Retries: m.Retries(),
		Delivered: m.Delivered.Time, Read: m.Read.Time,
		ParticipantFailures: len(m.Participants), ParticipantGraph: m.ParticipantGraph,
		Enqueued: m.Enqueued, Changed: m.Changed,
	}
	if m.State == StateQueued && m.Due.After(m.Enqueued.Add(time.Second)) {
		s.NotBefore = m.Due
	}
	return s
}

// Status tells what is known of the message with that id. The error wraps [ErrNotFound] if no such message was
// enqueued, or if it is older than the retention; [ErrClosed] after Close.
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
	return statusOf(&current), nil
}

// Payload returns the payload of the message with that id, as it is sent. It is empty if the
// payload is not kept any more: see [WithKeepPayload]. The error wraps [ErrNotFound] if there
// is no such message, and [ErrClosed] after Close.
func (o *Outbox) Payload(ctx context.Context, id string) ([]byte, error) {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := message.CheckID(id); err != nil {
		return nil, message.AsInvalid(err)
	}
	payload, err := o.store.Payload(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot read the payload of message %q: %w", id, err)
	}
	return []byte(payload), nil
}

// Unknown lists the messages that are parked as unknown, the longest parked
// first. It takes a time that grows with their number, not with that of all
// messages.
//
// A message whose process has died is listed once another Run has noticed that, within
// 40 s.
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
			return fmt.Errorf("outbox: cannot delete message %q: %w", id, errSending)
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

// sendingError is why a message cannot be deleted.
type sendingError struct{}

func (sendingError) Error() string { return "it is being sent" }

func (sendingError) Is(target error) bool { return target == ErrRefused }

var errSending error = sendingError{}

// find is a message that somebody asked for by its id.
func (o *Outbox) find(ctx context.Context, id string) (store.Stored, error) {
	if err := message.CheckID(id); err != nil {
		return store.Stored{}, message.AsInvalid(err)
	}
	current, err := o.store.Load(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return current, fmt.Errorf("outbox: message %q: %w", id, err)
	case err != nil:
		return current, fmt.Errorf("outbox: cannot look up message %q: %w", id, err)
	}
	return current, nil
}

// apply has an event happen to a message, whatever else happens to it meanwhile: where
// somebody is faster, it happens to what they have made of it. It returns the message as it
// is in the end. name is that of the write, for tests.
func (o *Outbox) apply(ctx context.Context, name string, current store.Stored, e message.Event) (store.Stored, error) {
	for {
		next, effects := message.Step(current.Record, e, o.atMost(), &o.rules)
		if !effects.Write {
			return current, effects.Refused
		}
		if effects.Hold {
			// Before it is queued again, so that nobody sends it meanwhile.
			if err := o.holdByWebhook(ctx, &next); err != nil {
				return current, err
			}
		}
		saved, err := o.store.Save(ctx, name, current, next, !effects.DropPayload, effects.Outcomes...)
		if err == nil {
			o.settled(saved)
			o.report(ctx, &saved, effects.Outcomes)
			return saved, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return current, err
		}
		if current, err = o.store.Load(ctx, current.ID); err != nil {
			return current, err
		}
	}
}

// settled wakes the Runs of this process if a message can go, or another of its recipient.
func (o *Outbox) settled(m store.Stored) {
	if m.State == StateQueued && m.Due.After(o.now()) {
		return
	}
	if m.State == StateQueued || o.recipientOrder {
		o.ring(map[string]bool{m.Number: m.Urgent && m.State == StateQueued})
	}
}
