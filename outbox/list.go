package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
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
	// After fits messages whose id comes after it, in the order of List: for the next
	// page, give the last id of this one.
	After string
	// Limit is how many messages [Outbox.List] returns at most; 0 means all.
	Limit int
}

// fits reports whether a record is meant.
func (f *Filter) fits(r *record, now time.Time) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.PhoneNumberID == "" || f.PhoneNumberID == r.PhoneNumberID) &&
		(f.Code == 0 || r.Graph != nil && (r.Graph.Code == f.Code || r.Graph.Subcode == int(f.Code))) &&
		now.Sub(r.Enqueued) >= f.OlderThan &&
		r.ID > f.After
}

// List returns the messages that a filter means, by their ids. It reads every record,
// so the time that it takes grows with their number. On a cluster it may lag a moment
// behind. It tries for as long as ctx lasts, or 5 minutes.
func (o *Outbox) List(ctx context.Context, filter Filter) ([]Status, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	var found []Status
	err = o.store.each(ctx, func(r *record) {
		if filter.fits(r, o.now()) {
			found = append(found, r.status())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the messages: %w", err)
	}
	slices.SortFunc(found, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	if filter.Limit > 0 && len(found) > filter.Limit {
		found = found[:filter.Limit]
	}
	return found, nil
}

// ResendAll is [Outbox.Resend] for each message that is unknown or failed and that a
// filter means. It returns how many it has put back into the queue, also beside an
// error. Repeating it is safe.
func (o *Outbox) ResendAll(ctx context.Context, filter Filter) (int, error) {
	return o.decreeAll(ctx, filter, []State{StateUnknown, StateFailed}, o.Resend)
}

// DropAll is [Outbox.Drop] for each message that is unknown or queued and that a
// filter means. It returns how many it has given up, also beside an error. Repeating
// it is safe.
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
	for i, status := range meant {
		if err := decree(ctx, status.ID); err != nil {
			return i, err
		}
	}
	return len(meant), nil
}

// Stats is what is in an outbox.
type Stats struct {
	// States counts the messages by their state.
	States map[State]int
	// Numbers has the same for each phone number.
	Numbers map[string]NumberStats
	// OldestQueued is when the message was enqueued that has been queued or sent for the
	// longest time; zero if there is none.
	OldestQueued time.Time
	// Paused reports whether all numbers are paused, as far as a Run of this process has
	// heard: see [Outbox.Pause].
	Paused bool
	// APIDown reports whether this process holds the API to be down.
	APIDown bool
}

// NumberStats is what is in an outbox for one phone number.
type NumberStats struct {
	// States counts the messages by their state.
	States map[State]int
	// Paused reports whether this number is paused by itself, as far as a Run of this
	// process has heard.
	Paused bool
	// NextProbe is when the next probe may go, if this process holds the number; zero
	// if it does not.
	NextProbe time.Time
	// HeldFor is why this process holds it, "" if it does not.
	HeldFor string
}

// Stats counts the messages. It reads every record, as [Outbox.List] does. What it says
// of held numbers and of the API is what this process has found out.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return Stats{}, err
	}
	defer done()
	stats := Stats{States: make(map[State]int), Numbers: make(map[string]NumberStats), APIDown: o.outage.lasts() != nil, Paused: o.lanes.isPaused(pauseAll)}
	err = o.store.each(ctx, func(r *record) {
		stats.States[r.State]++
		number, ok := stats.Numbers[r.PhoneNumberID]
		if !ok {
			number.States = make(map[State]int)
			number.NextProbe, number.HeldFor = o.lanes.held(r.PhoneNumberID)
			number.Paused = o.lanes.isPaused(r.PhoneNumberID)
			stats.Numbers[r.PhoneNumberID] = number
		}
		number.States[r.State]++
		if (r.State == StateQueued || r.State == StateSending) && (stats.OldestQueued.IsZero() || r.Enqueued.Before(stats.OldestQueued)) {
			stats.OldestQueued = r.Enqueued
		}
	})
	if err != nil {
		return Stats{}, fmt.Errorf("outbox: cannot count the messages: %w", err)
	}
	return stats, nil
}

// each reads every record. One that cannot be read is passed over.
func (s *store) each(ctx context.Context, see func(*record)) error {
	watcher, err := s.bucket.Watch(ctx, recordPrefix+"*", jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for {
		select {
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("outbox: the listing broke off")
			case entry == nil:
				return nil
			}
			var r record
			if json.Unmarshal(entry.Value(), &r) == nil && keyOf(r.ID) == strings.TrimPrefix(entry.Key(), recordPrefix) && r.sound() {
				see(&r)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
