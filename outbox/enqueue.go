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
// The error names what is wrong with an argument, wraps [ErrClosed] after Close,
// and otherwise tells what JetStream said. It tries for as long as ctx lasts, or
// 10 s if ctx has no deadline.
func (o *Outbox) Enqueue(ctx context.Context, id, phoneNumberID string, payload []byte) error {
	body, err := checkMessage(id, phoneNumberID, payload)
	if err != nil {
		return err
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	q := queued{ID: id, PhoneNumberID: phoneNumberID, Payload: body, Enqueued: time.Now().UTC()}
	if err := o.enqueue(ctx, q); err != nil {
		return fmt.Errorf("outbox: cannot enqueue message %q: %w; it may be in the queue nevertheless: enqueueing it again is safe", id, err)
	}
	return nil
}

func (o *Outbox) enqueue(ctx context.Context, q queued) error {
	if err := o.store.fits(q.record()); err != nil {
		return err
	}
	_, err := o.store.load(ctx, keyOf(q.ID))
	if err == nil || !errors.Is(err, ErrNotFound) {
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

// checkMessage checks the arguments of Enqueue and gives the body of the call to
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
