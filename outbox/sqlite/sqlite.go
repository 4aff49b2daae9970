// Package sqlite opens a file of SQLite as an outbox wants it, with the driver
// modernc.org/sqlite, which needs no C compiler.
//
//	db, err := sqlite.Open("/var/lib/reminders/outbox.db")
//	o, err := outbox.Open(ctx, outbox.SQLite(db), nil, outbox.WithAccessToken(token))
package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Open opens a file, which is made if it is not there; its directory must be. Each write is
// on the disk before it is confirmed (journal_mode WAL, synchronous FULL). Several
// processes of one machine may open the same file.
//
// It refuses what is no file, as ":memory:", and a file for which there can be no
// write-ahead log, as on a network file system: the error then has outbox.ErrInvalid in its
// chain.
func Open(path string) (*sql.DB, error) {
	if path == "" || strings.Contains(path, ":memory:") || strings.Contains(path, "mode=memory") {
		return nil, message.AsInvalid(fmt.Errorf("sqlite: %q is no file: an outbox in memory ends with the process", path))
	}
	if strings.ContainsRune(path, 0) {
		return nil, message.AsInvalid(errors.New("sqlite: the path has a NUL"))
	}
	// A path may have any character: of a URI those that mean something are escaped.
	file := url.URL{Scheme: "file", Opaque: (&url.URL{Path: strings.TrimPrefix(path, "file:")}).EscapedPath(),
		RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	// One writes, the others read: more connections cost memory and win nothing.
	db.SetMaxOpenConns(8)
	var mode string
	if err := db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil {
		db.Close()
		return nil, fmt.Errorf("sqlite: cannot open %s: %w", path, err)
	}
	if mode != "wal" {
		db.Close()
		return nil, message.AsInvalid(fmt.Errorf("sqlite: cannot keep a write-ahead log for %s, its journal_mode stays %s: want a file on a local disk", path, mode))
	}
	return db, nil
}
