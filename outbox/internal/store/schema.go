package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// version is the version of the tables that this program creates. A program also works with
// tables that are one version newer, so that machines can be replaced one after the other.
const version = 1

// migrations are the steps from one version to the next. A step that was released is never
// changed.
var migrations = []migration{{tables: `
-- The messages. A row is written once. One INSERT of id, phone_number_id and payload is a message: that
-- is a contract. label, urgent, not_before and expires_at may be given, the times in
-- microseconds since 1970. The other columns are the outbox's own.
CREATE TABLE {message} (
	seq             {serial},
	id              text NOT NULL UNIQUE,
	phone_number_id text NOT NULL,
	payload         text NOT NULL,
	recipient       text NOT NULL DEFAULT '',
	urgent          boolean NOT NULL DEFAULT false,
	not_before      bigint NOT NULL DEFAULT 0,
	expires_at      bigint NOT NULL DEFAULT 0,
	label           text NOT NULL DEFAULT '',
	headers         text NOT NULL DEFAULT '',
	enqueued_at     bigint NOT NULL DEFAULT ({clock}),
	adopted         boolean NOT NULL DEFAULT false
);
CREATE INDEX "{name}_message_number" ON {message} (phone_number_id, seq);
CREATE INDEX "{name}_message_label" ON {message} (label, seq) WHERE label <> '';
CREATE INDEX "{name}_message_new" ON {message} (phone_number_id, seq) WHERE NOT adopted;

-- The messages that wait to be sent. place is the place in the queue, due is when the message may be sent, ready is
-- whether that time has come. refused is when it was last refused for a reason that is not its
-- fault: the probe of a number that is held is the message for which that is longest ago.
CREATE TABLE {queue} (
	seq       {key},
	number    text NOT NULL,
	recipient text NOT NULL,
	label     text NOT NULL,
	urgent    boolean NOT NULL,
	place     bigint NOT NULL,
	due       bigint NOT NULL,
	ready     boolean NOT NULL,
	expires   bigint NOT NULL,
	rev       bigint NOT NULL,
	refused   bigint NOT NULL DEFAULT 0
);
CREATE INDEX "{name}_queue_next" ON {queue} (number, urgent DESC, place, seq) WHERE ready;
CREATE INDEX "{name}_queue_due" ON {queue} (due) WHERE NOT ready;
CREATE INDEX "{name}_queue_expires" ON {queue} (expires) WHERE expires > 0;
CREATE INDEX "{name}_queue_recipient" ON {queue} (number, recipient, place, seq);
CREATE INDEX "{name}_queue_label" ON {queue} (label, seq) WHERE label <> '';
CREATE INDEX "{name}_queue_refused" ON {queue} (number, refused, seq) WHERE ready AND refused > 0;

-- The messages that a Run has. token is that of the attempt, from when its mark was written.
CREATE TABLE {claim} (
	seq       {key},
	number    text NOT NULL,
	recipient text NOT NULL,
	label     text NOT NULL,
	urgent    boolean NOT NULL,
	place     bigint NOT NULL,
	due       bigint NOT NULL,
	expires   bigint NOT NULL,
	rev       bigint NOT NULL,
	run       bigint NOT NULL,
	token     text NOT NULL
);
CREATE INDEX "{name}_claim_recipient" ON {claim} (number, recipient);

-- The records of messages to which something has happened. outcomes are those that are still to
-- be reported, and report_at is when, 0 if there are none.
CREATE TABLE {record} (
	seq        {key},
	number     text NOT NULL,
	label      text NOT NULL,
	state      text NOT NULL,
	changed_at bigint NOT NULL,
	code       integer NOT NULL,
	subcode    integer NOT NULL,
	rev        bigint NOT NULL,
	memory     text NOT NULL,
	report_at  bigint NOT NULL DEFAULT 0,
	outcomes   text NOT NULL DEFAULT ''
);
CREATE INDEX "{name}_record_count" ON {record} (number, state);
CREATE INDEX "{name}_record_report" ON {record} (report_at, seq) WHERE report_at > 0;
CREATE INDEX "{name}_record_parked" ON {record} (state, seq) WHERE state IN ('failed', 'unknown');
CREATE INDEX "{name}_record_label" ON {record} (label, state, seq) WHERE label <> '';
CREATE INDEX "{name}_record_code" ON {record} (code, seq) WHERE code <> 0;
CREATE INDEX "{name}_record_subcode" ON {record} (subcode, seq) WHERE subcode <> 0;

-- The hashes of the ids of deleted messages.
CREATE TABLE {deleted} (
	hash       text PRIMARY KEY,
	deleted_at bigint NOT NULL
);

-- What all machines know about the phone numbers. The row with the number '' stands for all numbers.
CREATE TABLE {number} (
	number     text PRIMARY KEY,
	paused     boolean NOT NULL DEFAULT false,
	probe_at   bigint NOT NULL DEFAULT 0,
	probes     bigint NOT NULL DEFAULT 0,
	ambiguous  boolean NOT NULL DEFAULT false,
	by_webhook boolean NOT NULL DEFAULT false,
	reason     text NOT NULL DEFAULT '',
	held_at    bigint NOT NULL DEFAULT 0,
	released   bigint NOT NULL DEFAULT 0,
	leased     bigint NOT NULL DEFAULT 0,
	share      double precision NOT NULL DEFAULT 1,
	slowed     bigint NOT NULL DEFAULT 0
);

-- The Runs and their heartbeats. beat_at is only shown: no decision uses it.
CREATE TABLE {run} (
	run        {key},
	beat       bigint NOT NULL,
	started_at bigint NOT NULL,
	beat_at    bigint NOT NULL
);

CREATE TABLE {meta} (
	key   text PRIMARY KEY,
	value text NOT NULL
);
`, postgres: `
CREATE INDEX "{name}_message_age" ON {message} USING brin (enqueued_at) WITH (pages_per_range = 32, autosummarize = on);
ALTER TABLE {queue} SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {claim} SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {record} SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE {number} SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE {run} SET (fillfactor = 50);
`}}

