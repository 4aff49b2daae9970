package outbox_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// bulk is a decision about many messages.
type bulk struct {
	verb   string
	before outbox.State // of the messages that these tests decide about
	after  outbox.State // "" for none
	all    func(*outbox.Outbox, context.Context, outbox.Filter) (int, error)
}

var bulks = []bulk{
	{"drop", outbox.StateUnknown, outbox.StateFailed, (*outbox.Outbox).DropAll},
	{"drop", outbox.StateQueued, outbox.StateFailed, (*outbox.Outbox).DropAll},
	{"park", outbox.StateQueued, outbox.StateUnknown, (*outbox.Outbox).ParkAll},
	{"delete", outbox.StateQueued, "", (*outbox.Outbox).DeleteAll},
	{"delete", outbox.StateFailed, "", (*outbox.Outbox).DeleteAll},
}

func (d bulk) String() string { return d.verb + " " + string(d.before) }

func (d bulk) filter() outbox.Filter { return outbox.Filter{States: []outbox.State{d.before}} }

// eachBulk runs a test for each of these decisions.
func eachBulk(t *testing.T, test func(t *testing.T, d bulk)) {
	beside(t)
	for _, d := range bulks {
		t.Run(d.String(), func(t *testing.T) { test(t, d) })
	}
}

// enqueueIn enqueues messages, and brings them to a state.
func (b *bench) enqueueIn(state outbox.State, n int) (ids []string) {
	b.t.Helper()
	for begin := 0; begin < n; begin += 100 {
		var messages []outbox.Message
		for i := begin; i < min(n, begin+100); i++ {
			ids = append(ids, fmt.Sprintf("%04d", i))
			messages = append(messages, newMessage(ids[i]))
		}
		require.NoError(b.t, b.EnqueueAll(b.t.Context(), messages))
	}
	var err error
	switch state {
	case outbox.StateUnknown:
		_, err = b.ParkAll(b.t.Context(), outbox.Filter{})
	case outbox.StateFailed:
		_, err = b.DropAll(b.t.Context(), outbox.Filter{})
	}
	require.NoError(b.t, err)
	return ids
}

// bring has a person bring a message to a state, whatever state it has.
func bring(t *testing.T, o *outbox.Outbox, id string, state outbox.State) {
	for _, step := range map[outbox.State][]func(*outbox.Outbox, context.Context, string) error{
		outbox.StateQueued:  {(*outbox.Outbox).Resend},
		outbox.StateUnknown: {(*outbox.Outbox).Resend, (*outbox.Outbox).Park},
		outbox.StateFailed:  {(*outbox.Outbox).Drop},
	}[state] {
		assert.NoError(t, step(o, t.Context(), id), id)
	}
}

// another returns another state than that.
func another(state outbox.State) outbox.State {
	if state == outbox.StateQueued {
		return outbox.StateFailed
	}
	return outbox.StateQueued
}

// is asserts the state of a message, "" if there is none.
func (b *bench) is(state outbox.State, id string) {
	b.t.Helper()
	status, err := b.Status(b.t.Context(), id)
	if !errors.Is(err, outbox.ErrNotFound) {
		require.NoError(b.t, err)
	}
	assert.Equal(b.t, state, status.State, id)
}

// beforeWrites calls these functions, the n-th one before the n-th write with that name. It
// returns the number of these writes.
func beforeWrites(o *outbox.Outbox, verb string, calls ...func()) (writes *atomic.Int32) {
	writes = new(atomic.Int32)
	outbox.FailAt(o, func(name string) error {
		if name == verb {
			if n := int(writes.Add(1)); n <= len(calls) {
				calls[n-1]()
			}
		}
		return nil
	})
	return writes
}

// Others decide between the read of a page and its write, and again before the write about those
// that had changed.
func TestWhatDoesNotMatchAnyMoreIsLeftAlone(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		b := newHarness(t)
		ids := b.enqueueIn(d.before, 10)
		other := b.open(nil)
		there := func(id string) { // it matches, but has changed
			bring(t, other, id, another(d.before))
			bring(t, other, id, d.before)
		}
		writes := beforeWrites(b.Outbox, d.verb, func() {
			bring(t, other, ids[3], another(d.before))
			there(ids[5])
			there(ids[6])
			there(ids[7])
		}, func() {
			bring(t, other, ids[5], another(d.before))
			there(ids[7])
		})
		n, err := d.all(b.Outbox, t.Context(), d.filter())
		require.NoError(t, err)
		assert.Equal(t, 8, n)
		assert.EqualValues(t, 3, writes.Load(), "the page, then 5, 6 and 7, then 7")
		for i, id := range ids {
			if i == 3 || i == 5 {
				b.is(another(d.before), id)
			} else {
				b.is(d.after, id)
			}
		}
	})
}

