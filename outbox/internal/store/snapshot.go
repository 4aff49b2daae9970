package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Snapshot is what is in an outbox at one moment.
type Snapshot struct {
	Now            time.Time // by the database's clock
	Counts, Labels Counts    // of each number, and of each label
	// Oldest is when the queued message that was enqueued first was enqueued, zero if none is
	// queued.
	Oldest time.Time
	// Waiting is the earliest place of the queued messages of each number.
	Waiting map[string]time.Time
	Numbers map[string]lane.Shared
	Runs    []Run
}

// Counts is how many messages a number, or a label, has in each state.
type Counts map[string]map[message.State]int

// Run is a Run that has begun, and has not ended.
type Run struct {
	ID            int64
	Began, BeatAt time.Time // by the database's clock
	Messages      int       // how many it has
}

// One statement has all counts, so that a message that moves meanwhile is counted once.
const (
	countStatement = `SELECT 0, number, state, count(*), 0 FROM {record} WHERE state <> 'queued' GROUP BY number, state
UNION ALL SELECT 0, number, 'queued', count(*), min(place) FROM {queue} GROUP BY number
UNION ALL SELECT 0, number, CASE WHEN token = '' THEN 'queued' ELSE 'sending' END, count(*), min(place) FROM {claim} GROUP BY number, CASE WHEN token = '' THEN 'queued' ELSE 'sending' END
UNION ALL SELECT 0, phone_number_id, 'queued', count(*), min(CASE WHEN not_before > enqueued_at THEN not_before ELSE enqueued_at END) FROM {message} WHERE NOT adopted GROUP BY phone_number_id
UNION ALL SELECT 1, label, state, count(*), 0 FROM {record} WHERE label <> '' AND state <> 'queued' GROUP BY label, state
UNION ALL SELECT 1, label, 'queued', count(*), 0 FROM {queue} WHERE label <> '' GROUP BY label
UNION ALL SELECT 1, label, CASE WHEN token = '' THEN 'queued' ELSE 'sending' END, count(*), 0 FROM {claim} WHERE label <> '' GROUP BY label, CASE WHEN token = '' THEN 'queued' ELSE 'sending' END
UNION ALL SELECT 1, label, 'queued', count(*), 0 FROM {message} WHERE NOT adopted AND label <> '' GROUP BY label`

	oldestStatement = `SELECT min(m.enqueued_at), {now} FROM {message} AS m WHERE m.seq = (SELECT q.seq FROM {queue} AS q ORDER BY q.seq LIMIT 1)
OR m.seq = (SELECT n.seq FROM {message} AS n WHERE NOT n.adopted ORDER BY n.phone_number_id, n.seq LIMIT 1)`

	runsStatement = `SELECT n.run, n.started_at, n.beat_at, (SELECT count(*) FROM {claim} AS c WHERE c.run = n.run) FROM {run} AS n ORDER BY n.started_at, n.run`
)

// Snapshot reads everything at one moment.
func (s *Store) Snapshot(ctx context.Context) (all Snapshot, err error) {
	err = s.persist(ctx, func(ctx context.Context) error {
		return s.snapshot(ctx, func(ctx context.Context, on runner) error {
			all = Snapshot{Counts: make(Counts), Labels: make(Counts), Waiting: make(map[string]time.Time)}
			err := s.query(ctx, on, countStatement, nil, func(rows *sql.Rows) error {
				var kind, n int
				var of, state string
				var place int64
				err := rows.Scan(&kind, &of, &state, &n, &place)
				counts := []Counts{all.Counts, all.Labels}[kind]
				if counts[of] == nil {
					counts[of] = make(map[message.State]int)
				}
				counts[of][message.State(state)] += n
				if kind == 0 && message.State(state) == message.StateQueued {
					if before, ok := all.Waiting[of]; !ok || fromMicro(place).Before(before) {
						all.Waiting[of] = fromMicro(place)
					}
				}
				return err
			})
			if err != nil {
				return err
			}
			err = s.query(ctx, on, oldestStatement, nil, func(rows *sql.Rows) error {
				var at sql.NullInt64
				var now int64
				err := rows.Scan(&at, &now)
				all.Oldest, all.Now = fromMicro(at.Int64), fromMicro(now)
				return err
			})
			if err != nil {
				return err
			}
			err = s.query(ctx, on, runsStatement, nil, func(rows *sql.Rows) error {
				var run Run
				var began, beat int64
				err := rows.Scan(&run.ID, &began, &beat, &run.Messages)
				run.Began, run.BeatAt = fromMicro(began), fromMicro(beat)
				all.Runs = append(all.Runs, run)
				return err
			})
			if err != nil {
				return err
			}
			all.Numbers, err = s.numbers(ctx, on, numbersStatement, nil)
			return err
		})
	})
	return all, err
}

// snapshot runs do in a transaction that sees one moment.
func (s *Store) snapshot(ctx context.Context, do func(ctx context.Context, on runner) error) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if s.dialect.locks {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // it has changed nothing
		return do(ctx, tx)
	}
	// A transaction of SQLite that only reads sees one moment.
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), "BEGIN DEFERRED"); err != nil { // it takes no lock yet
		return err
	}
	err = do(ctx, conn)
	if _, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); end != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

// Check returns an error if the tables cannot be used: the database does not answer, or accepts
// no writes, or the tables do not exist or have another version. It does not retry.
func (s *Store) Check(ctx context.Context) error {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	if s.dialect.locks {
		var readOnly string
		err := s.query(ctx, s.db, "SELECT current_setting('transaction_read_only')", nil, func(rows *sql.Rows) error { return rows.Scan(&readOnly) })
		if err != nil {
			return err
		}
		if readOnly == "on" {
			return errReadOnly
		}
	}
	return s.checkVersion(ctx, s.db)
}

var errReadOnly = errors.New("outbox: the database accepts no writes: it is a standby, or default_transaction_read_only is on")
