package outage

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Host is the outage gates of one host: that of the host itself, and one for each path
// that fails while others are well. Each attempt comes here twice: to [Host.Pass] or
// [Host.Join] before it is sent, and to [Host.Answered] after.
//
// A call meets the gate of its path first, and then that of the host. The path hears of a
// bad answer first, too: if the path is down, the answer is the path's, and the host does
// not hear of it. If the host falls, all gates of paths go, and who waited there waits for
// the host: one outage is one.
//
// If all bad answers that bring the host down are of one path, it may be that path alone.
// So the first call of another path is sent all the same. If it succeeds, the host is up,
// and the outage is the path's.
//
// A Host is safe for concurrent use. It has no goroutine, and a timer for each gate at
// which calls wait.
type Host struct {
	config Config

	// published is what calls read without the lock: the sequence number, and
	// whether there is more to do than to pass.
	published atomic.Uint64

	mu     sync.Mutex // guards all below
	clock  uint64     // the sequence number: counts the beginnings of runs and the falls
	gate   *gate      // the host's
	paths  paths
	blamed string  // the only path that is known to be down in an outage of the host; "": there are several
	asking *Waiter // the call of another path that is out; nil: none
	others others  // those of other paths who wait at the host meanwhile
	dirty  []*gate // whose queue or state has changed
}

// others are calls that wait at the host, and what its outage has counted of them.
type others struct {
	waiters              []*Waiter
	arrived, moved, held int
}

// The low bits of Host.published; the sequence number stands above them.
const (
	notUp    = 1 << iota // the host is not up
	watched              // a run has begun, or a share of good answers is taken
	gated                // a path has a gate
	flagBits = iota
)

// New returns the gates of a host that is up.
func New(config Config) *Host {
	h := &Host{config: config}
	h.gate = newGate(config, h, &h.clock, "")
	return h
}

// Pass is the way past a host and a path that are up. It reports false if the call must
// join a queue.
func (h *Host) Pass(path string) (Permit, bool) {
	published := h.published.Load()
	if published&gated != 0 {
		return h.passPath(path)
	}
	return Permit{sequence: published >> flagBits}, published&notUp == 0
}

// passPath is Pass where a path has a gate.
func (h *Host) passPath(path string) (Permit, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.paths.of(Key(path))
	return Permit{sequence: h.clock}, h.gate.state == Up && (g == nil || g.state == Up)
}

// Join puts a call of a path with that deadline, zero for none, into a queue. It returns a
// waiter that is released already if the call can go at once, and an [*Outage] if the
// deadline comes before the next release. held is
// what [Waiter.Held] returned when the call last waited.
func (h *Host) Join(path string, deadline time.Time, held Held) (*Waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	w := &Waiter{path: Key(path), deadline: deadline, held: held, released: make(chan struct{})}
	h.enter(now, w)
	h.settle(now)
	if w.isReleased() && w.refused != nil {
		return nil, w.refused
	}
	return w, nil
}

// Try is [Host.Join] for a call that does not wait. It returns an [*Outage] if the call
// cannot go at once: as a probe that is due, or at the rate of a host that is recovering.
func (h *Host) Try(path string) (*Waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	w := &Waiter{path: Key(path), tries: true, released: make(chan struct{})}
	h.enter(now, w)
	h.settle(now)
	if w.isReleased() {
		if w.refused != nil {
			return nil, w.refused
		}
		return w, nil
	}
	g := h.gateOf(w)
	refused := g.refusal(now)
	g.queue.remove(w)
	h.giveBack(now, w)
	h.touch(g)
	h.settle(now)
	return nil, refused
}

// Leave takes a waiter out of its queue because its caller has ended the call. If it
// was released at the same moment, its permit goes to the next. It returns what the call
// waited for, nil if it was released, and the outages that its release has ended.
func (h *Host) Leave(w *Waiter) (*Outage, []Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	outage := w.refused
	switch {
	case !w.isReleased():
		g := h.gateOf(w)
		outage = g.refusal(now)
		g.queue.remove(w)
		h.touch(g)
		h.giveBack(now, w)
	case w.refused == nil:
		h.giveBack(now, w)
	}
	h.settle(now)
	return outage, w.Changes()
}

