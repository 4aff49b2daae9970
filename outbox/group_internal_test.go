package outbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// fakeStream is a stream as far as a writeGroup needs one: each subject's last sequence.
type fakeStream struct {
	mu      sync.Mutex
	last    map[string]uint64
	next    uint64
	batches [][]put
	takes   time.Duration // to write a batch
	refuses error         // in place of writing
}

func (s *fakeStream) write(ctx context.Context, puts []put) (uint64, error) {
	s.mu.Lock()
	s.batches = append(s.batches, puts)
	s.mu.Unlock()
	if err := pause(ctx, s.takes); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses != nil {
		return 0, s.refuses
	}
	for _, p := range puts {
		if p.expectedOn != "" && s.last[p.expectedOn] != p.expected {
			return 0, errConflict
		}
	}
	for _, p := range puts {
		s.next++
		s.last[p.subject] = s.next
	}
	return s.next, nil
}

func (s *fakeStream) stale(_ context.Context, writes []*groupWrite) (map[*groupWrite]bool, error) {
	found := make(map[*groupWrite]bool)
	for _, w := range writes {
		for _, p := range w.puts {
			if p.expectedOn != "" && s.last[p.expectedOn] != p.expected {
				found[w] = true
			}
		}
	}
	return found, nil
}

// sizes returns how many messages each batch had.
func (s *fakeStream) sizes() []int {
	var sizes []int
	for _, batch := range s.batches {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

// fresh is a write of two messages that expects none on its subject.
func fresh(subject string) []put {
	return []put{{subject: subject + ".payload"}, {subject: subject, expectedOn: subject}}
}

type result struct {
	sequence uint64
	err      error
}

// together has writes begin one after the other, all while the first is being written.
func together(t *testing.T, s *fakeStream, writes ...[]put) []result {
	t.Helper()
	g := newWriteGroup(s.write, s.stale)
	results := make([]result, len(writes))
	var all sync.WaitGroup
	for i, puts := range writes {
		all.Go(func() { results[i].sequence, results[i].err = g.join(t.Context(), puts) })
		synctest.Wait()
	}
	all.Wait()
	return results
}

func newFakeStream() *fakeStream {
	return &fakeStream{last: make(map[string]uint64), takes: time.Second}
}

func TestWritesShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		results := together(t, s, fresh("a"), fresh("b"), fresh("c"), fresh("d"))
		assert.Equal(t, []int{2, 6}, s.sizes(), "all that came while the first was written go together")
		assert.Equal(t, []result{{2, nil}, {4, nil}, {6, nil}, {8, nil}}, results, "each has the sequence of its own last message")
	})
}

func TestOneRefusedWriteDoesNotHarmTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		s.last["known"] = 100
		results := together(t, s, fresh("a"), fresh("b"), fresh("known"), fresh("d"))
		assert.Equal(t, []int{2, 6, 4}, s.sizes(), "one more batch, of those that may be written")
		assert.Equal(t, []result{{2, nil}, {4, nil}, {0, errConflict}, {6, nil}}, results)
	})
}

func TestWhereNobodyIsToBlameEachIsWrittenAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		s.refuses = errConflict
		results := together(t, s, fresh("a"), fresh("b"), fresh("c"))
		assert.Equal(t, []int{2, 4, 2, 2}, s.sizes())
		for _, r := range results {
			assert.Equal(t, errConflict, r.err)
		}
	})
}

func TestAnUnansweredBatchIsNotWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		s.refuses = errors.New("no answer")
		results := together(t, s, fresh("a"), fresh("b"), fresh("c"))
		assert.Equal(t, []int{2, 4}, s.sizes(), "it may have been written, and only its caller can find out")
		for _, r := range results {
			assert.Equal(t, s.refuses, r.err)
		}
	})
}

func TestTwoWritesOfASubjectAreNotInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		results := together(t, s, fresh("a"), fresh("b"), fresh("b"), fresh("c"), fresh("b"))
		assert.Equal(t, []int{2, 4}, s.sizes(), "the others are known to be stale")
		assert.Equal(t, []result{{2, nil}, {4, nil}, {0, errConflict}, {6, nil}, {0, errConflict}}, results)
	})
}

func TestAWriteThatKnowsWhatWasJustWrittenIsNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		later := []put{{subject: "b.payload"}, {subject: "b", expected: 4, expectedOn: "b"}}
		results := together(t, s, fresh("a"), fresh("b"), later)
		assert.Equal(t, []int{2, 2, 2}, s.sizes())
		assert.Equal(t, []result{{2, nil}, {4, nil}, {6, nil}}, results)
	})
}

func TestABatchHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		many := make([]put, batchPuts-2)
		for i := range many {
			many[i].subject = string(rune('a' + i))
		}
		big := []put{{subject: "big"}, {subject: "bigger", data: make([]byte, batchBytes+1)}}
		together(t, s, fresh("A"), many, fresh("B"), fresh("C"), big, fresh("D"))
		assert.Equal(t, []int{2, batchPuts, 4, 2}, s.sizes(), "those that fit go with the first, the others follow")
	})
}

func TestWhoLeavesWhileOthersAreWrittenForIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		g := newWriteGroup(s.write, s.stale)
		var all sync.WaitGroup
		all.Go(func() { g.join(t.Context(), fresh("a")) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := g.join(ctx, fresh("b"))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Millisecond, time.Since(began))
		all.Wait()
		assert.Equal(t, []int{2}, s.sizes())
	})
}

func TestWhoLeavesWhileTheyAreWrittenForHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		g := newWriteGroup(s.write, s.stale)
		leader, leave := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer leave()
		var last result
		var all sync.WaitGroup
		all.Go(func() { g.join(t.Context(), fresh("a")) })
		synctest.Wait()
		all.Go(func() { g.join(leader, fresh("b")) })
		synctest.Wait()
		all.Go(func() { last.sequence, last.err = g.join(t.Context(), fresh("c")) })
		all.Wait()
		assert.Equal(t, result{6, nil}, last)
	})
}

func TestABatchThatNobodyWaitsForIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		s.takes = time.Hour
		g := newWriteGroup(s.write, s.stale)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := g.join(ctx, fresh("a"))
		assert.Error(t, err)
		assert.Equal(t, time.Second, time.Since(began))
		s.takes = time.Second
		_, err = g.join(t.Context(), fresh("b"))
		assert.NoError(t, err, "the next one can write")
	})
}
