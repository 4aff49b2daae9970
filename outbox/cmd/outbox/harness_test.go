package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const (
	payload  = outboxtest.Payload
	number   = outboxtest.Number
	patience = outboxtest.Patience
)

// operator runs the command on an outbox of its own.
type operator struct {
	*outboxtest.Bench
	// where is the value of -db.
	where string
	// attempt, if a test sets it before Run, is called before each attempt.
	attempt func()
	// stderr is what the last command printed there.
	stderr string
}

func newOperator(t *testing.T, ids ...string) *operator {
	t.Helper()
	c := &operator{where: newDatabase(t)}
	c.Bench = outboxtest.New(t, open(t, c.where), c)
	c.Add(ids...)
	return c
}

// RoundTrip makes an attempt to send a message.
func (c *operator) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.attempt != nil {
		c.attempt()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// newDatabase returns the value of -db for an empty database.
func newDatabase(t *testing.T) string {
	t.Helper()
	if pgtest.IsChosen() {
		return pgtest.URL(t)
	}
	return filepath.Join(t.TempDir(), "outbox.db")
}

// openSQL opens a database, and creates a file that does not exist.
func openSQL(t *testing.T, where string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", where)
	if !pgtest.IsChosen() {
		db, err = sqlite.Open(where)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func open(t *testing.T, where string) outbox.Database {
	t.Helper()
	if pgtest.IsChosen() {
		return outbox.Postgres(openSQL(t, where))
	}
	return outbox.SQLite(openSQL(t, where))
}

// do runs the command with a person who types that, if it is not "".
func (c *operator) do(in string, args ...string) (string, error) {
	c.T.Helper()
	var out, stderr bytes.Buffer
	err := c.run(streams{in: strings.NewReader(in), out: &out, err: &stderr, asks: in != "", size: noTerminal}, args...)
	c.stderr = stderr.String()
	return out.String(), err
}

// on returns what the command prints on a terminal with that many columns.
func (c *operator) on(columns int, args ...string) string {
	c.T.Helper()
	var out bytes.Buffer
	require.NoError(c.T, c.run(streams{out: &out, err: io.Discard, size: func() (int, int) { return columns, 24 }}, args...))
	return out.String()
}

func noTerminal() (columns, lines int) { return 0, 0 }

func (c *operator) run(s streams, args ...string) error {
	return run(c.T.Context(), append([]string{"-db", c.where}, args...), s)
}

// must is do for a command that succeeds.
func (c *operator) must(in string, args ...string) string {
	c.T.Helper()
	out, err := c.do(in, args...)
	require.NoError(c.T, err, c.stderr)
	return out
}

// decode is must with -json, and decodes the object.
func (c *operator) decode(document any, args ...string) {
	c.T.Helper()
	out := c.must("", append([]string{"-json"}, args...)...)
	require.Equal(c.T, 1, strings.Count(out, "\n"), out)
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	require.NoError(c.T, decoder.Decode(document), out)
}

func TestMain(m *testing.M) { os.Exit(pgtest.RunOnBoth(m)) }
