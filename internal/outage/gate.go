// Package outage holds the outage gate: one backoff that all calls to a host share.
// It knows calls by their deadlines and answers by what they say of the host, and
// nothing of HTTP.
//
//	gate.go   the states, and what moves between them
//	probe.go  when a probe is sent
//	queue.go  the waiters, earliest deadline first
//	rate.go   how fast waiters are released
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
// The queue is ordered by deadline, and the earliest is released first, as long as
// there is time to hear the answer. Where all callers give up after the same while,
// the head of a long queue is always about to do so: a probe from there would never
// be heard, and the gate would never learn that the host is back. So a probe is the
// waiter with the latest deadline, and of the others those are passed over that have
// less time than an answer has lately turned out to take.
//
// How long a run must be depends on what was normal: three times the longest run that
// an answer has ended lately. So a host that fails for a share of calls at random, and
// now and then twenty times in a row, soon is not brought down by that, and its calls
// are left to their own backoff, which serves them better. Such a host fails in part,
// and so does one that is brought down again while recovering. It is probed more
// often, because it may be up again at any moment.
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

	runs     runs
	outage   outage
	probes   probes
	rate     rate
	headroom headroom

	queue      queue
	due        time.Time   // when the next waiter may be released
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

// Permit is a call's permission to send one attempt.
type Permit struct {
	// Ended is set for the release that empties the queue and so ends the outage.
	Ended *Summary

	sequence uint64
	probe    int // which probe it is, from 1; 0: none
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

// outage is one outage, from the answer that brings the host down until it is up.
type outage struct {
	began        time.Time
	fellSequence uint64 // the sequence number since the host was last brought down
	cause        error  // of the answer that last brought it down
	joined       int    // calls that have joined the queue
}

// runs are the answers in a row that say that the host is down. Answers to attempts
// with a sequence number lower than that of the run do not end it.
type runs struct {
	length  int       // of the run now
	began   uint64    // the sequence number since then
	worst   float64   // the longest run of late ...
	worstAt time.Time // ... as it was then; it has halved every half-life since
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
	w := &Waiter{deadline: deadline}
	if !w.hasUntil(later(now, g.due)) {
		return nil, Permit{}, false
	}
	g.outage.joined++
	g.queue.add(w)
	g.advance(now)
	return w, Permit{}, true
}

// Leave takes a waiter out of the queue because its caller has ended the call. If it
// was released at the same moment, its permit goes to the next. It returns the outage
// that its release has ended, or nil.
func (g *Gate) Leave(w *Waiter) *Summary {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.index < 0 {
		if !w.refused {
			g.passOn(w.permit, false)
		}
		return w.permit.Ended
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
	case result != ResultDown && g.published.Load()&(notUp|inRun) == 0:
		return false, nil // all is well, and was
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if p.sequence < g.outage.fellSequence {
		return false, nil // it was sent before the host was brought down and says nothing of now
	}
	now := time.Now()
	if g.state == Recovering {
		g.headroom.shrink()
	}
	if result == ResultDown {
		began = g.countDown(now, cause)
	} else {
		ended = g.countUp(now, p, result)
	}
	g.publish()
	g.advance(now)
	return began, ended
}

// Status returns what the gate is about.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	status := Status{State: g.state, Since: g.since, Waiting: g.queue.Len()}
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
	case g.state == Up || p.sequence < g.outage.fellSequence || g.state == Recovering && p.probe > 0:
		return // nobody waits for this permit any more
	case g.state == Down && !g.probes.passOn(p.probe, sent):
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
	case p.probe > 0:
		g.passOn(p, true)
	case g.state == Recovering && p.sequence >= g.outage.fellSequence:
		g.headroom.grow()
	}
}

// countDown adds an answer to the run, and brings the host down if the run is now too
// long. It reports whether an outage began.
func (g *Gate) countDown(now time.Time, cause error) bool {
	if g.runs.length == 0 {
		g.sequence++
		g.runs.began = g.sequence
	}
	g.runs.length++
	if g.state == Down || float64(g.runs.length) < g.runs.limit(now, g.config.Threshold) {
		return false
	}
	// A host that fails again while it is recovering is in the same outage: the
	// queue, and how fast it formed, stay.
	began := g.state == Up
	g.runs.worst, g.runs.worstAt = g.runs.worstOfLate(now), now
	g.probes = probes{partial: !began || g.runs.worst >= partialRun}
	if began {
		g.outage = outage{began: now}
		g.rate.initial, g.headroom = firstRate, 0
	} else {
		g.rate.fell()
	}
	g.sequence++
	g.outage.fellSequence, g.outage.cause = g.sequence, cause
	g.become(Down, now)
	g.due = now.Add(g.probes.interval(g.config))
	return began
}

