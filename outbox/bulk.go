package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// ResendAll does what [Outbox.Resend] does, for each unknown or failed message that matches a
// filter. It returns how many messages it has put back into the queue, also if it returns an
// error.
//
// It takes pages of 4,000 messages, in the order of enqueueing. Each page is a transaction of
// its own, so that other messages are sent meanwhile. Messages that are being sent are left
// alone, whatever the filter says, and the log has their number. A message that changes after
// its page was read is left alone too, since a webhook or somebody else may have settled it.
// Repeating ResendAll is safe. Without a deadline it takes 5 minutes at most.
//
// Messages that begin to match after a person has looked are resent too. [Outbox.ResendListed]
// leaves these alone.
//
// The error wraps [ErrInvalid] if the filter is wrong, or has other states than these two.
func (o *Outbox) ResendAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, "resend", message.Resent, StateUnknown, StateFailed)
}

// ResendListed is as [Outbox.ResendAll] for messages that [Outbox.List] has returned. A message
// that has changed since is left alone, so only what a person has seen is resent. Of each Status
// it reads ID and Changed. The error wraps [ErrInvalid] if an ID cannot be one.
func (o *Outbox) ResendListed(ctx context.Context, listed []Status) (int, error) {
	ctx, end, err := o.begin(ctx, listTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	for i := range listed {
		if err := message.CheckID(listed[i].ID); err != nil {
			return 0, message.AsInvalid(err)
		}
	}
	const verb = "resend"
	total, err := o.forPages(ctx, o.unchanged(ctx, listed), o.page(verb, message.Resent), o.one(verb, message.Resent))
	if err != nil {
		return total, fmt.Errorf("outbox: cannot %s the messages: %w", verb, err)
	}
	o.logMany(verb, total, 0)
	return total, nil
}

// unchanged returns those messages that have not changed since they were listed, a page at a
// time.
func (o *Outbox) unchanged(ctx context.Context, listed []Status) iter.Seq2[[]store.Stored, error] {
	return func(yield func([]store.Stored, error) bool) {
		for chunk := range slices.Chunk(listed, store.MostLoaded) {
			changed := make(map[string]time.Time, len(chunk))
			for _, s := range chunk {
				changed[s.ID] = s.Changed
			}
			found, err := o.store.LoadAll(ctx, slices.Collect(maps.Keys(changed)))
			found = slices.DeleteFunc(found, func(m store.Stored) bool { return !m.Changed.Equal(changed[m.ID]) })
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}

// DropAll calls [Outbox.Drop] for each unknown or queued message that matches a filter. A message
// that changes meanwhile is dropped, unless Drop refuses that. Otherwise it is as
// [Outbox.ResendAll].
func (o *Outbox) DropAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, "drop", message.Dropped, StateUnknown, StateQueued)
}

// ParkAll calls [Outbox.Park] for each queued message that matches a filter. Otherwise it is as
// [Outbox.DropAll].
//
// After a restore, or after a replica that lagged has taken over, the database has forgotten
// which messages were sent last, and would send them again. So before the first Run, call
//
//	n, err := o.ParkAll(ctx, outbox.Filter{ChangedAfter: asOf})
//
// where asOf is the time that the restored data is from. A message stays in the queue only if
// it cannot have been sent since: it is for a later time, and has not changed after asOf.
// Webhooks and persons settle the others, as they settle all unknown messages. A message that
// was being sent at asOf becomes unknown by itself.
func (o *Outbox) ParkAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, "park", message.Parked, StateQueued)
}

// decideAll carries out a person's decision about all messages that match.
func (o *Outbox) decideAll(ctx context.Context, filter Filter, verb string, kind message.EventKind, states ...State) (int, error) {
	return o.forAll(ctx, filter, verb, states, o.page(verb, kind), o.one(verb, kind))
}

// page returns the function that carries out a person's decision about a page of messages. It
// returns about how many it has, and those that are to be decided about one by one: they have
// changed meanwhile, or a Run has them.
func (o *Outbox) page(verb string, kind message.EventKind) func(context.Context, []store.Stored) (done int, left []string, err error) {
	return func(ctx context.Context, page []store.Stored) (done int, left []string, err error) {
		changes := make([]store.Change, 0, len(page))
		same := make(map[int64]bool, len(page))
		now := o.now()
		for i := range page {
			next, effects := message.Step(page[i].Record, message.Event{Kind: kind}, now, &o.rules)
			if effects.Write && page[i].IsReadable() {
				changes = append(changes, store.Change{Before: page[i], After: next, Outcomes: effects.Outcomes})
				same[page[i].Seq] = true
			} else if effects.Refused == nil {
				left = append(left, page[i].ID)
			}
		}
		conflicts, err := o.store.SaveAll(ctx, verb, changes)
		if err != nil {
			return 0, nil, err
		}
		for _, c := range conflicts {
			delete(same, c.Before.Seq)
			if kind != message.Resent {
				left = append(left, c.Before.ID)
			} else if err == nil {
				same[c.Before.Seq], err = o.isMade(ctx, &c)
			}
		}
		for _, c := range changes {
			if !same[c.Before.Seq] {
				continue
			}
			done++
			saved := c.Before
			saved.Record = c.After
			o.settled(saved)
			o.publish(ctx, &saved, c.Outcomes)
		}
		return done, left, err
	}
}

