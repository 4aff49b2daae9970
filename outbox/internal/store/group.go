package store

import (
	"context"
	"sync"
)

// group has what callers want at the same moment be done at once: where as many are at it as
// may be, those who come meanwhile are the next batch, and one of them does what all want. No
// goroutine is begun.
type group[T any] struct {
	// share does what the members of a batch want, on behalf of the first one, whose context
	// it gets. It sets err of each.
	share func(ctx context.Context, batch []*member[T])
	// size is what a member counts for, and a batch has members of most together, or one.
	size func(T) int
	most int
	// abreast is how many batches are under way at once, at most.
	abreast int

	mu       sync.Mutex
	underWay int
	waiting  []*member[T] // there are none while fewer batches are under way than may be
}

// member is what one caller wants.
type member[T any] struct {
	what    T
	err     error
	started bool          // its caller stays until it is done; guarded by the group's mutex
	left    bool          // its caller waits no more; guarded by the group's mutex
	done    chan struct{} // closed when err is known
	batch   []*member[T]  // what its caller is to do; guarded by the group's mutex
	lead    chan struct{} // closed when there is a batch
}

func (g *group[T]) do(ctx context.Context, what T) error {
	w := &member[T]{what: what, done: make(chan struct{}), lead: make(chan struct{})}
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
	batch := w.batch // it came in the same moment, and the others wait for it
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

// next gives the batch that waits to the first of its callers. The group's mutex is locked.
func (g *group[T]) next() {
	var batch []*member[T]
	for size := 0; len(g.waiting) > 0; g.waiting = g.waiting[1:] {
		w := g.waiting[0]
		if w.left {
			continue
		}
		size += g.size(w.what)
		if len(batch) > 0 && size > g.most {
			break
		}
		batch = append(batch, w)
	}
	if len(batch) == 0 {
		g.underWay--
		return
	}
	batch[0].batch = batch
	close(batch[0].lead)
}

// carryOut does what a batch wants, as its first caller.
func (g *group[T]) carryOut(ctx context.Context, batch []*member[T]) {
	// The end of this caller's time ends the write of all: the others try again.
	g.share(ctx, batch)
	for _, w := range batch {
		close(w.done)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next()
}

// start reports whether a member is still waited for. From then on its caller stays.
func (g *group[T]) start(w *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.started = !w.left
	return w.started
}

// hasLeft reports whether the caller of a member waits no more. One that has not may leave
// at any time, unless start has said that it stays.
func (g *group[T]) hasLeft(w *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return w.left
}
