package bench

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// TestHundredThousandCallsWaitInLittleMemory puts 100,000 calls into the queue of a host
// that is down, and then lets all of them leave at once. The memory is that of goroutines,
// stacks, requests and places in the queue.
func TestHundredThousandCallsWaitInLittleMemory(t *testing.T) {
	const (
		calls     = 100_000
		atMost    = 6 << 10
		leaving   = time.Second
		threshold = 20
	)
	now := realClock(t)
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, graphtest.Answer{})
		client := ours.wrapped(api)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		wait := func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://graph.facebook.com/v25.0/1/messages", strings.NewReader("{}"))
			if !assert.NoError(t, err) {
				return
			}
			_, err = client.RoundTrip(req)
			assert.ErrorIs(t, err, context.Canceled)
		}
		for range threshold {
			group.Go(wait)
		}
		synctest.Wait()

		before := memoryInUse()
		for range calls {
			group.Go(wait)
		}
		synctest.Wait()
		size := (memoryInUse() - before) / calls
		require.Equal(t, threshold, api.Totals().Calls, "the host is down: nothing else may have gone out")

		left, worked := now(), cpuTimer(t)
		cancel()
		group.Wait()
		// On a machine that is busy with other things the clock runs on while we
		// do not; with a core to ourselves it would be no more than our own work.
		took := min(now().Sub(left), worked())

		if raceDetector { // it is slow, and its own memory counts as ours
			assert.LessOrEqual(t, took, 10*leaving, "until all had left")
			return
		}
		assert.LessOrEqual(t, took, leaving, "until all had left")
		assert.LessOrEqual(t, size, int64(atMost), "bytes for each call")
		report.publish(waiting, table([]string{"", "graphretry"}, [][]string{
			{"memory for each, its goroutine and request among it", fmt.Sprintf("%.1f KiB", float64(size)/(1<<10))},
			{"until all have left when their contexts end", fmt.Sprintf("%.2f s", took.Seconds())},
		}))
	})
}

// memoryInUse returns the size of heap and stacks.
func memoryInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// realClock returns a function that returns the real time inside a synctest bubble.
func realClock(t *testing.T) func() time.Time {
	t.Helper()
	ask, answer := make(chan struct{}), make(chan time.Time)
	go func() {
		for range ask {
			answer <- time.Now()
		}
	}()
	t.Cleanup(func() { close(ask) })
	return func() time.Time {
		ask <- struct{}{}
		return <-answer
	}
}
