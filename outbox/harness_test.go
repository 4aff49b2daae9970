package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const phoneNumberID = "106540352242922"

// patience bounds what a test waits for. It usually takes milliseconds.
const patience = 20 * time.Second

// payload is a text message, without what the outbox adds to it.
func payload(text string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":%q}}`, text)
}

// fast makes every wait a matter of milliseconds.
func fast() []outbox.Option {
	return []outbox.Option{
		outbox.WithAttemptTimeout(2 * time.Second),
		outbox.WithTransportOptions(
			graphretry.WithInitialInterval(20*time.Millisecond),
			graphretry.WithMaxInterval(200*time.Millisecond),
		),
	}
}

// bench is an outbox in tables of its own, and the API that it sends to.
type bench struct {
	t        *testing.T
	api      *graphtest.API
	url      string
	database func() outbox.Database // opens it once more
	*outbox.Outbox
	log *outboxtest.Buffer
}

// parallel has the tests that run in parallel.
var parallel sync.Map

// beside runs a test in parallel with others, since a test mostly waits. It may be called more
// than once.
func beside(t *testing.T) {
	if _, before := parallel.LoadOrStore(t, true); !before {
		t.Parallel()
	}
}

func newHarness(t *testing.T, opts ...outbox.Option) *bench {
	t.Helper()
	if !strings.Contains(t.Name(), "/") { // what one of several does, they say themselves
		beside(t)
	}
	b := &bench{t: t, api: graphtest.New(), log: &outboxtest.Buffer{}}
	web := httptest.NewServer(b.api)
	t.Cleanup(web.Close)
	b.url = web.URL + "/v25.0"
	where := newPlace(t)
	b.database = func() outbox.Database { return where.open(t) }
	b.Outbox = b.open(nil, opts...)
	return b
}

// open opens the bench's outbox again, as another machine would.
func (b *bench) open(next http.RoundTripper, opts ...outbox.Option) *outbox.Outbox {
	b.t.Helper()
	opts = append(append(fast(),
		outbox.WithBaseURL(b.url),
		outbox.WithLogger(slog.New(slog.NewTextHandler(b.log, nil))),
	), opts...)
	o, err := outbox.Open(b.t.Context(), b.database(), next, opts...)
	require.NoError(b.t, err)
	outbox.SetLife(o, 100*time.Millisecond, time.Minute) // no machine is so slow that it is taken for dead, or that a mark takes too long
	b.t.Cleanup(func() { assert.NoError(b.t, o.Close()) })
	return o
}

// place is where the tables of a test are: a file of SQLite, or a schema of PostgreSQL.
type place struct {
	kind, where string
}

// kindVariable names the database that the tests run on: sqlite, or postgres.
const kindVariable = pgtest.Variable

func newPlace(t testing.TB) place {
	t.Helper()
	if os.Getenv(kindVariable) == "postgres" {
		return place{"postgres", pgtest.URL(t)}
	}
	dir, err := os.MkdirTemp(pgtest.Memory(), "outbox")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return place{"sqlite", filepath.Join(dir, "outbox.db")}
}

// open opens the database as another process would.
func (p place) open(t testing.TB) outbox.Database {
	t.Helper()
	db, database, err := p.connect()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return database
}

func (p place) connect() (*sql.DB, outbox.Database, error) {
	if p.kind == "postgres" {
		db, err := sql.Open("pgx", p.where)
		if err != nil {
			return nil, outbox.Database{}, err
		}
		db.SetMaxOpenConns(12)
		db.SetMaxIdleConns(12)
		return db, outbox.Postgres(db), nil
	}
	db, err := sqlite.Open(p.where)
	if err != nil {
		return nil, outbox.Database{}, err
	}
	return db, outbox.SQLite(db), nil
}

// run runs an outbox until the returned function is called.
func run(t *testing.T, o *outbox.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return stop
}

func (b *bench) enqueue(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		require.NoError(b.t, b.Enqueue(b.t.Context(), id, phoneNumberID, payload(id)))
	}
}

// becomes waits until a message is in that state.
func (b *bench) becomes(id string, state outbox.State) outbox.Status {
	b.t.Helper()
	return b.until(id, string(state), func(s outbox.Status) bool { return s.State == state })
}

func (b *bench) until(id, what string, such func(outbox.Status) bool) outbox.Status {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		status, err := b.Status(b.t.Context(), id)
		require.NoError(b.t, err)
		if such(status) {
			return status
		}
		if time.Now().After(deadline) {
			require.Failf(b.t, "it never happened", "message %s: want %s, is %+v\n%s", id, what, status, b.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// past waits until the database's clock has passed a time.
func (b *bench) past(at time.Time) {
	for wait := at.Sub(b.Now()); wait >= 0; wait = at.Sub(b.Now()) {
		time.Sleep(wait + time.Microsecond)
	}
}

func newBody(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }

// refusedByProxy sends a request through a proxy that answers each CONNECT with a 502, and
// returns the error.
func refusedByProxy(t *testing.T, req *http.Request, transport *http.Transport) error {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer proxy.Close()
	address, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	transport.Proxy = http.ProxyURL(address)
	defer transport.CloseIdleConnections()
	over := req.Clone(req.Context())
	over.URL.Scheme = "https" // for which a proxy is asked to CONNECT
	_, err = transport.RoundTrip(over)
	return err
}

// grows waits until a count has reached most. What takes long because the machine has much else
// to do is no fault. So the test fails when the count has not grown for as long as patience.
func (b *bench) grows(most int, count func() int) {
	b.t.Helper()
	highest, deadline := math.MinInt, time.Now().Add(patience)
	for {
		n := count()
		if n >= most {
			return
		}
		if n > highest {
			highest, deadline = n, time.Now().Add(patience)
		}
		require.True(b.t, time.Now().Before(deadline), "it stays at %d, and not %d\n%s", n, most, b.log)
		time.Sleep(time.Millisecond)
	}
}

// accepts waits until the API has accepted that many messages.
func (b *bench) accepts(n int) {
	b.t.Helper()
	b.grows(n, func() int { return b.api.Totals().Accepted })
	assert.Equal(b.t, n, b.api.Totals().Accepted)
}

// queueIsEmpty waits until nothing is queued or being sent.
func (b *bench) queueIsEmpty() {
	b.t.Helper()
	b.grows(0, func() int {
		stats, err := b.Stats(b.t.Context())
		require.NoError(b.t, err)
		return -stats.States[outbox.StateQueued] - stats.States[outbox.StateSending]
	})
}