// What a device has, somebody else has deleted, a Run has sent or another code describes does not
// match.
func TestEveryWayToStopMatchingCounts(t *testing.T) {
	t.Run("webhook", func(t *testing.T) {
		b := newHarness(t)
		ids := b.enqueueIn(outbox.StateUnknown, 5)
		other := b.open(nil)
		beforeWrites(b.Outbox, "delete", func() {
			assert.NoError(t, other.HandleWebhook(t.Context(), webhookOf(graphtest.Message{ID: "wamid.1", CallbackData: ids[2]})))
		})
		n, err := b.DeleteAll(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateUnknown}})
		require.NoError(t, err)
		assert.Equal(t, 4, n)
		b.is(outbox.StateSent, ids[2])
		b.is("", ids[4])
	})
	t.Run("deleted", func(t *testing.T) {
		b := newHarness(t)
		ids := b.enqueueIn(outbox.StateQueued, 5)
		other := b.open(nil)
		beforeWrites(b.Outbox, "drop", func() { assert.NoError(t, other.Delete(t.Context(), ids[2])) })
		n, err := b.DropAll(t.Context(), outbox.Filter{})
		require.NoError(t, err)
		assert.Equal(t, 4, n)
		b.is("", ids[2])
	})
	t.Run("adopted and sent", func(t *testing.T) {
		for verb, all := range map[string]func(*outbox.Outbox, context.Context, outbox.Filter) (int, error){
			"drop": (*outbox.Outbox).DropAll, "delete": (*outbox.Outbox).DeleteAll,
		} {
			b := newHarness(t)
			where, _ := b.tables()
			b.insertRow(where, "row")
			beforeWrites(b.Outbox, verb, func() {
				stop := run(t, b.open(nil))
				b.becomes("row", outbox.StateSent)
				stop()
			})
			n, err := all(b.Outbox, t.Context(), outbox.Filter{States: []outbox.State{outbox.StateQueued}})
			require.NoError(t, err)
			assert.Zero(t, n, verb)
			b.is(outbox.StateSent, "row")
		}
	})
	t.Run("code", func(t *testing.T) {
		b := newHarness(t)
		b.api.AnswerNext(3, graphtest.Answer{Code: graphretry.CodeParameterInvalid})
		ids := b.enqueueIn(outbox.StateQueued, 3)
		stop := run(t, b.Outbox)
		for _, id := range ids {
			b.becomes(id, outbox.StateFailed)
		}
		stop()
		other := b.open(nil)
		beforeWrites(b.Outbox, "delete", func() {
			bring(t, other, ids[1], outbox.StateQueued)
			bring(t, other, ids[1], outbox.StateFailed)
		})
		n, err := b.DeleteAll(t.Context(), outbox.Filter{Code: graphretry.CodeParameterInvalid})
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		b.is(outbox.StateFailed, ids[1])
	})
}

// A message that a Run has claimed and not yet begun to send is queued.
func TestWhatARunHasClaimedIsDecidedAboutUnlessItIsBeingSent(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		if d.before != outbox.StateQueued {
			t.Skip("no Run has it")
		}
		for _, sending := range []bool{false, true} {
			b := newHarness(t)
			o, held, release := b.holding()
			marking, goOn := make(chan bool), make(chan bool)
			outbox.FailAt(o, func(name string) error {
				if name == "mark" {
					marking <- true
					<-goOn
				}
				return nil
			})
			stop := run(t, o)
			b.enqueue("claimed")
			<-marking
			writes := beforeWrites(b.Outbox, d.verb, func() {
				if sending {
					close(goOn)
					<-held
				}
			})
			n, err := d.all(b.Outbox, t.Context(), d.filter())
			require.NoError(t, err)
			assert.EqualValues(t, 1, writes.Load())
			close(release)
			if sending {
				assert.Zero(t, n)
				b.becomes("claimed", outbox.StateSent)
			} else {
				assert.Equal(t, 1, n)
				close(goOn)
				stop()
				b.is(d.after, "claimed")
				assert.Zero(t, b.api.Totals().Calls)
			}
		}
	})
}

// The database has made the change, and the process does not learn of it. Meanwhile somebody
// decides otherwise about one of the messages.
func TestDecisionWhoseAnswerIsLostCountsAndTakesNothingBack(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		var told atomic.Int32
		b := newHarness(t, outbox.WithObserver(func(_ context.Context, e outbox.Event) {
			if e.Kind == outbox.EventOutcome {
				told.Add(1)
			}
		}))
		ids := b.enqueueIn(d.before, 10)
		other := b.open(nil)
		told.Store(0)
		lost := 0
		outbox.LoseAnswers(b.Outbox, func(name string) error {
			if name != d.verb || lost == 2 {
				return nil
			}
			if lost++; lost == 2 && d.after != "" {
				bring(t, other, ids[3], d.before)
				other, err := other.Status(t.Context(), ids[3])
				assert.NoError(t, err)
				assert.Equal(t, d.before, other.State)
			}
			return driver.ErrBadConn
		})
		n, err := d.all(b.Outbox, t.Context(), d.filter())
		require.NoError(t, err)
		assert.Equal(t, 2, lost)
		assert.Equal(t, 10, n)
		if d.after != "" {
			assert.EqualValues(t, 10, told.Load(), "each once")
		}
		for i, id := range ids {
			if i == 3 && d.after != "" {
				b.is(d.before, id)
			} else {
				b.is(d.after, id)
			}
		}
	})
}

