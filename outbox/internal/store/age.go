package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// agePage is how many rows are checked at once.
const agePage = 2000

// expired returns the statement that finds messages whose ExpiresAt has passed.
func (s *Store) expired() string {
	return "SELECT m.id FROM {message} AS m WHERE m.seq " +
		s.in("SELECT q.seq FROM {queue} AS q WHERE q.expires > 0 AND q.expires <= {now} LIMIT 1000")
}

// Expired returns queued messages that may be too old: those whose ExpiresAt has passed, and,
// of one page of the others, those that were enqueued before a time. The page begins after one
// message, and next is where the next page begins.
func (s *Store) Expired(ctx context.Context, after int64, before time.Time) (ids []string, next int64, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		ids = nil
		return s.query(ctx, on, s.expired(), nil, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	own := len(ids)
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		ids, next = ids[:own], 0
		n := 0
		return s.query(ctx, on, `SELECT m.seq, m.id, m.enqueued_at FROM (SELECT seq FROM {queue} WHERE seq > @after ORDER BY seq LIMIT @limit) AS q JOIN {message} AS m ON m.seq = q.seq ORDER BY m.seq`,
			args{"after": after, "limit": agePage}, func(rows *sql.Rows) error {
				var id string
				var at, seq int64
				err := rows.Scan(&seq, &id, &at)
				if at <= micro(before) {
					ids = append(ids, id)
				}
				if n++; n == agePage {
					next = seq
				}
				return err
			})
	})
	return ids, next, err
}

// Retain deletes, of one page of the records, those of messages that have ended and have not
// changed since a time. The page begins after one message, and next is where the next page
// begins.
func (s *Store) Retain(ctx context.Context, after int64, before time.Time) (next int64, err error) {
	err = s.write(ctx, "retain", func(ctx context.Context, on runner) error {
		n := 0
		next = 0
		var old array
		err := s.query(ctx, on, `SELECT seq, state, changed_at FROM {record} WHERE seq > @after ORDER BY seq LIMIT @limit`, args{"after": after, "limit": agePage}, func(rows *sql.Rows) error {
			var seq, at int64
			var state string
			err := rows.Scan(&seq, &state, &at)
			if at < micro(before) && state != string(message.StateQueued) {
				old.plain(itoa(seq))
			}
			if n++; n == agePage {
				next = seq
			}
			return err
		})
		if err != nil {
			return err
		}
		if _, err := s.exec(ctx, on, `DELETE FROM {deleted} WHERE deleted_at < @before`, args{"before": micro(before)}); err != nil || old.Len() == 0 {
			return err
		}
		// Checked again: a message may have been resent meanwhile.
		given := args{"before": micro(before)}
		in := s.among(&old, given)
		gone := array{}
		err = s.query(ctx, on, `DELETE FROM {record} WHERE `+in+` AND changed_at < @before AND state <> 'queued'
AND seq NOT IN (SELECT seq FROM {queue} WHERE `+in+`) AND seq NOT IN (SELECT seq FROM {claim} WHERE `+in+`) RETURNING seq`, given, func(rows *sql.Rows) error {
			var seq int64
			err := rows.Scan(&seq)
			gone.plain(itoa(seq))
			return err
		})
		if err != nil || gone.Len() == 0 {
			return err
		}
		given = args{}
		_, err = s.exec(ctx, on, `DELETE FROM {message} WHERE `+s.among(&gone, given), given)
		return err
	})
	return next, err
}
