package outage

import (
	"container/heap"
	"math"
	"time"
)

// Waiter is a call that waits, or has waited, at the gate of its path, at that of its host
// or at one after the other.
type Waiter struct {
	path     string
	deadline time.Time // it waits no longer than that; zero: for ever
	held     Held      // the outages that have counted it
	tries    bool      // it does not wait, and is not counted

	queue  *queue // where it waits; nil: nowhere any more
	places [2]int // in the heaps of the queue

	// released is closed once the call waits no more. Before that, all below is set.
	released chan struct{}
	refused  *Outage // its deadline has come or is too near; nil: it was released
	sequence uint64
	exit     *exit // nil: it has passed no gate
}

// exit is how a call came out of its queues.
type exit struct {
	at      time.Time
	passed  [2]pass // the gates that it has passed, the last one first
	changes []Change
}

// pass is that a call was released from a queue.
type pass struct {
	queue    *queue // nil: none
	sequence uint64
	probe    int // which probe it is, from 1; 0: none
}

// forgetPasses takes in that the gates which the call has passed have their permits back.
func (w *Waiter) forgetPasses() {
	if w.exit != nil {
		w.exit.passed = [2]pass{}
	}
}

// Held is the outages that have counted a call. The zero Held is ready to use.
type Held struct{ outages [2]uint64 }

// count reports whether an outage has not counted the call yet, and counts it.
func (h *Held) count(outage uint64) bool {
	if h.outages[0] == outage || h.outages[1] == outage {
		return false
	}
	h.outages[0], h.outages[1] = outage, h.outages[0]
	return true
}

// Released returns a channel that is closed when the call was released or its deadline
// is about to come.
func (w *Waiter) Released() <-chan struct{} { return w.released }

// Permit returns the permit of a call that was released, or an [*Outage] if it was not,
// because its deadline is too near. It must not be called before [Waiter.Released] is
// closed.
func (w *Waiter) Permit() (Permit, error) {
	if w.refused != nil {
		return Permit{}, w.refused
	}
	return w.permit(), nil
}

func (w *Waiter) permit() Permit { return Permit{sequence: w.sequence, waiter: w} }

// Changes returns the outages that the release of the call has ended. It must not be
// called before [Waiter.Released] is closed.
func (w *Waiter) Changes() []Change {
	if w.exit == nil {
		return nil
	}
	return w.exit.changes
}

// Held returns the outages that have counted the call until now. It must not be called
// before [Waiter.Released] is closed.
func (w *Waiter) Held() Held { return w.held }

// isReleased reports whether the call waits no more.
func (w *Waiter) isReleased() bool { return w.queue == nil }

// release ends the wait.
func (w *Waiter) release(now time.Time, sequence uint64) {
	w.sequence = sequence
	if w.exit != nil {
		w.exit.at = now
	}
	close(w.released)
}

// pass takes in that the call has passed a gate.
func (w *Waiter) pass(p pass) {
	if w.exit == nil {
		w.exit = new(exit)
	}
	w.exit.passed[0], w.exit.passed[1] = p, w.exit.passed[0]
}

// passes returns the gates that the call has passed.
func (w *Waiter) passes() []pass {
	if w.exit == nil {
		return nil
	}
	return w.exit.passed[:]
}

// passOf returns the release from a queue, the zero pass if there was none.
func (w *Waiter) passOf(q *queue) pass {
	for _, p := range w.passes() {
		if p.queue == q {
			return p
		}
	}
	return pass{}
}

// Permit is a call's permission to send one attempt. The zero Permit is that of a call
// that was sent before the gate knew anything.
type Permit struct {
	sequence uint64
	waiter   *Waiter // nil: the call has not waited
}

// passOf returns the release from a queue, the zero pass if there was none.
func (p Permit) passOf(q *queue) pass {
	if p.waiter == nil {
		return pass{}
	}
	return p.waiter.passOf(q)
}

// sentFrom returns when the call was released from a queue, zero if it was not.
func (p Permit) sentFrom(q *queue) time.Time {
	if p.passOf(q).queue == nil {
		return time.Time{}
	}
	return p.waiter.exit.at
}

