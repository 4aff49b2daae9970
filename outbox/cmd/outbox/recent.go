package main

import (
	"context"
	"slices"

	"github.com/graphretry/graphretry/outbox"
)

const (
	// shownMessages is how many messages top prints at most.
	shownMessages = 20
	// listableMessages is how many failed and unknown messages it lists to find those that
	// have changed last.
	listableMessages = 1000
)

// recent returns the messages that have last become failed or unknown, the last first. If
// there are too many to be listed again and again it returns none.
func recent(ctx context.Context, o *outbox.Outbox, stats outbox.Stats) ([]outbox.Status, error) {
	parked := stats.States[outbox.StateFailed] + stats.States[outbox.StateUnknown]
	if parked == 0 || parked > listableMessages {
		return []outbox.Status{}, nil
	}
	all, err := o.List(ctx, outbox.Filter{States: []outbox.State{outbox.StateFailed, outbox.StateUnknown}})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b outbox.Status) int { return b.Changed.Compare(a.Changed) })
	return all[:min(len(all), shownMessages)], nil
}
