package store

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// sqliteDrivers are the drivers for SQLite, as a plain sql.Open has them.
var sqliteDrivers = []string{"sqlite"}

// onEach runs a test on each database.
func onEach(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, driver := range sqliteDrivers {
		t.Run(driver, func(t *testing.T) {
			db, err := sql.Open(driver, filepath.Join(t.TempDir(), "outbox.db"))
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			s, err := Open(t.Context(), db, SQLite, "graphretry", true)
			require.NoError(t, err)
			test(t, s)
		})
	}
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run("postgres "+mode, func(t *testing.T) {
			db, err := sql.Open("pgx", pgtest.URL(t)+" default_query_exec_mode="+mode)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			s, err := Open(t.Context(), db, Postgres, "graphretry", true)
			require.NoError(t, err)
			test(t, s)
		})
	}
}

const number = "106540352242922"

func news(n int) []New {
	var all []New
	for i := range n {
		all = append(all, New{ID: strconv.Itoa(i), Number: number, Recipient: "1555" + strconv.Itoa(i), Payload: `{"to":"1\\\"\u0000é<&>` + "\u2028" + `"}`})
	}
	return all
}

func ids(claims []Claim) (found []string) {
	for _, c := range claims {
		found = append(found, c.ID)
	}
	return found
}

const run = int64(7)

func take(t *testing.T, s *Store, n int, inOrder bool) []Claim {
	t.Helper()
	claims, err := s.Take(t.Context(), run, map[string]int{number: n}, inOrder, false)
	require.NoError(t, err)
	return claims
}

func TestMessageGoesFromTheQueueToAClaimToItsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Enqueue(ctx, news(12)))
		require.NoError(t, s.Enqueue(ctx, news(3)), "again")
		require.NoError(t, s.Enqueue(ctx, []New{{ID: "urgent", Number: number, Payload: "{}", Urgent: true}}))
		assert.Empty(t, take(t, s, 1, false), "a Run that nobody knows gets nothing")
		require.NoError(t, s.Begin(ctx, run))

		look, err := s.Look(ctx)
		require.NoError(t, err)
		assert.Equal(t, map[string]bool{number: true}, look.Due)
		assert.WithinDuration(t, time.Now(), look.Now, 5*time.Second)
		assert.Zero(t, look.Next)

		claims := take(t, s, 4, false)
		assert.Equal(t, []string{"urgent", "0", "1", "2"}, ids(claims))
		assert.Equal(t, news(2)[1].Payload, claims[2].Payload)
		assert.Equal(t, "15551", claims[2].Recipient)

		c := claims[1]
		before := c.Stored
		require.NoError(t, s.Mark(ctx, &c, "token"))
		assert.ErrorIs(t, s.Mark(ctx, &claims[1], "another"), ErrConflict)
		m, err := s.Load(ctx, "0")
		require.NoError(t, err)
		assert.Equal(t, message.StateSending, m.State)
		assert.Equal(t, "token", m.Token)
		end := c.Record
		end.State, end.MessageID, end.Token = message.StateSent, "wamid", ""
		_, err = s.Save(ctx, "end", before, end, true)
		assert.ErrorIs(t, err, ErrConflict, "it was marked")
		_, err = s.Save(ctx, "end", c.Stored, end, true)
		require.NoError(t, err)
		_, err = s.Save(ctx, "end", c.Stored, end, true)
		assert.ErrorIs(t, err, ErrConflict)
		m, err = s.Load(ctx, "0")
		require.NoError(t, err)
		assert.Equal(t, message.StateSent, m.State)
		assert.Equal(t, "wamid", m.MessageID)

		// A retry, which waits.
		c = claims[2]
		require.NoError(t, s.Mark(ctx, &c, "token1"))
		again := c.Record
		again.State, again.Token, again.Due, again.Reason = message.StateQueued, "", time.Now().Add(time.Hour), "why"
		saved, err := s.Save(ctx, "end", c.Stored, again, true)
		require.NoError(t, err)
		m, err = s.Load(ctx, "1")
		require.NoError(t, err)
		assert.Equal(t, "why", m.Reason)
		assert.Equal(t, c.Place, m.Place)
		look, err = s.Look(ctx)
		require.NoError(t, err)
		assert.WithinDuration(t, again.Due, look.Next, time.Second)
		again.Due = time.Now().Add(-time.Second)
		_, err = s.Save(ctx, "x", saved, again, true)
		require.NoError(t, err)
		require.NoError(t, s.Ripen(ctx))

		require.NoError(t, s.GiveBack(ctx, &claims[3], "", time.Time{}))
		assert.ErrorIs(t, s.Mark(ctx, &claims[3], "late"), ErrConflict)
		assert.Equal(t, []string{"1", "2", "3"}, ids(take(t, s, 3, false)))

		all, err := s.Snapshot(ctx)
		require.NoError(t, err)
		assert.Equal(t, Counts{number: {message.StateQueued: 12, message.StateSent: 1}}, all.Counts)
		assert.Len(t, all.Runs, 1)
		list, err := s.List(ctx, Filter{States: []message.State{message.StateSent}})
		require.NoError(t, err)
		require.Len(t, list, 1)
		for _, f := range []Filter{{}, {Number: number}, {States: []message.State{"queued", "sent", "failed"}}, {Number: number, States: []message.State{"queued", "sent"}}} {
			var all []string
			for {
				f.Limit = 5
				page, err := s.List(ctx, f)
				require.NoError(t, err)
				for _, m := range page {
					all = append(all, m.ID)
				}
				if len(page) < 5 {
					break
				}
				f.After = page[4].ID
			}
			assert.Len(t, all, 13)
			assert.Equal(t, "urgent", all[12])
		}

		m, err = s.Load(ctx, "5")
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, m))
		require.NoError(t, s.Enqueue(ctx, news(8)))
		_, err = s.Load(ctx, "5")
		assert.ErrorIs(t, err, ErrNotFound)
		m, err = s.Load(ctx, "0")
		require.NoError(t, err)
		resent := m.Record
		resent.State, resent.Place, resent.Due = message.StateQueued, time.Now(), time.Now()
		_, err = s.Save(ctx, "resend", m, resent, true)
		require.NoError(t, err)
		m, err = s.Load(ctx, "0")
		require.NoError(t, err)
		assert.Equal(t, message.StateQueued, m.State)
		assert.Equal(t, "15550", m.Recipient)
		_, err = s.Retain(ctx, 0, time.Now().Add(time.Hour))
		require.NoError(t, err)
		_, err = s.Load(ctx, "0")
		require.NoError(t, err)
	})
}

