package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

const (
	// batchSize is how many messages one statement enqueues at most, and batchBytes how many
	// bytes of payload.
	batchSize  = 500
	batchBytes = 4 << 20
)

// Enqueue puts a message into the queue. When it returns nil the message is on the database's
// disk, and a Run on any machine sends it. Callers that enqueue at the same time share a
// statement, and so a sync of the disk.
//
// Two messages with the same id are one message: the first one counts, whatever else differs.
// This applies for as long as the message is kept, which is the retention after its last
// change. An error can leave open whether the message was enqueued, so Enqueue may be repeated
// after any error.
//
// id has 1 to 256 bytes of UTF-8 without a NUL. Meta gets it as the message's
// biz_opaque_callback_data, and returns it in its status webhooks. phoneNumberID is the
// business's phone number, as in POST /{phone-number-id}/messages. payload is the body of that
// call: a JSON object of at most 1 MiB, without biz_opaque_callback_data. It is kept and sent
// byte for byte, except that the id is added. See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api.
//
// The options are [NotBefore], [ExpiresAt], [Urgent] and [Label].
//
// The error wraps [ErrInvalid] and names the argument if one is wrong. It wraps [ErrFull] if
// the outbox has reached [WithMaxQueued], and [ErrClosed] after Close. Otherwise it says what
// the database said. Enqueue retries for as long as ctx lasts, or for 15 s if ctx has no
// deadline.
func (o *Outbox) Enqueue(ctx context.Context, id, phoneNumberID string, payload []byte, opts ...EnqueueOption) error {
	return o.EnqueueAll(ctx, []Message{{id, phoneNumberID, payload, opts}})
}

// EnqueueAll is [Outbox.Enqueue] for many messages, in a fraction of the time. They get places
// in the queue in their order.
//
// It checks all messages first. If one is wrong it enqueues none, and the error names each that
// is wrong. Then it enqueues up to 500 at once, all of them or none. After any other error some
// may be in the queue, and EnqueueAll may be repeated with all of them. Without a deadline it
// retries for 15 s with each 500.
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

// fresh checks messages, and returns the first of each id.
func (o *Outbox) fresh(ctx context.Context, messages []Message) ([]store.New, error) {
	fresh := make([]store.New, 0, len(messages))
	seen := make(map[string]bool, len(messages))
	var errs []error
	for _, m := range messages {
		next, err := check(m)
		if err == nil {
			err = checkAge(&next, o.now(), &o.rules)
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

// nextBatch returns the messages that are enqueued next at once.
func nextBatch(messages []store.New) []store.New {
	n, size := 0, 0
	for n < min(batchSize, len(messages)) && (n == 0 || size+len(messages[n].Payload) <= batchBytes) {
		size += len(messages[n].Payload)
		n++
	}
	return messages[:n]
}

// enqueue puts the messages whose ids are new into the queue, all of them or none, and wakes
// the Runs of this process.
func (o *Outbox) enqueue(ctx context.Context, batch []store.New) error {
	if o.maxQueued > 0 {
		err := o.room.take(ctx, len(batch), o.maxQueued, func() (int, error) { return o.store.Queued(ctx, o.maxQueued) })
		if err != nil {
			return err
		}
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
	o.runs.ring(urgent)
	return nil
}

// injected returns the headers that the inject function of WithPropagation writes, as JSON, ""
// for none.
func (o *Outbox) injected(ctx context.Context) (string, error) {
	if o.inject == nil {
		return "", nil
	}
	header := make(http.Header)
	err := callUser(ctx, o.logger, "the first function given to WithPropagation", userTimeout, func(ctx context.Context) { o.inject(ctx, header) })
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
