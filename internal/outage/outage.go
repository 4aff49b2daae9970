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
	moved        int       // how often one that had waited elsewhere has ...
	movedFrom    time.Time // ... which others had joined since then
	held         int       // calls that have, each counted once
}

// gathersFrom returns since when those who wait have gathered, here or elsewhere.
func (o *outage) gathersFrom() time.Time {
	if o.moved > 0 && o.movedFrom.Before(o.since) {
		return o.movedFrom
	}
	return o.since
}

// perSecond returns how many calls have come in a second: here, or with those who have moved
// here since they began to gather, whichever is more.
func (o *outage) perSecond(now time.Time) float64 {
	rate := func(calls int, since time.Time) float64 { return float64(calls) / max(now.Sub(since).Seconds(), 1) }
	return max(rate(o.arrived, o.since), rate(o.arrived+o.moved, o.gathersFrom()))
}
