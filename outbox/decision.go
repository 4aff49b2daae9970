package outbox

import (
	"context"
	"errors"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// decision is what a person decides about many messages.
type decision interface {
	// verb is its name.
	verb() string
	// all carries it out for messages as they were read. It returns about how many it has, also
	// if it returns an error, and the changes of those that have changed since they were read.
	// again says that these are messages that have changed and were read again.
	all(ctx context.Context, page []store.Stored, again bool) (done int, changed []store.Change, err error)
}

// decideAbout carries out a decision about a page of messages as they were read, and returns
// about how many it has. What changes meanwhile is read again, and is left alone if the filter
// does not match it any more.
func (o *Outbox) decideAbout(ctx context.Context, d decision, filter store.Filter, page []store.Stored) (done int, err error) {
	for again := false; len(page) > 0; again = true {
		n, changed, err := d.all(ctx, page, again)
		done += n
		if err != nil || len(changed) == 0 {
			return done, err
		}
		if page, err = o.store.Reread(ctx, filter, changed); err != nil {
			return done, err
		}
	}
	return done, nil
}

// saving is a decision that gives messages another state.
type saving struct {
	*queue
	name string
	kind message.EventKind
}

func (d saving) verb() string { return d.name }

// all resends nothing that was read again: a webhook or somebody else may have settled it.
func (d saving) all(ctx context.Context, page []store.Stored, again bool) (done int, changed []store.Change, err error) {
	changes := make([]store.Change, 0, len(page))
	var unreadable error
	now := d.now()
	for i := range page {
		m := &page[i]
		if err := m.CheckRecord(); err != nil {
			unreadable = err
			continue
		}
		if again && d.kind == message.Resent {
			continue
		}
		next, effects := message.Step(m.Record, message.Event{Kind: d.kind}, now, &d.rules)
		switch {
		case !effects.Write:
		case effects.Hold, next.State == m.State:
			// It is to be parked, and a webhook has said before that it may be sent again.
			_, err := d.applyOnce(ctx, d.name, *m, message.Event{Kind: d.kind})
			switch {
			case err == nil:
				done++
			case errors.Is(err, store.ErrConflict):
				changed = append(changed, store.Change{Before: *m})
			default:
				return done, nil, err
			}
		default:
			changes = append(changes, store.Change{Before: *m, After: next, Outcomes: effects.Outcomes})
		}
	}
	made, left, err := d.store.SaveAll(ctx, d.name, changes)
	for i := range made {
		saved := made[i].Before
		saved.Record = made[i].After
		d.settled(saved)
		d.publish(ctx, &saved, made[i].Outcomes)
	}
	if err == nil {
		err = unreadable
	}
	return done + len(made), append(changed, left...), err
}

// deleting is the decision to delete messages.
type deleting struct{ *queue }

func (deleting) verb() string { return "delete" }

func (d deleting) all(ctx context.Context, page []store.Stored, _ bool) (done int, changed []store.Change, err error) {
	idle := make([]store.Stored, 0, len(page))
	for i := range page {
		if page[i].State != StateSending {
			idle = append(idle, page[i])
		}
	}
	made, changed, err := d.store.DeleteAll(ctx, idle)
	return len(made), changed, err
}
