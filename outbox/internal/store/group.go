package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
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

// commits has writes that come at the same moment share one transaction, and so one sync of
// the disk, where the database does not do that by itself.
type commits = group[func(ctx context.Context, on runner) error]

// mostShared is how many writes share a transaction at most.
const mostShared = 256

func (s *Store) newCommits() *commits {
	g := &commits{size: func(func(context.Context, runner) error) int { return 1 }, most: mostShared}
	g.share = func(ctx context.Context, batch []*member[func(context.Context, runner) error]) {
		alone := len(batch) == 1
		err := s.immediate(ctx, func(conn *sql.Conn) error {
			for _, w := range batch {
				if !g.start(w) {
					continue
				}
				if alone {
					return w.what(ctx, conn)
				}
				// One that fails is rolled back by itself.
				if _, err := conn.ExecContext(ctx, "SAVEPOINT one"); err != nil {
					return err
				}
				if w.err = w.what(ctx, conn); w.err != nil {
					if _, err := conn.ExecContext(ctx, "ROLLBACK TO one"); err != nil {
						return err
					}
				}
				if _, err := conn.ExecContext(ctx, "RELEASE one"); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range batch {
			g.start(w) // who has not been reached learns of the failure
			if err != nil {
				w.err = err
			}
		}
	}
	return g
}

// immediate runs a transaction that takes SQLite's one lock at its beginning. A transaction
// that takes it later can be refused for ever. What waits for the lock is this loop and not
// the driver, whose waiting no context ends.
func (s *Store) immediate(ctx context.Context, do func(*sql.Conn) error) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	timeout, err := pragma(ctx, conn, "busy_timeout")
	if err != nil {
		return err
	}
	if timeout != 0 {
		if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return err
		}
		defer func() {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprint("PRAGMA busy_timeout = ", timeout))
		}()
	}
	// The setting is the connection's, and the pool may have made it this moment.
	synchronous, err := pragma(ctx, conn, "synchronous")
	if err != nil {
		return err
	}
	if synchronous < fullSync {
		if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
			return err
		}
	}
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		// It does not wait. Were it cut off, nobody would know whether the transaction has
		// begun, and one that has would keep everybody from writing.
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "BEGIN IMMEDIATE")
		if err == nil {
			break
		}
		if !isBusy(err) {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
	err = do(conn)
	if err == nil {
		_, err = conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	}
	if err != nil {
		_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		if rollback != nil {
			// SQLite may have rolled back by itself. The connection is worth nothing if not.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return err
}

// pragma returns the value of a setting of SQLite.
func pragma(ctx context.Context, conn *sql.Conn, name string) (value int, err error) {
	err = conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
	return value, err
}
