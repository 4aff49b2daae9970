package outbox_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// A machine that is frozen sends no heartbeat.
func TestRunThatGivesNoSignOfLifeIsTakenForDeadAndItsLateAnswerSettles(t *testing.T) {
	b := newHarness(t)
	o, held, release := b.holding()
	outbox.SetLife(b.Outbox, 50*time.Millisecond, 400*time.Millisecond)
	outbox.SetLife(o, 50*time.Millisecond, 400*time.Millisecond)
	var frozen atomic.Bool
	outbox.FailAt(o, func(name string) error {
		if frozen.Load() {
			return errors.New("frozen")
		}
		return nil
	})
	b.enqueue("a")
	run(t, o)
	<-held
	frozen.Store(true)
	run(t, b.Outbox)
	b.becomes("a", outbox.StateUnknown)
	assert.Contains(t, b.log.String(), "taken for dead")
	b.enqueue("b")
	b.becomes("b", outbox.StateSent)
	frozen.Store(false)
	close(release)
	b.becomes("a", outbox.StateSent)
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "it begins again") }, patience, time.Millisecond)
	assert.Empty(t, b.api.Duplicates())
	assert.Equal(t, 2, b.api.Totals().Calls)
}

// A Run does not send what it had claimed after another Run has freed it.
func TestClaimThatWasLostIsNotSent(t *testing.T) {
	b := newHarness(t)
	outbox.SetLife(b.Outbox, 50*time.Millisecond, 400*time.Millisecond)
	marking := make(chan struct{})
	o := b.open(nil)
	outbox.SetLife(o, time.Hour, time.Hour)
	var once atomic.Bool
	outbox.FailAt(o, func(name string) error {
		if name == "mark" && once.CompareAndSwap(false, true) {
			<-marking // it is frozen between its claim and its mark
		}
		return nil
	})
	b.enqueue("a")
	stop := run(t, o)
	require.Eventually(t, once.Load, patience, time.Millisecond)
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	close(marking)
	stop()
	b.becomes("a", outbox.StateSent)
	assert.Equal(t, 1, b.api.Totals().Calls)
}

func TestMarkThatTookTooLongIsTakenBack(t *testing.T) {
	b := newHarness(t)
	const marking = 300 * time.Millisecond
	outbox.SetLife(b.Outbox, time.Second, 2*marking)
	var late atomic.Int32
	outbox.LoseAnswers(b.Outbox, func(name string) error {
		if name == "mark" && late.Add(1) <= 2 {
			<-time.After(marking) // and what it took before
		}
		return nil
	})
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	assert.GreaterOrEqual(t, late.Load(), int32(3))
	assert.Equal(t, 1, b.api.Totals().Calls)
}

func TestMarkOrEndWhoseAnswerIsLostIsNotDoneTwice(t *testing.T) {
	b := newHarness(t)
	lost := errors.New("the answer was lost")
	var marks, ends atomic.Int32
	outbox.LoseAnswers(b.Outbox, func(name string) error {
		switch {
		case name == "mark" && marks.Add(1) <= 2, name == "end" && ends.Add(1) <= 2:
			return lost
		}
		return nil
	})
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, 1, b.api.Totals().Calls)
	assert.GreaterOrEqual(t, marks.Load(), int32(3))
}

func TestClockOfTheDatabaseThatIsAnHourOffHoldsForAll(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		b := newHarness(t, outbox.WithMaxAge(30*time.Minute))
		if os.Getenv(kindVariable) == "postgres" {
			where := place{"postgres", pgtest.Ahead(t, ahead)}
			b.database = func() outbox.Database { return where.open(t) }
			b.Outbox = b.open(nil, outbox.WithMaxAge(30*time.Minute))
		} else {
			outbox.SetClock(b.Outbox, ahead)
		}
		now := time.Now().Add(ahead)
		b.enqueue("a")
		require.NoError(t, b.Enqueue(t.Context(), "later", phoneNumberID, payload("later"), outbox.NotBefore(now.Add(300*time.Millisecond))))
		require.NoError(t, b.Enqueue(t.Context(), "expired", phoneNumberID, payload("x"), outbox.ExpiresAt(now.Add(-time.Second))))
		require.NoError(t, b.Enqueue(t.Context(), "in time", phoneNumberID, payload("x"), outbox.ExpiresAt(now.Add(time.Minute))))
		run(t, b.Outbox)
		b.becomes("a", outbox.StateSent)
		b.becomes("later", outbox.StateSent)
		b.becomes("in time", outbox.StateSent)
		b.becomes("expired", outbox.StateFailed)
		status, err := b.Status(t.Context(), "a")
		require.NoError(t, err)
		assert.WithinDuration(t, now, status.Enqueued, time.Minute)
	}
}

func TestDiskThatIsFullIsWaitedOutAndSaidInWords(t *testing.T) {
	if os.Getenv(kindVariable) == "postgres" {
		t.Skip("it is about the file of SQLite")
	}
	where := newPlace(t)
	db, database, err := where.connect()
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1) // the limit is the connection's
	o, err := outbox.Open(t.Context(), database, nil)
	require.NoError(t, err)
	defer o.Close()
	_, err = db.Exec("PRAGMA max_page_count = 1")
	require.NoError(t, err, "it is what there is already")
	for i := 0; err == nil; i++ {
		require.Less(t, i, 1000)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err = o.Enqueue(ctx, string(rune('a'+i)), phoneNumberID, payload(strings.Repeat("x", 5000)))
		cancel()
	}
	assert.ErrorContains(t, err, "full")
	_, err = db.Exec("PRAGMA max_page_count = 1000000")
	require.NoError(t, err)
	require.NoError(t, o.Enqueue(t.Context(), "z", phoneNumberID, payload("z")))
}

func TestTokenSourceThatFailsHoldsItsNumber(t *testing.T) {
	beside(t)
	for name, source := range map[string]func(context.Context, string) (string, error){
		"fails":  func(context.Context, string) (string, error) { return "", errors.New("the vault is sealed") },
		"empty":  func(context.Context, string) (string, error) { return "", nil },
		"panics": func(context.Context, string) (string, error) { panic("the vault is gone") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newHarness(t)
			var asked atomic.Int32
			o := b.open(nil, outbox.WithWorkers(1), outbox.WithTransportOptions(graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Hour)),
				outbox.WithTokenSource(func(ctx context.Context, number string) (string, error) {
					asked.Add(1)
					return source(ctx, number)
				}))
			b.enqueueMany("111", 5)
			run(t, o)
			require.Eventually(t, func() bool {
				stats, err := b.Stats(t.Context())
				return err == nil && stats.Numbers["111"].HeldFor != ""
			}, patience, time.Millisecond)
			assert.EqualValues(t, 1, asked.Load())
			assert.Empty(t, b.api.Calls())
		})
	}
}

func TestOutboxOfThousandNumbersSendsFromAll(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(32))
	const numbers = 200
	var messages []outbox.Message
	for i := range numbers {
		number := "1" + strings.Repeat("0", 3) + string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))
		messages = append(messages, outbox.Message{ID: number, PhoneNumberID: number, Payload: payload("x")})
	}
	require.NoError(t, b.EnqueueAll(t.Context(), messages))
	run(t, b.Outbox)
	b.accepts(numbers)
}
