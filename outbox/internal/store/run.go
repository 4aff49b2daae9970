package store

import (
	"context"
	"database/sql"
)

const (
	beat  = "UPDATE {run} SET beat = beat + 1, beat_at = {now} WHERE run = @run"
	beats = "SELECT run, beat FROM {run}"
)

// Beat counts up the heartbeat of a Run. It returns the heartbeats of all Runs; that of this
// Run is missing if it was taken for dead. On a database that may be far away it is one
// statement.
func (s *Store) Beat(ctx context.Context, run int64) (found map[int64]int64, err error) {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	err = s.statement(ctx, "heartbeat", func(ctx context.Context, on runner) error {
		found = make(map[int64]int64)
		text := "WITH own AS (" + beat + " RETURNING run, beat) SELECT run, beat FROM own UNION ALL " + beats + " WHERE run <> @run"
		if !s.dialect.oneStatement {
			text = beats
			if _, err := s.exec(ctx, on, beat, args{"run": run}); err != nil {
				return err
			}
		}
		return s.query(ctx, on, text, args{"run": run}, func(rows *sql.Rows) error {
			var id, beat int64
			err := rows.Scan(&id, &beat)
			found[id] = beat
			return err
		})
	})
	return found, err
}

// Begin writes the row of a Run.
func (s *Store) Begin(ctx context.Context, run int64) error {
	_, err := s.do(ctx, "begin", "INSERT INTO {run} (run, beat, started_at, beat_at) SELECT CAST(@run AS bigint), 0, {now}, {now} WHERE true ON CONFLICT (run) DO NOTHING", args{"run": run})
	return err
}

// End deletes the row of a Run if its heartbeat is still at that beat, or with -1 in any case.
func (s *Store) End(ctx context.Context, run, beat int64) error {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	_, err := s.do(ctx, "end of a Run", "DELETE FROM {run} WHERE run = @run AND (beat = @beat OR @beat < 0)", args{"run": run, "beat": beat})
	return err
}
