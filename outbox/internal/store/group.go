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

// group has writes that come at the same moment share one transaction, and so one sync of
// the disk, where the database does not do that by itself. One of the callers carries it out
// for all; those who come meanwhile are the next transaction.
type group struct {
	mu      sync.Mutex
	waiting []*groupWrite
	busy    bool
}

// groupWrite is one caller's write.
type groupWrite struct {
	ctx     context.Context
	do      func(ctx context.Context, on runner) error
	started bool // guarded by the group's mutex
	left    bool // its caller waits no more; guarded by the group's mutex
	err     error
	done    chan struct{} // closed when err is known
	lead    chan struct{} // closed when its caller is to carry out the next transaction
}

// mostShared is how many writes share a transaction at most.
const mostShared = 256

func (g *group) do(ctx context.Context, s *Store, do func(ctx context.Context, on runner) error) error {
	w := &groupWrite{ctx: ctx, do: do, done: make(chan struct{}), lead: make(chan struct{})}
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
		g.lead(s, ctx)
		return w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	w.left = !w.started
	g.mu.Unlock()
	if w.left {
		select {
		case <-w.lead: // it came in the same moment, and the others wait for it
			g.lead(s, ctx)
		default:
		}
		return context.Cause(ctx)
	}
	<-w.done
	return w.err
}

// lead carries out what waits, as its first caller.
func (g *group) lead(s *Store, ctx context.Context) {
	g.mu.Lock()
	n := min(len(g.waiting), mostShared)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()
	// The end of the leader's time ends the transaction of all: the others try again.
	g.shared(ctx, s, batch)
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

// start reports whether a write is still waited for. From then on its caller stays.
func (g *group) start(w *groupWrite) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.started = !w.left
	return w.started
}

// shared carries out writes in one transaction. One that fails is rolled back by itself.
func (g *group) shared(ctx context.Context, s *Store, batch []*groupWrite) {
	alone := len(batch) == 1
	err := s.immediate(ctx, func(conn *sql.Conn) error {
		for _, w := range batch {
			if !g.start(w) {
				continue
			}
			if alone {
				return w.do(ctx, conn)
			}
			if _, err := conn.ExecContext(ctx, "SAVEPOINT one"); err != nil {
				return err
			}
			if w.err = w.do(ctx, conn); w.err != nil {
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
		close(w.done)
	}
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
