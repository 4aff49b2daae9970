package graphretry

import (
	"container/heap"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// gate is the outage gate: one backoff shared by every call to one host. It is
// open, shut, or letting go.
//
// Open, calls pass by and the gate only counts: answers of 2 or 131016 in a row
// are a run, and a run that is long enough shuts it. Shut, calls stand in line,
// and one at a time goes out as a probe, after intervals that grow. A probe that
// is answered, by anything but an outage answer, shows that the API is back. The
// line is then let go at a pace that starts low and rises with each success,
// since an API that has just come back is not to be met by all that gathered
// before its door. The release that empties the line opens the gate. A run while
// the line is let go shuts it again; that is the same outage.
//
// Whose patience ends first is let go first, as long as there is time to hear the
// answer. Where callers give up after the same while, the head of a long line is
// always about to do so: a probe from there would never be heard, and the gate
// never learn that the API is back, nor would letting go get faster. So a probe is
// the call with the most time, and of the others those are passed over that have
// less than an answer has lately turned out to need.
//
// How long is long enough depends on what was normal: three times the longest
// run that an answer has ended lately. So an API that fails for a share of calls
// at random, and now and then twenty times in a row, soon cannot shut the gate,
// and its calls are left to their own backoff, which serves them better. Such an
// API is patchy, and so is one that falls again while the line is let go: shut
// again, it is probed more often, because a minute of waiting then is likely to
// miss a chance.
//
// The gate knows nothing of HTTP. Each attempt comes to it twice: to pass or
// join before it is sent, and to answered after.
type gate struct {
	threshold int
	interval  time.Duration // the first between probes
	longest   time.Duration // the longest between probes
	jitter    float64

	// word is what calls read without the lock: the sequence number, and
	// whether there is more to do than to pass by.
	word atomic.Uint64

	mu       sync.Mutex // guards all below
	sequence uint64     // counts the beginnings of runs and the shuttings
	state    gateState

	// Counting. Answers to attempts with a lower sequence number are stale.
	run       int       // outage answers in a row
	runBegan  uint64    // the sequence number since then
	worstRun  float64   // the longest run of late ...
	worstTime time.Time // ... as it was then; it has halved every half-life since

	// Shut.
	shutSequence uint64    // the sequence number since the gate was last shut
	shutAt       time.Time // when the outage began
	cause        *Error    // the answer that shut the gate
	joined       int       // calls that came to stand in line since shutAt
	patchy       bool      // the API failed in part before, so it may be up again soon
	probes       int       // probes sent since the last shutting
	passedOn     int       // the probe that has its turn from one that was canceled

	// Letting go. The paces are in calls a second.
	joinRate   float64       // calls that joined the line, until the API was back
	resume     float64       // the pace to begin with
	pace       float64       // the pace now
	ceiling    float64       // what the pace may rise to
	counted    time.Time     // when the ceiling was last compared with who joins ...
	joinedThen int           // ... and how many had joined then
	throttled  float64       // throttling answers, less a share of the others
	slowed     time.Time     // when they last lowered the pace
	need       time.Duration // the time that a call must have left to be let go

	line       line
	arrivals   uint64      // numbers the calls in line
	due        time.Time   // when the next in line may go
	timer      *time.Timer // calls advance; nil: nobody waits for anything
	timerFires time.Time
}

type gateState int

const (
	gateOpen gateState = iota
	gateShut
	gateLettingGo
)

// The constants of the law. The figures in the README, which bench/ measures,
// are what they were chosen by. The times grow and shrink with the initial
// interval where they are intervals between probes.
const (
	// worstRunFactor is how many times the worst run of late shuts the gate.
	// Chance alone makes one of three times the length too rare to matter.
	worstRunFactor = 3
	// worstRunHalfLife is how fast the worst run is forgotten: within minutes,
	// so that an outage after an outage is noticed as soon as the first.
	worstRunHalfLife = 30 * time.Second
	// patchyRun is the worst run of late that marks the API as patchy when the
	// gate is shut. A run of one does not: a call in a thousand may fail at any
	// time.
	patchyRun = 2

	// longestProbe is the longest interval between probes, in initial intervals:
	// 5, 10, 20, 20 s and on. The end of an outage is noticed that soon.
	longestProbe = 4
	// patchyProbe and patchyGrowth are the first interval between probes of a
	// patchy API, in initial intervals, and the factor to the next: about a
	// tenth of the time since the API was last up, but still only some 30 probes
	// in 3 minutes.
	patchyProbe  = 0.2
	patchyGrowth = 1.1

	// firstPace is the pace that letting go begins with.
	firstPace = 10
	// resumePace is the part of the pace at which the API fell again that the
	// next letting go begins with.
	resumePace = 0.5
	// drain is how the ceiling follows from the line: it shall be gone in two
	// thirds of the time it took to form, beside what goes on arriving. As the line
	// has no more calls than have joined it, that is at most two and a half times
	// the rate of arrival, which the API was asked to carry before. And if more
	// arrive than did, the pace is to be so many times as fast.
	drain = 1.5
	// throttledAnswers within a short time take the pace to throttledPace of
	// itself, at most once in throttledEvery. Each other answer makes up for
	// throttledShare of one, since a few among many are the limit of some other
	// account and not of the line. The pace stays so for throttledFor and then
	// rises by 1 a second, not by 1 a success: where the limit is has been
	// learned. It never falls below the rate at which calls come, which nothing
	// held back before the outage either.
	throttledAnswers = 3
	throttledShare   = 0.05
	throttledPace    = 0.8
	throttledEvery   = time.Second
	throttledFor     = 10 * time.Second
	// firstNeed is the time that a call must have left once a caller who was let
	// go has left before the answer; each further one makes it needGrowth times as
	// much, up to longestNeed, and each answer needShrink of that. So it settles
	// above the time that an answer takes, and at most one in some 40 calls is sent
	// in vain, while now and then a caller who leaves for reasons of their own
	// changes nothing.
	firstNeed   = 10 * time.Millisecond
	needGrowth  = 8
	needShrink  = 0.95
	longestNeed = 24 * time.Hour
	// lateRelease is how much of a timer's lateness is made up for.
	lateRelease = 10 * time.Millisecond
)

// The low bits of gate.word; the sequence number stands above them.
const (
	wordBusy    = 1 << iota // the gate is not open
	wordRunning             // a run has begun
	wordShift   = iota
)

// turn is a call's leave to send one attempt.
type turn struct {
	sequence uint64
	probe    int // which probe it is, from 1; 0: none
	// ended is set for the release that empties the line.
	ended *outage
}

// outage is what is told of an outage when it is over.
type outage struct {
	lasted time.Duration
	held   int
	cause  *Error
}

// answer is what an attempt's end says of the API.
type answer int

const (
	answerNone      answer = iota // nothing: a network error, a body that is no Graph error
	answerUp                      // a success, or any Graph error but these:
	answerThrottled               // the API is up, and asks for less
	answerOutage                  // 2 or 131016
	answerLeft                    // the caller left, or ran out of time, before there was one
)

func newGate(s *settings) *gate {
	longest := min(times(longestProbe, s.initialInterval), s.maxInterval)
	return &gate{
		threshold: s.outageThreshold,
		interval:  s.initialInterval,
		longest:   longest,
		jitter:    s.jitterOr(defaultJitter),
	}
}

// pass is the way through the open gate. It reports false if the call must wait.
func (g *gate) pass() (turn, bool) {
	word := g.word.Load()
	return turn{sequence: word >> wordShift}, word&wordBusy == 0
}

// waiter is a call in line.
type waiter struct {
	patience time.Time // when it must go, whatever comes; zero: never
	arrival  uint64
	index    int // in the line; -1: it has left

	// let is closed when the call is let go. Before that, turn is its leave to
	// send, or refused is set because its time has run out.
	let     chan struct{}
	turn    turn
	refused bool
}

// before tells whether w stands before other in line.
func (w *waiter) before(other *waiter) bool {
	if w.patience.Equal(other.patience) {
		return w.arrival < other.arrival
	}
	return !w.patience.IsZero() && other.waitsBeyond(w.patience)
}

// waitsBeyond tells whether the patience of w ends after a moment.
func (w *waiter) waitsBeyond(moment time.Time) bool {
	return w.patience.IsZero() || w.patience.After(moment)
}

// join puts a call in line. It gives nil and a turn if the call can go at once,
// and nil and no turn if its patience ends before the next can go.
func (g *gate) join(patience time.Time) (*waiter, turn, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == gateOpen {
		return nil, turn{sequence: g.sequence}, true
	}
	now := time.Now()
	w := &waiter{patience: patience}
	if !w.waitsBeyond(later(now, g.due)) {
		return nil, turn{}, false
	}
	g.joined++
	g.arrivals++
	w.arrival, w.let = g.arrivals, make(chan struct{})
	heap.Push(&g.line, w)
	g.advance(now)
	return w, turn{}, true
}

// leave takes a call out of the line because its caller has ended it. If it was
// let go at the same moment, its turn is passed on. It gives the outage that its
// turn had ended, if so.
func (g *gate) leave(w *waiter) *outage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.index < 0 {
		if !w.refused {
			g.passOn(w.turn, false)
		}
		return w.turn.ended
	}
	heap.Remove(&g.line, w.index)
	g.advance(time.Now())
	return nil
}

