package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxID is the length of the longest id, in bytes. Meta takes up to 512
// characters of biz_opaque_callback_data.
const maxID = 256

// headroom is what the server's limit for a message must have beyond the payload, in
// bytes: for its subject and its headers.
const headroom = 4 << 10

// batchSize is how many messages are put into the queue at once: each is three or four
// messages of a batch.
const batchSize = batchPuts / 4

// Message is one message of [Outbox.EnqueueAll]. Its fields are the arguments of
// [Outbox.Enqueue].
type Message struct {
	ID            string
	PhoneNumberID string
	Payload       []byte
	Options       []EnqueueOption
}

// Enqueue puts a message into the queue. When it returns nil the message is
// durable: it is on the disk of the server, or of most replicas, and Run sends
// it, on whatever machine. What durable means beyond that is the server's
// setting; that of [Embedded] has each write on the disk before it is confirmed.
// Callers who enqueue at the same time share a write.
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
// without biz_opaque_callback_data; it must fit into a message
// of the server, which by default has 1 MiB. See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api.
//
// The options are [NotBefore], [ExpiresAt] and [Urgent].
//
// The error names what is wrong with an argument, wraps [ErrFull] if the outbox has
// reached [WithMaxBytes], wraps [ErrClosed] after Close, and otherwise tells what
// JetStream said. It tries for as long as ctx lasts, or 10 s if ctx has no deadline.
func (o *Outbox) Enqueue(ctx context.Context, id, phoneNumberID string, payload []byte, opts ...EnqueueOption) error {
	return o.EnqueueAll(ctx, []Message{{id, phoneNumberID, payload, opts}})
}

// EnqueueAll is [Outbox.Enqueue] for many messages, in a fraction of the time: up to 240
// are put into the queue at once. All are checked first, and if one is wrong none is put
// there; the error names each. After any other error some may be in the queue, and it
// can be repeated with all. Without a deadline it tries for 10 s with each 240.
func (o *Outbox) EnqueueAll(ctx context.Context, messages []Message) error {
	fresh := make([]newMessage, 0, len(messages))
	seen := make(map[string]bool, len(messages))
	var errs []error
	for _, message := range messages {
		m, err := o.check(message)
		if err != nil {
			errs = append(errs, err)
		}
		if !seen[m.key] {
			seen[m.key] = true
			fresh = append(fresh, m)
		}
	}
	if err := errors.Join(errs...); err != nil {
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
		if err != nil {
			return fmt.Errorf("outbox: cannot enqueue message %q: %w; it may be in the queue nevertheless: enqueueing it again is safe", batch[0].ID, err)
		}
		fresh = fresh[len(batch):]
	}
	return nil
}

// nextBatch returns the first messages that are put into the queue at once.
func nextBatch(messages []newMessage) []newMessage {
	n, size := 0, 0
	for n < min(batchSize, len(messages)) && (n == 0 || size+len(messages[n].payload) <= batchBytes) {
		size += len(messages[n].payload)
		n++
	}
	return messages[:n]
}

// newMessage is a message that is about to be enqueued.
type newMessage struct {
	stored
	payload []byte
}

// check checks the arguments of Enqueue.
func (o *Outbox) check(message Message) (newMessage, error) {
	body, to, err := checkMessage(message.ID, message.PhoneNumberID, message.Payload)
	if err != nil {
		return newMessage{}, err
	}
	now := moment{o.now()}
	r := record{ID: message.ID, State: StateQueued, Enqueued: now, Changed: now}
	if o.recipientOrder && to != "" {
		r.Recipient = hashOf(to)
	}
	var errs []error
	for _, opt := range message.Options {
		if opt.apply != nil {
			errs = append(errs, opt.apply(&r))
		}
	}
	if expiry := o.rules.expiry(&r); !r.NotBefore.IsZero() && !r.NotBefore.Before(expiry) {
		errs = append(errs, fmt.Errorf("NotBefore(%v): it could never be sent: want a time before %v, when it expires by ExpiresAt or WithMaxAge", r.NotBefore, expiry))
	}
	if most := o.store.js.Conn().MaxPayload(); most > 0 && int64(len(body)) > most-headroom {
		errs = append(errs, fmt.Errorf("the payload has %d bytes, and the server takes %d: want a shorter payload or a higher max_payload there", len(body), most-headroom))
	}
	if err := errors.Join(errs...); err != nil {
		return newMessage{}, fmt.Errorf("outbox: cannot enqueue message %q: %w", message.ID, err)
	}
	return newMessage{stored{record: r, number: message.PhoneNumberID, key: keyOf(message.ID)}, body}, nil
}