// countUp ends the run, if the answer is to an attempt that was sent after the run had
// begun: a slow success from before an outage must not hide it. If the host is down,
// it is recovering from now on; if it is recovering, the answer sets the rate. It
// returns the outage that it has ended, if nobody waits any more.
func (g *Gate) countUp(now time.Time, p Permit, result Result) *Summary {
	if g.state == Down {
		g.runs.worstAt = now // while down, nothing is learned and nothing forgotten
	}
	if g.runs.length > 0 && p.sequence >= g.runs.began {
		g.runs.end(now)
	}
	if g.state != Up && g.queue.Len() == 0 {
		return g.up(now)
	}
	switch g.state {
	case Down:
		g.rate.start(now, now.Sub(g.outage.began), g.outage.joined, g.queue.Len())
		g.become(Recovering, now)
		g.due = now
	case Recovering:
		g.rate.adjust(now, result, g.outage.joined)
	}
	return nil
}

// advance releases the waiters who may go by now, refuses those whose deadline has
// come, and sets the timer for the next. Every change of the queue or the state ends
// here.
func (g *Gate) advance(now time.Time) {
	for g.state != Up && g.queue.Len() > 0 {
		w := g.queue.first()
		if !w.hasUntil(now) {
			w.refused = true
		} else if g.due.After(now) {
			break
		} else {
			w = g.queue.choose(g.state, now.Add(time.Duration(g.headroom)))
			w.permit = g.next(now)
		}
		g.queue.remove(w)
		if g.state == Recovering && g.queue.Len() == 0 && !w.refused {
			w.permit.Ended = g.up(now)
		}
		close(w.released)
	}
	g.setTimer(now)
}

// next returns the permit of the waiter who is released now, and schedules the one
// after it.
func (g *Gate) next(now time.Time) Permit {
	p := Permit{sequence: g.sequence}
	if g.state == Down {
		p.probe = g.probes.send()
		g.due = now.Add(g.probes.interval(g.config))
	} else {
		g.due = g.rate.next(g.due, now)
	}
	return p
}

// up ends the outage and returns it.
func (g *Gate) up(now time.Time) *Summary {
	g.become(Up, now)
	g.publish()
	return &Summary{Lasted: now.Sub(g.outage.began), Held: g.outage.joined, Cause: g.outage.cause}
}

func (g *Gate) become(state State, now time.Time) {
	g.state, g.since = state, now
}

// The low bits of Gate.published; the sequence number stands above them.
const (
	notUp    = 1 << iota // the host is not up
	inRun                // a run has begun
	flagBits = iota
)

// publish tells the calls that take no lock.
func (g *Gate) publish() {
	published := g.sequence << flagBits
	if g.state != Up {
		published |= notUp
	}
	if g.runs.length > 0 {
		published |= inRun
	}
	g.published.Store(published)
}

// setTimer has advance called when the next waiter may or must go. No timer runs when
// nobody waits.
func (g *Gate) setTimer(now time.Time) {
	if g.state == Up || g.queue.Len() == 0 {
		if g.timer != nil {
			g.timer.Stop()
			g.timer = nil
		}
		return
	}
	fires := g.due
	if deadline := g.queue.first().deadline; !deadline.IsZero() && deadline.Before(fires) {
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

// limit returns how long a run brings the host down.
func (r *runs) limit(now time.Time, threshold int) float64 {
	return max(float64(threshold), worstRunFactor*r.worstOfLate(now))
}

// end ends the run.
func (r *runs) end(now time.Time) {
	r.worst, r.worstAt = max(r.worstOfLate(now), float64(r.length)), now
	r.length = 0
}

// worstOfLate returns the longest run of late.
func (r *runs) worstOfLate(now time.Time) float64 {
	return r.worst * math.Exp2(-now.Sub(r.worstAt).Seconds()/worstRunHalfLife.Seconds())
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
