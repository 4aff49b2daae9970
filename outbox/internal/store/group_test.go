package store

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// crowd has callers enqueue while the write of a first one waits until all of them wait. It
// returns the error of each.
func crowd(t *testing.T, s *Store, meanwhile func(), callers ...[]New) (errs []error, writes int) {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var count atomic.Int64
	s.Failpoint = func(string) error {
		count.Add(1)
		first.Do(func() { close(held); <-release })
		return nil
	}
	defer func() { s.Failpoint = nil }()
	s.enqueues.abreast = 1
	var all sync.WaitGroup
	all.Go(func() { assert.NoError(t, s.Enqueue(t.Context(), []New{{ID: "first", Number: number, Payload: "{}"}})) })
	<-held
	errs = make([]error, len(callers))
	for i, messages := range callers {
		all.Go(func() { errs[i] = s.Enqueue(t.Context(), messages) })
		for s.enqueues.waits() <= i {
			runtime.Gosched()
		}
	}
	meanwhile()
	close(release)
	all.Wait()
	return errs, int(count.Load())
}

func TestThoseWhoEnqueueAtTheSameMomentShareAWrite(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		errs, writes := crowd(t, s, func() {},
			[]New{{ID: "a", Number: number, Payload: `{"to":"1"}`}},
			[]New{{ID: "a", Number: number, Payload: `{"to":"2"}`}, {ID: "b", Number: number, Payload: "{}"}},
			[]New{{ID: "c", Number: number, Payload: "{}"}, {ID: "first", Number: number, Payload: "{}"}})
		assert.Equal(t, make([]error, 3), errs)
		assert.Equal(t, 2, writes, "the first one's, and one for all others")
		payload, err := s.Payload(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, `{"to":"1"}`, payload, "of two with the same id the first one counts")
		require.NoError(t, s.Begin(ctx, run))
		assert.Equal(t, []string{"first", "a", "b", "c"}, ids(take(t, s, 8, false)))
	})
}

func TestMessageThatTheDatabaseRefusesHarmsNobodyElse(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		// A constraint of the user on the table that is open to plain SQL.
		rule := `CREATE TRIGGER mine BEFORE INSERT ON {message} WHEN NEW.label = 'bad' BEGIN SELECT RAISE(ABORT, 'no such campaign'); END`
		if s.dialect.kind == Postgres {
			rule = `ALTER TABLE {message} ADD CONSTRAINT mine CHECK (label <> 'bad')`
		}
		_, err := s.exec(t.Context(), s.db, rule, nil)
		require.NoError(t, err)
		errs, _ := crowd(t, s, func() {},
			[]New{{ID: "a", Number: number, Payload: "{}"}},
			[]New{{ID: "b", Number: number, Payload: "{}"}, {ID: "bad", Label: "bad", Number: number, Payload: "{}"}},
			[]New{{ID: "c", Number: number, Payload: "{}"}})
		assert.NoError(t, errs[0])
		assert.Error(t, errs[1])
		assert.NoError(t, errs[2])
		for id, want := range map[string]error{"first": nil, "a": nil, "b": ErrNotFound, "bad": ErrNotFound, "c": nil} {
			_, err := s.Load(t.Context(), id)
			assert.ErrorIs(t, err, want, id)
		}
	})
}

// A transaction of the user has inserted an id, and stays open.
func TestIDThatATransactionHasInsertedKeepsNobodyElseWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		if !s.dialect.locks {
			t.Skip("SQLite has one writer")
		}
		tx, err := s.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, s.Insert(t.Context(), tx, []New{{ID: "taken", Number: number, Payload: "{}"}}))
		taken := []New{{ID: "taken", Number: number, Payload: "{}"}}
		batch := []*member[[]New]{{what: taken}, {what: []New{{ID: "a", Number: number, Payload: "{}"}}}}
		s.enqueues.share(t.Context(), batch)
		assert.True(t, isLocked(batch[0].err), batch[0].err)
		assert.NoError(t, batch[1].err)

		s.enqueues.abreast = 1
		var all sync.WaitGroup
		all.Go(func() { assert.NoError(t, s.Enqueue(t.Context(), taken), "it waits for the transaction") })
		for i := range 4 {
			assert.NoError(t, s.Enqueue(t.Context(), []New{{ID: strconv.Itoa(i), Number: number, Payload: "{}"}}))
		}
		require.NoError(t, tx.Commit())
		all.Wait()
	})
}

func TestCallerWhoseTimeIsUpKeepsNobodyWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		errs, _ := crowd(t, s, func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			// It returns although the first one's write still waits.
			assert.ErrorIs(t, s.Enqueue(ctx, []New{{ID: "gone", Number: number, Payload: "{}"}}), context.Canceled)
		}, []New{{ID: "a", Number: number, Payload: "{}"}})
		assert.Equal(t, []error{nil}, errs)
		_, err := s.Load(t.Context(), "a")
		assert.NoError(t, err)
		_, err = s.Load(t.Context(), "gone")
		assert.ErrorIs(t, err, ErrNotFound)
	})
}

