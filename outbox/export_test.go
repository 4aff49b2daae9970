package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Park does what the delivery of a message does that is marked as being sent.
func Park(o *Outbox, id string) error {
	return alter(o, id, func(r *record) { r.toUnknown("parked by a test") })
}

// Orphan does the first half of a Resend, as a process that dies then would.
func Orphan(o *Outbox, id string) error {
	ctx := context.Background()
	current, err := o.store.load(ctx, keyOf(id))
	if err != nil {
		return err
	}
	if err := o.store.setFlag(ctx, current.key); err != nil {
		return err
	}
	current.toQueued(current.Queued)
	_, err = o.store.save(ctx, current)
	return err
}

func alter(o *Outbox, id string, do func(*record)) error {
	current, err := o.store.load(context.Background(), keyOf(id))
	if err != nil {
		return err
	}
	_, err = o.change(context.Background(), current, func(r *record) bool {
		do(r)
		return true
	})
	return err
}

// Touch writes the record anew, so that whoever has read it before must not
// write what he has made of it.
func Touch(o *Outbox, id string) error { return alter(o, id, func(*record) {}) }

// Flags counts the flags.
func Flags(o *Outbox) (int, error) {
	flags, err := o.store.flags(context.Background())
	return len(flags), err
}

// Sweep is one sweep over flags of any age.
func Sweep(o *Outbox) error { return o.sweep(context.Background(), 0) }

// Handle does what the delivery of a message from the queue does, without the
// queue, and tells what the queue would be told.
func Handle(o *Outbox, id string, generation int, sequence uint64) (string, error) {
	data := []byte(`{"id":"` + id + `","generation":` + string(rune('0'+generation)) + `}`)
	end, _, err := o.handle(context.Background(), context.Background(), data, sequence)
	return [...]string{"leave", "ack", "nak", "term"}[end.kind], err
}

// HandleAfter hands a message that was read as queued to the sender, after do.
func HandleAfter(o *Outbox, id string, do func()) (string, error) {
	ctx := context.Background()
	current, err := o.store.load(ctx, keyOf(id))
	if err != nil {
		return "", err
	}
	do()
	end, _, err := o.attempt(ctx, ctx, current, 1)
	return [...]string{"leave", "ack", "nak", "term"}[end.kind], err
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

// RemoveOldFlag sets a flag twice and removes the first.
func RemoveOldFlag(o *Outbox, id string) error {
	ctx := context.Background()
	if err := o.store.setFlag(ctx, keyOf(id)); err != nil {
		return err
	}
	flags, err := o.store.flags(ctx)
	if err != nil {
		return err
	}
	if err := o.store.setFlag(ctx, keyOf(id)); err != nil {
		return err
	}
	return o.store.removeFlag(ctx, flags[0])
}

// SetSkew has the outbox believe that the server's clock is so far ahead of its own.
func (o *Outbox) SetSkew(skew time.Duration) { o.skew.Store(int64(skew)) }

// Skew returns what the outbox believes the server's clock to be ahead of its own.
func (o *Outbox) Skew() time.Duration { return time.Duration(o.skew.Load()) }
