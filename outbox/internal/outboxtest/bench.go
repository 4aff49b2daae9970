// Package outboxtest is what the tests of the command and of the pages have in common: an outbox,
// and the API that it sends to.
package outboxtest

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const (
	// Number is the phone number that messages are sent from, and Payload is what they are.
	Number  = "106540352242922"
	Payload = `{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"hello"}}`
	// Patience bounds what usually takes milliseconds.
	Patience = 20 * time.Second
)

// The answers after which a message is failed or unknown.
var (
	Refused = graphtest.Answer{Code: 131026}
	Broken  = graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}
)

// Bench is an outbox and its API, both until the test ends.
type Bench struct {
	T   *testing.T
	API *graphtest.API
	*outbox.Outbox
	// Outcomes has the outcome of each message.
	Outcomes chan outbox.Outcome
}

// New opens an outbox that sends through next.
func New(t *testing.T, database outbox.Database, next http.RoundTripper) *Bench {
	t.Helper()
	b := &Bench{T: t, API: graphtest.New(), Outcomes: make(chan outbox.Outcome, 1000)}
	web := httptest.NewServer(b.API)
	t.Cleanup(web.Close)
	var err error
	b.Outbox, err = outbox.Open(t.Context(), database, next,
		outbox.WithBaseURL(web.URL+"/"+graphtest.APIVersion),
		outbox.WithOutcome(func(_ context.Context, o outbox.Outcome) error { b.Outcomes <- o; return nil }))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return b
}

// OpenSQLite opens an empty file of SQLite until the test ends.
func OpenSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "outbox.db"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// Add enqueues messages.
func (b *Bench) Add(ids ...string) {
	b.T.Helper()
	for _, id := range ids {
		require.NoError(b.T, b.Enqueue(b.T.Context(), id, Number, []byte(Payload)))
	}
}

// Send sends until the returned function is called, or until the test ends.
func (b *Bench) Send() (stop func()) {
	b.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(b.T, <-ended)
	})
	b.T.Cleanup(stop)
	return stop
}

// Becomes enqueues a message, has the API give these answers, and waits for the outcome. The
// queue must have no other message. A Run must send.
func (b *Bench) Becomes(id string, state outbox.State, answers ...graphtest.Answer) {
	b.T.Helper()
	for _, answer := range answers {
		b.API.AnswerNext(1, answer)
	}
	b.Add(id)
	select {
	case o := <-b.Outcomes:
		require.Equal(b.T, id, o.Status.ID)
		require.Equal(b.T, state, o.Status.State)
	case <-time.After(Patience):
		require.FailNow(b.T, "no outcome", id)
	}
}

// State returns the state of a message, "" if there is none.
func (b *Bench) State(id string) outbox.State {
	b.T.Helper()
	status, err := b.Status(b.T.Context(), id)
	if err != nil {
		require.ErrorIs(b.T, err, outbox.ErrNotFound)
	}
	return status.State
}