// hasUntil reports whether the deadline of w comes after a moment.
func (w *Waiter) hasUntil(moment time.Time) bool {
	return w.deadline.IsZero() || w.deadline.After(moment)
}

// queue is the waiters, earliest deadline first, then earliest arrival. First come,
// first served would let callers run out of time while others who have it are
// released. It is two heaps over the same waiters, since the last is wanted too.
type queue struct {
	heaps    [2]waiterHeap // by end
	arrivals uint64        // numbers the waiters
	epoch    time.Time     // what deadlines are counted from
}

// The ends of a queue.
const (
	earliest = iota
	latest
)

func (q *queue) len() int { return len(q.heaps[earliest].entries) }

func (q *queue) add(w *Waiter) {
	if q.epoch.IsZero() {
		q.epoch = time.Now()
	}
	q.arrivals++
	e := entry{waiter: w, deadline: math.MaxInt64, arrival: q.arrivals}
	if !w.deadline.IsZero() {
		e.deadline = w.deadline.Sub(q.epoch)
	}
	w.queue = q
	for end := range q.heaps {
		q.heaps[end].end = end
		heap.Push(&q.heaps[end], e)
	}
}

func (q *queue) remove(w *Waiter) {
	for end := range q.heaps {
		heap.Remove(&q.heaps[end], w.places[end])
	}
	w.queue = nil
}

// all takes all waiters out of the queue.
func (q *queue) all() []*Waiter {
	waiters := make([]*Waiter, 0, q.len())
	for _, e := range q.heaps[earliest].entries {
		e.waiter.queue = nil
		waiters = append(waiters, e.waiter)
	}
	*q = queue{arrivals: q.arrivals, epoch: q.epoch}
	return waiters
}

// count has an outage count the waiters, and returns how many it had not counted yet.
func (q *queue) count(outage uint64) (held int) {
	for _, e := range q.heaps[earliest].entries {
		if e.waiter.held.count(outage) {
			held++
		}
	}
	return held
}

// at returns the waiter at an end of a queue that has one.
func (q *queue) at(end int) *Waiter { return q.heaps[end].entries[0].waiter }

// entry is a waiter in a heap, with what it is ordered by: to look that up in a million
// waiters would take longer than all else.
type entry struct {
	deadline time.Duration
	arrival  uint64
	waiter   *Waiter
}

// waiterHeap is a [heap.Interface] of waiters with an end of the queue on top.
type waiterHeap struct {
	entries []entry
	end     int
}

func (h *waiterHeap) Len() int { return len(h.entries) }

func (h *waiterHeap) Less(i, j int) bool {
	a, b := &h.entries[i], &h.entries[j]
	if h.end == latest {
		a, b = b, a
	}
	if a.deadline == b.deadline {
		return a.arrival < b.arrival
	}
	return a.deadline < b.deadline
}

func (h *waiterHeap) Swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].waiter.places[h.end], h.entries[j].waiter.places[h.end] = i, j
}

func (h *waiterHeap) Push(x any) {
	e := x.(entry)
	e.waiter.places[h.end] = len(h.entries)
	h.entries = append(h.entries, e)
}

// Pop returns nothing, since nobody looks at it, and to return the entry would allocate.
func (h *waiterHeap) Pop() any {
	last := len(h.entries) - 1
	h.entries[last] = entry{}
	h.entries = h.entries[:last]
	return nil
}

// leavers is what is learned of callers who were released and left before the answer.
type leavers struct {
	headroom time.Duration // a waiter must have more until its deadline to be released
	early    float64       // how many left before their deadline, less a share of those who stayed
}

// left takes in that the caller of a waiter has left.
func (l *leavers) left(now time.Time, w *Waiter) {
	if w.hasUntil(now) {
		l.early = min(l.early+1, sure+1)
		return
	}
	// One call that hangs does not show that answers take so long.
	l.headroom = max(l.headroom, 2*min(now.Sub(w.exit.at), l.headroom+settles))
}

// stayed takes in that a caller was there for the answer.
func (l *leavers) stayed() {
	l.headroom = times(nearly, l.headroom)
	l.early = max(0, l.early-(1-nearly)/sure)
}