// giveBack passes on a turn that was not used.
func (g *gate) giveBack(t turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passOn(t, false)
}

// passOn gives the next in line the turn of a call that did not use it, or, if
// it was sent, did not wait for the answer.
func (g *gate) passOn(t turn, sent bool) {
	switch {
	case g.state == gateOpen || t.sequence < g.shutSequence || g.state == gateLettingGo && t.probe > 0:
		return // nobody waits for this turn any more
	case g.state == gateShut && t.probe != g.probes:
		return // its interval is over, and another probe has gone
	case t.probe > 0 && !sent:
		g.probes--
	case t.probe > 0 && t.probe == g.passedOn:
		// Once an interval. Callers who all leave soon would else send a probe
		// each, and together hammer an API that is down.
		return
	case t.probe > 0:
		g.passedOn = g.probes + 1
	}
	now := time.Now()
	g.due = now
	g.advance(now)
}

// answered takes what an attempt's answer says of the API. It reports whether
// this answer shut the gate, and the outage that it ended, if so.
func (g *gate) answered(t turn, a answer, cause *Error) (began bool, ended *outage) {
	switch {
	case a == answerNone:
		return false, nil
	case a == answerLeft:
		g.left(t)
		return false, nil
	case a != answerOutage && g.word.Load()&(wordBusy|wordRunning) == 0:
		return false, nil // all is well, and was
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if t.sequence < g.shutSequence {
		return false, nil // it left before the gate was shut and says nothing of now
	}
	now := time.Now()
	if g.state == gateLettingGo {
		g.need = times(needShrink, g.need)
	}
	if a == answerOutage {
		began = g.countOutage(now, cause)
	} else {
		ended = g.countUp(now, t, a)
	}
	g.publish()
	g.advance(now)
	return began, ended
}

// left takes in that the caller of a turn left before the answer.
func (g *gate) left(t turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case t.probe > 0:
		g.passOn(t, true)
	case g.state == gateLettingGo && t.sequence >= g.shutSequence:
		g.need = min(max(firstNeed, times(needGrowth, g.need)), longestNeed)
	}
}

