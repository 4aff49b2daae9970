package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

const (
	// batchSize is how many messages are put into the queue at once, and batchBytes how
	// many bytes of payload.
	batchSize  = 500
	batchBytes = 4 << 20
)

// Message is one message of [Outbox.EnqueueAll]. Its fields are the arguments of
// [Outbox.Enqueue].
type Message struct {
	ID            string
	PhoneNumberID string
	Payload       []byte
	Options       []EnqueueOption
}

// Enqueue puts a message into the queue. When it returns nil the message is on the
// database's disk, and Run sends it, on whatever machine. Callers who enqueue at the same time
// share a statement, and so a sync of the disk.
//
// The same id twice is one message, whatever else differs: the first one counts.
// It holds for as long as the message is kept, which is the retention after it
// last changed. So Enqueue can be repeated after an error, which leaves open
// whether the message was put into the queue.
//
// id is 1 to 256 bytes of UTF-8 without a NUL. It travels to Meta as the message's
// biz_opaque_callback_data and comes back in its status webhooks. phoneNumberID
// is the business's phone number, as it stands in POST
// /{phone-number-id}/messages. payload is that call's body, a JSON object of 1 MiB at most,
// without biz_opaque_callback_data. It is kept and sent byte for byte, but for that. See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api.
//
// The options are [NotBefore], [ExpiresAt], [Urgent] and [Label].
//
// The error names what is wrong with an argument and wraps [ErrInvalid], wraps [ErrFull] if the outbox has
// reached [WithMaxQueued], wraps [ErrClosed] after Close, and otherwise tells what
// the database said. It tries for as long as ctx lasts, or 15 s if ctx has no deadline.
func (o *Outbox) Enqueue(ctx context.Context, id, phoneNumberID string, payload []byte, opts ...EnqueueOption) error {
	return o.EnqueueAll(ctx, []Message{{id, phoneNumberID, payload, opts}})
}

// EnqueueAll is [Outbox.Enqueue] for many messages, in a fraction of the time: up to 500
// are put into the queue at once, all of them or none. All are checked first, and if one is
// wrong none is put there; the error names each. After any other error some may be in the
// queue, and it can be repeated with all. Without a deadline it tries for 15 s with each
// 500. They stand in the queue in their order.
func (o *Outbox) EnqueueAll(ctx context.Context, messages []Message) error {
	fresh, err := o.fresh(ctx, messages)
	if err != nil {
		return err
	}
	ctx, done, err := o.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer done()
	for len(fresh) > 0 {
		batch := nextBatch(fresh)
		bounded, cancel := withTimeout(ctx, callTimeout)
		err := o.enqueue(bounded, batch)
		cancel()
		if errors.Is(err, ErrFull) {
			return fmt.Errorf("outbox: cannot enqueue message %q: %w", batch[0].ID, err)
		}
		if err != nil {
			return fmt.Errorf("outbox: cannot enqueue message %q: %w; it may be in the queue nevertheless: enqueueing it again is safe", batch[0].ID, err)
		}
		fresh = fresh[len(batch):]
	}
	return nil
}

// fresh checks messages, and returns what is to be written of each id.
func (o *Outbox) fresh(ctx context.Context, messages []Message) ([]store.New, error) {
	fresh := make([]store.New, 0, len(messages))
	seen := make(map[string]bool, len(messages))
	var errs []error
	for _, m := range messages {
		next, err := check(m)
		if err == nil {
			err = o.checkAge(&next, o.now())
		}
		errs = append(errs, err)
		if !seen[m.ID] {
			seen[m.ID] = true
			fresh = append(fresh, next)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, message.AsInvalid(err)
	}
	headers, err := o.injected(ctx)
	for i := range fresh {
		fresh[i].Headers = headers
	}
	return fresh, err
}

// nextBatch returns the first messages that are put into the queue at once.
func nextBatch(messages []store.New) []store.New {
	n, size := 0, 0
	for n < min(batchSize, len(messages)) && (n == 0 || size+len(messages[n].Payload) <= batchBytes) {
		size += len(messages[n].Payload)
		n++
	}
	return messages[:n]
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
func (o *Outbox) checkAge(m *store.New, enqueued time.Time) error {
	expiry := o.rules.Expiry(&message.Record{Enqueued: enqueued, ExpiresAt: m.ExpiresAt})
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

// ErrFull is in the chain of the error of [Outbox.Enqueue] while the outbox has as many
// messages queued or being sent as [WithMaxQueued] lets it have.
var ErrFull = errors.New("outbox: it is full: want a higher WithMaxQueued, or fewer messages in the queue")

// enqueue puts messages into the queue whose ids are not known yet, all or none, and wakes
// the Runs of this process.
func (o *Outbox) enqueue(ctx context.Context, batch []store.New) error {
	if err := o.checkRoom(ctx, len(batch)); err != nil {
		return err
	}
	if err := o.store.Enqueue(ctx, batch); err != nil {
		return err
	}
	urgent := make(map[string]bool)
	for _, m := range batch {
		if !m.NotBefore.After(o.now()) {
			urgent[m.Number] = urgent[m.Number] || m.Urgent
		}
	}
	o.ring(urgent)
	return nil
}

// countEvery is how old the count of the queue may be.
const countEvery = time.Second

// checkRoom reports whether the outbox may have so many messages more.
func (o *Outbox) checkRoom(ctx context.Context, n int) error {
	if o.maxQueued == 0 {
		return nil
	}
	o.mu.Lock()
	known := time.Since(o.counted) < countEvery
	o.mu.Unlock()
	if !known {
		queued, err := o.store.Queued(ctx, o.maxQueued)
		if err != nil {
			return err
		}
		o.mu.Lock()
		o.counted, o.queued = time.Now(), queued
		o.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queued >= o.maxQueued {
		return ErrFull
	}
	o.queued += n
	return nil
}

// injected returns what the user's propagation writes of ctx, as JSON, "" for nothing.
func (o *Outbox) injected(ctx context.Context) (string, error) {
	if o.inject == nil {
		return "", nil
	}
	header := make(http.Header)
	err := o.user(ctx, "the first function given to WithPropagation", userTimeout, func(ctx context.Context) { o.inject(ctx, header) })
	if err != nil {
		o.logger.Error("outbox: a message is enqueued without its trace", errorOf(err.Error()))
		return "", nil
	}
	if len(header) == 0 {
		return "", nil
	}
	text, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("outbox: cannot keep the headers of WithPropagation: %w", err)
	}
	return string(text), nil
}