func TestRunThatIsGoneLeavesOrphans(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Begin(ctx, run))
		require.NoError(t, s.Begin(ctx, 8))
		require.NoError(t, s.Enqueue(ctx, news(3)))
		take(t, s, 2, false)
		beats, err := s.Beat(ctx, 8)
		require.NoError(t, err)
		assert.Equal(t, map[int64]int64{run: 0, 8: 1}, beats)
		orphans, err := s.Orphans(ctx)
		require.NoError(t, err)
		assert.Empty(t, orphans)
		require.NoError(t, s.End(ctx, run, 5))
		beats, err = s.Beat(ctx, 8)
		require.NoError(t, err)
		assert.Len(t, beats, 2, "it was at another beat")
		require.NoError(t, s.End(ctx, run, 0))
		orphans, err = s.Orphans(ctx)
		require.NoError(t, err)
		assert.Len(t, orphans, 2)
		assert.Empty(t, take(t, s, 2, false))
	})
}

func TestNumbersAreSharedByAll(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		want := map[string]lane.Lease{number: {Length: 10 * time.Second}}
		got, err := s.Lease(ctx, want, 0.01)
		require.NoError(t, err)
		first := got[number].Until
		got, err = s.Lease(ctx, want, 0.01)
		require.NoError(t, err)
		assert.Equal(t, first.Add(10*time.Second), got[number].Until)
		require.NoError(t, s.Slow(ctx, number, 0.5), "not within a second of the last time")
		require.NoError(t, s.write(ctx, "x", func(ctx context.Context, on runner) error {
			_, err := s.exec(ctx, on, "UPDATE {number} SET slowed = 0", nil)
			return err
		}))
		require.NoError(t, s.Slow(ctx, number, 0.5))
		require.NoError(t, s.Slow(ctx, number, 0.5), "once a second")
		got, err = s.Lease(ctx, want, 0.01)
		require.NoError(t, err)
		assert.InDelta(t, 0.6, got[number].Share, 0.01)
		assert.Equal(t, first.Add(30*time.Second), got[number].Until)

		firstToo, err := s.Hold(ctx, number, -time.Second, true, false, "why")
		require.NoError(t, err)
		assert.True(t, firstToo)
		firstToo, err = s.Hold(ctx, number, time.Second, true, false, "why")
		require.NoError(t, err)
		assert.False(t, firstToo)
		numbers, err := s.numbers(ctx, s.db, numbersStatement, nil)
		require.NoError(t, err)
		seen := numbers[number]
		assert.True(t, seen.IsHeld())
		assert.Equal(t, "why", seen.Reason)
		taken, err := s.Probe(ctx, number, seen, time.Second)
		require.NoError(t, err)
		assert.True(t, taken)
		taken, err = s.Probe(ctx, number, seen, time.Second)
		require.NoError(t, err)
		assert.False(t, taken)
		was, err := s.Unhold(ctx, number, false)
		require.NoError(t, err)
		assert.True(t, was)
		require.NoError(t, s.SetPaused(ctx, "", true))
		numbers, err = s.numbers(ctx, s.db, numbersStatement, nil)
		require.NoError(t, err)
		assert.True(t, numbers[""].Paused)
	})
}

