package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"
)

// maxID is the length of the longest id, in bytes. Meta takes up to 512
// characters of biz_opaque_callback_data.
const maxID = 256

// headroom is what a record may grow by after the first write, in bytes: the
// texts of a Graph error and what else happens to a message.
const headroom = 32 << 10

// Enqueue puts a message into the queue. When it returns nil the message is
// durable: it is on the disk of the server, or of most replicas, and Run sends
// it, on whatever machine. What durable means beyond that is the server's
// setting; that of [Embedded] has each write on the disk before it is confirmed.
//
// The same id twice is one message, whatever else differs: the first one counts.
// It holds for as long as the record is kept, which is the retention after it
// last changed. So Enqueue can be repeated after an error, which leaves open
// whether the message was put into the queue.
//
// id is 1 to 256 bytes of UTF-8. It travels to Meta as the message's
// biz_opaque_callback_data and comes back in its status webhooks. phoneNumberID
// is the business's phone number, as it stands in POST
// /{phone-number-id}/messages. payload is that call's body, a JSON object,
// without biz_opaque_callback_data; with its record it must fit into a message
// of the server, which by default has 1 MiB. See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api.
//
// The options are [NotBefore], [ExpiresAt] and [Urgent].
//
// The error names what is wrong with an argument, wraps [ErrClosed] after Close,
// and otherwise tells what JetStream said. It tries for as long as ctx lasts, or
// 10 s if ctx has no deadline.
func (o *Outbox) Enqueue(ctx context.Context, id, phoneNumberID string, payload []byte, opts ...EnqueueOption) error {
	body, err := checkMessage(id, phoneNumberID, payload)
	if err != nil {
		return err
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	q := queued{ID: id, PhoneNumberID: phoneNumberID, Payload: body, Enqueued: o.now()}
	var errs []error
	for _, opt := range opts {
		if opt.apply != nil {
			errs = append(errs, opt.apply(&q))
		}
	}
	if !q.ExpiresAt.IsZero() && !q.NotBefore.IsZero() && !q.NotBefore.Before(q.ExpiresAt) {
		errs = append(errs, fmt.Errorf("NotBefore(%v) is not before ExpiresAt(%v): it could never be sent", q.NotBefore, q.ExpiresAt))
	}
	if err := errors.Join(append(errs, o.store.fits(q.record()))...); err != nil {
		return fmt.Errorf("outbox: cannot enqueue message %q: %w", id, err)
	}
	if err := o.enqueue(ctx, q); err != nil {
		return fmt.Errorf("outbox: cannot enqueue message %q: %w; it may be in the queue nevertheless: enqueueing it again is safe", id, err)
	}
	return nil
}

// EnqueueOption changes how one message is sent. The zero EnqueueOption changes
// nothing.
type EnqueueOption struct {
	apply func(*queued) error
}

// NotBefore has the message wait until then, by the clock of the NATS server. Its age
// ([WithMaxAge]) counts from Enqueue all the same.
func NotBefore(t time.Time) EnqueueOption {
	return EnqueueOption{func(q *queued) error {
		q.NotBefore = t.UTC()
		if t.IsZero() {
			return errors.New("NotBefore with the zero time: want a time, or leave it out")
		}
		return nil
	}}
}

// ExpiresAt has the message fail if it was not sent by then, by the clock of the NATS
// server: a one-time code is worth nothing after 5 minutes. [WithMaxAge] bounds it
// too. No attempt is begun after that time.
func ExpiresAt(t time.Time) EnqueueOption {
	return EnqueueOption{func(q *queued) error {
		q.ExpiresAt = t.UTC()
		if t.IsZero() {
			return errors.New("ExpiresAt with the zero time: want a time, or leave it out")
		}
		return nil
	}}
}

// Urgent has the message overtake those that are not, whatever their number. The rate
// of its phone number holds for it too.
func Urgent() EnqueueOption {
	return EnqueueOption{func(q *queued) error {
		q.Urgent = true
		return nil
	}}
}

func (o *Outbox) enqueue(ctx context.Context, q queued) error {
	current, err := o.store.load(ctx, keyOf(q.ID))
	switch {
	case err == nil && current.State == StateQueued:
		// Its message in the queue may be gone, if somebody has purged the stream. A
		// second one does no harm.
		return o.store.publish(ctx, current.entry())
	case err == nil || !errors.Is(err, ErrNotFound):
		return err
	}
	// First the queue, then the record: a message without a record is sent
	// nevertheless, a record without a message never would be.
	if err := o.store.publish(ctx, q); err != nil {
		return err
	}
	_, err = o.store.save(ctx, stored{record: q.record(), key: keyOf(q.ID)})
	if errors.Is(err, errConflict) {
		return nil // a worker was faster, or somebody with the same id
	}
	return err
}

// requeue puts a message that is queued into the queue once more.
func (o *Outbox) requeue(ctx context.Context, id string) error {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil || current.State != StateQueued {
		return err
	}
	if err := o.store.publish(ctx, current.entry()); err != nil {
		return fmt.Errorf("outbox: cannot resend message %q: %w", id, err)
	}
	return nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("outbox: the id is empty: want 1 to 256 bytes, different for each message")
	case len(id) > maxID:
		return fmt.Errorf("outbox: the id has %d bytes: want at most %d", len(id), maxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("outbox: the id %q is not valid UTF-8, so it cannot stand in JSON as it is", id)
	}
	return nil
}

var phoneNumberIDPattern = regexp.MustCompile(`^[0-9]{1,64}$`)

const callbackData = "biz_opaque_callback_data"

// checkMessage checks the arguments of Enqueue and returns the body of the call to
// Meta.
func checkMessage(id, phoneNumberID string, payload []byte) ([]byte, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if !phoneNumberIDPattern.MatchString(phoneNumberID) {
		return nil, fmt.Errorf("outbox: message %q: the phone number ID %q: want the digits of the id, not the phone number itself, as in 106540352242922", id, phoneNumberID)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil || fields == nil {
		return nil, fmt.Errorf("outbox: message %q: the payload is no JSON object: want the body of POST /messages, as in {\"messaging_product\":\"whatsapp\", ...}", id)
	}
	if given, ok := fields[callbackData]; ok {
		var text string
		if json.Unmarshal(given, &text) != nil || text != id {
			return nil, fmt.Errorf("outbox: message %q: the payload has a %s of its own: leave it out, the outbox sets it to the id", id, callbackData)
		}
		return payload, nil
	}
	return withCallbackData(id, payload, len(fields) == 0)
}

// withCallbackData puts the id into a JSON object, whose other members, numbers
// and their order stay as they are.
func withCallbackData(id string, payload []byte, empty bool) ([]byte, error) {
	value, err := json.Marshal(id)
	if err != nil {
		return nil, fmt.Errorf("outbox: the id %q cannot stand in JSON: %w", id, err)
	}
	var body bytes.Buffer
	body.WriteString(`{"` + callbackData + `":`)
	body.Write(value)
	if !empty {
		body.WriteByte(',')
	}
	body.Write(bytes.TrimLeft(payload, " \t\r\n")[1:])
	return body.Bytes(), nil
}
