// Package outage holds the outage gate: one backoff that all calls to a host share.
// It knows calls by their deadlines and answers by what they say of the host, and
// nothing of HTTP.
//
//	gate.go   the states, and what moves between them
//	run.go    how many bad answers in a row bring the host down
//	probe.go  when a probe is sent
//	queue.go  the waiters, earliest deadline first
//	rate.go   how fast waiters are released
//	brake.go  whether less load helps
//	law.go    the constants, each with why
package outage

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Gate is the outage gate of one host. It is a circuit breaker with a queue and a
// slow start: the host is up, down or recovering, which a circuit breaker calls
// closed, open and half-open. While the host is up, calls pass, and the gate only
// counts how many answers in a row say that the host is down. A run of them that is
// long enough brings it down. While it is down, calls wait in a queue, and one at a
// time is released as a probe, after intervals that grow. A probe with any other
// answer shows that the host is back: it is recovering. The waiters are then released
// at a rate that starts low and rises with each success, since a host that has just
// come back must not be met by all that have gathered. The release that empties the
// queue makes the host up. A run while it is recovering brings it down again; that is
// the same outage.
//
// A host that is asked for too much gives the same answers as one that is down, but
// not to all calls. Where the share of good answers falls, a brake tries whether half
// the rate helps; if the host is up, it is recovering meanwhile, without an outage. If
// that helps, the rate is lowered and rises slowly from there: additive increase,
// multiplicative decrease. If it does not, the host fails by chance, and calls are
// left to their own backoff, which serves them better.
//
// Chance also makes runs. So how long a run must be depends on what was normal: three
// times the longest that an answer has ended lately. A host that has had such runs
// fails in part, and is probed more often once it is down, because it may be up again
// at any moment.
//
// The queue is ordered by deadline, and the earliest is released first, as long as
// there is time to hear the answer; who has less is refused. Where all callers give up
// after the same while, the head of a long queue is always about to do so: a probe from
// there would never be heard, and the gate would never learn that the host is back. So
// a probe is the waiter with the latest deadline. And it is sent early when the head is
// about to give up.
//
// Each attempt comes to the gate twice: to [Gate.Pass] or [Gate.Join] before it is
// sent, and to [Gate.Answered] after. A Gate is safe for concurrent use. It has no
// goroutine, and one timer while calls wait.
type Gate struct {
	config Config

	// published is what calls read without the lock: the sequence number, and
	// whether there is more to do than to pass.
	published atomic.Uint64

	mu       sync.Mutex // guards all below
	sequence uint64     // counts the beginnings of runs and the falls
	state    State
	since    time.Time // the state has held since then; zero: from the beginning

	runs    runs
	outage  outage
	probes  probes
	rate    rate
	brake   brake
	leavers leavers

	queue      queue
	due        time.Time   // when the next waiter may be released
	early      time.Time   // when a probe may be, if somebody is about to give up
	timer      *time.Timer // calls advance; nil: nobody waits for anything
	timerFires time.Time
}

// Config is what a [Gate] is told at its construction.
type Config struct {
	// Threshold is how many answers in a row bring the host down, 1 or more.
	Threshold int
	// InitialInterval is the first interval between probes, above 0.
	InitialInterval time.Duration
	// MaxInterval bounds the intervals between probes, before jitter.
	MaxInterval time.Duration
	// Jitter is the random share, 0 to 1, that comes on top of an interval, so that
	// many processes do not probe at once.
	Jitter float64
}

// State is what the gate holds the host to be.
type State int

const (
	// Up means that calls pass: a circuit breaker that is closed.
	Up State = iota
	// Down means that calls wait and one at a time is a probe: a breaker that is open.
	Down
	// Recovering means that the waiters are released at a rate: a breaker that is
	// half-open.
	Recovering
)

// Result is what the end of an attempt says of the host.
type Result int

const (
	// ResultNone says nothing: the attempt had no answer of the host's own.
	ResultNone Result = iota
	// ResultUp is an answer that only a host that is up gives.
	ResultUp
	// ResultThrottled is the answer of a host that is up and asks for less.
	ResultThrottled
	// ResultDown is the answer of a host that is down.
	ResultDown
	// ResultAbandoned means that the caller left, or ran out of time, before there
	// was an answer.
	ResultAbandoned
)

// Permit is a call's permission to send one attempt. The zero Permit is that of a call
// that was sent before the gate knew anything.
type Permit struct {
	sequence uint64
	waiter   *Waiter // nil: the call has not waited
}

