package outbox_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// sentOnce waits until that many messages are sent, and checks that each was sent once.
func sentOnce(t *testing.T, o *outbox.Outbox, api *graphtest.API, n int) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		stats, err := o.Stats(t.Context())
		if err == nil && stats.States[outbox.StateSent] == n {
			break
		}
		require.True(t, time.Now().Before(deadline), "%v %v", stats, err)
		time.Sleep(50 * time.Millisecond)
	}
	assert.Equal(t, n, api.Totals().Accepted)
	assert.Empty(t, api.Duplicates())
}

// inProof returns how long a trouble lasts in "make proof", and otherwise a tenth of that.
func inProof(long time.Duration) time.Duration {
	if _, ok := os.LookupEnv("OUTBOX_PROOF_MESSAGES"); ok {
		return long
	}
	return long / 10
}

// Two machines send. Their database is gone for a minute, which is longer than it takes until a
// Run is taken for dead. Meanwhile the API answers what they had sent.
func TestProofDatabaseThatIsGoneForAMinuteLosesNothing(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t)
	where := place{"postgres", server.Schema(t)}
	api := graphtest.New()
	const n = 20
	underWay, answer := make(chan struct{}, n), make(chan struct{})
	holding := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := api.RoundTrip(req)
		underWay <- struct{}{}
		<-answer
		return resp, err
	})
	var machines []*outbox.Outbox
	for range 2 {
		o, err := outbox.Open(t.Context(), where.open(t), holding, outbox.WithWorkers(4), outbox.WithAttemptTimeout(5*time.Minute))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, o.Close()) })
		machines = append(machines, o)
	}
	enqueueAll(t, machines[0], "m", n, n)
	for _, o := range machines {
		run(t, o)
	}
	for range 8 {
		<-underWay // each worker has one
	}
	server.Crash(t)
	close(answer)
	time.Sleep(inProof(time.Minute))
	server.Go(t)
	sentOnce(t, machines[0], api, n)
}

// For a minute each answer takes 4 s: that to a new connection, to a statement that is prepared,
// and to each statement.
func TestProofDatabaseThatAnswersLateLosesNothing(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t)
	url := server.Schema(t)
	slow, late := server.Slow(t, url, inProof(4*time.Second))
	api := graphtest.New()
	watch, err := outbox.Open(t.Context(), place{"postgres", url}.open(t), api)
	require.NoError(t, err)
	defer func() { assert.NoError(t, watch.Close()) }()
	log := &outboxtest.Buffer{}
	o, err := outbox.Open(t.Context(), place{"postgres", slow}.open(t), api, outbox.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	require.NoError(t, err)
	defer func() { assert.NoError(t, o.Close()) }()
	defer func() {
		if t.Failed() {
			t.Log(log)
		}
	}()
	late.Store(true)
	defer late.Store(false)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			assert.NoError(t, o.Enqueue(t.Context(), fmt.Sprint(i), phoneNumberID, payload("x")), "within 15 s")
		})
	}
	all.Wait()
	run(t, o)
	time.Sleep(inProof(time.Minute))
	late.Store(false)
	sentOnce(t, watch, api, 6)
}

func TestDiskOfTheServerThatIsFullIsWaitedOutAndSaidInWords(t *testing.T) {
	onPostgres(t)
	server, folder := pgtest.Small(t, 24<<20)
	where := place{"postgres", server.Schema(t)}
	api := graphtest.New()
	log := &outboxtest.Buffer{}
	o, err := outbox.Open(t.Context(), where.open(t), api, append(fast(), outbox.WithLogger(slog.New(slog.NewTextHandler(log, nil))))...)
	require.NoError(t, err)
	defer func() { assert.NoError(t, o.Close()) }()
	enqueueAll(t, o, "before", 200, 100)
	fill := filepath.Join(folder, "fill")
	file, err := os.Create(fill)
	require.NoError(t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, file.Close())

	stop := run(t, o) // what it writes down of 200 messages has no room
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "No space left on device") }, patience, time.Millisecond)
	var noise strings.Builder // which cannot be compressed
	for range 4000 {
		noise.WriteString(rand.Text())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err = o.Enqueue(ctx, "meanwhile", phoneNumberID, payload(noise.String()))
	assert.ErrorContains(t, err, "No space left on device")

	require.NoError(t, os.Remove(fill))
	require.NoError(t, o.Enqueue(t.Context(), "after", phoneNumberID, payload("x")))
	sentOnce(t, o, api, 201)
	stop()
}
