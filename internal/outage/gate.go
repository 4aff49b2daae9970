// Package outage holds the outage gate: one backoff that all calls to a host share, and
// one that all calls to a path share while other paths of the host are well. It knows
// calls by their paths and deadlines and answers by what they say of the host, and nothing
// of HTTP.
//
//	host.go    what calls meet: the gate of their host, and before it that of their path
//	paths.go   which paths have a gate
//	gate.go    what moves a gate between its states
//	state.go   the states, and what is told of them
//	run.go     how many bad answers in a row bring a host down
//	probe.go   when a probe is sent
//	outage.go  what is known of an outage
//	queue.go   the waiters, earliest deadline first
//	release.go who of them is released or refused now
//	rate.go    how fast they are released
//	brake.go   whether less load is to be tried
//	trial.go   whether it helps
//	law.go     the constants, each with why
package outage

import "time"

// gate is the outage gate of one host, or of one of its paths, which is then what is said
// of the host here. It is a circuit breaker with a queue and a slow start: the host is
// up, down or recovering, which a circuit breaker calls closed, open and half-open. While
// the host is up, calls pass, and the gate only counts how many answers in a row say that
// the host is down. A run of them that is long enough brings it down. While it is down,
// calls wait in a queue, and one at a time is released as a probe, after intervals that
// grow. A probe with any other answer shows that the host is back: it is recovering. The
// waiters are then released at a rate that starts with that of the arrivals and rises with
// each success, up to a small multiple, since a host that has just come back must not be met
// by all that have gathered. The release that empties the queue makes the host up. A run
// while it is recovering brings it down again; that is the same outage.
//
// A host that is asked for too much gives the same answers as one that is down, but
// not to all calls. Where the share of good answers is bad, a brake tries whether less than
// half the rate helps, in every other turn of the clock, as all processes do in the same
// turns; if the host is up, it is recovering meanwhile, without an outage. If that helps,
// the rate is lowered and rises slowly from there: additive increase, multiplicative
// decrease. If it does not, the host fails by chance, and calls are left to their own
// backoff, which serves them better.
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
// A gate has no lock of its own: its [keeper] has one, and does what follows from a change.
// It has no goroutine, and one timer while calls wait.
type gate struct {
	config Config
	keeper keeper
	path   string  // "": the host's
	clock  *uint64 // counts the beginnings of runs and the falls, of all gates of the host

	state State
	since time.Time // the state has held since then; zero: from the beginning

	runs    runs
	outage  outage
	probes  probes
	rate    rate
	brake   brake
	leavers leavers

	queue      queue
	out        int         // calls that were released and not heard of since
	due        time.Time   // when the next waiter may be released
	early      time.Time   // when a probe may be, if somebody is about to give up
	inVain     time.Time   // who must be released by then waits in vain: a probe has failed
	timer      *time.Timer // calls advance; nil: nobody waits for anything
	timers     uint64      // numbers them: one that was stopped may be on its way
	timerFires time.Time
}

// keeper is what a gate needs to know of other gates.
type keeper interface {
	// moves reports whether a waiter who is about to be released has to wait elsewhere,
	// and takes it there.
	moves(g *gate, w *Waiter, now time.Time) bool
	// passes takes in that a waiter was released, and refuses that it was refused.
	passes(g *gate, w *Waiter, now time.Time)
	refuses(w *Waiter, why *Outage, now time.Time)
	// wakes is called by the timer of that number.
	wakes(g *gate, timer uint64)
}

func newGate(config Config, keeper keeper, clock *uint64, path string) *gate {
	config.MaxInterval = min(times(longestProbe, config.InitialInterval), config.MaxInterval)
	return &gate{config: config, keeper: keeper, clock: clock, path: path}
}

// tick returns the next sequence number.
func (g *gate) tick() uint64 {
	*g.clock++
	return *g.clock
}

