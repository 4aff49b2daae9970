package store

import (
	"context"
	"sync"
)

// group has what callers want at the same moment be done at once: one of them does it for
// all, and those who come meanwhile are the next batch. No goroutine is begun.
type group[T any] struct {
	// share does what the members of a batch want, on behalf of the first one, whose context
	// it gets. It sets err of each.
	share func(ctx context.Context, batch []*member[T])
	// size is what a member counts for, and a batch has members of most together, or one.
	size func(T) int
	most int

	mu      sync.Mutex
	waiting []*member[T]
	busy    bool
}

// member is what one caller wants.
type member[T any] struct {
	what    T
	err     error
	started bool          // its caller stays until it is done; guarded by the group's mutex
	left    bool          // its caller waits no more; guarded by the group's mutex
	done    chan struct{} // closed when err is known
	lead    chan struct{} // closed when its caller is to do what the next batch wants
}

func (g *group[T]) do(ctx context.Context, what T) error {
	w := &member[T]{what: what, done: make(chan struct{}), lead: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if !g.busy {
		g.busy = true
		close(w.lead)
	}
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-w.lead:
		g.lead(ctx)
		return w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	w.left = !w.started
	g.mu.Unlock()
	if w.left {
		select {
		case <-w.lead: // it came in the same moment, and the others wait for it
			g.lead(ctx)
		default:
		}
		return context.Cause(ctx)
	}
	<-w.done
	return w.err
}

// lead does what waits, as its first caller.
func (g *group[T]) lead(ctx context.Context) {
	g.mu.Lock()
	n, size := 0, 0
	for n < len(g.waiting) && (n == 0 || size+g.size(g.waiting[n].what) <= g.most) {
		size += g.size(g.waiting[n].what)
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()
	// The end of the leader's time ends the write of all: the others try again.
	g.share(ctx, batch)
	for _, w := range batch {
		close(w.done)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.waiting) > 0 && g.waiting[0].left {
		g.waiting = g.waiting[1:]
	}
	if len(g.waiting) == 0 {
		g.busy = false
	} else {
		close(g.waiting[0].lead)
	}
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