// isMade reports whether a change that has become a conflict was made all the same: it is a
// conflict with itself if it was repeated, since the answer of the database was lost.
func (o *Outbox) isMade(ctx context.Context, c *store.Change) (bool, error) {
	current, err := o.store.Load(ctx, c.Before.ID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return current.Changed.UnixMicro() == c.After.Changed.UnixMicro(), err
}

// one returns the function that carries out a person's decision about one message. It resends
// none, since the message has changed.
func (o *Outbox) one(verb string, kind message.EventKind) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		current, err := o.find(ctx, id)
		switch {
		case err == nil && kind == message.Resent:
			err = message.Refusal("it has changed meanwhile")
		case err == nil:
			_, err = o.apply(ctx, verb, current, message.Event{Kind: kind})
		}
		return err
	}
}

// DeleteAll calls [Outbox.Delete] for each message that matches a filter. Otherwise it is as
// [Outbox.DropAll]. The zero Filter deletes all messages.
func (o *Outbox) DeleteAll(ctx context.Context, filter Filter) (int, error) {
	all := []State{StateQueued, StateSending, StateSent, StateFailed, StateUnknown}
	if len(filter.States) == 0 {
		all = nil
	}
	return o.forAll(ctx, filter, "delete", all, func(ctx context.Context, page []store.Stored) (done int, left []string, err error) {
		page = slices.DeleteFunc(page, func(m store.Stored) bool { return m.State == StateSending })
		conflicts, err := o.store.DeleteAll(ctx, page)
		for _, c := range conflicts {
			left = append(left, c.Before.ID)
		}
		return len(page) - len(conflicts), left, err
	}, o.delete)
}

// forAll calls page for each page of the messages that match, and one for each message that
// page has left.
func (o *Outbox) forAll(ctx context.Context, filter Filter, verb string, states []State,
	page func(context.Context, []store.Stored) (done int, left []string, err error), one func(context.Context, string) error) (int, error) {
	if len(filter.States) == 0 {
		filter.States = states
	}
	meant, err := filter.meant()
	if err != nil {
		return 0, fmt.Errorf("outbox: cannot %s the messages: %w", verb, err)
	}
	for _, state := range filter.States {
		if !slices.Contains(states, state) {
			return 0, message.AsInvalid(fmt.Errorf("outbox: Filter.States has %s: want some of %v", state, states))
		}
	}
	ctx, end, err := o.begin(ctx, listTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	total, err := o.forPages(ctx, o.store.Pages(ctx, meant), page, one)
	if err != nil {
		return total, fmt.Errorf("outbox: cannot %s the messages: %w", verb, filter.explain(err))
	}
	meant.States, meant.Limit = []State{StateSending}, 0
	sending, err := o.store.List(ctx, meant)
	if err != nil {
		return total, fmt.Errorf("outbox: cannot find out which messages are being sent: %w", err)
	}
	o.logMany(verb, total, len(sending))
	return total, nil
}

// forPages calls page for each page, and one for each message that page has left. It returns
// about how many messages they have decided.
func (o *Outbox) forPages(ctx context.Context, pages iter.Seq2[[]store.Stored, error],
	page func(context.Context, []store.Stored) (done int, left []string, err error), one func(context.Context, string) error) (total int, err error) {
	for found, err := range pages {
		var left []string
		if err == nil {
			var n int
			n, left, err = page(ctx, found)
			total += n
		}
		for _, id := range left {
			if err != nil {
				break
			}
			switch err = one(ctx, id); {
			case err == nil:
				total++
			case errors.Is(err, ErrRefused), errors.Is(err, ErrNotFound):
				err = nil
			}
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// logMany logs a decision about many messages.
func (o *Outbox) logMany(verb string, total, sending int) {
	if sending > 0 || total > 0 {
		o.logger.Warn("outbox: a person has decided about many messages", slog.String("graphretry.outbox.decision", verb),
			slog.Int("graphretry.outbox.messages", total), slog.Int("graphretry.outbox.left_sending", sending))
	}
}