// join puts a call into the queue, and reports false if its deadline comes before the
// next release or too shortly after it. from is when the queue began to form from which
// the call has moved here, zero if it comes from none. One that has moved is no arrival: many
// move at once.
func (g *gate) join(now time.Time, w *Waiter, from time.Time) bool {
	next := g.due
	if g.state == Down && g.early.Before(next) {
		next = g.early
	}
	if !w.hasUntil(now) || next.After(now) && !w.hasUntil(next.Add(EarlyRefusal)) {
		return false
	}
	switch {
	case w.tries:
	case from.IsZero():
		g.outage.arrived++
	default:
		if g.outage.moved == 0 || from.Before(g.outage.movedFrom) {
			g.outage.movedFrom = from
		}
		g.outage.moved++
	}
	if !w.tries && w.held.count(g.outage.number) {
		g.outage.held++
	}
	g.queue.add(w)
	return true
}

// answered takes in how an attempt has ended; cause is kept if that brings the host
// down. It reports whether an outage began with it, and returns the outage that it
// has ended, or nil.
func (g *gate) answered(now time.Time, p Permit, result Result, cause error) (began bool, ended *Summary) {
	if p.sequence < g.outage.fellSequence {
		return false, nil // it was sent before the host was brought down and says nothing of now
	}
	if g.state == Recovering {
		g.leavers.stayed()
	}
	if result.isDown() {
		began = g.countDown(now, p, cause)
	} else {
		ended = g.countUp(now, p, result)
	}
	g.judge(now, p, result)
	return began, ended
}

// refusal is what is told to a call that cannot wait.
func (g *gate) refusal(now time.Time) *Outage {
	return &Outage{Path: g.path, Cause: g.outage.cause, UntilNext: max(1, g.due.Sub(now))}
}

// isWell reports whether the host is up and nothing is watched.
func (g *gate) isWell() bool { return g.state == Up && !g.isWatched() }

// isWatched reports whether a run has begun, or a share of good answers is taken.
func (g *gate) isWatched() bool { return g.runs.length > 0 || g.brake.window.isOpen }

func (g *gate) status() Status {
	status := Status{State: g.state, Since: g.since, Waiting: g.queue.len()}
	if g.state != Up {
		status.Cause = g.outage.cause
	}
	if g.state == Down {
		status.NextProbe = g.due
	}
	return status
}

// heard takes in that a call which was released is not out any more.
func (g *gate) heard(w *Waiter) {
	g.out--
	g.brake.trial.hears(w.exit.at)
}

// passOn gives the next waiter the permit of a call that did not use it or, if it was
// sent, did not wait for the answer.
func (g *gate) passOn(now time.Time, sequence uint64, probe int, sent bool) {
	switch {
	case g.state == Up || sequence < g.outage.fellSequence || g.state == Recovering && probe > 0:
		return // nobody waits for this permit any more
	case g.state == Down && !g.probes.passOn(probe, sent):
		return
	}
	g.due = now
}

// abandoned takes in that the caller of an attempt left before the answer.
func (g *gate) abandoned(now time.Time, p Permit) {
	passed := p.passOf(&g.queue)
	switch {
	case passed.probe > 0:
		g.passOn(now, p.sequence, passed.probe, true)
	case g.state == Recovering && p.sequence >= g.outage.fellSequence && passed.queue != nil:
		g.leavers.left(now, p.waiter)
	}
}

