package outbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// batchPuts and batchBytes are how much a batch has at most: messages, of which JetStream
// takes 1,000, and bytes of them.
const (
	batchPuts  = 960
	batchBytes = 8 << 20
)

// writeGroup has the writes that are under way at the same time share a batch, as a
// database does with its commits. A batch costs the server a directory and half a dozen
// syncs whether it has two messages or a thousand, and it takes one after the other: 64
// callers who enqueue a message each wait for one or two batches in place of 64.
//
// A write of one message costs one sync, or none where the server leaves that for later,
// and is better off alone.
//
// There is no goroutine for it. One of the callers writes for all who wait, then the
// next one.
type writeGroup struct {
	// write writes puts, all or none, and returns the sequence of the last one.
	write func(context.Context, []put) (uint64, error)
	// stale reports which writes expect a message to be the last of its subject that is
	// not.
	stale func(context.Context, []*groupWrite) (map[*groupWrite]bool, error)

	mu      sync.Mutex
	waiting []*groupWrite
	leader  chan struct{} // holds one element while a caller writes
}

func newWriteGroup(write func(context.Context, []put) (uint64, error), stale func(context.Context, []*groupWrite) (map[*groupWrite]bool, error)) *writeGroup {
	return &writeGroup{write: write, stale: stale, leader: make(chan struct{}, 1)}
}

// groupWrite is the write of one caller.
type groupWrite struct {
	ctx  context.Context
	puts []put

	done     chan struct{} // closed once the rest is set
	sequence uint64        // of the last of puts
	err      error
}

func (w *groupWrite) end(sequence uint64, err error) {
	w.sequence, w.err = sequence, err
	close(w.done)
}

// join writes puts, all or none, and returns the sequence of the last one. If ctx ends
// while they are being written it is unknown whether they were.
func (g *writeGroup) join(ctx context.Context, puts []put) (uint64, error) {
	w := &groupWrite{ctx: ctx, puts: puts, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	for {
		select {
		case <-w.done:
			return w.sequence, w.err
		case g.leader <- struct{}{}:
			g.lead()
		case <-ctx.Done():
			g.withdraw(w)
			select {
			case <-w.done:
				return w.sequence, w.err
			default:
				return 0, context.Cause(ctx)
			}
		}
	}
}

// withdraw takes out a write that nobody has taken yet.
func (g *writeGroup) withdraw(w *groupWrite) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(other *groupWrite) bool { return other == w })
}

// take returns those who have waited longest, as many as fit into a batch. Of two that
// are about the same subject the second has to wait, as in the same batch it would fail.
func (g *writeGroup) take() (members []*groupWrite) {
	g.mu.Lock()
	defer g.mu.Unlock()
	puts, bytes := 0, 0
	claimed := make(map[string]bool)
	g.waiting = slices.DeleteFunc(g.waiting, func(w *groupWrite) bool {
		size := 0
		free := true
		for _, p := range w.puts {
			size += len(p.data)
			free = free && !claimed[p.subject] && !claimed[p.expectedOn]
		}
		for _, p := range w.puts {
			claimed[p.subject] = true
			if p.expectedOn != "" {
				claimed[p.expectedOn] = true
			}
		}
		fits := len(members) == 0 || puts+len(w.puts) <= batchPuts && bytes+size <= batchBytes
		if !free || !fits {
			return false
		}
		puts, bytes = puts+len(w.puts), bytes+size
		members = append(members, w)
		return true
	})
	return members
}

// lead writes for those who wait, for as long as one of them does.
func (g *writeGroup) lead() {
	defer func() { <-g.leader }()
	members := g.take()
	if len(members) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(members[0].ctx))
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(members)))
	for _, w := range members {
		stop := context.AfterFunc(w.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
		defer stop()
	}
	g.commit(ctx, members)
}

// commit writes for members. Where JetStream refuses the batch for the sake of one of
// them, the others are written without it.
func (g *writeGroup) commit(ctx context.Context, members []*groupWrite) {
	var puts []put
	for _, w := range members {
		puts = append(puts, w.puts...)
	}
	last, err := g.write(ctx, puts)
	if err != nil && len(members) > 1 && isRefusal(err) {
		g.separate(ctx, members)
		return
	}
	if err == nil {
		g.outrun(puts, last)
	}
	for _, w := range slices.Backward(members) {
		w.end(last, err)
		last -= uint64(len(w.puts)) // a batch has its sequences in a row
	}
}

// outrun ends the waiting writes that what was written has made stale. Each would cost a
// batch to be told so.
func (g *writeGroup) outrun(written []put, last uint64) {
	sequences := make(map[string]uint64)
	for i, p := range written {
		sequence := last - uint64(len(written)-1-i)
		sequences[p.subject] = sequence
		if p.expectedOn != "" {
			sequences[p.expectedOn] = sequence
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(w *groupWrite) bool {
		isStale := slices.ContainsFunc(w.puts, func(p put) bool {
			return p.expectedOn != "" && p.expected < sequences[p.expectedOn]
		})
		if isStale {
			w.end(0, errConflict)
		}
		return isStale
	})
}

// separate writes for members whose common batch was refused.
func (g *writeGroup) separate(ctx context.Context, members []*groupWrite) {
	stale, err := g.stale(ctx, members)
	if err != nil || len(stale) == 0 {
		for _, w := range members {
			g.commit(ctx, []*groupWrite{w})
		}
		return
	}
	var others []*groupWrite
	for _, w := range members {
		if stale[w] {
			w.end(0, errConflict)
		} else {
			others = append(others, w)
		}
	}
	if len(others) > 0 {
		g.commit(ctx, others)
	}
}

// isRefusal reports whether JetStream has answered that it does not write something.
func isRefusal(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, errConflict) || errors.As(err, &api)
}
