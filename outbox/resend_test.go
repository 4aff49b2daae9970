package outbox_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// unknown lists the unknown messages, as a person does before a decision.
func (b *bench) unknown() []outbox.Status {
	b.t.Helper()
	listed, err := b.List(b.t.Context(), outbox.Filter{States: []outbox.State{outbox.StateUnknown}})
	require.NoError(b.t, err)
	return listed
}

// isResent asserts that a message is as it was listed, except that it is queued if it was
// resent.
func (b *bench) isResent(resent bool, before outbox.Status) {
	b.t.Helper()
	after, err := b.Status(b.t.Context(), before.ID)
	require.NoError(b.t, err)
	if !resent {
		assert.Equal(b.t, before, after)
		return
	}
	assert.Equal(b.t, outbox.StateQueued, after.State, before.ID)
	assert.Empty(b.t, after.Reason, before.ID)
	assert.True(b.t, after.Changed.After(before.Changed), before.ID)
}

// A message that somebody else has decided about since a person has seen it is not sent again.
func TestOnlyWhatHasNotChangedSinceItWasListedIsResent(t *testing.T) {
	b := newHarness(t)
	odd := "\"\\\n{}' \u202e,\x1b"
	b.enqueue("dropped", "resent", "parked again", "deleted", "as it was", "late")
	require.NoError(t, b.Enqueue(t.Context(), odd, phoneNumberID, payload("odd")))
	for _, id := range []string{"dropped", odd, "resent", "parked again", "deleted", "as it was"} {
		require.NoError(t, b.Park(t.Context(), id))
	}
	listed := b.unknown()
	require.Len(t, listed, 6)
	require.NoError(t, b.Drop(t.Context(), "dropped"))
	require.NoError(t, b.Resend(t.Context(), "resent"))
	require.NoError(t, b.Resend(t.Context(), "parked again"))
	require.NoError(t, b.Park(t.Context(), "parked again"))
	require.NoError(t, b.Delete(t.Context(), "deleted"))
	require.NoError(t, b.Park(t.Context(), "late"))

	n, err := b.ResendListed(t.Context(), append(listed, listed...))
	require.NoError(t, err)
	assert.Equal(t, 2, n, "an id that is there twice is one message")
	assert.Contains(t, b.log.String(), "graphretry.outbox.decision=resend graphretry.outbox.messages=2 ")
	for id, want := range map[string]outbox.State{
		"dropped": outbox.StateFailed, odd: outbox.StateQueued, "resent": outbox.StateQueued, "parked again": outbox.StateUnknown,
		"as it was": outbox.StateQueued, "late": outbox.StateUnknown,
	} {
		status, err := b.Status(t.Context(), id)
		require.NoError(t, err, id)
		assert.Equal(t, want, status.State, id)
	}
	n, err = b.ResendListed(t.Context(), listed)
	require.NoError(t, err)
	assert.Zero(t, n, "again")
	dropped, err := b.List(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	n, err = b.ResendListed(t.Context(), dropped)
	require.NoError(t, err)
	assert.Equal(t, 3, n, "those that are failed or unknown, whatever else was listed")
	n, err = b.ResendListed(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = b.ResendListed(t.Context(), []outbox.Status{{ID: "a\x00b", State: outbox.StateFailed}})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	second := b.open(nil, outbox.WithName("second"))
	require.NoError(t, second.Enqueue(t.Context(), "dropped", phoneNumberID, payload("dropped")))
	require.NoError(t, second.Drop(t.Context(), "dropped"))
	n, err = second.ResendListed(t.Context(), dropped)
	require.NoError(t, err)
	assert.Zero(t, n, "what was listed is another outbox's")
	run(t, b.Outbox)
	b.accepts(6)
}

// Between the read of a page and its transaction others decide, too.
func TestWhatChangesWhileAPageIsResentIsLeftAlone(t *testing.T) {
	for name, resend := range map[string]func(*bench, []outbox.Status) (int, error){
		"all":    func(b *bench, _ []outbox.Status) (int, error) { return b.ResendAll(b.t.Context(), outbox.Filter{}) },
		"listed": func(b *bench, listed []outbox.Status) (int, error) { return b.ResendListed(b.t.Context(), listed) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newHarness(t)
			ids := b.enqueueMany(phoneNumberID, 10)
			_, err := b.ParkAll(t.Context(), outbox.Filter{})
			require.NoError(t, err)
			listed := b.unknown()
			other := b.open(nil)
			first := true
			outbox.FailAt(b.Outbox, func(name string) error {
				if name == "resend" && first {
					first = false
					assert.NoError(t, other.Drop(t.Context(), ids[3]))
					assert.NoError(t, other.Delete(t.Context(), ids[4]))
					assert.NoError(t, other.Resend(t.Context(), ids[5]))
					assert.NoError(t, other.Resend(t.Context(), ids[6]))
					assert.NoError(t, other.Park(t.Context(), ids[6]))
				}
				return nil
			})
			n, err := resend(b, listed)
			require.NoError(t, err)
			assert.Equal(t, 6, n)
			b.becomes(ids[3], outbox.StateFailed)
			b.becomes(ids[5], outbox.StateQueued)
			b.becomes(ids[6], outbox.StateUnknown)
			b.isResent(true, listed[9])
			assert.Len(t, b.idsOf(outbox.Filter{States: []outbox.State{outbox.StateQueued}}), 7)
		})
	}
}

// A record that cannot be read stays as it is, and a person is told.
func TestRecordThatCannotBeReadIsNotResent(t *testing.T) {
	for name, meanwhile := range map[string]bool{"before": false, "meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			b := newHarness(t)
			_, db := b.tables()
			b.enqueue("a", "b")
			_, err := b.ParkAll(t.Context(), outbox.Filter{})
			require.NoError(t, err)
			listed := b.unknown()
			spoil := func() {
				_, err := db.Exec("UPDATE graphretry_record SET memory = 'x', rev = rev + 1 WHERE seq = (SELECT seq FROM graphretry_message WHERE id = 'a')")
				assert.NoError(t, err)
			}
			if !meanwhile {
				spoil()
			}
			first := true
			outbox.FailAt(b.Outbox, func(name string) error {
				if name == "resend" && first && meanwhile {
					first = false
					spoil()
				}
				return nil
			})
			n, err := b.ResendListed(t.Context(), listed)
			require.ErrorContains(t, err, `the record of message "a" cannot be read`)
			assert.Equal(t, 1, n)
			assert.Equal(t, []string{"b"}, b.idsOf(outbox.Filter{States: []outbox.State{outbox.StateQueued}}))
		})
	}
}