// The rate would be leased from when the clock had shown, an hour ahead.
func TestLeaseIsForNowAlsoAfterTheClockWasSetBack(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		want := map[string]lane.Lease{number: {Length: 250 * time.Millisecond}}
		_, err := s.Lease(t.Context(), want, 0)
		require.NoError(t, err)
		for ahead, most := range map[time.Duration]time.Duration{20 * time.Second: time.Minute, time.Hour: 250 * time.Millisecond} {
			_, err = s.exec(t.Context(), s.db, "UPDATE {number} SET leased = leased + @ahead", args{"ahead": ahead.Microseconds()})
			require.NoError(t, err)
			got, err := s.Lease(t.Context(), want, 0)
			require.NoError(t, err)
			assert.LessOrEqual(t, got[number].Until.Sub(got[number].Now), most)
			if most > time.Second {
				assert.Greater(t, got[number].Until.Sub(got[number].Now), 10*time.Second, "many processes may have leased so much")
			}
		}
	})
}

func TestRecipientHasOneMessageOut(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Begin(ctx, run))
		_, err := s.Lease(ctx, map[string]lane.Lease{number: {Length: time.Millisecond}}, 0)
		require.NoError(t, err)
		all := news(4)
		for i := range 3 {
			all[i].Recipient = "1"
		}
		all[1].Urgent = true
		all[2].NotBefore = time.Now().Add(time.Hour)
		require.NoError(t, s.Enqueue(ctx, all))
		claims := take(t, s, 4, true)
		assert.Equal(t, []string{"0", "3"}, ids(claims))
		assert.Empty(t, take(t, s, 4, true))
		require.NoError(t, s.GiveBack(ctx, &claims[0], "", time.Now().Add(time.Hour)))
		assert.Empty(t, take(t, s, 4, true), "one that waits for its retry stops those behind it")
		m, err := s.Load(ctx, "0")
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, m))
		assert.Equal(t, []string{"1"}, ids(take(t, s, 4, true)))
	})
}

func TestProbeIsTheMessageThatWasRefusedLongestAgo(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Begin(ctx, run))
		require.NoError(t, s.Enqueue(ctx, news(4)))
		began := time.Now().Add(-time.Hour)
		probe := func(inOrder bool) string {
			t.Helper()
			claims, err := s.TakeProbes(ctx, run, map[string]int{number: 1}, inOrder, false)
			require.NoError(t, err)
			require.Len(t, claims, 1)
			c := claims[0]
			require.NoError(t, s.Mark(ctx, &c, "token"))
			refused := c.Record
			began = began.Add(time.Second)
			refused.State, refused.Token, refused.LastRefusal = message.StateQueued, "", message.Moment{Time: began}
			_, err = s.Save(ctx, "end", c.Stored, refused, true)
			require.NoError(t, err)
			return c.ID
		}
		var order []string
		for i := range 10 {
			order = append(order, probe(i%2 == 0))
		}
		assert.Equal(t, []string{"0", "1", "2", "3", "0", "1", "2", "3", "0", "1"}, order)
		claims := take(t, s, 1, false)
		assert.Equal(t, []string{"0"}, ids(claims), "which has kept its place")
		require.NoError(t, s.GiveBack(ctx, &claims[0], "", time.Time{}))
		assert.Equal(t, "2", probe(false), "also when it is given back")
	})
}

