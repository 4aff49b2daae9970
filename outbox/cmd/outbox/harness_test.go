package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const (
	payload = `{"messaging_product":"whatsapp","to":"1","type":"text","text":{"body":"hello"}}`
	number  = "106540352242922"
	// patience bounds what usually takes milliseconds.
	patience = 20 * time.Second
)

// operator runs the command on an outbox of its own.
type operator struct {
	t *testing.T
	// where is the value of -db.
	where string
	*outbox.Outbox
	api *graphtest.API
	// outcomes has the outcome of each message.
	outcomes chan outbox.Outcome
	// attempt, if a test sets it before Run, is called before each attempt.
	attempt func()
	// stderr is what the last command printed there.
	stderr string
}

func newOperator(t *testing.T, ids ...string) *operator {
	t.Helper()
	c := &operator{t: t, api: graphtest.New(), outcomes: make(chan outbox.Outcome, 100)}
	web := httptest.NewServer(c.api)
	t.Cleanup(web.Close)
	c.where = newDatabase(t)
	var err error
	c.Outbox, err = outbox.Open(t.Context(), open(t, c.where), c,
		outbox.WithBaseURL(web.URL+"/v25.0"),
		outbox.WithOutcome(func(_ context.Context, o outbox.Outcome) error { c.outcomes <- o; return nil }))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	c.enqueue(ids...)
	return c
}

// RoundTrip makes an attempt to send a message.
func (c *operator) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.attempt != nil {
		c.attempt()
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *operator) enqueue(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		require.NoError(c.t, c.Enqueue(c.t.Context(), id, number, []byte(payload)))
	}
}

// send sends until the test ends.
func (c *operator) send() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		assert.NoError(c.t, <-ended)
	})
}

// becomes enqueues a message, has the API answer it, and waits for its outcome. The queue must
// have no other message.
func (c *operator) becomes(id string, state outbox.State, answers ...graphtest.Answer) {
	c.t.Helper()
	for _, answer := range answers {
		c.api.AnswerNext(1, answer)
	}
	c.enqueue(id)
	select {
	case o := <-c.outcomes:
		require.Equal(c.t, id, o.Status.ID)
		require.Equal(c.t, state, o.Status.State)
	case <-time.After(patience):
		require.FailNow(c.t, "no outcome", id)
	}
}

// The answers after which a message is failed or unknown.
var (
	refused = graphtest.Answer{Code: 131026}
	broken  = graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}
)

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
	c.t.Helper()
	var out, stderr bytes.Buffer
	err := c.run(streams{in: strings.NewReader(in), out: &out, err: &stderr, asks: in != "", size: noTerminal}, args...)
	c.stderr = stderr.String()
	return out.String(), err
}

// on returns what the command prints on a terminal with that many columns.
func (c *operator) on(columns int, args ...string) string {
	c.t.Helper()
	var out bytes.Buffer
	require.NoError(c.t, c.run(streams{out: &out, err: io.Discard, size: func() (int, int) { return columns, 24 }}, args...))
	return out.String()
}

func noTerminal() (columns, lines int) { return 0, 0 }

func (c *operator) run(s streams, args ...string) error {
	return run(c.t.Context(), append([]string{"-db", c.where}, args...), s)
}

// must is do for a command that succeeds.
func (c *operator) must(in string, args ...string) string {
	c.t.Helper()
	out, err := c.do(in, args...)
	require.NoError(c.t, err, c.stderr)
	return out
}

// decode is must with -json, and decodes the object.
func (c *operator) decode(document any, args ...string) {
	c.t.Helper()
	out := c.must("", append([]string{"-json"}, args...)...)
	require.Equal(c.t, 1, strings.Count(out, "\n"), out)
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	require.NoError(c.t, decoder.Decode(document), out)
}

// state returns the state of a message, "" if there is none.
func (c *operator) state(id string) outbox.State {
	c.t.Helper()
	status, err := c.Status(c.t.Context(), id)
	if err != nil {
		require.ErrorIs(c.t, err, outbox.ErrNotFound)
	}
	return status.State
}

func TestMain(m *testing.M) { os.Exit(pgtest.RunOnBoth(m)) }
