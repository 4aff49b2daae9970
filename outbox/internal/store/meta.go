package store

import (
	"context"
	"database/sql"
)

// Meta returns a setting that is kept with the tables, "" if there is none.
func (s *Store) Meta(ctx context.Context, key string) (value string, err error) {
	_, err = s.ask(ctx, "SELECT value FROM {meta} WHERE key = @key", args{"key": key}, func(rows *sql.Rows) error { return rows.Scan(&value) })
	return value, err
}

// SetMeta writes a setting.
func (s *Store) SetMeta(ctx context.Context, key, value string) error {
	_, err := s.do(ctx, "meta", `INSERT INTO {meta} (key, value) SELECT CAST(@key AS text), CAST(@value AS text) WHERE true ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		args{"key": key, "value": value})
	return err
}
