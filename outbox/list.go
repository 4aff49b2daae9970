package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Filter says which messages are meant. Every field that is set must fit; the zero
// Filter means all messages.
type Filter struct {
	// States are the states that fit; none means all.
	States []State
	// PhoneNumberID is the business's phone number.
	PhoneNumberID string
	// Code is the code or the subcode of what Meta said last.
	Code graphretry.Code
	// OlderThan fits messages that were enqueued at least so long ago.
	OlderThan time.Duration
	// After fits messages that were enqueued after the one with this id: for the next page,
	// give the ID of the last message of this one.
	After string
	// Limit is how many messages [Outbox.List] returns at most; 0 means all.
	Limit int
}

// List returns the messages that a filter means, in the order in which they were enqueued,
// and of those that were enqueued together by their ids. It tries for as long as ctx lasts,
// or 5 minutes. The error wraps [ErrNotFound] if the message of Filter.After is not there
// any more.
func (o *Outbox) List(ctx context.Context, filter Filter) ([]Status, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := o.list(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the messages: %w", err)
	}
	return found, nil
}

func (o *Outbox) list(ctx context.Context, filter Filter) ([]Status, error) {
	if filter.Limit < 0 {
		return nil, fmt.Errorf("Filter.Limit is %d: want 0 for all, or more", filter.Limit)
	}
	if filter.PhoneNumberID != "" && !message.IsNumber(filter.PhoneNumberID) {
		return nil, fmt.Errorf("Filter.PhoneNumberID is %q: want the digits of the id", filter.PhoneNumberID)
	}
	for _, state := range filter.States {
		switch state {
		case StateQueued, StateSending, StateSent, StateFailed, StateUnknown:
		default:
			return nil, fmt.Errorf("Filter.States has %q: want queued, sending, sent, failed or unknown", string(state))
		}
	}
	states := slices.Compact(slices.Sorted(slices.Values(filter.States)))
	stored, err := o.store.List(ctx, store.Filter{States: states, Number: filter.PhoneNumberID, Code: int(filter.Code),
		OlderThan: filter.OlderThan, After: filter.After, Limit: filter.Limit})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("Filter.After is %q: %w", filter.After, err)
	}
	found := make([]Status, 0, len(stored))
	for i := range stored {
		found = append(found, statusOf(&stored[i]))
	}
	return found, err
}

// ResendAll is [Outbox.Resend] for each message that is unknown or failed and that a
// filter means. One that has changed meanwhile, so that Resend refuses it, is passed
// over. It returns how many it has put back into the queue, also beside an error.
// Repeating it is safe.
func (o *Outbox) ResendAll(ctx context.Context, filter Filter) (int, error) {
	return o.decreeAll(ctx, filter, []State{StateUnknown, StateFailed}, o.Resend)
}

// DropAll is [Outbox.Drop] for each message that is unknown or queued and that a
// filter means. One that has changed meanwhile, so that Drop refuses it, is passed over.
// It returns how many it has given up, also beside an error. Repeating it is safe.
func (o *Outbox) DropAll(ctx context.Context, filter Filter) (int, error) {
	return o.decreeAll(ctx, filter, []State{StateUnknown, StateQueued}, o.Drop)
}

// decreeAll carries out a person's decision for each message that is meant and in one
// of these states.
func (o *Outbox) decreeAll(ctx context.Context, filter Filter, states []State, decree func(context.Context, string) error) (int, error) {
	if len(filter.States) == 0 {
		filter.States = states
	}
	for _, state := range filter.States {
		if !slices.Contains(states, state) {
			return 0, fmt.Errorf("outbox: Filter.States has %s: want some of %v", state, states)
		}
	}
	meant, err := o.List(ctx, filter)
	if err != nil {
		return 0, err
	}
	done := 0
	for _, status := range meant {
		switch err := decree(ctx, status.ID); {
		case err == nil:
			done++
		case !errors.Is(err, message.ErrRefused) && !errors.Is(err, ErrNotFound):
			return done, err
		}
	}
	return done, nil
}

// Stats is what is in an outbox.
type Stats struct {
	// States counts the messages by their state.
	States map[State]int
	// Numbers has the same for each phone number.
	Numbers map[string]NumberStats
	// OldestQueued is when the message was enqueued that is longest in the queue; zero if
	// there is none.
	OldestQueued time.Time
	// Paused reports whether all numbers are paused: see [Outbox.Pause].
	Paused bool
	// APIDown reports whether this process holds the API to be down.
	APIDown bool
}

// NumberStats is what is in an outbox for one phone number.
type NumberStats struct {
	// States counts the messages by their state, as those of [Stats].
	States map[State]int
	// Paused reports whether this number is paused by itself.
	Paused bool
	// NextProbe is when the next probe may go, if the number is held; zero if it is not.
	NextProbe time.Time
	// HeldFor is why it is held, "" if it is not.
	HeldFor string
}

// Stats counts the messages, all at one moment. What it says of the API is what this
// process has found out.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return Stats{}, err
	}
	defer done()
	stats, err := o.stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("outbox: cannot count the messages: %w", err)
	}
	return stats, nil
}

func (o *Outbox) stats(ctx context.Context) (Stats, error) {
	stats := Stats{States: make(map[State]int), Numbers: make(map[string]NumberStats)}
	_, stats.APIDown = o.hostDown()
	counts, err := o.store.Count(ctx)
	if err != nil {
		return stats, err
	}
	if stats.OldestQueued, err = o.store.Oldest(ctx); err != nil {
		return stats, err
	}
	shared, err := o.store.Numbers(ctx)
	if err != nil {
		return stats, err
	}
	all := shared[lane.All]
	stats.Paused = all.Paused
	for number, states := range counts {
		stats.Numbers[number] = NumberStats{States: states}
		for state, n := range states {
			stats.States[state] += n
		}
	}
	for number, this := range shared {
		if number == lane.All {
			continue
		}
		s := stats.Numbers[number]
		if s.States == nil {
			s.States = make(map[State]int)
		}
		s.Paused, s.NextProbe, s.HeldFor = this.Paused, this.NextProbe, this.Reason
		if all.IsHeld() && this.IsHeld() {
			s.NextProbe = all.NextProbe
		}
		stats.Numbers[number] = s
	}
	return stats, nil
}
