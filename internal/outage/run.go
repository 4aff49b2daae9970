package outage

import (
	"math"
	"time"
)

// runs are the answers in a row that say that the host is down.
type runs struct {
	length  int       // of the run now
	began   time.Time // when its first answer came
	from    uint64    // an answer to an attempt with a lower sequence number does not end it
	worst   float64   // the longest run of late ...
	worstAt time.Time // ... as it was then; it has halved every half-life since
	fatal   int       // the run that brought the host down; 0 once it is known what it was
}

// begin begins a run.
func (r *runs) begin(now time.Time, sequence uint64) { r.length, r.began, r.from = 0, now, sequence }

// isFatal reports whether the run is so long that the host is down.
func (r *runs) isFatal(now time.Time, config Config) bool {
	enough := float64(config.Threshold)
	if now.Sub(r.began) >= config.InitialInterval {
		enough *= slowThreshold
	}
	return float64(r.length) >= max(enough, worstRunFactor*r.worstOfLate(now))
}

// fall takes in that the run has brought the host down. An outage is not what is
// normal. But a host that falls again while it is recovering fails in part.
func (r *runs) fall(now time.Time, again bool) {
	r.worst, r.worstAt = r.worstOfLate(now), now
	if again {
		r.worst = max(r.worst, float64(r.fatal))
	}
	r.fatal = r.length
}

// good takes in an answer of a host that is up. It ends the run if its attempt was sent
// after the run had begun: slow answers from before an outage must not hide that. Of
// those there are few. If there are many, the host fails in part.
//
// A run that ends while the host is recovering shows that it fails in part, and that
// the run which has brought it down was of that kind.
func (r *runs) good(now time.Time, state State, sequence uint64) {
	if sequence < r.from {
		r.length -= r.length / 2
		return
	}
	if state != Down {
		r.worst, r.worstAt = max(r.worstOfLate(now), float64(r.length), float64(r.fatal)), now
		r.fatal = 0
	}
	r.length = 0
}

// worstOfLate returns the longest run of late.
func (r *runs) worstOfLate(now time.Time) float64 {
	return r.worst * math.Exp2(-now.Sub(r.worstAt).Seconds()/again.Seconds())
}
