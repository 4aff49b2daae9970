package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
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
	// patience bounds what is expected within milliseconds.
	patience = 20 * time.Second
)

// operator runs the command on an outbox of its own.
type operator struct {
	t    *testing.T
	file string
	*outbox.Outbox
	api *graphtest.API
	// outcomes has what became of each message.
	outcomes chan outbox.Outcome
	// attempt, if a test sets it before Run, is called before each attempt.
	attempt func()
	// stderr is what the last command wrote there.
	stderr string
}

func newOperator(t *testing.T, ids ...string) *operator {
	t.Helper()
	c := &operator{t: t, api: graphtest.New(), outcomes: make(chan outbox.Outcome, 100)}
	web := httptest.NewServer(c.api)
	t.Cleanup(web.Close)
	c.file = filepath.Join(t.TempDir(), "outbox.db")
	db, err := sqlite.Open(c.file)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	c.Outbox, err = outbox.Open(t.Context(), outbox.SQLite(db), c,
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

// send begins to send, until the test ends.
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

// becomes enqueues a message, has the API answer it, and waits for what becomes of it.
// No other message may be in the queue.
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

// do runs the command with that on its standard input.
func (c *operator) do(in string, args ...string) (string, error) {
	c.t.Helper()
	var out, stderr bytes.Buffer
	err := c.run(streams{in: strings.NewReader(in), out: &out, err: &stderr, size: noTerminal}, args...)
	c.stderr = stderr.String()
	return out.String(), err
}

func noTerminal() (columns, lines int) { return 0, 0 }

func (c *operator) run(s streams, args ...string) error {
	return run(c.t.Context(), append([]string{"-sqlite", c.file}, args...), s)
}

// must is do of what succeeds.
func (c *operator) must(in string, args ...string) string {
	c.t.Helper()
	out, err := c.do(in, args...)
	require.NoError(c.t, err, c.stderr)
	return out
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

func TestStatsCountsEachNumber(t *testing.T) {
	c := newOperator(t, "a", "b")
	require.NoError(t, c.Enqueue(t.Context(), "c", "222", []byte(payload)))
	require.NoError(t, c.Pause(t.Context(), "222"))
	out := c.must("", "stats")
	assert.Regexp(t, `(?m)^all +3 +0 +0 +0 +0 *$`, out)
	assert.Regexp(t, `(?m)^222 +1 +0 +0 +0 +0 +paused$`, out)
	assert.Contains(t, out, "oldest queued: ")

	var stats outbox.Stats
	require.NoError(t, json.Unmarshal([]byte(c.must("", "-json", "stats")), &stats))
	assert.Equal(t, 2, stats.Numbers[number].States[outbox.StateQueued])
	assert.True(t, stats.Numbers["222"].Paused)
}

func TestListPrintsWhatFits(t *testing.T) {
	c := newOperator(t, "a", "b", "c\x1b[2J\u202e")
	out := c.must("", "list")
	assert.Equal(t, 4, strings.Count(out, "\n"), out)
	assert.Contains(t, out, number)
	assert.NotContains(t, out, "\x1b")
	assert.NotContains(t, out, "\u202e")
	assert.Equal(t, 2, strings.Count(c.must("", "list", "-limit", "1"), "\n"))
	assert.Empty(t, c.must("", "-json", "list", "-older", "1h"))
	assert.Empty(t, c.must("", "-json", "list", "-state", "failed,unknown"))

	var status outbox.Status
	for _, id := range []string{"a", "b"} {
		args := []string{"-json", "list", "-limit", "1"}
		if status.ID != "" {
			args = append(args, "-after", status.ID)
		}
		out := c.must("", args...)
		require.NoError(t, json.Unmarshal([]byte(out), &status))
		assert.Equal(t, id, status.ID)
	}
}

func TestListPrintsMoreThanAPage(t *testing.T) {
	c := newOperator(t)
	var messages []outbox.Message
	for i := range pageSize + 2 {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: number, Payload: []byte(payload)})
	}
	require.NoError(t, c.EnqueueAll(t.Context(), messages))
	for args, want := range map[string]int{
		"list":                           pageSize + 2,
		"list -limit 1001":               pageSize + 1,
		"list -limit 1000":               pageSize,
		"list -limit 999 -state queued":  pageSize - 1,
		"list -state unknown,queued":     pageSize + 2,
		"list -limit 5000 -state queued": pageSize + 2,
	} {
		lines := strings.Split(strings.TrimSpace(c.must("", strings.Fields("-json "+args)...)), "\n")
		seen := make(map[string]bool)
		for _, line := range lines {
			var status outbox.Status
			require.NoError(t, json.Unmarshal([]byte(line), &status))
			seen[status.ID] = true
		}
		assert.Len(t, lines, want, args)
		assert.Len(t, seen, want, args)
	}
	assert.Equal(t, pageSize+3, strings.Count(c.must("", "list"), "\n"), "one heading")
}

func TestShowPrintsAllOfOneMessage(t *testing.T) {
	c := newOperator(t, "a", "-b")
	assert.Contains(t, c.must("", "show", "a"), `"State": "queued"`)
	assert.Equal(t, 1, strings.Count(c.must("", "-json", "show", "--", "-b"), "\n"))
	_, err := c.do("", "show", "x")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}

func TestPauseAndResume(t *testing.T) {
	c := newOperator(t, "a")
	for _, step := range []struct {
		args      string
		all, this bool
	}{{"pause " + number, false, true}, {"pause", true, true}, {"resume " + number, true, false}, {"resume", false, false}} {
		assert.Empty(t, c.must("", strings.Fields(step.args)...))
		stats, err := c.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, step.all, stats.Paused, step.args)
		assert.Equal(t, step.this, stats.Numbers[number].Paused, step.args)
	}
}