// countDown adds an answer to the run, and brings the host down if the run is now too
// long. It reports whether an outage began.
func (g *gate) countDown(now time.Time, p Permit, cause error) bool {
	if g.runs.length == 0 {
		g.runs.begin(now, g.tick())
	}
	if g.state == Up {
		g.outage.cause = cause // which is told in case less load is tried
	}
	if g.state == Up && g.path == "" && !g.brake.window.isOpen {
		g.brake.window.open(now)
	}
	g.runs.length++
	if g.state == Recovering && !g.brake.trial.isOn() {
		g.rate.failed()
	}
	if g.state == Down {
		if probe := p.passOf(&g.queue).probe; probe > 0 && probe == g.probes.sent {
			g.inVain = g.early
		}
		return false
	}
	if !g.runs.isFatal(now, g.config) {
		return false
	}
	// A host that fails again while it is recovering is in the same outage: the
	// queue, and how fast it formed, stay.
	again := g.state == Recovering && g.outage.isDown
	g.runs.fall(now, again)
	g.probes = probes{partial: g.runs.worst > 1}
	fell := g.tick()
	if !again {
		arrived, since := 0, now
		if g.state == Recovering { // what has gathered in a trial waits, too
			arrived, since = g.outage.arrived, g.outage.since
		}
		g.outage = outage{began: now, number: fell, isDown: true, arrived: arrived, since: since, held: g.queue.count(fell)}
		g.leavers = leavers{}
	}
	g.outage.fellSequence, g.outage.cause = fell, cause
	g.become(Down, now)
	g.scheduleProbe(now)
	return !again
}

// countUp ends the run, if the answer is to an attempt that was sent after the run had
// begun: a slow success from before an outage must not hide it. If the host is down,
// it is recovering from now on; if it is recovering, the answer sets the rate. It
// returns the outage that it has ended, if nobody waits any more.
func (g *gate) countUp(now time.Time, p Permit, result Result) *Summary {
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
		g.rate.start(now, g.outage)
		g.become(Recovering, now)
		g.brake = brake{}
		g.brake.window.open(now)
		g.due = now
	case Recovering:
		if !g.brake.trial.isOn() {
			g.rate.adjust(now, result, g.outage.arrived)
		}
	}
	return nil
}

// judge asks the brake what it makes of an answer, and does it. What a path is asked for
// is a part of what its host is, whose brake is enough. In a slow start nothing is tried: the
// rate would stay as low as it is then.
func (g *gate) judge(now time.Time, p Permit, result Result) {
	if g.state == Down || g.path != "" || g.state == Recovering && g.rate.isStarting() {
		return
	}
	watched := g.brake.window
	switch g.brake.judge(now, g.state, p.sentFrom(&g.queue), !result.isDown(), g.config.Threshold) {
	case lessMustBeTried:
		if g.state == Up {
			g.outage = outage{began: now, since: now, number: g.tick(), fellSequence: g.outage.fellSequence, cause: g.outage.cause}
			g.leavers = leavers{}
			g.rate.hold(now, watched)
			g.become(Recovering, now)
			g.due = now
		}
	case lessHelps:
		g.rate.lower(now, g.brake.kept)
	case lessDoesNotHelp:
		g.rate.slowed = time.Time{}
		if !g.outage.isDown { // what has gathered meanwhile is a queue as after an outage
			g.rate.start(now, g.outage)
			g.rate.current = g.rate.ceiling
		}
	}
}

// isOver reports whether the host is up, as nobody waits any more and an answer has
// shown that it is back.
func (g *gate) isOver() bool {
	return g.state != Up && g.queue.len() == 0 && !g.brake.trial.isOn()
}

// scheduleProbe says when the probe after one that is sent now, or after the fall, may
// be sent.
func (g *gate) scheduleProbe(now time.Time) {
	g.due = now.Add(g.probes.interval(g.config))
	g.early = now.Add(times(earlyProbe, g.config.InitialInterval))
}

// up ends the outage and returns it, or nil if the host was never down.
func (g *gate) up(now time.Time) *Summary {
	g.become(Up, now)
	g.runs.fatal = 0
	if !g.outage.isDown {
		return nil
	}
	return &Summary{Lasted: now.Sub(g.outage.began), Held: g.outage.held, Cause: g.outage.cause}
}

func (g *gate) become(state State, now time.Time) {
	g.state, g.since, g.inVain = state, now, time.Time{}
	if state != Recovering {
		g.brake.stop()
	}
}
