package outage

import (
	"container/heap"
	"time"
)

// Waiter is a call in the queue.
type Waiter struct {
	deadline time.Time // it waits no longer than that; zero: for ever
	arrival  uint64
	places   [2]int // in the heaps of the queue; -1: it has left

	// released is closed when the call leaves the queue. Before that, all below is set;
	// it is refused if its deadline has come, or is too near.
	released   chan struct{}
	refused    bool
	releasedAt time.Time
	sequence   uint64
	probe      int      // which probe it is, from 1; 0: none
	ended      *Summary // the outage that ended as this emptied the queue
}

// Released returns a channel that is closed when the call was released or its deadline
// has come.
func (w *Waiter) Released() <-chan struct{} { return w.released }

// Permit returns the permit of a call that was released, and reports false if it was
// not, because its deadline has come or is too near. It must not be called before
// [Waiter.Released] is closed.
func (w *Waiter) Permit() (Permit, bool) { return w.permit(), !w.refused }

func (w *Waiter) permit() Permit { return Permit{sequence: w.sequence, waiter: w} }

// before reports whether w stands before other in the queue.
func (w *Waiter) before(other *Waiter) bool {
	if w.deadline.Equal(other.deadline) {
		return w.arrival < other.arrival
	}
	return !w.deadline.IsZero() && other.hasUntil(w.deadline)
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
}

// The ends of a queue.
const (
	earliest = iota
	latest
)

func (q *queue) len() int { return len(q.heaps[earliest].waiters) }

func (q *queue) add(w *Waiter) {
	q.arrivals++
	w.arrival, w.released = q.arrivals, make(chan struct{})
	for end := range q.heaps {
		q.heaps[end].end = end
		heap.Push(&q.heaps[end], w)
	}
}

func (q *queue) remove(w *Waiter) {
	for end := range q.heaps {
		heap.Remove(&q.heaps[end], w.places[end])
	}
}

// at returns the waiter at an end of a queue that has one.
func (q *queue) at(end int) *Waiter { return q.heaps[end].waiters[0] }

// waiterHeap is a [heap.Interface] of waiters with an end of the queue on top.
type waiterHeap struct {
	waiters []*Waiter
	end     int
}

func (h *waiterHeap) Len() int { return len(h.waiters) }

func (h *waiterHeap) Less(i, j int) bool {
	if h.end == latest {
		i, j = j, i
	}
	return h.waiters[i].before(h.waiters[j])
}

func (h *waiterHeap) Swap(i, j int) {
	h.waiters[i], h.waiters[j] = h.waiters[j], h.waiters[i]
	h.waiters[i].places[h.end], h.waiters[j].places[h.end] = i, j
}

func (h *waiterHeap) Push(x any) {
	w := x.(*Waiter)
	w.places[h.end] = len(h.waiters)
	h.waiters = append(h.waiters, w)
}

func (h *waiterHeap) Pop() any {
	end := len(h.waiters) - 1
	w := h.waiters[end]
	w.places[h.end] = -1
	h.waiters[end] = nil
	h.waiters = h.waiters[:end]
	return w
}

// leavers is what is learned of callers who were released and left before the answer.
type leavers struct {
	headroom time.Duration // a waiter must have more until its deadline to be released
	early    float64       // how many left before their deadline, less a share of those who stayed
}

// left takes in that the caller of a waiter has left.
func (l *leavers) left(now time.Time, w *Waiter) {
	if w.hasUntil(now) {
		l.early = min(l.early+1, earlyLeavers+1)
		return
	}
	grown := min(max(firstHeadroom, times(headroomGrowth, l.headroom)), times(2, now.Sub(w.releasedAt)))
	l.headroom = max(l.headroom, grown)
}

// stayed takes in that a caller was there for the answer.
func (l *leavers) stayed() {
	l.headroom = times(headroomShrink, l.headroom)
	l.early = max(0, l.early-earlyShare)
}
