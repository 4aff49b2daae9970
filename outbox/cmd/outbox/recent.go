package main

import (
	"context"
	"slices"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

const (
	// shownMessages is how many messages of a kind top prints at most.
	shownMessages = 20
	// askedQueued is how many of the oldest queued messages are read, to choose those that a
	// person wants to see.
	askedQueued = 200
	// firstSpan is how far back top first looks for messages that became failed or unknown. If
	// it finds too few, it looks spanFactor times as far back, and so on.
	firstSpan, spanFactor = time.Minute, 8
	// restFactor is how many times as long as the last search top waits before the next one,
	// since a search reads all messages that are failed or unknown.
	restFactor = 10
)

// recent finds the messages that have become failed or unknown last.
type recent struct {
	list func(context.Context, outbox.Filter) ([]outbox.Status, error) // as Outbox.List
	// since is just before the oldest change that was found last, zero if none was found.
	since time.Time
	found []outbox.Status
	// next is when to look again.
	next time.Time
}

// look returns these messages, the last one first.
func (r *recent) look(ctx context.Context, stats outbox.Stats, now time.Time) ([]outbox.Status, error) {
	parked := stats.States[outbox.StateFailed] + stats.States[outbox.StateUnknown]
	began := time.Now()
	if parked == 0 {
		r.found = nil
		return nil, nil
	}
	if began.Before(r.next) {
		return r.found, nil
	}
	filter := outbox.Filter{States: []outbox.State{outbox.StateFailed, outbox.StateUnknown}}
	span := firstSpan
	if !r.since.IsZero() {
		span = max(time.Millisecond, now.Sub(r.since))
	}
	for {
		if filter.ChangedAfter = now.Add(-span); parked <= shownMessages {
			filter.ChangedAfter = time.Time{}
		}
		found, err := r.list(ctx, filter)
		if err != nil {
			return nil, err
		}
		if len(found) >= min(shownMessages, parked) || filter.ChangedAfter.IsZero() || span > maxSpan {
			slices.SortStableFunc(found, func(a, b outbox.Status) int { return b.Changed.Compare(a.Changed) })
			r.found = found[:min(len(found), shownMessages)]
			if len(r.found) > 0 {
				r.since = r.found[len(r.found)-1].Changed.Add(-time.Microsecond)
			}
			r.next = time.Now().Add(restFactor * time.Since(began))
			return r.found, nil
		}
		span *= spanFactor
	}
}

// maxSpan is longer than any message is kept.
const maxSpan = 10 * 365 * 24 * time.Hour

// oldest returns the messages that are longest in the queue: first those that wait for no other
// visible reason, then those of numbers that are paused or held, and last those that are for a
// later time.
func oldest(ctx context.Context, o *outbox.Outbox, stats outbox.Stats) ([]outbox.Status, error) {
	if stats.States[outbox.StateQueued] == 0 {
		return nil, nil
	}
	found, err := o.List(ctx, outbox.Filter{States: []outbox.State{outbox.StateQueued}, Limit: askedQueued})
	now := o.Now()
	rank := func(s outbox.Status) int {
		switch n := stats.Numbers[s.PhoneNumberID]; {
		case s.Reason == "" && s.NotBefore.After(now):
			return 2
		case n.Paused, n.HeldFor != "":
			return 1
		}
		return 0
	}
	slices.SortStableFunc(found, func(a, b outbox.Status) int { return rank(a) - rank(b) })
	return found[:min(len(found), shownMessages)], err
}
