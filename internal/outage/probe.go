package outage

import (
	"math"
	"math/rand/v2"
	"time"
)

// probes are the probes since the host was last brought down.
type probes struct {
	partial  bool // the host has failed in part before, so it may be up again soon
	sent     int
	passedOn int // the probe that has its permit from one that was abandoned
}

// send counts a probe and returns its number.
func (p *probes) send() int {
	p.sent++
	return p.sent
}

// passOn reports whether another waiter may go now in place of a probe that was not
// sent or, if it was, was abandoned.
func (p *probes) passOn(probe int, sent bool) bool {
	switch {
	case probe != p.sent:
		return false // its interval is over, and another probe was sent
	case probe > 0 && !sent:
		p.sent--
	case probe > 0 && probe == p.passedOn:
		// Once an interval. Callers who all leave soon would else send a probe each,
		// and together hammer a host that is down.
		return false
	case probe > 0:
		p.passedOn = p.sent + 1
	}
	return true
}

// interval returns the time from the last probe's departure to the next, with jitter
// on top.
func (p *probes) interval(config Config) time.Duration {
	factor := math.Exp2(float64(p.sent))
	if p.partial {
		factor = math.Pow(partialGrowth, float64(p.sent)) * partialProbe
	}
	longest := config.MaxInterval
	if p.sent >= manyProbes {
		longest /= 2
	}
	return config.jittered(max(1, min(longest, times(factor, config.InitialInterval))))
}

// jittered returns an interval with jitter on top, but no more than the initial interval would
// have: an end that is noticed late makes everybody wait.
func (c Config) jittered(interval time.Duration) time.Duration {
	top := times(c.Jitter*rand.Float64(), min(interval, c.InitialInterval))
	return interval + min(top, math.MaxInt64-interval)
}
