package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

func TestLabelTellsACampaignFromTheOthers(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	require.NoError(t, b.EnqueueAll(t.Context(), []outbox.Message{newMessage("a", outbox.Label("june")), newMessage("b", outbox.Label("june")), newMessage("c", outbox.Label("july")), newMessage("d")}))
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, b.EnqueueTx(t.Context(), tx, newMessage("e", outbox.Label("june"))))
	require.NoError(t, tx.Commit())
	june := outbox.Filter{Label: "june"}
	assert.Equal(t, []string{"a", "b", "e"}, b.idsOf(june))
	assert.Equal(t, []string{"b", "e"}, b.idsOf(outbox.Filter{Label: "june", States: []outbox.State{outbox.StateQueued}, After: "a", PhoneNumberID: phoneNumberID}))
	assert.Empty(t, b.idsOf(outbox.Filter{Label: "june", PhoneNumberID: "222"}))
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]map[outbox.State]int{"june": {outbox.StateQueued: 3}, "july": {outbox.StateQueued: 1}}, stats.Labels)
	assert.Equal(t, 5, stats.States[outbox.StateQueued])

	n, err := b.DropAll(t.Context(), june)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = b.DropAll(t.Context(), june)
	require.NoError(t, err)
	assert.Zero(t, n, "again")
	run(t, b.Outbox)
	assert.Equal(t, "july", b.becomes("c", outbox.StateSent).Label)
	b.becomes("d", outbox.StateSent)
	for _, id := range []string{"a", "b", "e"} {
		status := b.becomes(id, outbox.StateFailed)
		assert.Equal(t, "dropped", status.Reason)
		assert.Equal(t, "june", status.Label)
	}
	stats, err = b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]map[outbox.State]int{"june": {outbox.StateFailed: 3}, "july": {outbox.StateSent: 1}}, stats.Labels)
	assert.Len(t, b.api.Accepted(), 2)

	n, err = b.ResendAll(t.Context(), june)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	for _, id := range []string{"a", "b", "e"} {
		b.becomes(id, outbox.StateSent)
	}
	n, err = b.DeleteAll(t.Context(), june)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	assert.Empty(t, b.idsOf(june))
	b.enqueue("a") // its id is taken
	_, err = b.Status(t.Context(), "a")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
	assert.Len(t, b.api.Accepted(), 5)
}

// A page of messages becomes what each of them would become alone.
func TestDecisionForAllIsThatForEach(t *testing.T) {
	beside(t)
	type decision struct {
		one func(*outbox.Outbox, string) error
		all func(*outbox.Outbox, outbox.Filter) (int, error)
	}
	for name, d := range map[string]decision{
		"resend": {func(o *outbox.Outbox, id string) error { return o.Resend(t.Context(), id) }, func(o *outbox.Outbox, f outbox.Filter) (int, error) { return o.ResendAll(t.Context(), f) }},
		"drop":   {func(o *outbox.Outbox, id string) error { return o.Drop(t.Context(), id) }, func(o *outbox.Outbox, f outbox.Filter) (int, error) { return o.DropAll(t.Context(), f) }},
		"park":   {func(o *outbox.Outbox, id string) error { return o.Park(t.Context(), id) }, func(o *outbox.Outbox, f outbox.Filter) (int, error) { return o.ParkAll(t.Context(), f) }},
		"delete": {func(o *outbox.Outbox, id string) error { return o.Delete(t.Context(), id) }, func(o *outbox.Outbox, f outbox.Filter) (int, error) { return o.DeleteAll(t.Context(), f) }},
	} {
		t.Run(name, func(t *testing.T) {
			become := func(decide func(*bench, []string) int) (states map[string]outbox.Status, done int) {
				b := newHarness(t, outbox.WithWorkers(1))
				where, _ := b.tables()
				b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeParameterInvalid})
				b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
				ids := []string{"failed", "unknown", "sent", "retried", "queued", "later", "row"}
				one := b.open(nil, outbox.WithWorkers(1), outbox.WithTransportOptions(graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Hour)))
				b.enqueue("failed", "unknown", "sent")
				stop := run(t, one)
				b.becomes("failed", outbox.StateFailed)
				b.becomes("unknown", outbox.StateUnknown)
				b.becomes("sent", outbox.StateSent)
				b.api.AnswerNext(1, graphtest.Answer{Code: 130429})
				b.enqueue("retried")
				b.until("retried", "refused", func(s outbox.Status) bool { return s.Graph != nil })
				stop()
				b.enqueue("queued")
				require.NoError(t, b.Enqueue(t.Context(), "later", phoneNumberID, payload("later"), outbox.NotBefore(time.Now().Add(time.Hour))))
				b.insertRow(where, "row")
				done = decide(b, ids)
				states = make(map[string]outbox.Status)
				for _, id := range ids {
					status, err := b.Status(t.Context(), id)
					if err == nil {
						status.Changed, status.Enqueued, status.NotBefore, status.MessageID = time.Time{}, time.Time{}, time.Time{}, ""
						if status.Graph != nil {
							status.Graph.TraceID = ""
						}
						if status.ID == "unknown" && status.Reason != "dropped" {
							status.Reason = "" // it names a port
						}
					}
					states[id] = status
				}
				return states, done
			}
			each, one := become(func(b *bench, ids []string) (done int) {
				for _, id := range ids {
					if d.one(b.Outbox, id) == nil {
						done++
					}
				}
				return done
			})
			all, many := become(func(b *bench, _ []string) int {
				n, err := d.all(b.Outbox, outbox.Filter{})
				require.NoError(t, err)
				return n
			})
			assert.Equal(t, each, all)
			assert.LessOrEqual(t, many, one, "what is queued already is put back for nothing")
			assert.Positive(t, many)
		})
	}
}