func TestWritersShareACommitAndFailAlone(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		errs := make(chan error)
		for i := range 40 {
			go func() {
				if i%4 == 0 {
					m := Stored{Seq: 99999}
					_, err := s.Save(context.Background(), "x", m, message.Record{State: message.StateFailed}, true)
					assert.ErrorIs(t, err, ErrConflict)
					errs <- nil
					return
				}
				errs <- s.Enqueue(context.Background(), []New{{ID: strconv.Itoa(i), Number: number, Payload: "{}"}})
			}()
		}
		for range 40 {
			require.NoError(t, <-errs)
		}
		n, err := s.Queued(t.Context(), 1000)
		require.NoError(t, err)
		assert.Equal(t, 30, n)
	})
}

func TestMessageStandsWhereItWasEnqueuedAlsoIfLaterOnesWereDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Enqueue(ctx, news(100)))
		_, err := s.exec(ctx, s.db, "DELETE FROM {message}", nil)
		require.NoError(t, err)
		require.NoError(t, s.Enqueue(ctx, []New{{ID: "a", Number: number, Payload: "{}"}, {ID: "b", Number: number, Payload: "{}"}}))
		a, err := s.Load(ctx, "a")
		require.NoError(t, err)
		b, err := s.Load(ctx, "b")
		require.NoError(t, err)
		assert.Equal(t, a.Enqueued, a.Place)
		assert.Equal(t, a.Enqueued.Add(time.Microsecond), b.Place)
	})
}

// A filter means the same messages whether they are listed or read again, wherever they are.
func TestMessagesThatAreReadAgainMatchIfTheyAreListed(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		all := news(12)
		for i := range all {
			all[i].Label = []string{"", "june", "july"}[i%3]
			if i == 11 {
				all[i].Number = "222"
			}
		}
		require.NoError(t, s.Enqueue(ctx, all))
		_, err := s.exec(ctx, s.db, "INSERT INTO {message} (id, phone_number_id, payload, label) VALUES ('row', @number, '{}', 'june')", args{"number": number})
		require.NoError(t, err)
		require.NoError(t, s.Begin(ctx, run))
		claims := take(t, s, 3, false) // 0, 1 and 2
		require.Len(t, claims, 3)
		require.NoError(t, s.Mark(ctx, &claims[2], "token"))
		now, err := s.Now(ctx)
		require.NoError(t, err)
		end := func(id string, state message.State, graph *graphretry.Error) {
			before, err := s.Load(ctx, id)
			require.NoError(t, err)
			after := before.Record
			after.State, after.Graph, after.Reason, after.Changed = state, graph, "x", now.Add(time.Hour)
			_, err = s.Save(ctx, "x", before, after, true)
			require.NoError(t, err)
		}
		end("3", message.StateSent, nil)
		end("4", message.StateFailed, &graphretry.Error{Code: 131026})
		end("5", message.StateFailed, &graphretry.Error{Code: 1, Subcode: 131026})
		end("6", message.StateUnknown, &graphretry.Error{Code: 131026})
		end("7", message.StateUnknown, nil)
		end("8", message.StateQueued, &graphretry.Error{Code: 131026})
		everything, err := s.List(ctx, Filter{})
		require.NoError(t, err)
		require.Len(t, everything, 13)
		asked := []Change{{Before: Stored{Seq: 99999}}}
		for _, m := range everything {
			asked = append(asked, Change{Before: m})
		}
		slices.Reverse(asked)
		var filters []Filter
		for _, states := range [][]message.State{nil, {message.StateQueued}, {message.StateSending}, {message.StateSent}, {message.StateFailed},
			{message.StateUnknown}, {message.StateQueued, message.StateUnknown}} {
			for _, f := range []Filter{{}, {Number: number}, {Number: "222"}, {Label: "june"}, {Code: 131026}, {Code: 1}, {OlderThan: time.Hour}, {OlderThan: time.Nanosecond},
				{EnqueuedBefore: everything[4].Enqueued}, {EnqueuedBefore: now.Add(time.Hour)}, {ChangedAfter: now.Add(time.Minute)}, {Label: "july", Code: 131026}} {
				f.States = states
				filters = append(filters, f)
			}
		}
		for _, f := range filters {
			listed, err := s.List(ctx, f)
			require.NoError(t, err)
			read, err := s.Reread(ctx, f, asked)
			require.NoError(t, err)
			assert.Equal(t, listed, read, "%+v", f)
		}
	})
}