// GiveBack gives the next waiters a permit with which nothing was sent.
func (h *Host) GiveBack(p Permit) {
	if p.waiter == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.giveBack(now, p.waiter)
	h.settle(now)
}

// giveBack passes on what a waiter has passed.
func (h *Host) giveBack(now time.Time, w *Waiter) {
	h.asked(w)
	for _, passed := range w.passes() {
		if g := h.gateWith(w.path, passed.queue); g != nil {
			g.heard(w)
			g.passOn(now, passed.sequence, passed.probe, false)
			h.touch(g)
		}
	}
	w.forgetPasses()
}

// Answered takes in how an attempt of a path has ended; cause is kept if that brings the
// path or the host down. It returns the outages that have begun or ended with it.
func (h *Host) Answered(path string, p Permit, result Result, cause error) []Change {
	if p.waiter == nil {
		switch {
		case result == ResultNone, result == ResultAbandoned:
			return nil
		case !result.isDown() && h.published.Load()&(notUp|watched|gated) == 0:
			return nil // all is well, and was
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	key := Key(path)
	own := h.gateOfPath(now, key, result)
	h.heard(p, key)
	var changes []Change
	switch {
	case result == ResultNone:
		h.asked(p.waiter)
	case result == ResultAbandoned:
		h.asked(p.waiter)
		for _, g := range []*gate{own, h.gate} {
			if g != nil {
				g.abandoned(now, p)
				h.touch(g)
			}
		}
	case h.isAnswer(p) && !result.isDown():
		changes = h.handOver()
		own = h.paths.of(key)
		fallthrough
	default:
		changes = append(changes, h.tell(now, key, own, p, result, cause)...)
	}
	if p.waiter != nil {
		p.waiter.forgetPasses()
	}
	h.settle(now)
	return changes
}

// heard takes in that calls are not out any more.
func (h *Host) heard(p Permit, key string) {
	if p.waiter == nil {
		return
	}
	for _, passed := range p.waiter.passes() {
		if g := h.gateWith(key, passed.queue); g != nil {
			g.heard(p.waiter)
		}
	}
}

// tell tells the gates of an answer: first that of the path, nil for none.
func (h *Host) tell(now time.Time, key string, own *gate, p Permit, result Result, cause error) (changes []Change) {
	isGood := !result.isDown()
	if isGood && p.sequence >= h.gate.outage.fellSequence {
		h.split(now, key)
		h.paths.answered(now, key, true)
	}
	if own != nil && result != ResultUnreachable {
		if !isGood {
			h.paths.answered(now, key, false)
		}
		wasDown := own.state == Down
		began, ended := own.answered(now, p, result, cause)
		h.touch(own)
		if own.state == Down && !wasDown {
			h.gate.brake.forget(now, h.gate.state, own.runs)
		}
		if began {
			changes = append(changes, Change{Path: key})
		}
		if ended != nil {
			changes = append(changes, Change{Path: key, Ended: ended})
		}
		if !isGood && own.state == Down {
			return changes // it is the path's, and nothing is known of the host
		}
	}
	if !isGood {
		h.blame(key, p, result)
	}
	wasUp := h.gate.state == Up
	began, ended := h.gate.answered(now, p, result, cause)
	h.touch(h.gate)
	if began {
		h.fall(now, wasUp)
		return []Change{{}} // those of paths are the host's now
	}
	if ended != nil {
		changes = append(changes, Change{Ended: ended})
	}
	if h.gate.state != Down {
		h.absolve()
	}
	return changes
}

// gateOfPath returns the gate of a path that has an answer, nil if it has none. Its first
// bad answer makes one, if others are well.
func (h *Host) gateOfPath(now time.Time, key string, result Result) *gate {
	own := h.paths.of(key)
	if result != ResultDown || h.gate.state == Down {
		return own
	}
	othersAreWell := h.paths.othersAreWell(now, key)
	switch {
	case own == nil && othersAreWell:
		return h.addPath(now, key, runs{})
	case own != nil && own.state == Up && !othersAreWell && h.paths.gates[key].isIdle():
		h.paths.drop(h.paths.gates[key])
		return nil
	}
	return own
}

// addPath gives a path a gate, nil if there is no room.
func (h *Host) addPath(now time.Time, key string, runs runs) *gate {
	g := newGate(h.config, h, &h.clock, strings.Clone(key))
	g.runs = runs
	if !h.paths.add(now, g) {
		return nil
	}
	return g
}

// split gives the path of a run that is its alone a gate, as another one is well. It goes
// on with the run.
func (h *Host) split(now time.Time, well string) {
	path := h.paths.run
	if h.gate.runs.length == 0 || path == "" || path == well || h.gate.state == Down || h.paths.of(path) != nil {
		return
	}
	of := h.gate.runs
	h.addPath(now, path, runs{length: of.length, began: of.began, from: of.from})
}

// blame takes in of which path a bad answer is that the host hears of.
func (h *Host) blame(key string, p Permit, result Result) {
	if h.gate.state == Down {
		if key != h.blamed && p.sequence >= h.gate.outage.fellSequence {
			h.absolve()
		}
		return
	}
	switch {
	case result == ResultUnreachable:
		h.paths.run = ""
	case h.gate.runs.length == 0:
		h.paths.run = strings.Clone(key)
	case h.paths.run != key:
		h.paths.run = ""
	}
}

// fall takes in that the host has fallen: all paths have.
func (h *Host) fall(now time.Time, wasUp bool) {
	h.absolve()
	if wasUp {
		h.blamed = h.paths.run
	}
	for _, g := range h.paths.clear() {
		h.touch(g.gate)
		for _, w := range g.queue.all() {
			h.enterHost(now, w, g.outage.gathersFrom())
		}
	}
}

// absolve takes in that the outage is the host's, or over.
func (h *Host) absolve() { h.blamed, h.asking, h.others = "", nil, others{} }

// mayAsk reports whether a call may go though the host is down, as only another path is
// known to be.
func (h *Host) mayAsk(w *Waiter) bool {
	return h.gate.state == Down && h.blamed != "" && h.blamed != w.path && h.asking == nil
}

// isAnswer reports whether a permit is that of the call that asks.
func (h *Host) isAnswer(p Permit) bool { return p.waiter != nil && p.waiter == h.asking }

// asked takes in that a call does not ask any more, without an answer.
func (h *Host) asked(w *Waiter) {
	if w != nil && w == h.asking {
		h.asking = nil
	}
}

// handOver makes the outage of the host that of the path that is down: another one is
// well.
func (h *Host) handOver() []Change {
	now, own, others := time.Now(), h.gate, h.others
	h.gate = newGate(h.config, h, &h.clock, "")
	h.gate.since = now
	h.gate.outage.fellSequence = own.outage.fellSequence
	own.path = h.blamed
	changes := []Change{
		{Ended: &Summary{Lasted: now.Sub(own.outage.began), Held: others.held, Cause: own.outage.cause}},
		{Path: own.path, Cause: own.outage.cause},
	}
	h.absolve()
	h.paths.add(now, own)
	own.outage.arrived -= others.arrived
	own.outage.moved -= others.moved
	own.outage.held -= others.held
	for _, w := range others.waiters {
		switch {
		case w.queue == &own.queue:
			own.queue.remove(w)
			h.enter(now, w)
		case w.passOf(&own.queue).queue != nil: // it was a probe of the host, and is none of the path
			own.out--
			w.forgetPasses()
		}
	}
	h.touch(own)
	return changes
}

// Status returns what the gates are about.
func (h *Host) Status() HostStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HostStatus{h.gate.status(), h.paths.statuses()}
}

// enter has a waiter wait at the gate of its path or of its host, or releases it.
func (h *Host) enter(now time.Time, w *Waiter) {
	if g := h.paths.of(w.path); g != nil && g.state != Up && w.passOf(&g.queue).sequence < max(1, g.outage.fellSequence) {
		h.enterQueue(now, g, w, time.Time{})
		return
	}
	h.enterHost(now, w, time.Time{})
}

// enterHost has a waiter wait at the gate of its host, or releases it.
func (h *Host) enterHost(now time.Time, w *Waiter, from time.Time) {
	switch {
	case h.mayAsk(w):
		h.asking = w
		w.release(now, h.clock)
	case h.gate.state == Up:
		w.release(now, h.clock)
	default:
		before := h.gate.outage
		h.enterQueue(now, h.gate, w, from)
		if h.blamed != "" && h.blamed != w.path {
			h.others.waiters = append(h.others.waiters, w)
			h.others.arrived += h.gate.outage.arrived - before.arrived
			h.others.moved += h.gate.outage.moved - before.moved
			h.others.held += h.gate.outage.held - before.held
		}
	}
}

// enterQueue has a waiter wait at a gate, or refuses it.
func (h *Host) enterQueue(now time.Time, g *gate, w *Waiter, from time.Time) {
	if !g.join(now, w, from) {
		h.refuses(w, g.refusal(now), now)
		return
	}
	h.touch(g)
}

// gateWith returns the gate of a path or of the host that has that queue, nil if it is of
// a gate that is gone.
func (h *Host) gateWith(path string, q *queue) *gate {
	if q == nil {
		return nil
	}
	for _, g := range []*gate{h.gate, h.paths.of(path)} {
		if g != nil && &g.queue == q {
			return g
		}
	}
	return nil
}

// gateOf returns the gate at which a call waits.
func (h *Host) gateOf(w *Waiter) *gate { return h.gateWith(w.path, w.queue) }

// moves, passes, refuses and wakes are what gates tell their [keeper].

// A path that has gone down since its calls came to the host has them wait for it. They
// are thousands, and all would else be sent.
func (h *Host) moves(g *gate, w *Waiter, now time.Time) bool {
	own := h.paths.of(w.path)
	if g != h.gate || own == nil || own.state == Up || w.passOf(&own.queue).sequence >= max(1, own.outage.fellSequence) {
		return false
	}
	if old := w.passOf(&own.queue); old.queue != nil {
		own.out--
	}
	w.forgetPasses()
	g.queue.remove(w)
	h.enterQueue(now, own, w, g.outage.gathersFrom())
	return true
}

func (h *Host) passes(g *gate, w *Waiter, now time.Time) {
	if g == h.gate {
		w.release(now, h.clock)
		return
	}
	h.enterHost(now, w, time.Time{})
}

func (h *Host) refuses(w *Waiter, why *Outage, now time.Time) {
	w.refused = why
	if w.exit != nil {
		h.giveBack(now, w)
	}
	w.release(now, h.clock)
}

func (h *Host) wakes(g *gate, timer uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.timer != nil && g.timers == timer {
		g.timer = nil
		h.touch(g)
		h.settle(time.Now())
	}
}

// touch notes that the queue or the state of a gate has changed.
func (h *Host) touch(g *gate) { h.dirty = append(h.dirty, g) }

// settle has the gates that have changed release who may go. Every change ends here.
func (h *Host) settle(now time.Time) {
	for len(h.dirty) > 0 {
		g := h.dirty[len(h.dirty)-1]
		h.dirty = h.dirty[:len(h.dirty)-1]
		g.advance(now)
		if g != h.gate {
			h.paths.sortOf(g.path)
		}
	}
	h.paths.sweep(now)
	h.publish()
}

// publish tells the calls that take no lock.
func (h *Host) publish() {
	published := h.clock << flagBits
	if h.gate.state != Up {
		published |= notUp
	}
	if h.gate.isWatched() {
		published |= watched
	}
	if len(h.paths.gates) > 0 {
		published |= gated
	}
	h.published.Store(published)
}
