// Package sqlite opens a SQLite file for an outbox, with the driver modernc.org/sqlite, which
// needs no C compiler.
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

// Open opens a file, and creates it if it does not exist; its directory must exist. Each write
// is on the disk before it is confirmed (journal_mode WAL, synchronous FULL). Several processes
// of one machine may open the same file.
//
// Open refuses a database in memory, such as ":memory:", and a file that cannot have a
// write-ahead log, such as one on a network file system. The error then has outbox.ErrInvalid
// in its chain.
func Open(path string) (*sql.DB, error) {
	if path == "" || strings.Contains(path, ":memory:") || strings.Contains(path, "mode=memory") {
		return nil, message.AsInvalid(fmt.Errorf("sqlite: %q is not a file: an outbox in memory would end with the process", path))
	}
	if strings.ContainsRune(path, 0) {
		return nil, message.AsInvalid(errors.New("sqlite: the path has a NUL"))
	}
	// A path may have any character: those with a meaning in a URI are escaped.
	file := url.URL{Scheme: "file", Opaque: (&url.URL{Path: strings.TrimPrefix(path, "file:")}).EscapedPath(),
		RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	// One connection writes, the others read: more of them cost memory and are not faster.
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