// EnqueueOption changes how one message is sent. The zero EnqueueOption changes
// nothing.
type EnqueueOption struct {
	apply func(*record) error
}

// NotBefore has the message wait until then, by the clock of the NATS server. Its age
// ([WithMaxAge], 24 hours by default) counts from Enqueue all the same, so t must come
// before that is over.
func NotBefore(t time.Time) EnqueueOption {
	return EnqueueOption{func(r *record) error {
		r.NotBefore = moment{t.UTC()}
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
	return EnqueueOption{func(r *record) error {
		r.ExpiresAt = moment{t.UTC()}
		if t.IsZero() {
			return errors.New("ExpiresAt with the zero time: want a time, or leave it out")
		}
		return nil
	}}
}

// Urgent has the message overtake those of its phone number that are not, whatever their
// number. The rate of the phone number holds for it too.
func Urgent() EnqueueOption {
	return EnqueueOption{func(r *record) error {
		r.Urgent = true
		return nil
	}}
}

// ErrFull is in the chain of the error of [Outbox.Enqueue] while the outbox has as many
// bytes as [WithMaxBytes] lets it have.
var ErrFull = errors.New("outbox: it is full: want a higher WithMaxBytes, or fewer messages in the queue")

// enqueue puts messages into the queue whose ids are not known yet, all or none.
func (o *Outbox) enqueue(ctx context.Context, batch []newMessage) error {
	if err := o.checkRoom(ctx); err != nil {
		return err
	}
	// Most often none is known, and then JetStream's own look is enough.
	err := o.putAll(ctx, batch)
	for errors.Is(err, errConflict) {
		if batch, err = o.unknown(ctx, batch); err == nil && len(batch) > 0 {
			err = o.putAll(ctx, batch)
		}
	}
	return err
}

// unknown returns the messages of a batch that have no record. It sees to it that those
// which are queued have their entry.
func (o *Outbox) unknown(ctx context.Context, batch []newMessage) ([]newMessage, error) {
	if err := pause(ctx, conflictWait); err != nil {
		return nil, err
	}
	known, err := o.known(ctx, batch)
	if err != nil {
		return nil, err
	}
	fresh := make([]newMessage, 0, len(batch))
	for _, m := range batch {
		current, ok := known[m.key]
		switch {
		case !ok:
			fresh = append(fresh, m)
		case current.State == StateQueued:
			if err := o.putBack(ctx, current); err != nil {
				return nil, err
			}
		}
	}
	return fresh, nil
}

// known returns which messages have a record. One that was deleted has an empty one.
func (o *Outbox) known(ctx context.Context, batch []newMessage) (map[string]stored, error) {
	found := make(map[string]stored)
	subjects := make([]string, len(batch))
	for i, m := range batch {
		subjects[i] = o.store.subject(kindRecord, "*", m.key)
	}
	err := persist(ctx, func(ctx context.Context) error {
		return o.store.eachLast(ctx, subjects, func(msg *jetstream.RawStreamMsg) error {
			current, err := o.store.parse(msg)
			if errors.Is(err, errDeleted) {
				err = nil
			}
			found[current.key] = current
			return err
		})
	})
	return found, err
}

// putAll writes new messages.
func (o *Outbox) putAll(ctx context.Context, batch []newMessage) error {
	var puts []put
	turns := make(map[string]*turn)
	for i := range batch {
		m := &batch[i]
		if err := o.announce(ctx, m.number); err != nil {
			return err
		}
		puts = append(puts, put{subject: o.store.subject(kindPayload, m.number, m.key), data: m.payload, header: o.injected(ctx)})
		isNext := true
		if m.Recipient != "" {
			id := m.number + "." + m.Recipient
			if turns[id] == nil {
				t, err := o.loadTurn(ctx, m.number, m.Recipient)
				if err != nil {
					return err
				}
				turns[id] = &t
			}
			isNext = turns[id].join(m.entry())
		}
		if isNext {
			entry, err := o.store.entryPut(&m.stored, o.now())
			if err != nil {
				return err
			}
			puts = append(puts, entry)
		} else {
			puts = append(puts, o.afterPut(m.number, m.key))
		}
		if i < len(batch)-1 {
			p, err := o.store.recordPut(&m.stored)
			if err != nil {
				return err
			}
			puts = append(puts, p)
		}
	}
	for _, t := range turns {
		p, err := t.put()
		if err != nil {
			return err
		}
		puts = append(puts, p)
	}
	// The record of the last shows whether a write whose answer was lost was made.
	_, err := o.store.save(ctx, batch[len(batch)-1].stored, puts...)
	return err
}

// putBack puts the entry of a queued message into the queue if it is not there, because
// somebody has purged the stream.
func (o *Outbox) putBack(ctx context.Context, current stored) error {
	if current.Recipient != "" {
		t, err := o.loadTurn(ctx, current.number, current.Recipient)
		if err != nil || t.index(current.ID) > 0 {
			return err
		}
	}
	for _, kind := range []string{kindWait, queueKind(current.Urgent)} {
		_, err := o.store.last(ctx, o.store.subject(kind, current.number, current.key))
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	entry, err := o.store.entryPut(&current, o.now())
	if err != nil {
		return err
	}
	return o.store.put(ctx, entry)
}

// announce lets every Run know of a phone number. What it writes is forgotten after the
// retention, so it is written again in time.
func (o *Outbox) announce(ctx context.Context, number string) error {
	o.mu.Lock()
	told, ok := o.announced[number]
	o.mu.Unlock()
	if ok && (o.retention == 0 || time.Since(told) < o.retention/4) {
		return nil
	}
	err := o.store.put(ctx, put{subject: o.store.subject(kindLane, number)})
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.announced[number] = time.Now()
	}
	return err
}

// roomEvery is how often the size of the outbox is asked for.
const roomEvery = time.Second

// checkRoom reports [ErrFull] if the outbox has as many bytes as it may have.
func (o *Outbox) checkRoom(ctx context.Context) error {
	if o.maxBytes == 0 {
		return nil
	}
	o.mu.Lock()
	asked, bytes := o.sizeAsked, o.size
	o.mu.Unlock()
	if time.Since(asked) >= roomEvery || bytes >= uint64(o.maxBytes) {
		err := persist(ctx, func(ctx context.Context) error {
			info, err := o.store.stream.Info(ctx)
			if err == nil {
				bytes = info.State.Bytes
			}
			return err
		})
		if err != nil {
			return err
		}
		o.mu.Lock()
		o.sizeAsked, o.size = time.Now(), bytes
		o.mu.Unlock()
	}
	if bytes >= uint64(o.maxBytes) {
		return ErrFull
	}
	return nil
}

// injected returns the headers in which the trace of a caller travels with the message.
func (o *Outbox) injected(ctx context.Context) nats.Header {
	if o.inject == nil {
		return nil
	}
	header := http.Header{}
	o.inject(ctx, header)
	return nats.Header(header)
}

// propagated returns the headers of a payload's message that its sender has set.
func propagated(header nats.Header) nats.Header {
	own := nats.Header{}
	for name, values := range header {
		if len(name) < 5 || name[:5] != "Nats-" {
			own[name] = values
		}
	}
	return own
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
// Meta, and who receives it, "" if it does not say.
func checkMessage(id, phoneNumberID string, payload []byte) (body []byte, to string, err error) {
	if err := checkID(id); err != nil {
		return nil, "", err
	}
	if !phoneNumberIDPattern.MatchString(phoneNumberID) {
		return nil, "", fmt.Errorf("outbox: message %q: the phone number ID %q: want the digits of the id, not the phone number itself, as in 106540352242922", id, phoneNumberID)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil || fields == nil {
		return nil, "", fmt.Errorf("outbox: message %q: the payload is no JSON object: want the body of POST /messages, as in {\"messaging_product\":\"whatsapp\", ...}", id)
	}
	if json.Unmarshal(fields["to"], &to) != nil {
		to = string(fields["to"])
	}
	if given, ok := fields[callbackData]; ok {
		var text string
		if json.Unmarshal(given, &text) != nil || text != id {
			return nil, "", fmt.Errorf("outbox: message %q: the payload has a %s of its own: leave it out, the outbox sets it to the id", id, callbackData)
		}
		return payload, to, nil
	}
	body, err = withCallbackData(id, payload, len(fields) == 0)
	return body, to, err
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
