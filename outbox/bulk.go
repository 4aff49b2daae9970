package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// ResendAll calls [Outbox.Resend] for each unknown or failed message that matches a filter, and
// returns how many messages it has put back into the queue, also if it returns an error.
//
// It takes pages of 4,000 messages, in the order of enqueueing. Each page is a transaction of
// its own, so that other messages are sent meanwhile. Messages that are being sent are left
// alone, whatever the filter says, and the log has their number. A message that has changed
// meanwhile, so that Resend would refuse it, is skipped. Repeating ResendAll is safe. Without a
// deadline it takes 5 minutes at most.
//
// The error wraps [ErrInvalid] if the filter is wrong, or has other states than these two.
func (o *Outbox) ResendAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, "resend", message.Resent, StateUnknown, StateFailed)
}

// DropAll calls [Outbox.Drop] for each unknown or queued message that matches a filter.
// Otherwise it is as [Outbox.ResendAll].
func (o *Outbox) DropAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, "drop", message.Dropped, StateUnknown, StateQueued)
}

// ParkAll calls [Outbox.Park] for each queued message that matches a filter. Otherwise it is as
// [Outbox.ResendAll].
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
	return o.forAll(ctx, filter, verb, states, func(ctx context.Context, page []store.Stored) (done int, left []string, err error) {
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
			left = append(left, c.Before.ID)
			delete(same, c.Before.Seq)
		}
		for _, c := range changes {
			if !same[c.Before.Seq] {
				continue
			}
			saved := c.Before
			saved.Record = c.After
			o.settled(saved)
			o.publish(ctx, &saved, c.Outcomes)
		}
		return len(same), left, nil
	}, func(ctx context.Context, id string) error {
		current, err := o.find(ctx, id)
		if err == nil {
			_, err = o.apply(ctx, verb, current, message.Event{Kind: kind})
		}
		return err
	})
}

// DeleteAll calls [Outbox.Delete] for each message that matches a filter. Otherwise it is as
// [Outbox.ResendAll]. The zero Filter deletes all messages.
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
// page has left: it has changed meanwhile, or a Run has it.
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
	total := 0
	for found, err := range o.store.Pages(ctx, meant) {
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
			return total, fmt.Errorf("outbox: cannot %s the messages: %w", verb, filter.explain(err))
		}
	}
	meant.States, meant.Limit = []State{StateSending}, 0
	sending, err := o.store.List(ctx, meant)
	if err != nil {
		return total, fmt.Errorf("outbox: cannot find out which messages are being sent: %w", err)
	}
	if len(sending) > 0 || total > 0 {
		o.logger.Warn("outbox: a person has decided about many messages", slog.String("graphretry.outbox.decision", verb),
			slog.Int("graphretry.outbox.messages", total), slog.Int("graphretry.outbox.left_sending", len(sending)))
	}
	return total, nil
}
