package outage

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// crowdedGate is a gate whose host is recovering, with so many waiters whose deadlines
// come one after the other, as close as they are.
func crowdedGate(waiters int, first time.Time, apart time.Duration) *onePath {
	g := newOnePath(Config{Threshold: 20, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
	g.state, g.rate.current, g.rate.ceiling = Recovering, 1000, 1000
	for i := range waiters {
		// Not in order: the heaps are to have work.
		g.queue.add(&Waiter{released: make(chan struct{}), deadline: first.Add(time.Duration(i*7919%waiters) * apart)})
	}
	return g
}

// However many there are to refuse, others have the lock in between.
func TestLockIsHeldForABatchOfWaitersAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := crowdedGate(10_000, time.Now().Add(time.Second), 0)
		time.Sleep(time.Second)
		g.host.mu.Lock()
		g.due = time.Now().Add(time.Hour)
		g.host.touch(g.gate)
		g.host.settle(time.Now())
		assert.Equal(t, 10_000-batch, g.queue.len())
		assert.NotNil(t, g.timer)
		g.host.mu.Unlock()
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		assert.Zero(t, g.Status().Waiting, "the timer has gone on at once")
		assert.Nil(t, g.timer)
	})
}

func TestQueueHasBothItsEndsAtHand(t *testing.T) {
	now := time.Now()
	g := crowdedGate(1000, now, time.Second)
	q := &g.queue
	for i := range 500 {
		require.Equal(t, now.Add(time.Duration(i)*time.Second), q.at(earliest).deadline)
		q.remove(q.at(earliest))
		require.Equal(t, now.Add(time.Duration(999-i)*time.Second), q.at(latest).deadline)
		q.remove(q.at(latest))
	}
	require.Zero(t, q.len())
}

// BenchmarkRelease is what the release of a waiter costs, and for how long the lock is
// held at most, where a million wait and their deadlines come faster than they are
// released, so that most are refused.
func BenchmarkRelease(b *testing.B) {
	for _, waiters := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) {
			var held []time.Duration
			var all time.Duration
			for b.Loop() {
				b.StopTimer()
				start := time.Now()
				g := crowdedGate(waiters, start, 10*time.Microsecond)
				g.leavers.headroom = 50 * time.Millisecond
				b.StartTimer()
				for now := start; g.queue.len() > 0; now = now.Add(time.Millisecond) {
					began := time.Now()
					g.host.mu.Lock()
					g.due = now
					g.advance(now)
					g.host.mu.Unlock()
					held = append(held, time.Since(began))
					all += held[len(held)-1]
				}
				b.StopTimer()
				g.host.mu.Lock()
				g.setTimer(time.Now())
				g.host.mu.Unlock()
				b.StartTimer()
			}
			// In one of a hundred the machine may be busy with other things.
			slices.Sort(held)
			b.ReportMetric(float64(held[len(held)-1-len(held)/100].Microseconds()), "µs-longest-lock")
			b.ReportMetric(float64(all.Nanoseconds())/float64(waiters)/float64(b.N), "ns/waiter")
		})
	}
}
