package outbox

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

// lanes are the phone numbers that this process sends from. Some ends say nothing
// of the message but something of its lane: its token has expired, or a gateway
// stands before the API. After laneThreshold of them in a row the lane is held: its
// messages stay in the queue, and one at a time goes out as a probe, after intervals
// that grow. Any other answer releases it. Without that such a fault would use up
// every message in the queue.
//
// Where every lane is held for an ambiguous reason it is the host that is at fault, and
// one probe serves all.
type lanes struct {
	probeWait func(probes int) time.Duration
	onHeld    func(number, reason string)
	onUp      func(number string)

	mu       sync.Mutex // guards all below, and the lanes
	byNumber map[string]*lane
	paused   map[string]bool // by number, or pauseAll
	host     hold
}

// laneThreshold is how many ends in a row hold a lane.
const laneThreshold = 3

// lane is one phone number.
type lane struct {
	hold
	run       int  // ends in a row that say nothing of their message
	ambiguous bool // ... and leave open whether it was sent, all of them
	isUsed    bool // an attempt has ended in an answer, or in none
	inFlight  int  // attempts
	pace      pace
	changed   chan struct{} // closed when a message may go that could not before
}

// hold is what holds a lane or the host.
type hold struct {
	due    time.Time // when the next probe may go; zero: nothing is held
	probes int       // since it is held
	reason string
}

func (h *hold) isHeld() bool { return !h.due.IsZero() }

// laneEnd is what the end of an attempt says of its lane.
type laneEnd int

const (
	laneNothing laneEnd = iota // no attempt was made, or no connection
	laneUp
	laneBad
	laneAmbiguous // bad, and the message may have been sent
)

// isOpen reports whether an attempt may be made from a number. If not, it returns how
// long to wait at most, and what is closed when that may have changed.
func (l *lanes) isOpen(number string, now time.Time) (wait time.Duration, changed <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait, ok = l.waitOf(number, now)
	return wait, l.lane(number).changed, ok
}

// enter takes the way that isOpen shows. Whoever may go calls leave at the end.
func (l *lanes) enter(number string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.waitOf(number, now); !ok {
		return false
	}
	this := l.lane(number)
	for _, h := range []*hold{&this.hold, &l.host} {
		if h.isHeld() {
			h.due = now.Add(l.probeWait(h.probes))
			h.probes++
		}
	}
	this.inFlight++
	return true
}

// pausedWait is how long to wait for what is told of at once.
const pausedWait = time.Minute

// waitOf returns how long to wait before an attempt, and whether there is no need to.
func (l *lanes) waitOf(number string, now time.Time) (time.Duration, bool) {
	if l.paused[number] || l.paused[pauseAll] {
		return pausedWait, false
	}
	this := l.lane(number)
	due := this.due
	if l.host.isHeld() {
		due = l.host.due
	}
	switch {
	case due.After(now):
		return due.Sub(now), false
	case !due.IsZero():
		return 0, this.inFlight == 0
	case this.run > 0 && this.inFlight >= laneThreshold-this.run:
		return pausedWait, false // what is under way may hold the lane
	}
	return 0, true
}

// leave takes in how an attempt has ended. It reports whether that was the end of a
// probe, or holds the lane.
func (l *lanes) leave(number string, now time.Time, end laneEnd, reason string) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	this := l.lane(number)
	before := this.isHeld()
	this.inFlight--
	this.isUsed = this.isUsed || end != laneNothing
	switch end {
	case laneNothing:
		if this.isHeld() && this.probes > 0 {
			this.due = now.Add(l.probeWait(0)) // the probe was none
		}
	case laneUp:
		if this.isHeld() {
			l.onUp(number)
		}
		this.hold, this.run, this.ambiguous = hold{}, 0, false
		l.releaseHost()
	case laneBad, laneAmbiguous:
		ambiguous := end == laneAmbiguous
		this.ambiguous = ambiguous && (this.ambiguous || this.run == 0)
		if !ambiguous {
			l.releaseHost() // it has answered, or its proxy has
		}
		this.run++
		if this.run >= laneThreshold && !this.isHeld() {
			this.hold = hold{due: now.Add(l.probeWait(0)), probes: 1, reason: reason}
			l.onHeld(number, reason)
		}
		if !l.host.isHeld() && l.allAreHeld() {
			l.host = hold{due: now.Add(l.probeWait(0)), probes: 1, reason: reason}
		}
	}
	this.tell()
	return before || this.isHeld()
}

// releaseHost holds the host no longer, but each lane that is held.
func (l *lanes) releaseHost() {
	if l.host.isHeld() {
		l.host = hold{}
		l.tell()
	}
}

// allAreHeld reports whether there are several lanes that are used, and each is held for
// an ambiguous reason.
func (l *lanes) allAreHeld() bool {
	held := 0
	for _, this := range l.byNumber {
		switch {
		case !this.isUsed:
		case this.isHeld() && this.ambiguous:
			held++
		default:
			return false
		}
	}
	return held > 1
}

// wake is tell for others than the lanes themselves.
func (l *lanes) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

// tell wakes all who wait for a change.
func (l *lanes) tell() {
	for _, this := range l.byNumber {
		this.tell()
	}
}

// tell wakes those of the lane.
func (l *lane) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// setPaused takes in which numbers are paused.
func (l *lanes) setPaused(paused map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = maps.Clone(paused)
	l.tell()
}

// held returns when the next probe of a number may go, and why it is held; zero if it
// is not.
func (l *lanes) held(number string) (time.Time, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	this, ok := l.byNumber[number]
	switch {
	case !ok || !this.isHeld():
		return time.Time{}, ""
	case l.host.isHeld():
		return l.host.due, this.reason
	}
	return this.due, this.reason
}

// of returns the lane of a number.
func (l *lanes) of(number string) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lane(number)
}

// lane returns the lane of a number, which is made when it is first asked for.
func (l *lanes) lane(number string) *lane {
	this, ok := l.byNumber[number]
	if !ok {
		this = &lane{changed: make(chan struct{})}
		l.byNumber[number] = this
	}
	return this
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
	case end.kind == outcomeUnknown:
		return laneAmbiguous
	case end.ofTheLane():
		return laneBad
	default:
		return laneUp
	}
}

// throttles reports whether the API asks for fewer messages from the number.
func (end outcome) throttles() bool {
	return end.graph != nil && end.graph.Class() == graphretry.ClassThrottle && end.graph.Code != graphretry.CodePairRateLimitHit
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
	return end.kind == outcomeRefused && (end.graph != nil && end.graph.AboutSender() || end.graph == nil && ofAProxy(end.status))
}