// The order is that of all who lock many rows, so that two of them do not wait for each other.
func TestMessagesAreLoadedInTheOrderOfEnqueueing(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		require.NoError(t, s.Enqueue(t.Context(), news(20)))
		loaded, err := s.LoadAll(t.Context(), []string{"7", "none", "19", "0", "3", "12"})
		require.NoError(t, err)
		assert.Len(t, loaded, 5)
		for i, m := range loaded {
			assert.True(t, i == 0 || loaded[i-1].Seq < m.Seq)
			one, err := s.Load(t.Context(), m.ID)
			require.NoError(t, err)
			assert.Equal(t, one, m)
		}
		loaded, err = s.LoadAll(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, loaded)
	})
}

// A Run has begun to send it, or has given it back and claimed it again.
func TestClaimThatHasChangedIsLeft(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		require.NoError(t, s.Enqueue(ctx, news(2)))
		require.NoError(t, s.Begin(ctx, run))
		claims := take(t, s, 2, false)
		require.Len(t, claims, 2)
		messages, err := s.LoadAll(ctx, []string{"0", "1"})
		require.NoError(t, err)
		require.NoError(t, s.GiveBack(ctx, &claims[0], "", claims[0].Due))
		require.Len(t, take(t, s, 2, false), 1)
		require.NoError(t, s.Mark(ctx, &claims[1], "token"))
		failed := func(m Stored) Change {
			c := Change{Before: m, After: m.Record}
			c.After.State = message.StateFailed
			return c
		}
		made, left, err := s.SaveAll(ctx, "x", []Change{failed(messages[0]), failed(messages[1])})
		require.NoError(t, err)
		assert.Empty(t, made)
		assert.Len(t, left, 2)
		made, left, err = s.DeleteAll(ctx, messages)
		require.NoError(t, err)
		assert.Empty(t, made)
		assert.Len(t, left, 2)
		now, err := s.Load(ctx, "0")
		require.NoError(t, err)
		made, _, err = s.SaveAll(ctx, "x", []Change{failed(now)})
		require.NoError(t, err)
		assert.Len(t, made, 1)
	})
}

func TestManyMessagesCannotBeginToWaitElsewhere(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		require.NoError(t, s.Enqueue(t.Context(), news(1)))
		m, err := s.Load(t.Context(), "0")
		require.NoError(t, err)
		made, left, err := s.SaveAll(t.Context(), "x", []Change{{Before: m, After: m.Record}})
		assert.ErrorContains(t, err, "cannot save 1 messages that become queued")
		assert.Empty(t, made)
		assert.Empty(t, left)
		now, err := s.Load(t.Context(), "0")
		require.NoError(t, err)
		assert.Equal(t, m, now)
	})
}

// A message in the queue that is also to be adopted would be sent twice.
func TestRowOfATriggerIsAdopted(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		insert := `INSERT INTO {message} (id, phone_number_id, payload) VALUES (NEW.id || ' too', NEW.phone_number_id, '{"to":"1555"}');`
		rules := []string{`CREATE TRIGGER mine AFTER INSERT ON {message} WHEN NEW.label = 'twice' BEGIN ` + insert + ` END`}
		if s.dialect.kind == Postgres {
			rules = []string{`CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + insert + ` RETURN NULL; END $$`,
				`CREATE TRIGGER mine AFTER INSERT ON {message} FOR EACH ROW WHEN (NEW.label = 'twice') EXECUTE FUNCTION mine()`}
		}
		for _, rule := range rules {
			_, err := s.exec(ctx, s.db, rule, nil)
			require.NoError(t, err)
		}
		require.NoError(t, s.Begin(ctx, run))
		require.NoError(t, s.Enqueue(ctx, []New{{ID: "a", Label: "twice", Number: number, Payload: "{}"}}))
		assert.Equal(t, []string{"a"}, ids(take(t, s, 8, false)))
		look, err := s.Look(ctx)
		require.NoError(t, err)
		assert.True(t, look.Unadopted)
	})
}
