package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
)

// Stats is what is in an outbox.
type Stats struct {
	// Now is the time of these counts, by the database's clock.
	Now time.Time
	// States counts the messages by state.
	States map[State]int
	// Numbers has the same for each phone number.
	Numbers map[string]NumberStats
	// Labels counts the messages of each label by state.
	Labels map[string]map[State]int
	// OldestQueued is when the queued message that was enqueued first was enqueued, zero if
	// none is queued. That message may be for a later time: WaitingSince tells whether messages
	// wait that could be sent.
	OldestQueued time.Time
	// WaitingSince is since when the longest waiting message has been in the queue, zero if
	// none waits. A message waits since it was enqueued, was resent, or became due by its
	// [NotBefore], whichever came last. A retry's wait, a held number and a pause do not reset
	// this.
	WaitingSince time.Time
	// Paused reports whether all numbers are paused: see [Outbox.Pause].
	Paused bool
	// NextProbe is when the next probe may be sent for all numbers together, zero if they are
	// not all held. They are all held while the API gives no clear answer to any of them.
	NextProbe time.Time
	// HeldFor is why they are held, "" if they are not.
	HeldFor string
	// Runs are the Runs of all machines that have not ended, with those that are dead.
	Runs []RunStats
	// APIDown reports whether this process takes the API to be down.
	APIDown bool
}

// NumberStats is what is in an outbox for one phone number.
type NumberStats struct {
	// States counts the messages by state, as in [Stats].
	States map[State]int
	// WaitingSince is as in [Stats], for this number.
	WaitingSince time.Time
	// Paused reports whether this number is paused by itself.
	Paused bool
	// NextProbe is when the next probe may be sent, zero if the number is not held.
	NextProbe time.Time
	// HeldFor is why the number is held, "" if it is not.
	HeldFor string
	// HeldSince is since when the number is held, zero if it is not.
	HeldSince time.Time
	// Share is the part of its rate ([WithRate]) that the number uses: 1, or less after Meta
	// has answered that it is too much. It grows again while messages are sent.
	Share float64
}

// RunStats is what the outbox knows about one [Outbox.Run].
type RunStats struct {
	// ID identifies the Run.
	ID int64
	// Began is when it began, by the database's clock.
	Began time.Time
	// Silent is the time since its last heartbeat. It sends one every 5 s.
	Silent time.Duration
	// Dead reports whether Silent is 30 s or more. A live Run then removes it: its messages go
	// back to the queue, or become unknown if they were being sent.
	Dead bool
	// Messages is how many messages it has: those that it is sending, or is about to send.
	Messages int
}

// Stats counts the messages, and returns what all machines know about the numbers and the Runs,
// all at one moment. APIDown is what this process has found out.
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
