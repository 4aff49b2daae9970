package graphretry

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// schedule is the waits of one call.
type schedule struct {
	backOff backoff.BackOff
	jitter  float64
	own     bool // ours, not the caller's
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
		jitter: s.jitterOr(defaultJitter),
		own:    true,
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
	var interval time.Duration
	if code == CodePairRateLimitHit && s.own {
		interval = pairInterval(retries)
	} else if interval = s.backOff.NextBackOff(); interval < 0 {
		return 0, false
	}
	return max(jittered(interval, s.jitter), retryAfter), true
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

// retryAfter is the wait that a Retry-After header asks for (RFC 9110, section
// 10.2.3): seconds, or a date in any of the three forms of HTTP. It is 0 where
// there is no header, or one that is negative, past or none of these.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			// All digits and out of range: an age, not nothing.
			return math.MaxInt64
		}
		return times(float64(seconds), time.Second)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, time.Until(date))
}

// regainAccess is the longest estimated_time_to_regain_access, which Meta gives
// in minutes, in a X-Business-Use-Case-Usage header: an object that has, for
// each business, a list of its limits. See
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting.
func regainAccess(header http.Header) time.Duration {
	value := header.Get("X-Business-Use-Case-Usage")
	if value == "" {
		return 0
	}
	var usage map[string][]struct {
		Minutes float64 `json:"estimated_time_to_regain_access"`
	}
	// What has another type than Meta's is left out, and what stands beside it
	// is read.
	_ = json.Unmarshal([]byte(value), &usage)
	var longest float64
	for _, limits := range usage {
		for _, limit := range limits {
			longest = max(longest, limit.Minutes)
		}
	}
	return times(longest, time.Minute)
}
