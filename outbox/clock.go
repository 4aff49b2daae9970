package outbox

import (
	"sync/atomic"
	"time"
)

// clock is the database's clock, as it was read last. All machines tell waits and ages by it,
// so that one whose own clock is wrong expires nothing.
type clock struct {
	last atomic.Pointer[reading]
}

// reading is a look at the database's clock, which took so long.
type reading struct {
	theirs, ours time.Time
	took         time.Duration
}

// set takes in what the database's clock has said since it was asked.
func (c *clock) set(now, asked time.Time) {
	ours := time.Now()
	c.last.Store(&reading{now, ours, ours.Sub(asked)})
}

// now returns the time by the database's clock.
func (c *clock) now() time.Time {
	at := c.last.Load()
	return at.theirs.Add(time.Since(at.ours)).UTC()
}

// atMost returns a time that the database's clock has not passed yet. Waits are counted from
// there, so that none is shorter than it should be.
func (c *clock) atMost() time.Time { return c.now().Add(c.last.Load().took) }