// migration is one step: the tables and indices of both databases, and further statements for
// PostgreSQL.
type migration struct{ tables, postgres string }

var namePattern = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

// IsName reports whether an outbox can have that name.
func IsName(name string) bool { return namePattern.MatchString(name) }

// Schema returns the SQL that creates the tables of the outbox with that name.
func Schema(kind Kind, name string) string {
	t := newTables(kind, name)
	var text strings.Builder
	for from := range migrations {
		text.WriteString(t.migration(from))
	}
	return text.String()
}

// migration returns the SQL from one version to the next.
func (t *tables) migration(from int) string {
	step := migrations[from]
	text := t.dialect.schema.Replace(step.tables)
	if t.dialect.kind == Postgres {
		text += step.postgres
	}
	text = strings.ReplaceAll(text, "{name}", t.name)
	text = marker.ReplaceAllStringFunc(text, func(found string) string { return t.table(strings.Trim(found, "{}")) })
	set := fmt.Sprintf("INSERT INTO %s (key, value) VALUES ('version', '%d') ON CONFLICT (key) DO UPDATE SET value = excluded.value;\n", t.table("meta"), from+1)
	return strings.TrimPrefix(text, "\n") + set
}

// migrate brings the tables up to this program's version. If it may not, it checks their
// version.
func (s *Store) migrate(ctx context.Context, may bool) error {
	do := func(ctx context.Context, on runner) error {
		if s.dialect.locks {
			hash := fnv.New64a()
			hash.Write([]byte(s.prefix))
			if _, err := on.ExecContext(ctx, "SELECT pg_advisory_xact_lock("+strconv.FormatInt(int64(hash.Sum64()), 10)+")"); err != nil {
				return err
			}
		}
		found, err := s.version(ctx, on)
		if err != nil {
			return err
		}
		if err := s.judge(found, may); err != nil {
			return err
		}
		for ; found < version; found++ {
			// One statement at a time, since not every protocol takes more.
			for statement := range strings.SplitSeq(s.migration(found), ";\n") {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := on.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("outbox: cannot create the tables of %q: %w", s.name, err)
				}
			}
		}
		return nil
	}
	if s.dialect.sharesCommits {
		return s.immediate(ctx, func(conn *sql.Conn) error { return do(ctx, conn) })
	}
	return s.transact(ctx, do)
}

// checkVersion returns an error if the tables are not those of this program.
func (s *Store) checkVersion(ctx context.Context, on runner) error {
	found, err := s.version(ctx, on)
	if err != nil {
		return err
	}
	return s.judge(found, false)
}

// judge returns an error if tables of a version cannot be used, or if they would have to be
// changed and may not be.
func (s *Store) judge(found int, may bool) error {
	switch {
	case found > version+1:
		return message.AsInvalid(fmt.Errorf("outbox: the tables of %q have version %d, and this program has version %d and works with %d at most: want a newer program", s.name, found, version, version+1))
	case found == 0 && !may:
		return message.AsInvalid(fmt.Errorf("outbox: there is no outbox %q in this database: want another name, the tables that \"outbox schema\" prints, or Open without WithoutMigration", s.name))
	case found < version && !may:
		return message.AsInvalid(fmt.Errorf("outbox: the tables of %q have version %d, and this program needs %d: want the migrations that \"outbox schema\" prints, or Open without WithoutMigration", s.name, found, version))
	}
	return nil
}

// version returns the version of the tables, 0 if there are none.
func (s *Store) version(ctx context.Context, on runner) (found int, err error) {
	there := "SELECT count(*) FROM sqlite_master WHERE name = @name"
	name := s.name + "_meta"
	if s.dialect.locks {
		there, name = "SELECT count(to_regclass(CAST(@name AS text)))", s.table("meta")
	}
	var tables int
	err = s.query(ctx, on, there, args{"name": name}, func(rows *sql.Rows) error { return rows.Scan(&tables) })
	if err != nil || tables == 0 {
		return 0, err
	}
	var value string
	err = s.query(ctx, on, "SELECT value FROM {meta} WHERE key = 'version'", nil, func(rows *sql.Rows) error { return rows.Scan(&value) })
	if err != nil {
		return 0, err
	}
	if found, err = strconv.Atoi(value); err != nil {
		return 0, message.AsInvalid(errors.New("outbox: the table " + s.table("meta") + " is not an outbox's: want another WithName"))
	}
	return found, nil
}
