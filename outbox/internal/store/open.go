package store

import (
	"context"
	"database/sql"
)

// Open returns the store of that name in a database. If migrate is set, it creates the tables
// or brings them up to date.
func Open(ctx context.Context, db *sql.DB, kind Kind, name string, migrate bool) (*Store, error) {
	s := &Store{pool: newPool(db), tables: newTables(kind, name)}
	s.commits, s.enqueues = newCommits(&s.pool), s.newEnqueues()
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