func TestWhatIsBeingSentIsLeftAlone(t *testing.T) {
	b := newHarness(t)
	o, held, release := b.holding()
	b.enqueue("sending")
	run(t, o)
	<-held
	var messages []outbox.Message
	for i := range 20 {
		messages = append(messages, newMessage(fmt.Sprint(i), outbox.NotBefore(time.Now().Add(time.Hour))))
	}
	require.NoError(t, b.EnqueueAll(t.Context(), messages))
	n, err := b.DeleteAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	assert.Equal(t, len(messages), n)
	assert.Contains(t, b.log.String(), "graphretry.outbox.left_sending=1")
	n, err = b.DropAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	assert.Zero(t, n)
	close(release)
	b.becomes("sending", outbox.StateSent)
}

// A message that changes while its page is decided about is read again.
func TestMessageThatChangesWhileItsPageIsDecidedAboutIsReadAgain(t *testing.T) {
	b := newHarness(t)
	ids := b.enqueueMany(phoneNumberID, 30)
	other := b.open(nil)
	first := true
	outbox.FailAt(b.Outbox, func(name string) error {
		if name == "park" && first {
			first = false
			assert.NoError(t, other.Drop(t.Context(), ids[3]))
			assert.NoError(t, other.Delete(t.Context(), ids[4]))
			assert.NoError(t, other.Park(t.Context(), ids[5]))
			assert.NoError(t, other.Resend(t.Context(), ids[5]))
		}
		return nil
	})
	n, err := b.ParkAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	assert.Equal(t, 28, n)
	b.becomes(ids[3], outbox.StateFailed)
	b.becomes(ids[5], outbox.StateUnknown)
	b.becomes(ids[29], outbox.StateUnknown)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateUnknown: 28, outbox.StateFailed: 1}, stats.States)
}

func TestProcessIsHealthyWhileItsDatabaseAndItsRunAre(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	o := b.open(nil)
	outbox.SetLife(o, 100*time.Millisecond, time.Second)
	require.NoError(t, o.Health(t.Context()), "without a Run")
	var silent atomic.Bool
	outbox.FailAt(o, func(name string) error {
		if name == "heartbeat" && silent.Load() {
			return outbox.ErrDead
		}
		return nil
	})
	stop := run(t, o)
	require.NoError(t, o.Health(t.Context()))
	silent.Store(true)
	require.Eventually(t, func() bool { return o.Health(t.Context()) != nil }, patience, 10*time.Millisecond)
	assert.ErrorContains(t, o.Health(t.Context()), "no heartbeat")
	assert.NoError(t, b.Health(t.Context()), "it is not this process's")
	silent.Store(false)
	require.Eventually(t, func() bool { return o.Health(t.Context()) == nil }, patience, 10*time.Millisecond)
	stop()

	_, err := db.Exec("UPDATE graphretry_meta SET value = '9' WHERE key = 'version'")
	require.NoError(t, err)
	assert.ErrorContains(t, o.Health(t.Context()), "want a newer program")
	_, err = db.Exec("DROP TABLE graphretry_meta")
	require.NoError(t, err)
	assert.ErrorContains(t, o.Health(t.Context()), "there is no outbox")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, o.Health(ended))
	require.NoError(t, o.Close())
	assert.ErrorIs(t, o.Health(t.Context()), outbox.ErrClosed)
}

