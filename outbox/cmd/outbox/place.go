package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

// databaseVariable is the environment variable that applies without -db.
const databaseVariable = "OUTBOX_DB"

// place is the database of -db: one of PostgreSQL, or a file of SQLite.
type place struct {
	postgres *pgx.ConnConfig
	file     string
	// alive returns an error if the database cannot be used. It asks once and does not retry.
	alive func(context.Context) error
}

// keyword matches the beginning of a connection string of PostgreSQL that is not a URL, as in
// host=/run/postgresql. A file with such a name is ./host=x.
var keyword = regexp.MustCompile(`^\s*[a-z_]+\s*=`)

// placeOf parses -db, or the environment variable if that is "". Its errors have nothing in
// which a password can be.
func placeOf(text string) (place, error) {
	source := "-db"
	if text == "" {
		if source, text = databaseVariable, os.Getenv(databaseVariable); text == "" {
			return place{}, wrongUsage("outbox", "there is no -db and no %s: want postgres://user@host/name, or the file of a SQLite database", databaseVariable)
		}
	}
	scheme, _, isURL := strings.Cut(text, "://")
	switch {
	case isURL && scheme != "postgres" && scheme != "postgresql":
		return place{}, wrongUsage("outbox", "%s is a URL of another kind: want postgres://user@host/name, or the file of a SQLite database", source)
	case isURL || keyword.MatchString(text):
		config, err := pgx.ParseConfig(text)
		if err != nil {
			// Not the error of the parser, which may have a part of a password.
			return place{}, wrongUsage("outbox", "%s cannot be read: want a URL such as postgres://user@host/name, with %%40 for an @ in the password, %%2F for a / and %%23 for a #", source)
		}
		return place{postgres: config}, nil
	}
	file := strings.TrimPrefix(text, "file:")
	if _, err := os.Stat(file); err != nil && strings.ContainsAny(text, "@=") {
		return place{}, wrongUsage("outbox", "%s is not a file that exists: want one, or a URL such as postgres://user@host/name", source)
	}
	return place{file: file}, nil
}

// reachTimeout bounds how long a server may take for its first answer.
const reachTimeout = 10 * time.Second

// open opens the database, if it exists.
func (p *place) open(ctx context.Context) (*sql.DB, outbox.Database, error) {
	if p.postgres == nil {
		return p.openFile()
	}
	db := stdlib.OpenDB(*p.postgres)
	p.alive = db.PingContext
	reaching, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := p.alive(reaching); err != nil {
		db.Close()
		return nil, outbox.Database{}, fmt.Errorf("cannot reach the database: %w", err)
	}
	return db, outbox.Postgres(db), nil
}

// sqliteHeader is the beginning of a file of SQLite: https://sqlite.org/fileformat.html.
const sqliteHeader = "SQLite format 3\x00"

// openFile opens a file of SQLite. SQLite itself would create a file that does not exist.
func (p *place) openFile() (*sql.DB, outbox.Database, error) {
	there, err := os.Open(p.file)
	if err != nil {
		return nil, outbox.Database{}, fmt.Errorf("there is no database: %w", err)
	}
	defer there.Close()
	begins := make([]byte, len(sqliteHeader))
	if _, err := io.ReadFull(there, begins); err != nil || string(begins) != sqliteHeader {
		return nil, outbox.Database{}, fmt.Errorf("%s is not a SQLite database", p.file)
	}
	opened, err := there.Stat()
	if err != nil {
		return nil, outbox.Database{}, err
	}
	db, err := sqlite.Open(p.file)
	if err != nil {
		return nil, outbox.Database{}, err
	}
	p.alive = func(context.Context) error {
		// An open file stays open after it was removed.
		switch now, err := os.Stat(p.file); {
		case err != nil:
			return fmt.Errorf("the database is gone: %w", err)
		case !os.SameFile(opened, now):
			return errors.New("another file has taken the place of the database: start this program again")
		}
		return nil
	}
	return db, outbox.SQLite(db), nil
}
