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

// databaseVariable is the environment variable that -db stands for.
const databaseVariable = "OUTBOX_DB"

// place is the database that -db names: one of PostgreSQL, or a file of SQLite.
type place struct {
	postgres *pgx.ConnConfig
	file     string
	// alive reports why the database cannot be asked, at once and without asking again.
	alive func(context.Context) error
}

// keyword is how a connection string of PostgreSQL begins that is no URL, as in
// host=/run/postgresql. The file of such a name is ./host=x.
var keyword = regexp.MustCompile(`^\s*[a-z_]+\s*=`)

// placeOf reads -db, or if that is "" the environment variable. Its errors say nothing of what
// may have a password.
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
			// Not what is wrong with it, in which a part of a password may stand.
			return place{}, wrongUsage("outbox", "%s cannot be read: want a URL such as postgres://user@host/name, with %%40 for an @ in the password, %%2F for a / and %%23 for a #", source)
		}
		return place{postgres: config}, nil
	}
	file := strings.TrimPrefix(text, "file:")
	if _, err := os.Stat(file); err != nil && strings.ContainsAny(text, "@=") {
		return place{}, wrongUsage("outbox", "%s is no file: want one that is there, or a URL such as postgres://user@host/name", source)
	}
	return place{file: file}, nil
}

// reachTimeout bounds how long a server may take to answer for the first time.
const reachTimeout = 10 * time.Second

// open opens the database, if it is there.
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

// sqliteHeader is what a file of SQLite begins with: https://sqlite.org/fileformat.html.
const sqliteHeader = "SQLite format 3\x00"

// openFile opens a file of SQLite. SQLite itself would make one that is not there.
func (p *place) openFile() (*sql.DB, outbox.Database, error) {
	there, err := os.Open(p.file)
	if err != nil {
		return nil, outbox.Database{}, fmt.Errorf("there is no database: %w", err)
	}
	defer there.Close()
	begins := make([]byte, len(sqliteHeader))
	if _, err := io.ReadFull(there, begins); err != nil || string(begins) != sqliteHeader {
		return nil, outbox.Database{}, fmt.Errorf("%s is no SQLite database", p.file)
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
		// What is open stays so when the file goes.
		switch now, err := os.Stat(p.file); {
		case err != nil:
			return fmt.Errorf("the database has gone: %w", err)
		case !os.SameFile(opened, now):
			return errors.New("another file has taken the place of the database: want this program started anew")
		}
		return nil
	}
	return db, outbox.SQLite(db), nil
}