// Ended returns the outage that this permit has ended, as it was the release that
// emptied the queue, or nil.
func (p Permit) Ended() *Summary {
	if p.waiter == nil {
		return nil
	}
	return p.waiter.ended
}

// probe returns which probe it is, from 1, and 0 if it is none.
func (p Permit) probe() int {
	if p.waiter == nil {
		return 0
	}
	return p.waiter.probe
}

// Summary is what is told of an outage when it is over.
type Summary struct {
	// Lasted is the time from the answer that brought the host down.
	Lasted time.Duration
	// Held is how many calls have waited in the queue.
	Held int
	// Cause is the cause of the answer that last brought the host down.
	Cause error
}

// Status is a moment of a [Gate].
type Status struct {
	// State is what the gate holds the host to be.
	State State
	// Since is when State began; zero if the host was never down.
	Since time.Time
	// Waiting is how many calls are in the queue.
	Waiting int
	// NextProbe is when the next probe may be sent, zero unless the host is down. If
	// it has passed, the next call is the probe.
	NextProbe time.Time
	// Cause is the cause of the answer that last brought the host down, nil if the
	// host is up.
	Cause error
}

// outage is one outage, from the answer that brings the host down until it is up; or
// the time in which calls wait for less load to help, which the host is not down in.
type outage struct {
	began        time.Time
	isDown       bool   // or was
	fellSequence uint64 // the sequence number since the host was last brought down
	cause        error  // of the last answer that brought it down
	held         int    // calls that have joined the queue
}

// New returns the gate of a host that is up.
func New(config Config) *Gate {
	config.MaxInterval = min(times(longestProbe, config.InitialInterval), config.MaxInterval)
	return &Gate{config: config}
}

// Pass is the way past a host that is up. It reports false if the call must join the
// queue.
func (g *Gate) Pass() (Permit, bool) {
	published := g.published.Load()
	return Permit{sequence: published >> flagBits}, published&notUp == 0
}

// Join puts a call with that deadline, zero for none, into the queue. It returns no
// waiter and a permit if the call can go at once, and reports false if its deadline
// comes before the next release.
func (g *Gate) Join(deadline time.Time) (*Waiter, Permit, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == Up {
		return nil, Permit{sequence: g.sequence}, true
	}
	now := time.Now()
	next := g.due
	if g.state == Down && g.early.Before(next) {
		next = g.early
	}
	w := &Waiter{deadline: deadline}
	if !w.hasUntil(later(now, next)) {
		return nil, Permit{}, false
	}
	g.outage.held++
	g.queue.add(w)
	g.advance(now)
	return w, Permit{}, true
}

// Try is [Gate.Join] for a call that does not wait. It returns a permit if the call can go
// at once: as a probe that is due, or at the rate of a host that is recovering. Otherwise
// it reports false and how long it is until the next may go, which is above 0.
func (g *Gate) Try() (permit Permit, untilNext time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == Up {
		return Permit{sequence: g.sequence}, 0, true
	}
	now := time.Now()
	w := &Waiter{}
	g.queue.add(w)
	g.advance(now)
	if w.places[earliest] < 0 {
		return w.permit(), 0, true
	}
	g.queue.remove(w)
	g.setTimer(now)
	return Permit{}, g.untilNext(now), false
}

// UntilNext returns how long it is until the next call may be sent: the next probe while
// the host is down, the next release while it is recovering. It is 0 if the host is up,
// and otherwise above 0.
func (g *Gate) UntilNext() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == Up {
		return 0
	}
	return g.untilNext(time.Now())
}

func (g *Gate) untilNext(now time.Time) time.Duration { return max(1, g.due.Sub(now)) }

// Leave takes a waiter out of the queue because its caller has ended the call. If it
// was released at the same moment, its permit goes to the next. It returns the outage
// that its release has ended, or nil.
func (g *Gate) Leave(w *Waiter) *Summary {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.places[earliest] < 0 {
		if !w.refused {
			g.passOn(w.permit(), false)
		}
		return w.ended
	}
	g.queue.remove(w)
	g.advance(time.Now())
	return nil
}

// GiveBack gives the next waiter a permit with which nothing was sent.
func (g *Gate) GiveBack(p Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passOn(p, false)
}