// The database has made the change, and the process does not learn of it.
func TestResentMessagesAreCountedAndSentOnceThoughTheAnswerIsLost(t *testing.T) {
	b := newHarness(t)
	b.enqueueMany(phoneNumberID, 10)
	_, err := b.ParkAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	listed := b.unknown()
	lost := 0
	outbox.LoseAnswers(b.Outbox, func(name string) error {
		if name == "resend" && lost < 2 {
			lost++
			return driver.ErrBadConn
		}
		return nil
	})
	n, err := b.ResendListed(t.Context(), listed)
	require.NoError(t, err)
	assert.Equal(t, 10, n)
	assert.Equal(t, 2, lost)
	run(t, b.Outbox)
	b.accepts(10)
	for _, s := range listed {
		b.becomes(s.ID, outbox.StateSent)
	}
}

// A process that dies between two pages, or in the middle of one, has resent whole pages. The
// other messages are as they were, and can be resent.
func TestProcessThatDiesHasResentWholePages(t *testing.T) {
	b := newHarness(t)
	where, db := b.tables()
	const n, pageSize = 4100, 4000
	for begin := 0; begin < n; begin += 100 {
		var messages []outbox.Message
		for i := begin; i < begin+100; i++ {
			messages = append(messages, newMessage(fmt.Sprintf("%04d", i)))
		}
		require.NoError(t, b.EnqueueAll(t.Context(), messages))
	}
	_, err := b.ParkAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	listed := b.unknown()
	require.Len(t, listed, n)

	// In the middle of the first page.
	rules := []string{"CREATE TRIGGER mine BEFORE INSERT ON graphretry_queue WHEN NEW.recipient = 'nobody' BEGIN SELECT RAISE(ABORT, 'out of order'); END"}
	if where.kind == "postgres" {
		rules = []string{"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'out of order'; END$$",
			"CREATE TRIGGER mine BEFORE INSERT ON graphretry_queue FOR EACH ROW WHEN (NEW.recipient = 'nobody') EXECUTE FUNCTION mine()"}
	}
	for _, rule := range append(rules, "UPDATE graphretry_message SET recipient = 'nobody' WHERE id = '2000'") {
		_, err := db.Exec(rule)
		require.NoError(t, err)
	}
	done, err := b.ResendListed(t.Context(), listed)
	require.ErrorContains(t, err, "cannot resend the messages")
	assert.Zero(t, done)
	b.isResent(false, listed[0])
	b.isResent(false, listed[2000])
	_, err = db.Exec("UPDATE graphretry_message SET recipient = '15550001111'")
	require.NoError(t, err)

	// After the first page.
	dies := b.open(nil)
	pages := 0
	outbox.FailAt(dies, func(name string) error {
		if name == "resend" {
			if pages++; pages == 2 {
				return outbox.ErrDead
			}
		}
		return nil
	})
	done, err = dies.ResendListed(t.Context(), listed)
	require.ErrorIs(t, err, outbox.ErrDead)
	assert.Equal(t, pageSize, done)
	b.isResent(true, listed[0])
	b.isResent(true, listed[pageSize-1])
	b.isResent(false, listed[pageSize])
	b.isResent(false, listed[n-1])
	resent, err := b.Status(t.Context(), listed[0].ID)
	require.NoError(t, err)

	b.past(resent.Changed.Add(time.Millisecond))
	done, err = b.ResendListed(t.Context(), listed)
	require.NoError(t, err)
	assert.Equal(t, n-pageSize, done, "the rest, and nothing again")
	b.isResent(false, resent)
	b.isResent(true, listed[n-1])
}

