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
	// batchSize is how many messages are put into the queue at once, and batchBytes how
	// many bytes of payload.
	batchSize  = 500
	batchBytes = 4 << 20
)

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

// nextBatch returns the first messages that are put into the queue at once.
func nextBatch(messages []store.New) []store.New {
	n, size := 0, 0
	for n < min(batchSize, len(messages)) && (n == 0 || size+len(messages[n].Payload) <= batchBytes) {
		size += len(messages[n].Payload)
		n++
	}
	return messages[:n]
}

// enqueue puts messages into the queue whose ids are not known yet, all or none, and wakes
// the Runs of this process.
func (o *Outbox) enqueue(ctx context.Context, batch []store.New) error {
	if o.maxQueued > 0 {
		err := o.room.take(len(batch), o.maxQueued, func() (int, error) { return o.store.Queued(ctx, o.maxQueued) })
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

// injected returns what the user's propagation writes of ctx, as JSON, "" for nothing.
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
