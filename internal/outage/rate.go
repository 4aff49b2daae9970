package outage

import "time"

// rate is how fast waiters are released while the host is recovering: a slow start,
// and less where the host throttles. Rates are in calls a second.
type rate struct {
	initial  float64 // to start with
	current  float64
	ceiling  float64 // what it may rise to
	arrivals float64 // of calls at the queue, until the host was back

	counted time.Time // when the ceiling was last compared with the arrivals ...
	joined  int       // ... and how many had joined the queue then

	throttled float64   // throttling answers, less a share of the others
	slowed    time.Time // when they last lowered the rate
}

// start begins the release of a queue that has formed in the time elapsed.
func (r *rate) start(now time.Time, elapsed time.Duration, joined, waiting int) {
	seconds := max(elapsed.Seconds(), 1)
	r.arrivals = float64(joined) / seconds
	r.ceiling = max(firstRate, r.arrivals+drain*float64(waiting)/seconds)
	r.current = r.initial
	r.counted, r.joined = now, joined
	r.throttled, r.slowed = 0, time.Time{}
}

// fell is for a host that was brought down again by this rate.
func (r *rate) fell() { r.initial = max(firstRate, r.current*resumeRate) }

// adjust takes in an answer of a host that is recovering; joined is how many calls have
// joined the queue since the outage began.
func (r *rate) adjust(now time.Time, result Result, joined int) {
	// Those who come now count, too: workers of a queue come as fast as they are
	// released, and a ceiling from before would hold them for ever.
	if since := now.Sub(r.counted).Seconds(); since >= 1 {
		r.ceiling = max(r.ceiling, drain*float64(joined-r.joined)/since)
		r.counted, r.joined = now, joined
	}
	sinceSlowed := now.Sub(r.slowed)
	switch {
	case result == ResultThrottled:
		r.throttled++
		if r.throttled >= throttledAnswers && sinceSlowed >= throttledEvery {
			r.current = max(r.current*throttledRate, min(r.current, r.arrivals))
			r.throttled, r.slowed = 0, now
		}
		return
	case r.slowed.IsZero():
		r.current = min(r.current+1, r.ceiling)
	case sinceSlowed >= throttledFor:
		r.current = min(r.current+1/r.current, r.ceiling)
	}
	r.throttled = max(0, r.throttled-throttledShare)
}

// next returns when the waiter after one that is released now, and was due then, may
// go.
func (r *rate) next(due, now time.Time) time.Time {
	gap := time.Duration(float64(time.Second) / r.current)
	return later(due, now.Add(-lateRelease)).Add(gap)
}
