package outage

import "time"

// outage is one outage, from the answer that brings the host down until it is up; or
// the time in which calls wait for less load to help, which the host is not down in.
type outage struct {
	began        time.Time
	number       uint64    // tells it from others
	isDown       bool      // or was
	fellSequence uint64    // the sequence number since the host was last brought down
	cause        error     // of the last answer that brought it down
	arrived      int       // how often a call has joined the queue ...
	since        time.Time // ... since then
	held         int       // calls that have, each counted once
}