// The answer to the write about one message that has changed is lost, too.
func TestDecisionAboutOneThatHasChangedCountsThoughItsAnswerIsLost(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		b := newHarness(t)
		ids := b.enqueueIn(d.before, 2)
		other := b.open(nil)
		beforeWrites(b.Outbox, d.verb, func() {
			bring(t, other, ids[1], another(d.before))
			bring(t, other, ids[1], d.before)
		})
		writes := 0
		outbox.LoseAnswers(b.Outbox, func(name string) error {
			if name == d.verb {
				if writes++; writes == 2 {
					return driver.ErrBadConn
				}
			}
			return nil
		})
		n, err := d.all(b.Outbox, t.Context(), d.filter())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, writes, 2)
		assert.Equal(t, 2, n)
		b.is(d.after, ids[1])
	})
}

// The transaction is rolled back and repeated. Meanwhile the only message changes, so that nothing
// is as it was read, or another one is deleted. Both look as if the transaction had committed.
func TestDecisionIsRepeatedIfItsTransactionWasRolledBack(t *testing.T) {
	onPostgres(t)
	eachBulk(t, func(t *testing.T, d bulk) {
		for _, meanwhile := range []string{"it changes", "it changes twice", "another is deleted"} {
			b := newHarness(t)
			_, db := b.tables()
			messages := 1
			if meanwhile == "another is deleted" {
				messages = 2
			}
			ids := b.enqueueIn(d.before, messages)
			other := b.open(nil)
			table, event := "graphretry_record", "INSERT"
			if d.after == "" {
				table, event = "graphretry_message", "DELETE"
			}
			for _, rule := range []string{"CREATE SEQUENCE tries",
				"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF nextval('tries') = 1 THEN RAISE SQLSTATE '40001'; END IF; RETURN coalesce(NEW, OLD); END$$",
				fmt.Sprintf("CREATE TRIGGER mine BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION mine()", event, table)} {
				_, err := db.Exec(rule)
				require.NoError(t, err)
			}
			beforeWrites(b.Outbox, d.verb, func() {}, func() {
				switch meanwhile {
				case "it changes":
					bring(t, other, ids[0], another(d.before))
				case "it changes twice":
					bring(t, other, ids[0], another(d.before))
					bring(t, other, ids[0], d.before)
				default:
					assert.NoError(t, other.Delete(t.Context(), ids[1]))
				}
			})
			n, err := d.all(b.Outbox, t.Context(), d.filter())
			require.NoError(t, err)
			if meanwhile == "it changes" {
				assert.Zero(t, n)
				b.is(another(d.before), ids[0])
			} else {
				assert.Equal(t, 1, n, meanwhile)
				b.is(d.after, ids[0])
			}
		}
	})
}

// A webhook has said that an earlier attempt failed while the message was marked, and it was
// given back. So the policy decides when it is parked.
func TestParkedMessageThatIsToBeSentAgainStaysInTheQueue(t *testing.T) {
	b := newHarness(t, slowRetries())
	_, db := b.tables()
	ids := b.enqueueIn(outbox.StateUnknown, 4)
	for _, id := range ids {
		bring(t, b.Outbox, id, outbox.StateQueued)
	}
	_, err := db.Exec(`UPDATE graphretry_record SET memory = '{"overtook":{"wamid.1":{"code":131000}},"graph":{"code":131000}}' WHERE seq IN (SELECT seq FROM graphretry_message WHERE id <> '0002')`)
	require.NoError(t, err)
	other := b.open(nil)
	beforeWrites(b.Outbox, "park", func() {
		bring(t, other, ids[1], outbox.StateFailed)
		bring(t, other, ids[3], outbox.StateFailed)
		bring(t, other, ids[3], outbox.StateQueued)
	})
	n, err := b.ParkAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	b.is(outbox.StateQueued, ids[0])
	b.is(outbox.StateFailed, ids[1])
	b.is(outbox.StateUnknown, ids[2])
	b.is(outbox.StateUnknown, ids[3])
}