// A Status that a program has made up says nothing about what a person has seen.
func TestStatusWithoutATimeIsRefused(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a", "b")
	_, err := b.ParkAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	listed := b.unknown()
	n, err := b.ResendListed(t.Context(), []outbox.Status{listed[0], {ID: "b"}})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, `the Status of message "b" has no Changed`)
	assert.Zero(t, n)
	b.isResent(false, listed[0])
}

// Two persons press the button at the same moment.
func TestTwoCallersResendEachMessageOnce(t *testing.T) {
	b := newHarness(t)
	const n = 4100
	b.enqueueIn(outbox.StateUnknown, n)
	listed := b.unknown()
	other := b.open(nil)
	type result struct {
		n   int
		err error
	}
	results := make(chan result)
	for _, o := range []*outbox.Outbox{b.Outbox, b.Outbox, other, other} {
		go func() {
			n, err := o.ResendListed(t.Context(), listed)
			results <- result{n, err}
		}()
	}
	total := 0
	for range 4 {
		r := <-results
		assert.NoError(t, r.err)
		total += r.n
	}
	assert.Equal(t, n, total)
	found, err := b.List(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateQueued}})
	require.NoError(t, err)
	assert.Len(t, found, n)
}

// The page in which a context ends stays as it was.
func TestResendEndsWithItsContext(t *testing.T) {
	b := newHarness(t)
	const n, pageSize = 4100, 4000
	b.enqueueIn(outbox.StateUnknown, n)
	listed := b.unknown()
	ctx, cancel := context.WithCancel(t.Context())
	writes := beforeWrites(b.Outbox, "resend", func() {}, cancel)
	done, err := b.ResendListed(ctx, listed)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, pageSize, done)
	assert.EqualValues(t, 2, writes.Load())
	b.isResent(true, listed[pageSize-1])
	b.isResent(false, listed[pageSize])
	done, err = b.ResendListed(t.Context(), listed)
	require.NoError(t, err)
	assert.Equal(t, n-pageSize, done)
}

// A call that has ended resends nothing any more when the database answers at last.
func TestDatabaseThatAnswersTooLateResendsNothing(t *testing.T) {
	b := newHarness(t)
	where, db := b.tables()
	b.enqueueIn(outbox.StateUnknown, 3)
	listed := b.unknown()
	lock, end := "BEGIN IMMEDIATE", "ROLLBACK"
	if where.kind == "postgres" {
		lock = "BEGIN; LOCK TABLE graphretry_record IN EXCLUSIVE MODE"
	}
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), lock)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n, err := b.ResendListed(ctx, listed)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Zero(t, n)
	_, err = conn.ExecContext(t.Context(), end)
	require.NoError(t, err)
	b.enqueue("after") // SQLite and PostgreSQL take the writes in turn
	for _, s := range listed {
		b.isResent(false, s)
	}
	n, err = b.ResendListed(t.Context(), listed)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
}
