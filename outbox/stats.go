package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
)

// Stats is what is in an outbox.
type Stats struct {
	// Now is when it is so, by the database's clock.
	Now time.Time
	// States counts the messages by their state.
	States map[State]int
	// Numbers has the same for each phone number.
	Numbers map[string]NumberStats
	// Labels counts those of each label by their state.
	Labels map[string]map[State]int
	// OldestQueued is when the message was enqueued that is longest in the queue; zero if
	// there is none.
	OldestQueued time.Time
	// WaitingSince is since when the message has been in the queue that waits longest: since it
	// was enqueued, resent, or due by its [NotBefore], whichever was last. A retry's wait, a
	// number that is held and a pause count. Zero if none waits.
	WaitingSince time.Time
	// Paused reports whether all numbers are paused: see [Outbox.Pause].
	Paused bool
	// NextProbe is when the next probe may go for all numbers together, if all are held for
	// the same reason, an API that gives no clear answer; zero if they are not.
	NextProbe time.Time
	// HeldFor is why, "" if they are not.
	HeldFor string
	// Runs are those of all machines that have not ended, dead ones among them.
	Runs []RunStats
	// APIDown reports whether this process holds the API to be down.
	APIDown bool
}

// NumberStats is what is in an outbox for one phone number.
type NumberStats struct {
	// States counts the messages by their state, as those of [Stats].
	States map[State]int
	// WaitingSince is that of [Stats], for this number.
	WaitingSince time.Time
	// Paused reports whether this number is paused by itself.
	Paused bool
	// NextProbe is when the next probe may go, if the number is held; zero if it is not.
	NextProbe time.Time
	// HeldFor is why it is held, "" if it is not.
	HeldFor string
	// HeldSince is since when it is held, zero if it is not.
	HeldSince time.Time
	// Share is the part of its rate ([WithRate]) that it has: 1, or less since Meta has
	// answered that it is too much. It grows again while messages are sent.
	Share float64
}

// RunStats is what is known of one [Outbox.Run].
type RunStats struct {
	// ID tells it from the others.
	ID int64
	// Began is when it has begun, by the database's clock.
	Began time.Time
	// Silent is for how long it has given no sign of life. It gives one every 5 s.
	Silent time.Duration
	// Dead reports whether that is 30 s or more. Another Run that is alive takes it out
	// then, and what it had is free or, if it was being sent, unknown.
	Dead bool
	// Messages is how many it has: those that it is sending, or is about to.
	Messages int
}

// Stats counts the messages, and tells what all machines know of the numbers and the Runs, all
// at one moment. What it says of the API is what this process has found out.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return Stats{}, err
	}
	defer done()
	all, err := o.store.Snapshot(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("outbox: cannot count the messages: %w", err)
	}
	stats := Stats{Now: all.Now, States: make(map[State]int), Numbers: make(map[string]NumberStats), Labels: all.Labels, OldestQueued: all.Oldest}
	_, stats.APIDown = o.sender.hostDown()
	for number, states := range all.Counts {
		this := NumberStats{States: states, Share: 1}
		if since, ok := all.Waiting[number]; ok && !since.After(all.Now) {
			this.WaitingSince = since
			if stats.WaitingSince.IsZero() || since.Before(stats.WaitingSince) {
				stats.WaitingSince = since
			}
		}
		stats.Numbers[number] = this
		for state, n := range states {
			stats.States[state] += n
		}
	}
	host := all.Numbers[lane.All]
	stats.Paused, stats.NextProbe, stats.HeldFor = host.Paused, host.NextProbe, host.Reason
	for number, this := range all.Numbers {
		if number == lane.All {
			continue
		}
		s := stats.Numbers[number]
		if s.States == nil {
			s.States, s.Share = make(map[State]int), 1
		}
		s.Paused, s.NextProbe, s.HeldFor, s.HeldSince = this.Paused, this.NextProbe, this.Reason, this.HeldSince
		if this.Share > 0 {
			s.Share = min(1, this.Share)
		}
		if host.IsHeld() && this.IsHeld() {
			s.NextProbe = host.NextProbe
		}
		stats.Numbers[number] = s
	}
	for _, run := range all.Runs {
		silent := max(0, all.Now.Sub(run.BeatAt))
		stats.Runs = append(stats.Runs, RunStats{ID: run.ID, Began: run.Began, Silent: silent, Dead: silent >= o.life.dead, Messages: run.Messages})
	}
	return stats, nil
}
