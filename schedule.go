package graphretry

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// schedule is the waits of one call.
type schedule struct {
	backOff     backoff.BackOff
	jitter      float64
	own         bool          // ours, not the caller's
	maxInterval time.Duration // of ours
}

func newSchedule(s *settings) schedule {
	if s.newBackOff != nil {
		backOff := s.newBackOff()
		if backOff == nil {
			backOff = &backoff.StopBackOff{}
		}
		backOff.Reset()
		return schedule{backOff: backOff, jitter: s.jitterOr(0)}
	}
	return schedule{
		// Its own randomization would shorten waits, and its own elapsed time
		// would miss the waits that jitter and Retry-After lengthen.
		backOff: backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(s.initialInterval),
			backoff.WithMultiplier(s.multiplier),
			backoff.WithMaxInterval(s.maxInterval),
			backoff.WithRandomizationFactor(0),
			backoff.WithMaxElapsedTime(0),
		),
		jitter:      s.jitterOr(defaultJitter),
		own:         true,
		maxInterval: s.maxInterval,
	}
}

// skip passes over the first n intervals.
func (s schedule) skip(n int) {
	// What is retried so often waits no longer for it, and a number out of a
	// queue that is off must not keep Decide busy for minutes.
	const most = 1 << 16
	previous := time.Duration(unset)
	for range min(n, most) {
		interval := s.backOff.NextBackOff()
		if interval == backoff.Stop || s.own && interval == previous {
			return // it has stopped, or grows no more
		}
		previous = interval
	}
}

// next is the wait before the next retry: the schedule's interval with jitter on
// top, raised to what the answer asked for. It reports false if the schedule has
// ended. retries is how often this code was retried already.
func (s schedule) next(code Code, retries int, retryAfter time.Duration) (time.Duration, bool) {
	interval, ok := s.interval(code, retries)
	if !ok {
		return 0, false
	}
	return max(jittered(interval, s.jitter), retryAfter), true
}

// interval is the next interval. It reports false if the schedule has ended. One for
// 131056 uses up one of the others, so that all retries so far tell where the schedule is.
func (s schedule) interval(code Code, retries int) (time.Duration, bool) {
	interval := s.backOff.NextBackOff()
	if code == CodePairRateLimitHit && s.own {
		interval = min(pairInterval(retries), s.maxInterval)
	}
	return interval, interval >= 0
}

// pairInterval is Meta's advice for 131056, too many messages from one sender to
// one recipient: 4^retries seconds.
func pairInterval(retries int) time.Duration {
	const most = 16 // 136 years, and no overflow
	return time.Second << (2 * min(retries, most))
}

// jittered is an interval with up to a fraction of it on top.
func jittered(interval time.Duration, fraction float64) time.Duration {
	return times(1+fraction*rand.Float64(), interval)
}

// times is n units, or the longest duration there is.
func times(n float64, unit time.Duration) time.Duration {
	product := n * float64(unit)
	if product >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(product)
}