// Answered takes in how an attempt has ended; cause is kept if that brings the host
// down. It reports whether an outage began with it, and returns the outage that it
// has ended, or nil.
func (g *Gate) Answered(p Permit, result Result, cause error) (began bool, ended *Summary) {
	switch {
	case result == ResultNone:
		return false, nil
	case result == ResultAbandoned:
		g.abandoned(p)
		return false, nil
	case result != ResultDown && g.published.Load()&(notUp|watched) == 0:
		return false, nil // all is well, and was
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if p.sequence < g.outage.fellSequence {
		return false, nil // it was sent before the host was brought down and says nothing of now
	}
	now := time.Now()
	if g.state == Recovering {
		g.leavers.stayed()
	}
	if result == ResultDown {
		began = g.countDown(now, cause)
	} else {
		ended = g.countUp(now, p, result)
	}
	g.judge(now, p, result, cause)
	g.publish()
	g.advance(now)
	return began, ended
}

// Status returns what the gate is about.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	status := Status{State: g.state, Since: g.since, Waiting: g.queue.len()}
	if g.state != Up {
		status.Cause = g.outage.cause
	}
	if g.state == Down {
		status.NextProbe = g.due
	}
	return status
}

// Cause returns the cause of the answer that last brought the host down, nil if it
// never was.
func (g *Gate) Cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.outage.cause
}

// passOn gives the next waiter the permit of a call that did not use it or, if it was
// sent, did not wait for the answer.
func (g *Gate) passOn(p Permit, sent bool) {
	switch {
	case g.state == Up || p.sequence < g.outage.fellSequence || g.state == Recovering && p.probe() > 0:
		return // nobody waits for this permit any more
	case g.state == Down && !g.probes.passOn(p.probe(), sent):
		return
	}
	now := time.Now()
	g.due = now
	g.advance(now)
}

// abandoned takes in that the caller of an attempt left before the answer.
func (g *Gate) abandoned(p Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case p.probe() > 0:
		g.passOn(p, true)
	case g.state == Recovering && p.sequence >= g.outage.fellSequence && p.waiter != nil:
		g.leavers.left(time.Now(), p.waiter)
	}
}

// countDown adds an answer to the run, and brings the host down if the run is now too
// long. It reports whether an outage began.
func (g *Gate) countDown(now time.Time, cause error) bool {
	if g.runs.length == 0 {
		g.sequence++
		g.runs.begin(now, g.sequence)
	}
	if g.state == Up && !g.brake.window.isOpen {
		g.brake.window.open(now, g.runs.from)
	}
	g.runs.length++
	if g.state == Recovering {
		g.rate.failed()
	}
	if g.state == Down || !g.runs.isFatal(now, g.config) {
		return false
	}
	// A host that fails again while it is recovering is in the same outage: the
	// queue, and how fast it formed, stay.
	again := g.state == Recovering && g.outage.isDown
	g.runs.fall(now, again)
	g.probes = probes{partial: g.runs.worst >= partialRun}
	if !again {
		g.outage = outage{began: now, isDown: true}
		g.leavers = leavers{}
	}
	g.sequence++
	g.outage.fellSequence, g.outage.cause = g.sequence, cause
	g.become(Down, now)
	g.scheduleProbe(now)
	return !again
}

// countUp ends the run, if the answer is to an attempt that was sent after the run had
// begun: a slow success from before an outage must not hide it. If the host is down,
// it is recovering from now on; if it is recovering, the answer sets the rate. It
// returns the outage that it has ended, if nobody waits any more.
func (g *Gate) countUp(now time.Time, p Permit, result Result) *Summary {
	if g.state == Down {
		g.runs.worstAt = now // while down, nothing is learned and nothing forgotten
	}
	if g.runs.length > 0 {
		g.runs.good(now, g.state, p.sequence)
	}
	if g.isOver() {
		return g.up(now)
	}
	switch g.state {
	case Down:
		g.rate.start(now, now.Sub(g.outage.began), g.outage.held)
		g.become(Recovering, now)
		g.brake = brake{}
		g.brake.window.open(now, g.sequence)
		g.due = now
	case Recovering:
		if !g.brake.onTrial {
			g.rate.adjust(now, result, g.outage.held)
		}
	}
	return nil
}

// judge asks the brake what it makes of an answer, and does it.
func (g *Gate) judge(now time.Time, p Permit, result Result, cause error) {
	if g.state == Down {
		return
	}
	answered := g.brake.window // which a verdict replaces
	switch g.brake.judge(now, g.state, p.sequence, result != ResultDown) {
	case lessMustBeTried:
		if g.state == Up {
			g.outage = outage{began: now, fellSequence: g.outage.fellSequence, cause: cause}
			g.leavers = leavers{}
			offered := (answered.answers + 1) / now.Sub(answered.opened).Seconds()
			g.rate = rate{current: offered, ceiling: offered, floor: offered, share: answered.good / answered.answers, counted: now}
			g.become(Recovering, now)
			g.due = now
		}
		g.rate.try()
		g.sequence++
		g.brake.window.open(now.Add(trialSettles), g.sequence)
	case lessHelps:
		g.rate.keep(now)
	case lessDoesNotHelp:
		g.rate.restore()
	}
}

