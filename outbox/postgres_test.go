package outbox_test

import (
	"database/sql"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// onPostgres skips a test that needs PostgreSQL on another database.
func onPostgres(t *testing.T) {
	t.Helper()
	if os.Getenv(kindVariable) != "postgres" {
		t.Skip("it is about PostgreSQL, on which the tests run in another process")
	}
	beside(t)
}

// If a crash loses a mark, the message is sent twice. By default this server confirms what is
// not yet on the disk.
func TestMarkAndEndAreOnTheDiskWhenTheServerCrashes(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t, "synchronous_commit=off", "wal_writer_delay=10s")
	b := newHarness(t)
	where := place{"postgres", server.Schema(t)}
	b.database = func() outbox.Database { return where.open(t) }
	b.Outbox = b.open(nil)
	o, held, release := b.holding()
	b.enqueue("sending", "sent")
	stop := run(t, o)
	<-held
	<-held
	server.Crash(t) // both have reached the API
	server.Go(t)
	for _, id := range []string{"sending", "sent"} {
		status, err := b.Status(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, outbox.StateSending, status.State)
	}
	release <- struct{}{}
	require.Eventually(t, func() bool {
		stats, err := b.Stats(t.Context())
		return err == nil && stats.States[outbox.StateSent] == 1
	}, patience, time.Millisecond)
	server.Crash(t)
	server.Go(t)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, stats.States[outbox.StateSent])
	release <- struct{}{}
	b.becomes("sending", outbox.StateSent)
	b.becomes("sent", outbox.StateSent)
	stop()
	assert.Empty(t, b.api.Duplicates())
}

func TestMessageThatWasConfirmedOutlivesACrashOfTheServer(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t, "synchronous_commit=off", "wal_writer_delay=10s")
	where := place{"postgres", server.Schema(t)}
	api := graphtest.New()
	o, err := outbox.Open(t.Context(), where.open(t), api, fast()...)
	require.NoError(t, err)
	defer o.Close()
	require.NoError(t, o.Enqueue(t.Context(), "a", phoneNumberID, payload("a")))
	server.Crash(t)
	server.Go(t)
	run(t, o)
	require.Eventually(t, func() bool {
		status, err := o.Status(t.Context(), "a")
		return err == nil && status.State == outbox.StateSent
	}, patience, time.Millisecond)
}

func TestDatabaseThatForgetsIsRefused(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t, "fsync=off")
	_, err := outbox.Open(t.Context(), place{"postgres", server.Schema(t)}.open(t), nil)
	assert.ErrorContains(t, err, "fsync = off")
}

func TestDatabaseThatIsGoneForAWhileLosesNothing(t *testing.T) {
	onPostgres(t)
	server := pgtest.Start(t)
	b := newHarness(t)
	where := place{"postgres", server.Schema(t)}
	b.database = func() outbox.Database { return where.open(t) }
	b.Outbox = b.open(nil)
	o, held, release := b.holding()
	b.enqueue("a", "b", "c")
	run(t, o)
	for range 3 {
		<-held
	}
	server.Crash(t)
	close(release)
	err := b.Enqueue(t.Context(), "d", phoneNumberID, payload("d"))
	require.Error(t, err, "after 15 s")
	assert.ErrorContains(t, err, "failed to connect", "in the database's words")
	server.Go(t)
	b.enqueue("d")
	for _, id := range []string{"a", "b", "c", "d"} {
		b.becomes(id, outbox.StateSent)
	}
	assert.Empty(t, b.api.Duplicates())
	assert.Contains(t, b.log.String(), "and retries")
}

func TestPoolOfOneOrTwoConnectionsIsEnough(t *testing.T) {
	for _, connections := range []int{1, 2} {
		b := newHarness(t, outbox.WithWorkers(16))
		where := newPlace(t)
		b.database = func() outbox.Database {
			db, database, err := where.connect()
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			db.SetMaxOpenConns(connections)
			return database
		}
		b.Outbox = b.open(nil, outbox.WithWorkers(16), outbox.WithRecipientOrder())
		ids := b.enqueueMany(phoneNumberID, 50)
		run(t, b.Outbox)
		assert.Equal(t, 50, b.settled(ids)[outbox.StateSent])
	}
}

func TestOtherSettingsOfTheUsersAreHeeded(t *testing.T) {
	onPostgres(t)
	url := pgtest.URL(t)
	for _, more := range []string{
		" default_transaction_isolation=serializable", " default_transaction_isolation='repeatable read'",
		" default_query_exec_mode=simple_protocol", " default_query_exec_mode=exec", " synchronous_commit=remote_apply",
	} {
		db, err := sql.Open("pgx", url+more)
		require.NoError(t, err)
		api := graphtest.New()
		o, err := outbox.Open(t.Context(), outbox.Postgres(db), api, append(fast(), outbox.WithRecipientOrder())...)
		require.NoError(t, err)
		id := "message" + more
		require.NoError(t, o.Enqueue(t.Context(), id, phoneNumberID, payload("\\\" é")))
		stop := run(t, o)
		require.Eventually(t, func() bool {
			status, err := o.Status(t.Context(), id)
			return err == nil && status.State == outbox.StateSent
		}, patience, time.Millisecond)
		stop()
		require.NoError(t, o.Close())
		require.NoError(t, db.Close())
	}
}