// countOutage adds an outage answer to the run, and shuts the gate if the run is
// now too long. It reports whether an outage began.
func (g *gate) countOutage(now time.Time, cause *Error) bool {
	if g.run == 0 {
		g.sequence++
		g.runBegan = g.sequence
	}
	g.run++
	limit := max(float64(g.threshold), worstRunFactor*g.worst(now))
	if g.state == gateShut || float64(g.run) < limit {
		return false
	}
	// An API that fails again while the line is let go is the same outage: the
	// line, and how fast it formed, stay.
	began := g.state == gateOpen
	g.worstRun, g.worstTime = g.worst(now), now
	g.patchy = !began || g.worstRun >= patchyRun
	if began {
		g.shutAt, g.joined, g.resume, g.need = now, 0, firstPace, 0
	} else {
		g.resume = max(firstPace, g.pace*resumePace)
	}
	g.sequence++
	g.shutSequence = g.sequence
	g.state, g.cause, g.probes, g.passedOn = gateShut, cause, 0, 0
	g.due = now.Add(g.probeInterval())
	return began
}

// countUp ends the run, if the answer is to an attempt that left after the run
// had begun: a slow success from before an outage must not hide it. Shut, it
// turns to letting go; letting go, it sets the pace. It gives the outage that it
// ended, if nobody stands in line any more.
func (g *gate) countUp(now time.Time, t turn, a answer) *outage {
	if g.state == gateShut {
		g.worstTime = now // while shut, nothing is learned and nothing forgotten
	}
	if g.run > 0 && t.sequence >= g.runBegan {
		g.worstRun, g.worstTime = max(g.worst(now), float64(g.run)), now
		g.run = 0
	}
	if g.state != gateOpen && len(g.line) == 0 {
		return g.open(now)
	}
	switch g.state {
	case gateShut:
		elapsed := max(now.Sub(g.shutAt).Seconds(), 1)
		g.joinRate = float64(g.joined) / elapsed
		g.ceiling = max(firstPace, g.joinRate+drain*float64(len(g.line))/elapsed)
		g.counted, g.joinedThen = now, g.joined
		g.state, g.pace, g.due = gateLettingGo, g.resume, now
		g.throttled, g.slowed = 0, time.Time{}
	case gateLettingGo:
		g.setPace(now, a)
	}
	return nil
}

