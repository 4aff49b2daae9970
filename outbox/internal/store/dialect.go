package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Kind is which database it is.
type Kind string

// The databases.
const (
	Postgres Kind = "postgres"
	SQLite   Kind = "sqlite"
)

// dialect is what differs between the databases.
type dialect struct {
	kind        Kind
	placeholder string // before the number of an argument
	// now is the time in microseconds; "": this machine's, which SQLite's is, too.
	now string
	// durable is a table of one row, whose evaluation has the transaction's commit be on
	// the disk before it is confirmed, and lazy is one that has not.
	durable, lazy string
	// oneStatement: a statement can change several tables.
	oneStatement bool
	// locks: rows are locked one by one, and those of others can be skipped.
	locks bool
	// sharesCommits: callers share transactions, since the database has one writer.
	sharesCommits bool
}

var dialects = map[Kind]dialect{
	Postgres: {
		kind:        Postgres,
		placeholder: "$",
		// Not clock_timestamp, by which no index is searched.
		now: "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint)",
		// remote_write and remote_apply are more than on, and stay.
		durable: "(SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'" +
			" ELSE current_setting('synchronous_commit') END, true) AS durable)",
		lazy:         "(SELECT set_config('synchronous_commit', 'off', true) AS lazy)",
		oneStatement: true,
		locks:        true,
	},
	SQLite: {kind: SQLite, placeholder: "?", sharesCommits: true},
}

// fullSync is SQLite's "PRAGMA synchronous = FULL"; 3 is EXTRA.
const fullSync = 2

// Open returns the store of that name in a database, whose tables it makes or brings up to
// date if migrate is set.
func Open(ctx context.Context, db *sql.DB, kind Kind, name string, migrate bool) (*Store, error) {
	s := &Store{db: db, dialect: dialects[kind], name: name, prefix: `"` + name + "_"}
	if most := db.Stats().MaxOpenConnections; most > 0 {
		s.ordinary = make(chan struct{}, max(1, most-1))
	}
	s.commits, s.enqueues = s.newCommits(), s.newEnqueues()
	check := s.checkSQLite
	if kind == Postgres {
		check = s.checkPostgres
	}
	if err := s.persist(ctx, check); err != nil {
		return nil, err
	}
	if err := s.persist(ctx, func(ctx context.Context) error { return s.migrate(ctx, migrate) }); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) checkPostgres(ctx context.Context) error {
	var version int
	var fsync, encoding, isolation string
	var schema sql.NullString
	var durable string
	err := s.transact(ctx, func(ctx context.Context, on runner) error {
		// The schema of the table that is there, or else the one in which a new one would be.
		err := s.query(ctx, on, `SELECT CAST(current_setting('server_version_num') AS integer), current_setting('fsync'),
			current_setting('server_encoding'), current_setting('default_transaction_isolation'),
			coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE c.oid = to_regclass(CAST(@meta AS text))), current_schema())`,
			args{"meta": `"` + s.name + `_meta"`}, func(rows *sql.Rows) error {
				return rows.Scan(&version, &fsync, &encoding, &isolation, &schema)
			})
		if err != nil {
			return err
		}
		return s.query(ctx, on, "SELECT durable, current_setting('synchronous_commit') FROM {durable} AS d", nil, func(rows *sql.Rows) error {
			var set string
			return rows.Scan(&set, &durable)
		})
	})
	switch {
	case err != nil:
		return err
	case version < 140000:
		return message.AsInvalid(fmt.Errorf("outbox: PostgreSQL %d.%d: want version 14 or later", version/10000, version%10000))
	case fsync != "on":
		return message.AsInvalid(errors.New("outbox: this PostgreSQL has fsync = off, and forgets in a crash what it has confirmed: messages would be sent twice. Want fsync = on"))
	case encoding != "UTF8":
		return message.AsInvalid(fmt.Errorf("outbox: this database is encoded as %s: want UTF8, the encoding of the Graph API", encoding))
	case !schema.Valid:
		return message.AsInvalid(errors.New("outbox: the search_path of this connection names no schema that is there: want one, such as public"))
	case durable == "off" || durable == "local":
		return message.AsInvalid(fmt.Errorf("outbox: synchronous_commit is %s and cannot be set: a crash would have messages sent twice", durable))
	}
	s.explicit = isolation != "read committed"
	s.prefix = `"` + strings.ReplaceAll(schema.String, `"`, `""`) + `"."` + s.name + "_"
	s.compiled.Clear()
	return nil
}

func (s *Store) checkSQLite(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
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
		return message.AsInvalid(errors.New("outbox: this SQLite database is in memory, and ends with the process: want a file"))
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
			return message.AsInvalid(fmt.Errorf("outbox: PRAGMA synchronous is %d and cannot be set to FULL: a loss of power would have messages sent twice", synchronous))
		}
	}
	return nil
}

// Now returns the time by the database's clock.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	if s.dialect.now == "" {
		return s.clock(), nil
	}
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		return s.query(ctx, on, "SELECT {now}", nil, func(rows *sql.Rows) error {
			var micro int64
			err := rows.Scan(&micro)
			now = fromMicro(micro)
			return err
		})
	})
	return now, err
}