// isOver reports whether the host is up, as nobody waits any more and an answer has
// shown that it is back.
func (g *Gate) isOver() bool {
	return g.state != Up && g.queue.len() == 0 && !g.brake.onTrial
}

// advance releases the waiters who may go by now, refuses those whose deadline has
// come, and sets the timer for the next. Every change of the queue or the state ends
// here. It goes over a batch of waiters at most, since others want the lock.
func (g *Gate) advance(now time.Time) {
	for range batch {
		if g.state == Up || g.queue.len() == 0 {
			break
		}
		w := g.queue.at(earliest)
		g.hurry(now, w)
		mayGo := !g.due.After(now)
		if !mayGo && w.hasUntil(now) {
			break
		}
		switch {
		case !w.hasUntil(now), g.state == Recovering && !w.hasUntil(now.Add(g.leavers.headroom)) && g.queue.len() > 1:
			w.refused = true
		case g.state == Down:
			w = g.queue.at(latest)
			w.probe = g.probes.send()
			g.scheduleProbe(now)
		default:
			if g.leavers.early >= earlyLeavers {
				w = g.queue.at(latest)
			}
			g.due = g.rate.next(g.due, now)
		}
		g.queue.remove(w)
		w.sequence, w.releasedAt = g.sequence, now
		if g.state == Recovering && !w.refused && g.isOver() {
			w.ended = g.up(now)
		}
		close(w.released)
	}
	g.setTimer(now)
}

// hurry has the next probe sent before the head of the queue gives up.
func (g *Gate) hurry(now time.Time, head *Waiter) {
	if g.state != Down || head.deadline.IsZero() {
		return
	}
	notice := head.deadline.Add(-times(earlyNotice, g.config.InitialInterval))
	if early := later(now, later(g.early, notice)); early.Before(g.due) {
		g.due = early
	}
}

// scheduleProbe says when the probe after one that is sent now, or after the fall, may
// be sent.
func (g *Gate) scheduleProbe(now time.Time) {
	g.due = now.Add(g.probes.interval(g.config))
	g.early = now.Add(times(earlyProbe, g.config.InitialInterval))
}

// up ends the outage and returns it, or nil if the host was never down.
func (g *Gate) up(now time.Time) *Summary {
	g.become(Up, now)
	g.runs.fatal = 0
	g.publish()
	if !g.outage.isDown {
		return nil
	}
	return &Summary{Lasted: now.Sub(g.outage.began), Held: g.outage.held, Cause: g.outage.cause}
}

func (g *Gate) become(state State, now time.Time) {
	g.state, g.since = state, now
	if state != Recovering {
		g.brake.stop()
	}
}

// The low bits of Gate.published; the sequence number stands above them.
const (
	notUp    = 1 << iota // the host is not up
	watched              // a run has begun, or a share of good answers is taken
	flagBits = iota
)

// publish tells the calls that take no lock.
func (g *Gate) publish() {
	published := g.sequence << flagBits
	if g.state != Up {
		published |= notUp
	}
	if g.runs.length > 0 || g.brake.window.isOpen {
		published |= watched
	}
	g.published.Store(published)
}

// setTimer has advance called when the next waiter may or must go. No timer runs when
// nobody waits.
func (g *Gate) setTimer(now time.Time) {
	if g.state == Up || g.queue.len() == 0 {
		if g.timer != nil {
			g.timer.Stop()
			g.timer = nil
		}
		return
	}
	fires := g.due
	if deadline := g.queue.at(earliest).deadline; !deadline.IsZero() && deadline.Before(fires) {
		fires = deadline
	}
	if g.timer != nil {
		if fires.Equal(g.timerFires) {
			return
		}
		g.timer.Stop()
	}
	g.timerFires = fires
	var timer *time.Timer
	timer = time.AfterFunc(fires.Sub(now), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.timer == timer {
			g.timer = nil
			g.advance(time.Now())
		}
	})
	g.timer = timer
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// times returns n units, or the longest duration there is.
func times(n float64, unit time.Duration) time.Duration {
	product := n * float64(unit)
	if product >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(product)
}
