package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// turn is who waits for their turn with one recipient of one phone number, in order.
// Only the first has an entry in the queue.
type turn struct {
	Version int     `json:"v"`
	Waiting []entry `json:"waiting"`

	subject  string
	revision uint64
}

func (o *Outbox) loadTurn(ctx context.Context, number, recipient string) (turn, error) {
	t := turn{Version: schemaVersion, subject: o.store.subject(kindTurn, number, recipient)}
	msg, err := o.store.latest(ctx, t.subject)
	if errors.Is(err, ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(msg.Data, &t); err != nil {
		return t, fmt.Errorf("%w: %s", errUnreadable, t.subject)
	}
	if t.Version > schemaVersion {
		return t, fmt.Errorf("%w: %s", errNewer, t.subject)
	}
	t.revision = msg.Sequence
	return t, nil
}

// join puts a message at the end. It reports whether it is its turn.
func (t *turn) join(e entry) bool {
	if i := t.index(e.ID); i >= 0 {
		t.Waiting[i] = e
		return i == 0
	}
	t.Waiting = append(t.Waiting, e)
	return len(t.Waiting) == 1
}

// leave takes a message out. It returns the one whose turn it is now, if it was not
// before.
func (t *turn) leave(id string) (next entry, ok bool) {
	i := t.index(id)
	if i < 0 {
		return entry{}, false
	}
	t.Waiting = slices.Delete(t.Waiting, i, i+1)
	if i > 0 || len(t.Waiting) == 0 {
		return entry{}, false
	}
	return t.Waiting[0], true
}

func (t *turn) index(id string) int {
	return slices.IndexFunc(t.Waiting, func(e entry) bool { return e.ID == id })
}

func (t *turn) put() (put, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return put{}, fmt.Errorf("outbox: cannot encode whose turn it is: %w", err)
	}
	return put{subject: t.subject, data: data, expected: t.revision, expectedOn: t.subject}, nil
}

// takeTurn has a message whose recipient gets one after the other take its turn, or give
// it to the next. It returns what that writes, what becomes worthless with it, and
// whether it is this message's turn, which is always so without an order.
func (o *Outbox) takeTurn(ctx context.Context, r stored) (puts []put, worthless []string, isNext bool, err error) {
	if r.Recipient == "" {
		return nil, nil, true, nil
	}
	t, err := o.loadTurn(ctx, r.number, r.Recipient)
	if err != nil {
		return nil, nil, false, err
	}
	known := t.index(r.ID)
	switch {
	case r.isActive() && known >= 0 && t.Waiting[known] == r.entry():
		return nil, nil, known == 0, nil
	case r.isActive():
		if isNext = t.join(r.entry()); !isNext {
			puts = append(puts, o.afterPut(r.number, r.key))
		}
	case known < 0:
		return nil, nil, false, nil
	default:
		worthless = []string{o.store.subject(kindAfter, r.number, r.key)}
		if following, ok := t.leave(r.ID); ok {
			next := stored{record: record{ID: following.ID, Generation: following.Generation, Urgent: following.Urgent}, number: r.number, key: keyOf(following.ID)}
			entry, err := o.store.entryPut(&next, o.now())
			if err != nil {
				return nil, nil, false, err
			}
			puts = append(puts, entry)
			worthless = append(worthless, o.store.subject(kindAfter, next.number, next.key))
		}
	}
	p, err := t.put()
	return append(puts, p), worthless, isNext, err
}

// afterPut returns what shows that a message waits for its turn.
func (o *Outbox) afterPut(number, key string) put {
	return put{subject: o.store.subject(kindAfter, number, key)}
}
