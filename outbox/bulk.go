package outbox

import (
	"context"
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
// error. After an error one page more may have been put back: the answer of the database was
// lost then.
//
// It takes pages of 4,000 messages, in the order of enqueueing. Each page has transactions of
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
	return o.decideAll(ctx, filter, saving{o.queue, "resend", message.Resent}, StateUnknown, StateFailed)
}

// ResendListed is as [Outbox.ResendAll] for messages that [Outbox.List] has returned. A message
// that has changed since is left alone, so only what a person has seen is resent. Of each Status
// it reads ID and Changed. The error wraps [ErrInvalid] if an ID cannot be one, or if a Changed
// is zero; nothing is resent then.
func (o *Outbox) ResendListed(ctx context.Context, listed []Status) (int, error) {
	ctx, end, err := o.begin(ctx, listTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	for i := range listed {
		err := message.CheckID(listed[i].ID)
		if err == nil && listed[i].Changed.IsZero() {
			err = fmt.Errorf("outbox: the Status of message %q has no Changed: want it as List has returned it", listed[i].ID)
		}
		if err != nil {
			return 0, message.AsInvalid(err)
		}
	}
	d := saving{o.queue, "resend", message.Resent}
	total, err := o.decideAboutPages(ctx, d, store.Filter{}, o.unchanged(ctx, listed))
	if err != nil {
		return total, fmt.Errorf("outbox: cannot resend the messages: %w", err)
	}
	o.logMany(d, total, 0)
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

// DropAll does what [Outbox.Drop] does, for each unknown or queued message that matches a
// filter. A message that changes after its page was read is read again: it is dropped only if it
// matches then, too. So DropAll of unknown messages leaves alone what somebody resends meanwhile.
// Otherwise it is as [Outbox.ResendAll].
func (o *Outbox) DropAll(ctx context.Context, filter Filter) (int, error) {
	return o.decideAll(ctx, filter, saving{o.queue, "drop", message.Dropped}, StateUnknown, StateQueued)
}

// ParkAll does what [Outbox.Park] does, for each queued message that matches a filter. Otherwise
// it is as [Outbox.DropAll].
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
	return o.decideAll(ctx, filter, saving{o.queue, "park", message.Parked}, StateQueued)
}

// DeleteAll does what [Outbox.Delete] does, for each message that matches a filter. Otherwise it
// is as [Outbox.DropAll]. The zero Filter deletes all messages.
func (o *Outbox) DeleteAll(ctx context.Context, filter Filter) (int, error) {
	all := []State{StateQueued, StateSending, StateSent, StateFailed, StateUnknown}
	if len(filter.States) == 0 {
		all = nil
	}
	return o.decideAll(ctx, filter, deleting{o.queue}, all...)
}

// decideAll carries out a decision about all messages that match a filter. states are those that
// the filter may have.
func (o *Outbox) decideAll(ctx context.Context, filter Filter, d decision, states ...State) (int, error) {
	if len(filter.States) == 0 {
		filter.States = states
	}
	meant, err := filter.meant()
	if err != nil {
		return 0, fmt.Errorf("outbox: cannot %s the messages: %w", d.verb(), err)
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
	total, err := o.decideAboutPages(ctx, d, meant, o.store.Pages(ctx, meant))
	if err != nil {
		return total, fmt.Errorf("outbox: cannot %s the messages: %w", d.verb(), filter.explain(err))
	}
	meant.States, meant.Limit = []State{StateSending}, 0
	sending, err := o.store.List(ctx, meant)
	if err != nil {
		return total, fmt.Errorf("outbox: cannot find out which messages are being sent: %w", err)
	}
	o.logMany(d, total, len(sending))
	return total, nil
}

// decideAboutPages carries out a decision about the messages of pages, and returns about how many
// it has.
func (o *Outbox) decideAboutPages(ctx context.Context, d decision, filter store.Filter, pages iter.Seq2[[]store.Stored, error]) (total int, err error) {
	for page, err := range pages {
		var done int
		if err == nil {
			done, err = o.decideAbout(ctx, d, filter, page)
			total += done
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// logMany logs a decision about many messages.
func (o *Outbox) logMany(d decision, total, sending int) {
	if sending > 0 || total > 0 {
		o.logger.Warn("outbox: a person has decided about many messages", slog.String("graphretry.outbox.decision", d.verb()),
			slog.Int("graphretry.outbox.messages", total), slog.Int("graphretry.outbox.left_sending", sending))
	}
}