// The program may go on after a panic, as net/http does.
func TestPanicInABatchLeavesNobodyWaiting(t *testing.T) {
	var batches atomic.Int64
	var g *group[int]
	g = &group[int]{most: 8, abreast: 1, size: func(int) int { return 1 }, share: func(context.Context, []*member[int]) {
		if batches.Add(1) == 1 {
			for g.waits() == 0 {
				runtime.Gosched()
			}
			panic("a driver's")
		}
	}}
	retries := func() error {
		return persist(t.Context(), nil, func(ctx context.Context) error { return g.do(ctx, 0) })
	}
	var all sync.WaitGroup
	all.Go(func() { assert.PanicsWithValue(t, "a driver's", func() { _ = retries() }) })
	for batches.Load() == 0 {
		runtime.Gosched()
	}
	all.Go(func() { assert.NoError(t, retries()) })
	all.Wait()
	assert.NoError(t, retries())
}

// Nobody else may take a write for done that ended in a panic.
func TestPanicInABatchIsNoSuccessOfTheOthers(t *testing.T) {
	var g *group[int]
	batches := 0 // one at a time
	done := make(map[int]bool)
	g = &group[int]{most: 8, abreast: 1, size: func(int) int { return 1 }, share: func(_ context.Context, batch []*member[int]) {
		batches++
		switch batches {
		case 1: // until two others are the next batch
			for g.waits() < 2 {
				runtime.Gosched()
			}
		case 2:
			assert.Len(t, batch, 2)
			panic("a driver's")
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, w := range batch {
			done[w.what] = true
		}
	}}
	var panics atomic.Int64
	var all sync.WaitGroup
	for what := range 3 {
		all.Go(func() {
			defer func() {
				if recover() != nil {
					panics.Add(1)
					return
				}
				g.mu.Lock()
				defer g.mu.Unlock()
				assert.True(t, done[what], "caller %d was told that it is done", what)
			}()
			assert.NoError(t, persist(t.Context(), nil, func(ctx context.Context) error { return g.do(ctx, what) }))
		})
		for what == 0 && g.isIdle() {
			runtime.Gosched()
		}
	}
	all.Wait()
	assert.EqualValues(t, 1, panics.Load())
}

// If the time of the one that carries out a batch is up, the batch has failed for all.
func TestBatchIsCarriedOutByTheCallerThatHasTheMostTime(t *testing.T) {
	type name struct{}
	var g *group[int]
	var led []any
	g = &group[int]{most: 8, abreast: 1, size: func(int) int { return 1 }, share: func(ctx context.Context, batch []*member[int]) {
		for len(batch) == 1 && g.waits() < 3 {
			runtime.Gosched()
		}
		led = append(led, ctx.Value(name{}))
	}}
	var all sync.WaitGroup
	call := func(within time.Duration) {
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), name{}, within), within)
		all.Go(func() { defer cancel(); assert.NoError(t, g.do(ctx, 0)) })
	}
	call(time.Minute)
	for g.isIdle() {
		runtime.Gosched()
	}
	for i, within := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour} {
		call(within)
		for i < 2 && g.waits() <= i { // the third one ends the wait of the first
			runtime.Gosched()
		}
	}
	all.Wait()
	assert.Equal(t, []any{time.Minute, 3 * time.Hour}, led)
}

func TestPanicInATransactionLeavesItNotOpen(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		assert.PanicsWithValue(t, "a driver's", func() {
			_ = s.write(t.Context(), "x", func(ctx context.Context, on runner) error {
				_, err := s.exec(ctx, on, "UPDATE {meta} SET value = 'changed'", nil)
				require.NoError(t, err)
				panic("a driver's")
			})
		})
		other, err := s.db.Conn(t.Context()) // it may be the one that had the transaction
		require.NoError(t, err)
		defer other.Close()
		require.NoError(t, s.Enqueue(t.Context(), news(1)))
		assert.NoError(t, s.checkVersion(t.Context(), other), "it is rolled back")
	})
}

func TestWriteThatRollsBackTheTransactionHarmsNoOther(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		if !s.dialect.sharesCommits {
			t.Skip("no writes share a transaction")
		}
		_, err := s.exec(t.Context(), s.db, `CREATE TRIGGER mine BEFORE INSERT ON {message} BEGIN SELECT RAISE(ROLLBACK, 'no such campaign'); END`, nil)
		require.NoError(t, err)
		write := func(text string) *member[func(context.Context, runner) error] {
			return &member[func(context.Context, runner) error]{what: func(ctx context.Context, on runner) error {
				_, err := s.exec(ctx, on, text, nil)
				return err
			}}
		}
		batch := []*member[func(context.Context, runner) error]{
			write(`UPDATE {meta} SET value = value`), write(`INSERT INTO {message} (id, phone_number_id, payload) VALUES ('a', '1', '{}')`), write(`UPDATE {meta} SET value = value`),
		}
		s.commits.share(t.Context(), batch)
		assert.True(t, Temporary(batch[0].err), batch[0].err)
		assert.ErrorContains(t, batch[1].err, "no such campaign")
		assert.False(t, Temporary(batch[1].err))
		assert.True(t, Temporary(batch[2].err), batch[2].err)
		require.NoError(t, s.write(t.Context(), "x", func(context.Context, runner) error { return nil }))
	})
}

func TestGroupKeepsNothingOfThoseItHasServed(t *testing.T) {
	g := &group[int]{most: 8, abreast: 1, size: func(int) int { return 1 }, share: func(context.Context, []*member[int]) {}}
	waiting := make([]*member[int], 1, 4)
	g.waiting = waiting[:0]
	require.NoError(t, g.do(t.Context(), 0))
	assert.Nil(t, waiting[0])
}

// isIdle reports whether no batch is under way.
func (g *group[T]) isIdle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.underWay == 0
}

// waits returns how many members wait for the next batch.
func (g *group[T]) waits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}
