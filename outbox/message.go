package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Message is one message of [Outbox.EnqueueAll]. Its fields are the arguments of
// [Outbox.Enqueue].
type Message struct {
	ID            string
	PhoneNumberID string
	Payload       []byte
	Options       []EnqueueOption
}

// Check reports what is wrong with the id, the phone number, the payload or the options of a
// message, as [Outbox.Enqueue] would, but needs no outbox. It does not check [WithMaxAge]. The
// error wraps [ErrInvalid].
func Check(m Message) error {
	_, err := check(m)
	return message.AsInvalid(err)
}

// ErrInvalid is in the chain of every error about an invalid argument, option or [Database].
// Repeating such a call is of no use.
var ErrInvalid = message.ErrInvalid

func check(m Message) (store.New, error) {
	recipient, err := message.Check(m.ID, m.PhoneNumberID, m.Payload)
	if err != nil {
		return store.New{}, err
	}
	next := store.New{ID: m.ID, Number: m.PhoneNumberID, Recipient: recipient, Payload: string(m.Payload)}
	var errs []error
	for _, opt := range m.Options {
		if opt.apply != nil {
			errs = append(errs, opt.apply(&next))
		}
	}
	if !next.NotBefore.IsZero() && !next.ExpiresAt.IsZero() && !next.NotBefore.Before(next.ExpiresAt) {
		errs = append(errs, neverSent(&next, next.ExpiresAt))
	}
	if err := errors.Join(errs...); err != nil {
		return next, fmt.Errorf("outbox: cannot enqueue message %q: %w", m.ID, err)
	}
	return next, nil
}

// checkAge returns an error if a message that is enqueued at that time would be too old before
// it may be sent.
func checkAge(m *store.New, enqueued time.Time, rules *message.Rules) error {
	expiry := rules.Expiry(&message.Record{Enqueued: enqueued, ExpiresAt: m.ExpiresAt})
	if m.NotBefore.IsZero() || m.NotBefore.Before(expiry) {
		return nil
	}
	return fmt.Errorf("outbox: cannot enqueue message %q: %w", m.ID, neverSent(m, expiry))
}

func neverSent(m *store.New, expiry time.Time) error {
	return fmt.Errorf("NotBefore(%v): it could never be sent: want a time before %v, when it expires by ExpiresAt or WithMaxAge", m.NotBefore, expiry)
}

// EnqueueOption changes how one message is sent. The zero EnqueueOption changes nothing.
type EnqueueOption struct {
	apply func(*store.New) error
}

// NotBefore has the message wait until t, by the database's clock. Its age ([WithMaxAge], 24
// hours by default) still counts from Enqueue, so t must come before the message is too old.
func NotBefore(t time.Time) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.NotBefore = t.UTC()
		return checkTime("NotBefore", t)
	}}
}

// ExpiresAt fails the message if it was not sent by t, by the database's clock: a one-time code
// is worth nothing after 5 minutes. No attempt begins after t. [WithMaxAge] applies too.
func ExpiresAt(t time.Time) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.ExpiresAt = t.UTC()
		return checkTime("ExpiresAt", t)
	}}
}

// checkTime returns an error if a time cannot be kept: the tables have microseconds since 1970.
func checkTime(option string, t time.Time) error {
	switch {
	case t.IsZero():
		return errors.New(option + " with the zero time: want a time, or leave it out")
	case t.Year() < 1970 || t.Year() > 9999:
		return fmt.Errorf("%s(%v): want a time from 1970 to 9999", option, t)
	}
	return nil
}

// Urgent has the message overtake all messages of its phone number that are not urgent. The
// rate of the phone number applies to it too.
func Urgent() EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.Urgent = true
		return nil
	}}
}

// Label marks the message as part of something, such as a campaign, whose messages can then be
// listed, counted, dropped or resent together: see [Filter]. A label has 1 to 128 bytes of
// UTF-8 without a NUL. It is not sent to Meta.
func Label(label string) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.Label = label
		if label == "" {
			return errors.New("Label is empty: want a label, or leave it out")
		}
		return message.CheckLabel(label)
	}}
}
