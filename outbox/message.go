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

// Check reports what is wrong with a message, as [Outbox.Enqueue] would, without an outbox:
// its id, its phone number, its payload and its options. What it cannot know is [WithMaxAge].
// The error wraps [ErrInvalid].
func Check(m Message) error {
	_, err := check(m)
	return message.AsInvalid(err)
}

// ErrInvalid is in the chain of every error that is about an argument, an option or a
// [Database]: what cannot be, whatever the database says, so that trying again is in vain.
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

// checkAge reports whether a message that is enqueued at a time is too old before it may go.
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

// EnqueueOption changes how one message is sent. The zero EnqueueOption changes
// nothing.
type EnqueueOption struct {
	apply func(*store.New) error
}

// NotBefore has the message wait until then, by the clock of the database. Its age
// ([WithMaxAge], 24 hours by default) counts from Enqueue all the same, so t must come
// before that is over.
func NotBefore(t time.Time) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.NotBefore = t.UTC()
		return checkTime("NotBefore", t)
	}}
}

// ExpiresAt has the message fail if it was not sent by then, by the clock of the
// database: a one-time code is worth nothing after 5 minutes. [WithMaxAge] bounds it
// too. No attempt is begun after that time.
func ExpiresAt(t time.Time) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.ExpiresAt = t.UTC()
		return checkTime("ExpiresAt", t)
	}}
}

// checkTime reports why a time cannot be kept: tables have it in microseconds since 1970.
func checkTime(option string, t time.Time) error {
	switch {
	case t.IsZero():
		return errors.New(option + " with the zero time: want a time, or leave it out")
	case t.Year() < 1970 || t.Year() > 9999:
		return fmt.Errorf("%s(%v): want a time from 1970 to 9999", option, t)
	}
	return nil
}

// Urgent has the message overtake those of its phone number that are not, whatever their
// number. The rate of the phone number holds for it too.
func Urgent() EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.Urgent = true
		return nil
	}}
}

// Label has the message belong to something, such as a campaign, by which all of it can be
// listed, counted, dropped or sent again: see [Filter]. It is 1 to 128 bytes of UTF-8 without
// a NUL, and does not travel to Meta.
func Label(label string) EnqueueOption {
	return EnqueueOption{func(m *store.New) error {
		m.Label = label
		if label == "" {
			return errors.New("Label is empty: want a label, or leave it out")
		}
		return message.CheckLabel(label)
	}}
}
