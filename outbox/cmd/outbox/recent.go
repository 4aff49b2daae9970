package main

import (
	"context"
	"errors"
	"slices"

	"github.com/graphretry/graphretry/outbox"
)

const (
	// shownMessages is how many messages top prints at most.
	shownMessages = 20
	// keptMessages is how many it remembers, to make up for those that are settled.
	keptMessages = 200
	// lookBack is how many changes it reads when it begins.
	lookBack = 10000
	// listableMessages is how many failed and unknown messages it lists if the changes
	// have too few. To list more takes too long: each is asked for by itself.
	listableMessages = 1000
)

// recentMessages follows which messages have last become failed or unknown. List returns
// the longest unchanged first, so what has changed is read since the update before.
type recentMessages struct {
	*outbox.Outbox
	after uint64 // the revision up to which all is known
	// newest are the failed and unknown ones, the one that changed last first.
	newest []outbox.Status
}

// newRecentMessages begins a while before the latest revision.
func newRecentMessages(o *outbox.Outbox, latest uint64) *recentMessages {
	return &recentMessages{Outbox: o, after: latest - min(latest, lookBack)}
}

// update learns what has changed since the last update. stats are what was counted just
// now.
func (r *recentMessages) update(ctx context.Context, stats outbox.Stats) error {
	changed, err := r.List(ctx, outbox.Filter{After: r.after})
	if err != nil {
		return err
	}
	for _, status := range changed {
		r.after = status.Revision
		r.take(status)
	}
	if err := r.forgetDeleted(ctx); err != nil {
		return err
	}
	parked := stats.States[outbox.StateFailed] + stats.States[outbox.StateUnknown]
	if len(r.newest) < min(parked, shownMessages) && parked <= listableMessages {
		all, err := r.List(ctx, outbox.Filter{States: []outbox.State{outbox.StateFailed, outbox.StateUnknown}})
		if err != nil {
			return err
		}
		slices.Reverse(all)
		r.newest = all[:min(len(all), keptMessages)]
	}
	return nil
}

// take takes in what has become of a message.
func (r *recentMessages) take(status outbox.Status) {
	r.forget(status.ID)
	if onlyParked([]outbox.State{status.State}) {
		r.newest = slices.Insert(r.newest, 0, status)
		r.newest = r.newest[:min(len(r.newest), keptMessages)]
	}
}

func (r *recentMessages) forget(id string) {
	r.newest = slices.DeleteFunc(r.newest, func(s outbox.Status) bool { return s.ID == id })
}

// forgetDeleted forgets those of the messages to be shown that were deleted, of which
// List says nothing.
func (r *recentMessages) forgetDeleted(ctx context.Context) error {
	there := 0
	for _, status := range slices.Clone(r.newest) {
		if there == shownMessages {
			break
		}
		_, err := r.Status(ctx, status.ID)
		switch {
		case errors.Is(err, outbox.ErrNotFound):
			r.forget(status.ID)
		case err != nil:
			return err
		default:
			there++
		}
	}
	return nil
}

// shown returns the messages that top prints.
func (r *recentMessages) shown() []outbox.Status {
	return append([]outbox.Status{}, r.newest[:min(len(r.newest), shownMessages)]...)
}
