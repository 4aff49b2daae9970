package outage

import (
	"container/heap"
	"time"
)

// Waiter is a call in the queue.
type Waiter struct {
	deadline time.Time // it waits no longer than that; zero: for ever
	arrival  uint64
	index    int // in the queue; -1: it has left

	// released is closed when the call leaves the queue. Before that, permit is set,
	// or refused because its deadline has come.
	released chan struct{}
	permit   Permit
	refused  bool
}

// Released returns a channel that is closed when the call was released or its deadline
// has come.
func (w *Waiter) Released() <-chan struct{} { return w.released }

// Permit returns the permit of a call that was released, and reports false if it was
// not, because its deadline has come. It must not be called before [Waiter.Released]
// is closed.
func (w *Waiter) Permit() (Permit, bool) { return w.permit, !w.refused }

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

// queue is the waiters, as a heap: the earliest deadline first, then the earliest
// arrival. First come, first served would let callers run out of time while others
// who have it are released.
type queue struct {
	waiters  []*Waiter
	arrivals uint64 // numbers them
}

func (q *queue) add(w *Waiter) {
	q.arrivals++
	w.arrival, w.released = q.arrivals, make(chan struct{})
	heap.Push(q, w)
}

func (q *queue) remove(w *Waiter) { heap.Remove(q, w.index) }

func (q *queue) first() *Waiter { return q.waiters[0] }

// choose returns who is released next: the last as a probe, else the first whose
// deadline is not before the answer can be there, and the last if there is none.
func (q *queue) choose(state State, answered time.Time) *Waiter {
	last := q.first()
	if state == Recovering && last.hasUntil(answered) {
		return last
	}
	var first *Waiter
	for _, w := range q.waiters {
		if last.before(w) {
			last = w
		}
		if w.hasUntil(answered) && (first == nil || w.before(first)) {
			first = w
		}
	}
	if state == Recovering && first != nil {
		return first
	}
	return last
}

// Len, Less, Swap, Push and Pop are for package heap.
func (q *queue) Len() int { return len(q.waiters) }

func (q *queue) Less(i, j int) bool { return q.waiters[i].before(q.waiters[j]) }

func (q *queue) Swap(i, j int) {
	w := q.waiters
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

func (q *queue) Push(x any) {
	w := x.(*Waiter)
	w.index = len(q.waiters)
	q.waiters = append(q.waiters, w)
}

func (q *queue) Pop() any {
	last := len(q.waiters) - 1
	w := q.waiters[last]
	w.index = -1
	q.waiters[last] = nil
	q.waiters = q.waiters[:last]
	return w
}

// headroom is the time that a waiter must have left until its deadline to be released.
type headroom time.Duration

// grow is for a caller who was released and left before the answer.
func (h *headroom) grow() {
	*h = headroom(min(max(firstHeadroom, times(headroomGrowth, time.Duration(*h))), longestHeadroom))
}

// shrink is for an answer that came in time.
func (h *headroom) shrink() { *h = headroom(times(headroomShrink, time.Duration(*h))) }
