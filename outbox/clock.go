package outbox

import (
	"sync/atomic"
	"time"
)

// clock is the database's clock, as it was last read. All machines use it for waits and ages,
// so that a machine whose own clock is wrong expires nothing.
type clock struct {
	last atomic.Pointer[reading]
}

// reading is one reading of the database's clock, and how long it took.
type reading struct {
	theirs, ours time.Time
	took         time.Duration
}

// set stores the time that the database's clock has shown since it was asked.
func (c *clock) set(now, asked time.Time) {
	ours := time.Now()
	c.last.Store(&reading{now, ours, ours.Sub(asked)})
}

// now returns the time by the database's clock.
func (c *clock) now() time.Time {
	at := c.last.Load()
	return at.theirs.Add(time.Since(at.ours)).UTC()
}

// atMost returns a time that the database's clock has not passed yet. Waits count from there,
// so that none is too short.
func (c *clock) atMost() time.Time { return c.now().Add(c.last.Load().took) }
