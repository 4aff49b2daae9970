package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// immediate runs a transaction that takes SQLite's one lock at its beginning. A transaction
// that takes it later can be refused each time. This loop waits for the lock, and not the
// driver, whose wait ignores the context.
func (p *pool) immediate(ctx context.Context, do func(*sql.Conn) error) error {
	leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	conn, err := p.db.Conn(ctx)
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
	// The setting belongs to the connection, and the pool may have opened it just now.
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
		// BEGIN does not wait. If it were cancelled, nobody would know whether the transaction
		// has begun, and an open one would stop all other writers.
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
	committed := false
	defer func() { // also after a panic: an open transaction would stop all other writers
		if committed {
			return
		}
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
			// SQLite may have rolled back by itself. If not, the connection cannot be used any
			// more.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	if err := do(conn); err != nil {
		return err
	}
	_, err = conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	committed = err == nil
	return err
}

// pragma returns the value of a setting of SQLite.
func pragma(ctx context.Context, conn *sql.Conn, name string) (value int, err error) {
	err = conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
	return value, err
}

// fullSync is SQLite's "PRAGMA synchronous = FULL"; 3 is EXTRA.
const fullSync = 2

func (p *pool) checkSQLite(ctx context.Context) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var version, file string
	if err := conn.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < 3 || major == 3 && minor < 38 {
		return message.AsInvalid(fmt.Errorf("outbox: SQLite %s: want version 3.38 or later", version))
	}
	if err := conn.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return err
	}
	if file == "" {
		return message.AsInvalid(errors.New("outbox: this SQLite database is in memory, and would end with the process: want a file"))
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
			return err
		}
	}
	if mode != "wal" {
		return message.AsInvalid(fmt.Errorf("outbox: SQLite cannot keep a write-ahead log for this file, its journal_mode stays %s: want a file on a local disk", mode))
	}
	if synchronous, err := pragma(ctx, conn, "synchronous"); err != nil {
		return err
	} else if synchronous < fullSync {
		if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		if synchronous, err = pragma(ctx, conn, "synchronous"); err != nil {
			return err
		} else if synchronous < fullSync {
			return message.AsInvalid(fmt.Errorf("outbox: PRAGMA synchronous is %d and cannot be set to FULL: after a loss of power messages would be sent twice", synchronous))
		}
	}
	return nil
}
