package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errAbandoned is the error of the members of a batch whose carrying out ended in a panic, of a
// driver for example. They retry.
var errAbandoned = errors.New("outbox: a write of several callers was abandoned")

// group combines what callers want at the same moment. When as many batches are under way as
// allowed, callers that come meanwhile form the next batch, and one of these callers carries it
// out. It starts no goroutine.
type group[T any] struct {
	// share carries out a batch with the context of one of its members, and sets the err of each.
	share func(ctx context.Context, batch []*member[T])
	// size returns the size of a member. The sizes of a batch add up to most at most, or it has
	// one member.
	size func(T) int
	most int
	// abreast is how many batches are under way at once at most.
	abreast int

	mu       sync.Mutex
	underWay int
	waiting  []*member[T] // empty while fewer than abreast batches are under way
}

// member is what one caller wants.
type member[T any] struct {
	what    T
	until   time.Time // the deadline of its caller, which persist gives to all
	err     error
	started bool          // its caller waits until it is done; guarded by the group's mutex
	left    bool          // its caller has stopped waiting; guarded by the group's mutex
	done    chan struct{} // closed when err is known
	batch   []*member[T]  // what its caller is to carry out; guarded by the group's mutex
	lead    chan struct{} // closed when there is a batch
}

func (g *group[T]) do(ctx context.Context, what T) error {
	until, _ := ctx.Deadline()
	w := &member[T]{what: what, until: until, done: make(chan struct{}), lead: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if g.underWay < g.abreast {
		g.underWay++
		g.next()
	}
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-w.lead:
		g.carryOut(ctx, w.batch)
		return w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	batch := w.batch // set if it has got a batch at this moment
	w.left = batch == nil && !w.started
	g.mu.Unlock()
	switch {
	case w.left:
		return context.Cause(ctx)
	case batch != nil:
		g.carryOut(ctx, batch)
	default:
		<-w.done
	}
	return w.err
}

// next gives the next batch to the caller that has the most time: if the time of that one is up,
// the batch has failed for all. The group's mutex is locked.
func (g *group[T]) next() {
	var batch []*member[T]
	for size := 0; len(g.waiting) > 0; g.waiting = g.waiting[1:] {
		w := g.waiting[0]
		if !w.left {
			size += g.size(w.what)
			if len(batch) > 0 && size > g.most {
				break
			}
			batch = append(batch, w)
		}
		g.waiting[0] = nil // the array stays, and would keep what the member wants
	}
	if len(batch) == 0 {
		g.underWay--
		return
	}
	leader := slices.MaxFunc(batch, func(a, b *member[T]) int { return a.until.Compare(b.until) })
	leader.batch = batch
	close(leader.lead)
}

// carryOut carries out a batch in the goroutine of one of its callers.
func (g *group[T]) carryOut(ctx context.Context, batch []*member[T]) {
	done := false
	defer func() {
		for _, w := range batch {
			if !done { // a panic, which goes on in this goroutine
				w.err = errAbandoned
			}
			close(w.done)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.next()
	}()
	// The end of this caller's context ends the write of all members: the others retry.
	g.share(ctx, batch)
	done = true
}

// start reports whether the caller of a member still waits. From then on it waits until the
// end.
func (g *group[T]) start(w *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.started = !w.left
	return w.started
}

// hasLeft reports whether the caller of a member has stopped waiting. Otherwise it may still
// stop at any time, unless start was called.
func (g *group[T]) hasLeft(w *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return w.left
}