// A process that dies between two pages, or in the middle of one, has decided about whole pages.
func TestProcessThatDiesHasDecidedAboutWholePages(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		b := newHarness(t)
		where, db := b.tables()
		const n, pageSize = 4100, 4000
		ids := b.enqueueIn(d.before, n)

		// In the middle of the first page.
		table, event, row := "graphretry_record", "INSERT", "NEW"
		if d.after == "" {
			table, event, row = "graphretry_message", "DELETE", "OLD"
		}
		var seq int64
		require.NoError(t, db.QueryRow("SELECT seq FROM graphretry_message WHERE id = $1", ids[2000]).Scan(&seq))
		begin := fmt.Sprintf("CREATE TRIGGER mine BEFORE %s ON %s", event, table)
		when := fmt.Sprintf("WHEN (%s.seq = %d)", row, seq)
		rules, end := []string{begin + " " + when + " BEGIN SELECT RAISE(ABORT, 'out of order'); END"}, "DROP TRIGGER mine"
		if where.kind == "postgres" {
			rules = []string{"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'out of order'; END$$",
				begin + " FOR EACH ROW " + when + " EXECUTE FUNCTION mine()"}
			end += " ON " + table
		}
		for _, rule := range rules {
			_, err := db.Exec(rule)
			require.NoError(t, err)
		}
		done, err := d.all(b.Outbox, t.Context(), d.filter())
		require.ErrorContains(t, err, "cannot "+d.verb+" the messages")
		assert.Zero(t, done)
		for _, i := range []int{0, 1999, 2000, 2001, n - 1} {
			b.is(d.before, ids[i])
		}
		_, err = db.Exec(end)
		require.NoError(t, err)

		// After the first page.
		dies := b.open(nil)
		pages := 0
		outbox.FailAt(dies, func(name string) error {
			if name == d.verb {
				if pages++; pages == 2 {
					return outbox.ErrDead
				}
			}
			return nil
		})
		done, err = d.all(dies, t.Context(), d.filter())
		require.ErrorIs(t, err, outbox.ErrDead)
		assert.Equal(t, pageSize, done)
		b.is(d.after, ids[0])
		b.is(d.after, ids[pageSize-1])
		b.is(d.before, ids[pageSize])
		done, err = d.all(b.Outbox, t.Context(), d.filter())
		require.NoError(t, err)
		assert.Equal(t, n-pageSize, done, "the rest, and nothing again")
		b.is(d.after, ids[n-1])
	})
}

// A page has a transaction for the messages in the queue, and another for those that are unknown.
func TestPageThatIsHalfDoneIsCounted(t *testing.T) {
	for name, all := range map[string]func(*outbox.Outbox, context.Context, outbox.Filter) (int, error){
		"drop": (*outbox.Outbox).DropAll, "delete": (*outbox.Outbox).DeleteAll,
	} {
		t.Run(name, func(t *testing.T) {
			b := newHarness(t)
			b.enqueueIn(outbox.StateUnknown, 10)
			b.enqueueMany(phoneNumberID, 10)
			writes := 0
			outbox.FailAt(b.Outbox, func(write string) error {
				if write == name {
					if writes++; writes == 2 {
						return outbox.ErrDead
					}
				}
				return nil
			})
			n, err := all(b.Outbox, t.Context(), outbox.Filter{})
			require.ErrorIs(t, err, outbox.ErrDead)
			assert.Equal(t, 10, n)
			left, err := b.Count(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateQueued, outbox.StateUnknown}})
			require.NoError(t, err)
			assert.Equal(t, 10, left)
		})
	}
}

// A record that cannot be read stays as it is unless it is deleted, and a person is told.
func TestRecordThatCannotBeReadIsOnlyDeleted(t *testing.T) {
	eachBulk(t, func(t *testing.T, d bulk) {
		for _, meanwhile := range []bool{false, true} {
			if meanwhile && d.before == outbox.StateQueued {
				continue // the change of its record changes nothing in the queue
			}
			b := newHarness(t)
			_, db := b.tables()
			ids := b.enqueueIn(outbox.StateUnknown, 2)
			for _, id := range ids {
				if d.before != outbox.StateUnknown {
					bring(t, b.Outbox, id, d.before)
				}
			}
			spoil := func() {
				_, err := db.Exec("UPDATE graphretry_record SET memory = 'x', rev = rev + 1 WHERE seq = (SELECT seq FROM graphretry_message WHERE id = $1)", ids[0])
				assert.NoError(t, err)
			}
			if meanwhile {
				beforeWrites(b.Outbox, d.verb, spoil)
			} else {
				spoil()
			}
			n, err := d.all(b.Outbox, t.Context(), d.filter())
			if d.verb == "delete" {
				require.NoError(t, err)
				assert.Equal(t, 2, n)
			} else {
				require.ErrorContains(t, err, fmt.Sprintf("the record of message %q cannot be read", ids[0]))
				assert.Equal(t, 1, n)
			}
			b.is(d.after, ids[1])
		}
	})
}
