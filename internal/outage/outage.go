package outage

import "time"

// outage is one outage, from the answer that brings the host down until it is up; or
// the time in which calls wait for less load to help, which the host is not down in.
type outage struct {
	began        time.Time
	number       uint64    // tells it from others
	isDown       bool      // or was
	fellSequence uint64    // the sequence number since the host was last brought down
	cause        error     // of the answer that last brought it down; while it is up, of the last bad one
	arrived      int       // how often a call has joined the queue ...
	since        time.Time // ... since then
	moved        int       // how many waiters of other queues have moved to this one ...
	movedFrom    time.Time // ... and when the first of those queues began to form
	held         int       // how many calls have waited, each counted once
}

// gathersFrom returns when the queue began to form, or an earlier one of which waiters have
// moved to it.
func (o *outage) gathersFrom() time.Time {
	if o.moved > 0 && o.movedFrom.Before(o.since) {
		return o.movedFrom
	}
	return o.since
}

// perSecond returns how many calls have come in a second: to this queue, or to it and to those
// from which waiters have moved to it, whichever is more.
func (o *outage) perSecond(now time.Time) float64 {
	rate := func(calls int, since time.Time) float64 { return float64(calls) / max(now.Sub(since).Seconds(), 1) }
	return max(rate(o.arrived, o.since), rate(o.arrived+o.moved, o.gathersFrom()))
}
