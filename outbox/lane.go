package outbox

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/graphretry/graphretry"
)

// lanes are the phone numbers that this process sends from. Some ends say nothing
// of the message but something of its lane: its token has expired, or a gateway
// stands before the API. After laneThreshold of them in a row the lane is held: its
// messages stay in the queue, and one at a time goes out as a probe, after intervals
// that grow. Any other answer opens the lane. Without it such a fault would use up
// every message in the queue.
type lanes struct {
	perSecond    float64            // for a number that has no rate of its own
	rates        map[string]float64 // of those that have
	probeWait    func(probes int) time.Duration
	mu           sync.Mutex // guards all below, and the lanes
	byNumber     map[string]*lane
	paused       map[string]bool // by number, or pauseAll
	onHeld, onUp func(number, reason string)
}

// laneThreshold is how many ends in a row hold a lane.
const laneThreshold = 3

// lane is one phone number.
type lane struct {
	run      int       // ends in a row that say nothing of their message
	inFlight int       // attempts
	probes   int       // since it is held
	due      time.Time // when the next probe may go; zero: the lane is open
	reason   string    // why it is held
	limiter  *rate.Limiter
	target   rate.Limit
}

// laneEnd is what the end of an attempt says of its lane.
type laneEnd int

const (
	laneNothing laneEnd = iota // no attempt was made, or no connection
	laneUp
	laneThrottled
	laneBad
)

// shortWait is how long a worker waits for its lane's rate with the message in its
// hands. A longer wait is spent in the queue.
const shortWait = 100 * time.Millisecond

// enter asks whether an attempt may be made from a number. It returns how long to
// wait if not. Whoever may go calls leave at the end.
func (l *lanes) enter(number string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused[number] || l.paused[pauseAll] {
		return pausedWait, false
	}
	this := l.lane(number)
	if !this.due.IsZero() {
		if wait = this.due.Sub(now); wait > 0 {
			return wait, false
		}
		this.due = now.Add(l.probeWait(this.probes))
		this.probes++
		this.inFlight++
		return 0, true
	}
	if this.run > 0 && this.inFlight >= laneThreshold-this.run {
		return shortWait, false // what is under way may hold the lane
	}
	reservation := this.limiter.ReserveN(now, 1)
	if wait = reservation.DelayFrom(now); wait > shortWait {
		reservation.CancelAt(now)
		return wait, false
	}
	this.inFlight++
	return wait, true
}

// leave takes in how an attempt has ended. It returns how long the lane is held, 0
// if it is open.
func (l *lanes) leave(number string, now time.Time, end laneEnd, reason string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	this := l.lane(number)
	this.inFlight--
	switch end {
	case laneBad:
		this.run++
		if this.run >= laneThreshold && this.due.IsZero() {
			this.due, this.probes, this.reason = now.Add(l.probeWait(0)), 1, reason
			l.onHeld(number, reason)
		}
	case laneThrottled, laneUp:
		if !this.due.IsZero() {
			l.onUp(number, reason)
		}
		this.run, this.probes, this.due, this.reason = 0, 0, time.Time{}, ""
		this.adjust(now, end)
	}
	if this.due.IsZero() {
		return 0
	}
	return max(this.due.Sub(now), 0)
}

// setPaused takes in which numbers are paused.
func (l *lanes) setPaused(paused map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = maps.Clone(paused)
}

// isPaused reports whether a number, or pauseAll, is paused by itself.
func (l *lanes) isPaused(number string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused[number]
}

// held returns when the next probe of a number may go, and why it is held; zero if it
// is not.
func (l *lanes) held(number string) (time.Time, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if this, ok := l.byNumber[number]; ok {
		return this.due, this.reason
	}
	return time.Time{}, ""
}

// adjust lowers the rate for an answer that says that it is too high, and lets it
// climb again with each other one.
func (l *lane) adjust(now time.Time, end laneEnd) {
	const lower, climb, least = 0.8, 0.005, 1
	limit := l.limiter.Limit()
	if end == laneThrottled {
		limit = max(limit*lower, min(least, l.target))
	} else {
		limit = min(limit+l.target*climb, l.target)
	}
	if limit != l.limiter.Limit() {
		l.limiter.SetLimitAt(now, limit)
	}
}

// lane returns the lane of a number, which is made when it is first asked for.
func (l *lanes) lane(number string) *lane {
	this, ok := l.byNumber[number]
	if !ok {
		perSecond, own := l.rates[number]
		if !own {
			perSecond = l.perSecond
		}
		// Few at once, so that no second has more than the rate and a tenth.
		burst := max(1, int(perSecond/10))
		this = &lane{limiter: rate.NewLimiter(rate.Limit(perSecond), burst), target: rate.Limit(perSecond)}
		l.byNumber[number] = this
	}
	return this
}

// senderCodes are the codes of [graphretry.ClassPolicy] that are about the account
// or the phone number that sends, and not about the message or who receives it.
var senderCodes = []graphretry.Code{368, 131031, 131042, 131044, 131048, 131064, 133007}

// ofTheSender reports whether a Graph error says nothing of the message: its token,
// its account or its phone number is what is wrong.
func ofTheSender(e *graphretry.Error) bool {
	if e.Class() == graphretry.ClassPermission {
		return true
	}
	return slices.Contains(senderCodes, e.Code) || slices.Contains(senderCodes, graphretry.Code(e.Subcode))
}

// ofAProxy reports whether a status without a Graph error is that of something that
// stands before the API, and of no one message.
func ofAProxy(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return false
}

// lane returns what the end of an attempt says of its lane.
func (end outcome) lane() laneEnd {
	switch {
	case end.kind == outcomeUnsent:
		return laneNothing
	case end.kind == outcomeUnknown || end.ofTheLane():
		return laneBad
	case end.graph != nil && end.graph.Class() == graphretry.ClassThrottle && end.graph.Code != graphretry.CodePairRateLimitHit:
		return laneThrottled
	default:
		return laneUp
	}
}

// words returns why an attempt has ended so.
func (end outcome) words() string {
	if end.graph != nil {
		return end.graph.Error()
	}
	return end.reason
}

// ofTheLane reports whether the message was refused for what is no fault of its own.
func (end outcome) ofTheLane() bool {
	return end.kind == outcomeRefused && (end.graph != nil && ofTheSender(end.graph) || end.graph == nil && ofAProxy(end.status))
}
