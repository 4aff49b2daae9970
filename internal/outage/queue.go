package outage

import (
	"container/heap"
	"math"
	"time"
)

// Waiter is a call in the queue.
type Waiter struct {
	deadline time.Time // it waits no longer than that; zero: for ever
	places   [2]int    // in the heaps of the queue; -1: it has left

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
	w.released = make(chan struct{})
	for end := range q.heaps {
		q.heaps[end].end = end
		heap.Push(&q.heaps[end], e)
	}
}

func (q *queue) remove(w *Waiter) {
	for end := range q.heaps {
		heap.Remove(&q.heaps[end], w.places[end])
	}
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
	h.entries[last].waiter.places[h.end] = -1
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