// setPace takes an answer that came while the line is let go.
func (g *gate) setPace(now time.Time, a answer) {
	// Those who come now count, too: workers of a queue come as fast as they are
	// let go, and a ceiling from before would hold them forever.
	if since := now.Sub(g.counted).Seconds(); since >= 1 {
		g.ceiling = max(g.ceiling, drain*float64(g.joined-g.joinedThen)/since)
		g.counted, g.joinedThen = now, g.joined
	}
	sinceSlowed := now.Sub(g.slowed)
	switch {
	case a == answerThrottled:
		g.throttled++
		if g.throttled >= throttledAnswers && sinceSlowed >= throttledEvery {
			g.pace = max(g.pace*throttledPace, min(g.pace, g.joinRate))
			g.throttled, g.slowed = 0, now
		}
		return
	case g.slowed.IsZero():
		g.pace = min(g.pace+1, g.ceiling)
	case sinceSlowed >= throttledFor:
		g.pace = min(g.pace+1/g.pace, g.ceiling)
	}
	g.throttled = max(0, g.throttled-throttledShare)
}

// advance lets go whoever may go by now, and sets the timer for the next. Every
// change of the line or the state ends here.
func (g *gate) advance(now time.Time) {
	for g.state != gateOpen && len(g.line) > 0 {
		w := g.line[0]
		if !w.waitsBeyond(now) {
			w.refused = true
		} else if g.due.After(now) {
			break
		} else {
			w = g.choose(now)
			w.turn = g.next(now)
		}
		heap.Remove(&g.line, w.index)
		if g.state == gateLettingGo && len(g.line) == 0 && !w.refused {
			w.turn.ended = g.open(now)
		}
		close(w.let)
	}
	g.setTimer(now)
}

// choose is who goes next: the last in line as a probe, else the first who has
// the time that an answer needs, and the last if nobody has.
func (g *gate) choose(now time.Time) *waiter {
	enough := now.Add(g.need)
	last := g.line[0]
	if g.state == gateLettingGo && last.waitsBeyond(enough) {
		return last
	}
	var first *waiter
	for _, w := range g.line {
		if last.before(w) {
			last = w
		}
		if w.waitsBeyond(enough) && (first == nil || w.before(first)) {
			first = w
		}
	}
	if g.state == gateLettingGo && first != nil {
		return first
	}
	return last
}

// next is the turn of the next in line.
func (g *gate) next(now time.Time) turn {
	t := turn{sequence: g.sequence}
	if g.state == gateShut {
		g.probes++
		t.probe = g.probes
		g.due = now.Add(g.probeInterval())
		return t
	}
	gap := time.Duration(float64(time.Second) / g.pace)
	g.due = later(g.due, now.Add(-lateRelease)).Add(gap)
	return t
}

// open opens the gate and gives the outage that is over.
func (g *gate) open(now time.Time) *outage {
	g.state = gateOpen
	g.publish()
	return &outage{lasted: now.Sub(g.shutAt), held: g.joined, cause: g.cause}
}

// shutCause is the Graph error that last shut the gate.
func (g *gate) shutCause() *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// publish tells the calls that take no lock.
func (g *gate) publish() {
	word := g.sequence << wordShift
	if g.state != gateOpen {
		word |= wordBusy
	}
	if g.run > 0 {
		word |= wordRunning
	}
	g.word.Store(word)
}

// worst is the longest run of late.
func (g *gate) worst(now time.Time) float64 {
	return g.worstRun * math.Exp2(-now.Sub(g.worstTime).Seconds()/worstRunHalfLife.Seconds())
}

// probeInterval is the time from the last probe's departure to the next, with
// jitter on top, so that many processes do not knock at once.
func (g *gate) probeInterval() time.Duration {
	interval := times(math.Exp2(float64(g.probes)), g.interval)
	if g.patchy {
		interval = times(math.Pow(patchyGrowth, float64(g.probes))*patchyProbe, g.interval)
	}
	interval = max(1, min(g.longest, interval))
	return jittered(interval, g.jitter)
}

// setTimer has advance called when the next in line may go or must. No timer
// runs when nobody stands in line.
func (g *gate) setTimer(now time.Time) {
	if g.state == gateOpen || len(g.line) == 0 {
		if g.timer != nil {
			g.timer.Stop()
			g.timer = nil
		}
		return
	}
	fires := g.due
	if patience := g.line[0].patience; !patience.IsZero() && patience.Before(fires) {
		fires = patience
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

// line is the calls in line, as a heap: first whose patience ends first, then
// who came first. First come first served would let the impatient go unserved
// while those who have time are let go.
type line []*waiter

func (l line) Len() int { return len(l) }

func (l line) Less(i, j int) bool { return l[i].before(l[j]) }

func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *line) Push(x any) {
	w := x.(*waiter)
	w.index = len(*l)
	*l = append(*l, w)
}

func (l *line) Pop() any {
	old := *l
	w := old[len(old)-1]
	w.index = -1
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	return w
}
