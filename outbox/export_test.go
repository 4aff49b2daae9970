package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Park does what the delivery of a message does that is marked as being sent.
func Park(o *Outbox, id string) error {
	ctx := context.Background()
	current, err := o.store.load(ctx, keyOf(id))
	if err != nil {
		return err
	}
	_, err = o.apply(ctx, current, event{kind: eventAbandoned, token: current.Mark.Token})
	return err
}

// Touch writes the record anew, so that whoever has read it before must not
// write what he has made of it.
func Touch(o *Outbox, id string) error {
	current, err := o.store.load(context.Background(), keyOf(id))
	if err != nil {
		return err
	}
	_, err = o.store.save(context.Background(), current)
	return err
}

// WriteRecord writes any text in place of a record.
func WriteRecord(o *Outbox, id, text string) error {
	current, err := o.store.load(context.Background(), keyOf(id))
	if err != nil {
		return err
	}
	_, err = o.store.write(context.Background(), put{subject: o.store.subject(kindRecord, current.number, current.key), data: []byte(text)})
	return err
}

// WriteEntry writes any text in place of the entry of a message.
func WriteEntry(o *Outbox, id, number, text string) error {
	_, err := o.store.write(context.Background(), put{subject: o.store.subject(kindQueue, number, keyOf(id)), data: []byte(text)})
	return err
}

// ClearEntry takes the entry of a message out of the queue.
func ClearEntry(o *Outbox, id, number string) error {
	return o.store.clear(context.Background(), o.store.subject(kindQueue, number, keyOf(id)))
}

// Subjects counts the messages of the stream by the kind of their subject.
func Subjects(o *Outbox) (map[string]int, error) {
	counts := make(map[string]int)
	for _, kind := range []string{
		kindRecord, kindPayload, kindQueue, kindUrgent, kindWait, kindAfter, kindFailed, kindUnknown, kindDeleted, kindTurn,
	} {
		n, _, err := o.store.count(context.Background(), o.store.subject(kind, ">"))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			counts[kind] = n
		}
	}
	return counts, nil
}

// Text returns all that the stream holds of a message.
func Text(o *Outbox, id string) (string, error) {
	text := ""
	err := o.store.each(context.Background(), o.store.name+".*.*."+keyOf(id), 0, page, func(msg *jetstream.RawStreamMsg) bool {
		text += fmt.Sprintln(msg.Subject, msg.Header, string(msg.Data))
		return true
	})
	return text, err
}

// DieAt has the process end at its n-th write from now on, from 1, before the write is
// made, or with after when it was made. It returns a function that reports whether it has.
func DieAt(o *Outbox, n int) (dead func() bool) {
	died := make(chan struct{})
	o.store.before = func(string) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if n--; n > 0 {
			return nil
		}
		if n == 0 {
			close(died)
		}
		return fmt.Errorf("%w: the process has died", nats.ErrConnectionClosed)
	}
	return func() bool {
		select {
		case <-died:
			return true
		default:
			return false
		}
	}
}

// Rescue puts stranded entries of a number into the queue anew.
func Rescue(o *Outbox, number string) error { return o.rescue(context.Background(), number, false) }

var verdicts = [...]string{"leave", "done", "again"}

// Handle does what the delivery of an entry from the queue does, without the
// queue, and tells what the queue would be told.
func Handle(o *Outbox, id string, generation int, sequence uint64) (string, error) {
	data := fmt.Appendf(nil, `{"id":%q,"generation":%d}`, id, generation)
	end, _, err := o.handle(context.Background(), context.Background(), &delivery{outbox: o, data: data, sequence: sequence, times: 1})
	return verdicts[end.kind], err
}

// HandleAfter hands a message that was read as queued to the sender, after do.
func HandleAfter(o *Outbox, id string, do func()) (string, error) {
	ctx := context.Background()
	current, err := o.store.load(ctx, keyOf(id))
	if err != nil {
		return "", err
	}
	do()
	end, _, err := o.attempt(ctx, ctx, current, &delivery{outbox: o, sequence: 1})
	return verdicts[end.kind], err
}

// HandleAhead does what the delivery of an entry does whose record and payload were read
// before do. It returns what the queue would be told, and whether both were found.
func HandleAhead(o *Outbox, id, number string, do func()) (verdict string, read bool, err error) {
	ctx := context.Background()
	d := &delivery{outbox: o, number: number, key: keyOf(id), data: fmt.Appendf(nil, `{"id":%q}`, id), sequence: 1, times: 1, stop: func() {}}
	o.readAhead(ctx, []*delivery{d})
	read = d.ahead.record != nil && d.ahead.payload != nil && o.ahead.Load() > 0
	do()
	end, _, err := o.handle(ctx, ctx, d)
	if d.leave(); o.ahead.Load() != 0 {
		return "", false, errors.New("the bytes that were read ahead are counted still")
	}
	return verdicts[end.kind], read, err
}

// LateMark announces an attempt, gives it up, and only then, unless it was made
// before, has the announcement arrive.
func LateMark(o *Outbox, id string, made bool) error {
	ctx := context.Background()
	current, err := o.store.load(ctx, keyOf(id))
	if err != nil {
		return err
	}
	a := &attempt{outbox: o, record: current, lasting: ctx, token: "token"}
	marked := current
	marked.State, marked.Mark = StateSending, &mark{Token: a.token, Sequence: 1}
	if made {
		if _, err := o.store.save(ctx, marked); err != nil {
			return err
		}
	}
	if err := a.unmark(current.Write); err != nil || made {
		return err
	}
	if _, err := o.store.save(ctx, marked); !errors.Is(err, errConflict) {
		return fmt.Errorf("want a conflict, got %v", err)
	}
	return nil
}

// SetSkew has the outbox believe that the server's clock is so far ahead of its own.
func (o *Outbox) SetSkew(skew time.Duration) { o.skew.Store(int64(skew)) }

// Skew returns what the outbox believes the server's clock to be ahead of its own.
func (o *Outbox) Skew() time.Duration { return time.Duration(o.skew.Load()) }
