package store

import (
	"context"
	"database/sql"
)

// Beat counts up the heartbeat of a Run, and returns those of all. The Run is not among
// them if it was taken for dead.
func (s *Store) Beat(ctx context.Context, run int64) (beats map[int64]int64, err error) {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	err = s.write(ctx, "heartbeat", func(ctx context.Context, on runner) error {
		beats = make(map[int64]int64)
		if _, err := s.exec(ctx, on, "UPDATE {run} SET beat = beat + 1, beat_at = {now} WHERE run = @run", args{"run": run}); err != nil {
			return err
		}
		return s.query(ctx, on, "SELECT run, beat FROM {run}", nil, func(rows *sql.Rows) error {
			var id, beat int64
			err := rows.Scan(&id, &beat)
			beats[id] = beat
			return err
		})
	})
	return beats, err
}

// Begin lets the others know of a Run.
func (s *Store) Begin(ctx context.Context, run int64) error {
	_, err := s.do(ctx, "begin", "INSERT INTO {run} (run, beat, started_at, beat_at) SELECT CAST(@run AS bigint), 0, {now}, {now} WHERE true ON CONFLICT (run) DO NOTHING", args{"run": run})
	return err
}

// End takes out a Run that has not shown since it was at that beat, or with -1 at any.
func (s *Store) End(ctx context.Context, run, beat int64) error {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	_, err := s.do(ctx, "end of a Run", "DELETE FROM {run} WHERE run = @run AND (beat = @beat OR @beat < 0)", args{"run": run, "beat": beat})
	return err
}