func TestStandbyIsNotHealthy(t *testing.T) {
	onPostgres(t)
	b := newHarness(t)
	where, db := b.tables()
	readOnly := place{where.kind, where.where + " default_transaction_read_only=on"}
	o, err := outbox.Open(t.Context(), readOnly.open(t), nil, outbox.WithoutMigration())
	require.NoError(t, err)
	assert.ErrorContains(t, o.Health(t.Context()), "accepts no writes")
	require.NoError(t, db.Ping())
	require.NoError(t, o.Close())
}

func TestStatsTellOfRunsAndHolds(t *testing.T) {
	b := newHarness(t)
	o := b.open(nil)
	stop := run(t, o)
	dead := b.open(nil)
	outbox.FailAt(dead, func(name string) error {
		if name == "heartbeat" || name == "end of a Run" {
			return fmt.Errorf("%w", outbox.ErrDead)
		}
		return nil
	})
	stats := func() outbox.Stats {
		stats, err := b.Stats(t.Context())
		require.NoError(t, err)
		return stats
	}
	require.Eventually(t, func() bool { return len(stats().Runs) == 1 }, patience, time.Millisecond)
	assert.False(t, stats().Runs[0].Dead)
	assert.WithinDuration(t, time.Now(), stats().Runs[0].Began, patience)
	stop()
	assert.Empty(t, stats().Runs)
	outbox.SetLife(b.Outbox, 100*time.Millisecond, time.Second)
	stop = run(t, dead) // no other Run is there to remove it
	require.Eventually(t, func() bool { runs := stats().Runs; return len(runs) == 1 && runs[0].Dead }, patience, 10*time.Millisecond)
	stop()
}

// Bulk decisions go beyond the first page, stop at the limit, and apply every field of a
// Filter.
func TestDecisionGoesThroughAllPages(t *testing.T) {
	b := newHarness(t)
	const n = 9000
	for begin := 0; begin < n; begin += 500 {
		var messages []outbox.Message
		for i := begin; i < begin+500; i++ {
			messages = append(messages, newMessage(fmt.Sprintf("%04d", i), outbox.Label(fmt.Sprint("of ", i%2))))
		}
		require.NoError(t, b.EnqueueAll(t.Context(), messages))
	}
	done, err := b.DropAll(t.Context(), outbox.Filter{Limit: 4100})
	require.NoError(t, err)
	assert.Equal(t, 4100, done)
	done, err = b.ParkAll(t.Context(), outbox.Filter{After: "4999"})
	require.NoError(t, err)
	assert.Equal(t, 4000, done)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateFailed: 4100, outbox.StateQueued: 900, outbox.StateUnknown: 4000}, stats.States)
	assert.Equal(t, map[outbox.State]int{outbox.StateFailed: 2050, outbox.StateQueued: 450, outbox.StateUnknown: 2000}, stats.Labels["of 1"])
	done, err = b.DeleteAll(t.Context(), outbox.Filter{Label: "of 1", States: []outbox.State{outbox.StateFailed, outbox.StateUnknown}})
	require.NoError(t, err)
	assert.Equal(t, 4050, done)
	done, err = b.ResendAll(t.Context(), outbox.Filter{PhoneNumberID: phoneNumberID, OlderThan: time.Nanosecond})
	require.NoError(t, err)
	assert.Equal(t, 4050, done)
	stats, err = b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 4950}, stats.States)
	_, err = b.DropAll(t.Context(), outbox.Filter{After: "none"})
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}
