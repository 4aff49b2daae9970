package outbox_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

func (b *bench) stats() outbox.Stats {
	b.t.Helper()
	stats, err := b.Stats(b.t.Context())
	require.NoError(b.t, err)
	return stats
}

// since asserts that a message has waited since it was enqueued. Those that are enqueued at
// the same time are a microsecond apart.
func (b *bench) since(id string, waiting time.Time, why ...any) {
	b.t.Helper()
	assert.WithinDuration(b.t, b.enqueued(id), waiting, 100*time.Microsecond, why...)
}

func (b *bench) enqueued(id string) time.Time {
	b.t.Helper()
	status, err := b.Status(b.t.Context(), id)
	require.NoError(b.t, err)
	return status.Enqueued
}

func TestStatsKnowSinceWhenMessagesWait(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	require.NoError(t, b.Enqueue(t.Context(), "tonight", "111", payload("tonight"), outbox.NotBefore(time.Now().Add(12*time.Hour))))
	assert.Zero(t, b.stats().WaitingSince, "a message for tonight does not wait today")
	assert.Equal(t, b.enqueued("tonight"), b.stats().OldestQueued)

	require.NoError(t, b.Enqueue(t.Context(), "first", "222", payload("first")))
	require.NoError(t, b.Enqueue(t.Context(), "second", "333", payload("second")))
	stats := b.stats()
	for range 8 { // numbers have no order
		b.since("first", b.stats().WaitingSince)
	}
	b.since("first", stats.Numbers["222"].WaitingSince)
	b.since("second", stats.Numbers["333"].WaitingSince)
	assert.Zero(t, stats.Numbers["111"].WaitingSince)
	assert.WithinRange(t, stats.Now, stats.WaitingSince, b.Now().Add(patience))

	// It was inserted, and no Run has checked it.
	_, err := db.ExecContext(t.Context(), "INSERT INTO graphretry_message (id, phone_number_id, payload, not_before) SELECT 'inserted', '444', '{}', enqueued_at + 1 FROM graphretry_message WHERE id = 'second'")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "INSERT INTO graphretry_message (id, phone_number_id, payload, not_before) SELECT 'for tonight', '555', '{}', not_before FROM graphretry_message WHERE id = 'tonight'")
	require.NoError(t, err)
	stats = b.stats()
	b.since("inserted", stats.Numbers["444"].WaitingSince)
	assert.Zero(t, stats.Numbers["555"].WaitingSince)
}

func TestMessageWaitsSinceItWasEnqueuedWhateverHasDelayedIt(t *testing.T) {
	asked, answer := make(chan bool), make(chan bool)
	b := newHarness(t, outbox.WithTokenSource(func(context.Context, string) (string, error) {
		asked <- true
		<-answer
		return "EAAG", nil
	}))
	b.api.AnswerNext(1, graphtest.Answer{Code: 2, RetryAfter: "3600"})
	b.enqueue("a")
	run(t, b.Outbox)

	<-asked // a worker has it, and is not yet sending it
	stats := b.stats()
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 1}, stats.States)
	b.since("a", stats.WaitingSince)
	answer <- true
	b.until("a", "a retry", func(s outbox.Status) bool { return s.Retries == 1 && s.State == outbox.StateQueued })
	b.since("a", b.stats().WaitingSince, "the wait for a retry counts")

	require.NoError(t, b.Drop(t.Context(), "a"))
	assert.Zero(t, b.stats().WaitingSince)
	require.NoError(t, b.Pause(t.Context(), ""))
	dropped := b.stats().Now
	require.NoError(t, b.Resend(t.Context(), "a"))
	// It is due at a time that the database's clock has certainly reached soon.
	deadline := time.Now().Add(patience)
	for b.stats().WaitingSince.IsZero() {
		require.True(t, time.Now().Before(deadline), "it never waited again")
	}
	assert.WithinRange(t, b.stats().WaitingSince, dropped, dropped.Add(patience), "it waits anew")
}

func TestStatsKnowSinceWhenANumberIsHeld(t *testing.T) {
	b := newHarness(t)
	b.api.Down(time.Hour, graphtest.Answer{Status: http.StatusProxyAuthRequired})
	b.enqueueMany("111", 10)
	before := b.Now()
	run(t, b.Outbox)
	until := func(what string, such func(outbox.NumberStats) bool) outbox.NumberStats {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			number := b.stats().Numbers["111"]
			if such(number) {
				return number
			}
			require.True(t, time.Now().Before(deadline), "it was never %s: %+v", what, number)
			time.Sleep(time.Millisecond)
		}
	}
	held := until("held", func(s outbox.NumberStats) bool { return s.HeldFor != "" })
	assert.WithinRange(t, held.HeldSince, before.Add(-time.Second), b.Now().Add(patience))
	probed := until("probed", func(s outbox.NumberStats) bool { return s.NextProbe.After(held.NextProbe) })
	assert.Equal(t, held.HeldSince, probed.HeldSince, "a probe that is refused changes nothing of that")

	b.api.Clear()
	released := until("released", func(s outbox.NumberStats) bool { return s.HeldFor == "" })
	assert.Zero(t, released.HeldSince)
}

// A scrape waits for the answer, and must not wait without end.
func TestStatsEndWithTheirContextWhileTheDatabaseDoesNotAnswer(t *testing.T) {
	b := newHarness(t)
	where, db := b.tables()
	if where.kind != "postgres" {
		t.Skip("SKIPPED: nobody has a reader of SQLite wait; OUTBOX_TEST_DATABASE=postgres")
	}
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE graphretry_record IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = b.Stats(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, tx.Rollback())
	b.stats()
}

func TestEventsNameTheirOutbox(t *testing.T) {
	events := make(chan outbox.Event, 100)
	b := newHarness(t, outbox.WithName("reminders"), outbox.WithObserver(func(_ context.Context, e outbox.Event) { events <- e }))
	assert.Equal(t, "reminders", b.Name())
	b.enqueue("a")
	run(t, b.Outbox)
	assert.Equal(t, "reminders", (<-events).Outbox)
}
