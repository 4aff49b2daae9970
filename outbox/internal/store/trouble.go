package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// These are the shortest and the longest wait between two retries of a statement.
const (
	leastWait = 5 * time.Millisecond
	mostWait  = time.Second
)

// persist calls do until it succeeds, until it fails for good, or until the time is up: that of
// ctx, or 15 s if ctx has no deadline. The error then has what the database said last. persist
// calls onTrouble, if it is not nil, at the third failure in a row.
func persist(ctx context.Context, onTrouble func(error), do func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	var last error
	for try, wait := 1, leastWait; ; try++ {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			// The error of a call that was cancelled says less than the error before it.
			return errors.Join(context.Cause(ctx), last, unlessCut(err))
		}
		if !Temporary(err) {
			return err
		}
		last = err
		if try == 3 && onTrouble != nil {
			onTrouble(err)
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
		wait = min(2*wait, mostWait)
	}
}

// unlessCut returns nil for an error that says only that the time is up.
func unlessCut(err error) error {
	if err == context.Canceled || err == context.DeadlineExceeded {
		return nil
	}
	return err
}

// Temporary reports whether a failure of the database passes: there is no connection, the
// server restarts, is full or read-only for a while, or transactions were in conflict. All
// other failures are final.
func Temporary(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		// The context of a call within this one has ended. This one has time left.
		return true
	}
	var state interface{ SQLState() string } // of pgconn.PgError and lib/pq's Error
	if errors.As(err, &state) {
		code := state.SQLState()
		for _, prefix := range []string{"08", "40001", "40P01", "53", "55P03", "57", "25006"} {
			if strings.HasPrefix(code, prefix) {
				return true
			}
		}
		return false
	}
	if isBusy(err) || errors.Is(err, errAbandoned) {
		return true
	}
	var network net.Error
	switch {
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return !errors.Is(err, errClosedPool)
	}
	// pgx has no type for a connection that broke while it was used.
	return strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "failed to connect")
}

// isLocked reports whether a statement of PostgreSQL has waited for a lock for longer than it may.
func isLocked(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && state.SQLState() == "55P03"
}

var errClosedPool = errors.New("sql: database is closed")

// These primary result codes of SQLite pass: https://sqlite.org/rescode.html.
const (
	sqliteBusy   = 5
	sqliteLocked = 6
	sqliteFull   = 13
)

// isBusy reports whether SQLite says that another connection has the lock, or that the disk is
// full.
func isBusy(err error) bool {
	var coded interface{ Code() int } // of modernc.org/sqlite
	if errors.As(err, &coded) {
		switch coded.Code() & 0xff {
		case sqliteBusy, sqliteLocked, sqliteFull:
			return true
		}
		return false
	}
	text := err.Error() // mattn/go-sqlite3 has the code in a field of its own type
	return strings.Contains(text, "database is locked") || strings.Contains(text, "table is locked") || strings.Contains(text, "disk is full")
}

// callTimeout bounds a call whose context has no deadline.
const callTimeout = 15 * time.Second
