package outage

import "time"

// rate is how fast waiters are released while the host is recovering: a slow start, in which
// each success raises it by a call a second, then additive increase and multiplicative
// decrease where the host throttles or fails of load. Rates are in calls a second.
type rate struct {
	current float64
	ceiling float64 // what it may rise to ...
	floor   float64 // ... which is never lower than that
	share   float64 // of good answers, of late

	counted time.Time // when the ceiling was last compared with the arrivals ...
	arrived int       // ... and how many there were then

	throttled float64   // throttling answers, less a share of the others
	slowed    time.Time // when the rate was last lowered; zero: it was not
}

// start begins the release of the queue that has formed in an outage with the rate at which
// it has formed, since that is what the host was asked for before. So a hundred processes
// together begin with what all of them sent, and one with a call a second at least.
func (r *rate) start(now time.Time, o outage) {
	arrivals := o.perSecond(now)
	first := max(1, arrivals)
	ceiling := max(first, drain*arrivals)
	*r = rate{current: first, ceiling: ceiling, floor: ceiling, share: 1, counted: now, arrived: o.arrived}
}

// hold begins a trial where nobody waits: calls go on as fast as they were answered until
// now.
func (r *rate) hold(now time.Time, watched window) {
	offered := (watched.answers + 1) / now.Sub(watched.opened).Seconds()
	*r = rate{current: offered, ceiling: offered, floor: offered, share: watched.good / watched.answers, counted: now}
}

// isStarting reports whether the slow start goes on.
func (r *rate) isStarting() bool { return r.slowed.IsZero() && r.current < r.ceiling }

// lower lowers the rate to a part of itself, but not below a call in a turn: a hundred
// processes that send a call a second each are as much of a load as one that sends a hundred.
func (r *rate) lower(now time.Time, part float64) {
	r.current, r.slowed = max(1/turn.Seconds(), part*r.current), now
}

// adjust takes in an answer of a host that is recovering; arrived is how many calls have
// come to the queue since the outage began.
func (r *rate) adjust(now time.Time, result Result, arrived int) {
	// Those who come now count, too: workers of a queue come as fast as they are
	// released, and a ceiling from before would hold them for ever. Retries are among
	// them: where many answers are bad, a ceiling well above all who come would feed on
	// itself.
	r.share = nearly*r.share + 1 - nearly
	since := now.Sub(r.counted)
	if fresh := arrived - r.arrived; since >= settles && fresh >= sure {
		r.ceiling = max(r.floor, (1+reserve*r.share)*float64(fresh)/since.Seconds())
		r.counted, r.arrived = now, arrived
		r.current = min(r.current, r.ceiling)
	}
	sinceSlowed := now.Sub(r.slowed)
	switch {
	case result == ResultThrottled:
		r.throttled++
		if r.throttled >= sure && sinceSlowed >= settles {
			r.lower(now, lowered)
			r.throttled = 0
		}
		return
	case r.slowed.IsZero():
		r.current = min(r.current+1, r.ceiling)
	case sinceSlowed >= turn:
		r.current = min(r.current+increase*r.ceiling/r.current, r.ceiling)
	}
	r.throttled = max(0, r.throttled-(1-nearly))
}

// failed takes in the answer of a host that is down, while it is recovering.
func (r *rate) failed() { r.share *= nearly }

// next returns when the waiter after one that is released now, and was due then, may
// go, if a part of the rate is used.
func (r *rate) next(due, now time.Time, part float64) time.Time {
	gap := times(1/(part*r.current), time.Second)
	return later(due.Add(gap), now)
}
