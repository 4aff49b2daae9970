package outage

import "time"

// rate is how fast waiters are released while the host is recovering: a slow start,
// then additive increase and multiplicative decrease where the host throttles or fails
// of load. Rates are in calls a second.
type rate struct {
	current float64
	ceiling float64 // what it may rise to ...
	floor   float64 // ... which is never lower than that
	share   float64 // of good answers, of late
	untried float64 // the rate before a trial

	counted time.Time // when the ceiling was last compared with the arrivals ...
	arrived int       // ... and how many there were then

	throttled float64   // throttling answers, less a share of the others
	slowed    time.Time // when the rate was last lowered; zero: it was not
}

// start begins the release of a queue that so many have joined in the time elapsed.
func (r *rate) start(now time.Time, elapsed time.Duration, arrived int) {
	arrivals := float64(arrived) / max(elapsed.Seconds(), 1)
	first := max(leastRate, min(firstRate, arrivals))
	ceiling := max(first, drain*arrivals)
	*r = rate{current: first, ceiling: ceiling, floor: ceiling, share: 1, counted: now, arrived: arrived}
}

// try lowers the rate on trial.
func (r *rate) try() { r.untried, r.current = r.current, max(leastRate, trialRate*r.current) }

// keep ends a trial that has helped.
func (r *rate) keep(now time.Time) { r.current, r.slowed = keptRate*r.untried, now }

// restore ends a trial that has not helped.
func (r *rate) restore() { r.current, r.slowed = r.untried, time.Time{} }

// adjust takes in an answer of a host that is recovering; arrived is how many calls have
// come to the queue since the outage began.
func (r *rate) adjust(now time.Time, result Result, arrived int) {
	// Those who come now count, too: workers of a queue come as fast as they are
	// released, and a ceiling from before would hold them for ever. Retries are among
	// them: where many answers are bad, a ceiling well above all who come would feed on
	// itself.
	r.share += shareOfLate * (1 - r.share)
	since := now.Sub(r.counted)
	if fresh := arrived - r.arrived; since >= time.Second && fresh >= fewestArrivals {
		reserve := reserve
		if r.share < 1 {
			reserve = reserveIfSomeFail * r.share
		}
		r.ceiling = max(r.floor, (1+reserve)*float64(fresh)/since.Seconds())
		r.counted, r.arrived = now, arrived
		r.current = min(r.current, r.ceiling)
	}
	sinceSlowed := now.Sub(r.slowed)
	switch {
	case result == ResultThrottled:
		r.throttled++
		if r.throttled >= throttledAnswers && sinceSlowed >= throttledEvery {
			r.current = max(leastRate, throttledRate*r.current)
			r.throttled, r.slowed = 0, now
		}
		return
	case r.slowed.IsZero():
		r.current = min(r.current+slowStart, r.ceiling)
	case sinceSlowed >= slowedFor:
		r.current = min(r.current+max(1/r.current, increase), r.ceiling)
	}
	r.throttled = max(0, r.throttled-throttledShare)
}

// failed takes in the answer of a host that is down, while it is recovering.
func (r *rate) failed() { r.share -= shareOfLate * r.share }

// next returns when the waiter after one that is released now, and was due then, may
// go.
func (r *rate) next(due, now time.Time) time.Time {
	gap := time.Duration(float64(time.Second) / r.current)
	return later(due, now.Add(-lateRelease)).Add(gap)
}
