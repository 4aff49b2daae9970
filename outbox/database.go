package outbox

import (
	"database/sql"
	"errors"

	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Database is where an outbox keeps its tables: see [Postgres] and [SQLite]. [Open] refuses the
// zero Database.
type Database struct {
	db   *sql.DB
	kind store.Kind
}

// Postgres returns a Database in PostgreSQL 14 or later. db stays the caller's: it must outlive
// the Outbox, the caller closes it, and it may be used for other things too. For a pool of pgx
// use stdlib.OpenDBFromPool(pool). A bounded pool ([sql.DB.SetMaxOpenConns]) needs at least 2
// connections, so that one is left for the heartbeat of [Outbox.Run]. With 1 the heartbeat has
// to wait.
func Postgres(db *sql.DB) Database { return Database{db, store.Postgres} }

// SQLite returns a Database in a file of SQLite 3.38 or later, with the driver
// modernc.org/sqlite or github.com/mattn/go-sqlite3. Package
// [github.com/graphretry/graphretry/outbox/sqlite] opens one. db stays the caller's, as with
// [Postgres]. Several processes on one machine may share the file. [Open] sets its journal_mode
// to WAL. Each connection that writes gets PRAGMA synchronous = FULL, if it has less.
func SQLite(db *sql.DB) Database { return Database{db, store.SQLite} }

func (d Database) check() error {
	if d.db == nil {
		return errors.New("outbox: the Database is empty: want one from outbox.Postgres or outbox.SQLite, with a *sql.DB")
	}
	return nil
}