func TestEnqueueTakesThePayloadFromStandardInput(t *testing.T) {
	c := newOperator(t)
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	c.must(payload, "enqueue", "-urgent", "-not-before", soon.Format(time.RFC3339), "-expires-at", soon.Add(time.Hour).Format(time.RFC3339), "d", "222")
	status, err := c.Status(t.Context(), "d")
	require.NoError(t, err)
	assert.Equal(t, "222", status.PhoneNumberID)
	assert.True(t, soon.Equal(status.NotBefore))
	_, err = c.do("no JSON", "enqueue", "e", "222")
	assert.ErrorContains(t, err, "JSON object")
}

func TestWrongCommandLineIsSaidSo(t *testing.T) {
	c := newOperator(t, "a", "b")
	for _, args := range [][]string{
		{}, {"fly"}, {"-fly"}, {"-postgres", "postgres://a:b:c", "stats"}, {"schema", "-dialect", "oracle"}, {"schema", "-name", "A"}, {"list", "-after", ""}, {"stats", "a"},
		{"show"}, {"show", "a", "b"}, {"show", "-a"},
		{"list", "a"}, {"list", "-code", "x"}, {"list", "-code", "-1"}, {"list", "-limit", "-1"}, {"list", "-older", "-1m"}, {"list", "-state", "faild"},
		{"drop"}, {"drop", "-yes"}, {"drop", "-state", "queued", "a"}, {"drop", "a", "-yes"}, {"drop", "-state", "sent"}, {"resend", "-state", "queued"},
		{"delete"}, {"delete", "-yes", "-number", ""}, {"delete", "-yes", "-state", ""}, {"delete", "-yes", "-code", "0"},
		{"pause", "1", "2"}, {"pause", ""}, {"resume", "-x"},
		{"enqueue", "a"}, {"enqueue", "-not-before", "soon", "a", "1"},
		{"top", "a"}, {"top", "-every", "0s"}, {"top", "-n", "-1"},
	} {
		_, err := c.do(payload, args...)
		assert.ErrorIs(t, err, errUsage, fmt.Sprint(args))
	}
	assert.Equal(t, outbox.StateQueued, c.state("a"))
	assert.Equal(t, outbox.StateQueued, c.state("b"))
	_, err := c.do("", "-name", "other", "list")
	assert.ErrorContains(t, err, `there is no outbox "other"`)
	for _, args := range [][]string{{"-h"}, {"delete", "-h"}} {
		_, err = c.do("", args...)
		assert.ErrorIs(t, err, flag.ErrHelp)
		assert.Contains(t, c.stderr, "The flags of ")
	}
}

func TestNoPasswordIsPrinted(t *testing.T) {
	for _, database := range []string{
		"postgres://user:secret@127.0.0.1:1/x?connect_timeout=1", "postgres://user:sec#secret@host:port/x", "user:secret@host:port",
		"postgres://user:secret@%zz", "password=secret host",
	} {
		t.Setenv("DATABASE_URL", database)
		for _, args := range [][]string{{"stats"}, {"-h"}, {"-fly"}, {"-postgres", database, "stats"}} {
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := run(ctx, args, streams{in: &out, out: &out, err: &out, size: noTerminal})
			cancel()
			require.Error(t, err)
			assert.NotContains(t, err.Error()+out.String(), "secret", database)
		}
	}
}

func TestDatabaseIsThatOfTheEnvironment(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	_, _, err := connect("", "")
	assert.ErrorIs(t, err, errUsage)
	_, _, err = connect("host=/x", "x.db")
	assert.ErrorIs(t, err, errUsage)
	_, _, err = connect("", filepath.Join(t.TempDir(), "none.db"))
	assert.ErrorContains(t, err, "none.db", "it is not made")

	url := pgtest.URL(t)
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer db.Close()
	var schema bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"schema"}, streams{out: &schema}))
	_, err = db.Exec(schema.String())
	require.NoError(t, err, "it is SQL as it stands")
	o, err := outbox.Open(t.Context(), outbox.Postgres(db), nil, outbox.WithoutMigration())
	require.NoError(t, err)
	require.NoError(t, o.Enqueue(t.Context(), "a", number, []byte(payload)))
	require.NoError(t, o.Close())
	t.Setenv("DATABASE_URL", url)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"list"}, streams{out: &out, err: &out, size: noTerminal}))
	assert.Contains(t, out.String(), number)
}

func TestSchemaOfSQLiteIsSQLAsItStands(t *testing.T) {
	var schema bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"schema", "-dialect", "sqlite", "-name", "other"}, streams{out: &schema}))
	file := filepath.Join(t.TempDir(), "outbox.db")
	db, err := sqlite.Open(file)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(schema.String())
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-sqlite", file, "-name", "other", "stats"}, streams{out: &out, err: &out, size: noTerminal}))
	assert.Contains(t, out.String(), "all")
}

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
