package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

// place is where the messages are.
type place struct {
	dir string
	url string // "": a SQLite file in dir
}

// open returns the database, and a function that closes it.
func (p place) open() (outbox.Database, func(), error) {
	if p.url != "" {
		db, err := sql.Open("pgx", p.url)
		if err != nil {
			return outbox.Database{}, nil, fmt.Errorf("cannot open the database: %w", err)
		}
		return outbox.Postgres(db), func() { _ = db.Close() }, nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return outbox.Database{}, nil, err
	}
	db, err := sqlite.Open(filepath.Join(p.dir, "outbox.db"))
	if err != nil {
		return outbox.Database{}, nil, err
	}
	return outbox.SQLite(db), func() { _ = db.Close() }, nil
}
