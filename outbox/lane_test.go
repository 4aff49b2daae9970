package outbox_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// enqueueMany enqueues messages of one phone number, and returns their ids.
func (b *bench) enqueueMany(number string, n int) []string {
	b.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", number, i)
		require.NoError(b.t, b.Enqueue(b.t.Context(), ids[i], number, payload(ids[i])))
	}
	return ids
}

// states counts messages by their state.
func (b *bench) states(ids []string) map[outbox.State]int {
	b.t.Helper()
	counts := make(map[outbox.State]int)
	for _, id := range ids {
		status, err := b.Status(b.t.Context(), id)
		require.NoError(b.t, err)
		counts[status.State]++
	}
	return counts
}

// settled waits until no message is queued or being sent.
func (b *bench) settled(ids []string) map[outbox.State]int {
	b.t.Helper()
	for _, id := range ids {
		b.until(id, "at its end", func(s outbox.Status) bool {
			return s.State != outbox.StateQueued && s.State != outbox.StateSending
		})
	}
	return b.states(ids)
}

func TestFaultThatSaysNothingOfAMessageStopsItsLaneAndNotItsMessages(t *testing.T) {
	beside(t)
	const messages, workers, probes = 300, 8, 9 // so many go out in 10 minutes of 5, 10, 20 ... 180 s
	for name, test := range map[string]struct {
		answer    graphtest.Answer
		ambiguous bool
	}{
		"a gateway's 503":           {graphtest.Answer{Status: http.StatusServiceUnavailable}, true},
		"connections that break":    {graphtest.Answer{Fault: graphtest.FaultBreak}, true},
		"a token that expired":      {graphtest.Answer{Code: 190}, false},
		"an account that is locked": {graphtest.Answer{Code: 131031}, false},
		"a proxy's 407":             {graphtest.Answer{Status: http.StatusProxyAuthRequired}, false},
		"a proxy's 429":             {graphtest.Answer{Status: http.StatusTooManyRequests}, false},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			b := newHarness(t, outbox.WithWorkers(workers), outbox.WithRate(1e6))
			b.api.DownAfter(0, time.Hour, test.answer)
			ids := make([]string, messages)
			batch := make([]outbox.Message, messages)
			for i := range ids {
				ids[i] = fmt.Sprint(i)
				batch[i] = outbox.Message{ID: ids[i], PhoneNumberID: phoneNumberID, Payload: payload(ids[i])}
			}
			require.NoError(t, b.EnqueueAll(t.Context(), batch))
			run(t, b.Outbox)
			b.calls(workers + probes)
			b.api.Clear() // before anything that takes time, in which more probes go out
			counts := b.states(ids)
			assert.Zero(t, counts[outbox.StateFailed], "%v", counts)

			ends := b.settled(ids)
			assert.Zero(t, ends[outbox.StateFailed], "%v", ends)
			if test.ambiguous {
				assert.LessOrEqual(t, ends[outbox.StateUnknown], 20)
			} else {
				assert.Zero(t, ends[outbox.StateUnknown])
			}
			assert.Equal(t, messages, ends[outbox.StateSent]+ends[outbox.StateUnknown], "%v", ends)
			assert.Empty(t, b.api.Duplicates())
			assert.Contains(t, b.log.String(), "a phone number is held")
			assert.Contains(t, b.log.String(), "no longer held")
		})
	}
}

// calls waits until the API has received that many calls.
func (b *bench) calls(n int) {
	b.t.Helper()
	b.grows(n, func() int { return b.api.Totals().Calls })
}

func TestLaneThatIsHeldLeavesTheOthersAlone(t *testing.T) {
	b := newHarness(t)
	const broken, sound = "111", "222"
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/v25.0/"+broken+"/messages" {
			return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: newBody(`{"error":{"code":190,"message":"expired"}}`)}, nil
		}
		return http.DefaultTransport.RoundTrip(req)
	})
	o := b.open(next)
	held := b.enqueueMany(broken, 50)
	others := b.enqueueMany(sound, 50)
	run(t, o)
	assert.Equal(t, map[outbox.State]int{outbox.StateSent: 50}, b.settled(others))
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 50}, b.states(held))
}

// A message that waits uses no worker.
func TestWaitsOfOneNumberKeepNothingOut(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithWorkers(16),
		outbox.WithTransportOptions(graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Hour)))
	const waiting = 300
	b.api.AnswerNext(waiting, graphtest.Answer{Code: graphretry.CodePairRateLimitHit, RetryAfter: "3600"})
	ids := b.enqueueMany("111", waiting)
	run(t, b.Outbox)
	b.calls(waiting)
	require.NoError(t, b.Enqueue(t.Context(), "one-time code", "222", payload("4711")))
	b.becomes("one-time code", outbox.StateSent)
	states := b.states(ids)
	assert.Equal(t, waiting, states[outbox.StateQueued]+states[outbox.StateSending])
}

// A proxy that refuses a CONNECT has let nothing through.
func TestMessageThatGotNoConnectionIsQueuedAgain(t *testing.T) {
	b := newHarness(t)
	tries := 0
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		if tries++; tries > 3 {
			return http.DefaultTransport.RoundTrip(req)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.Proxy = nil
		transport.DialContext = nil
		return nil, refusedByProxy(t, req, transport)
	})
	o := b.open(next, outbox.WithWorkers(1))
	b.enqueue("a")
	run(t, o)
	status := b.becomes("a", outbox.StateSent)
	assert.Zero(t, status.Retries, "it was not sent before")
	assert.Equal(t, 4, tries)
	assert.Empty(t, b.api.Duplicates())
}

// At first each number is held for itself. Then one probe serves all.
func TestGatewayThatIsDownHoldsTheHostAndNotEachNumber(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithWorkers(8),
		outbox.WithTransportOptions(graphretry.WithInitialInterval(50*time.Millisecond), graphretry.WithMaxInterval(50*time.Millisecond), graphretry.WithJitter(0)))
	b.api.DownAfter(0, time.Hour, graphtest.Answer{Status: http.StatusServiceUnavailable})
	const numbers = 6
	var ids []string
	for i := range numbers {
		ids = append(ids, b.enqueueMany(fmt.Sprint("10", i), 40)...)
	}
	run(t, b.Outbox)
	require.Eventually(t, func() bool { return strings.Count(b.log.String(), "a phone number is held") == numbers }, patience, time.Millisecond)
	held := b.api.Totals().Calls
	began := time.Now()
	b.calls(held + 10)
	// 10 probes of one host come after 500 ms. Probes of each number would come after 100 ms.
	assert.Greater(t, time.Since(began), 350*time.Millisecond)
	b.api.Clear()
	counts := b.settled(ids)
	assert.Zero(t, counts[outbox.StateFailed])
	assert.LessOrEqual(t, counts[outbox.StateUnknown], 3*numbers+8+30)
	assert.Empty(t, b.api.Duplicates())
}

// A campaign must not take the workers from the other numbers.
func TestNumbersShareTheWorkers(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(2), outbox.WithRate(1e6))
	b.api.SetLatency(5 * time.Millisecond)
	var campaign []outbox.Message
	for i := range 1000 {
		campaign = append(campaign, outbox.Message{ID: fmt.Sprint("c", i), PhoneNumberID: "111", Payload: payload("x")})
	}
	require.NoError(t, b.EnqueueAll(t.Context(), campaign))
	run(t, b.Outbox)
	b.calls(10)
	others := b.enqueueMany("222", 20)
	b.settled(others)
	assert.Less(t, b.api.Totals().Accepted, 500, "20 of one number went out beside about 20 of the other")
}

// A number whose API hung had all the workers, and the others waited.
func TestNumberWhoseAPIHangsKeepsNoOtherWaiting(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(4))
	release := make(chan struct{})
	defer close(release)
	hanging := make(chan struct{}, 10)
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/v25.0/111/messages" {
			hanging <- struct{}{}
			<-release
		}
		return b.api.RoundTrip(req)
	}), outbox.WithWorkers(4), outbox.WithAttemptTimeout(time.Minute), outbox.WithRate(1e6))
	b.enqueueMany("111", 10)
	run(t, o)
	for range 4 {
		<-hanging
	}
	began := time.Now()
	others := b.enqueueMany("222", 3)
	assert.Equal(t, 3, b.settled(others)[outbox.StateSent])
	t.Logf("the others waited %v; want 3s at most", time.Since(began))
}

// The gate takes the path of one number to be down, and the host to be up.
func TestNumberWhosePathIsDownLeavesTheOthersAlone(t *testing.T) {
	b := newHarness(t, outbox.WithTransportOptions(graphretry.WithOutageThreshold(3), graphretry.WithInitialInterval(200*time.Millisecond), graphretry.WithMaxInterval(time.Second)))
	var broken atomic.Int32
	down := atomic.Bool{}
	down.Store(true)
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/v25.0/111/messages" && down.Load() {
			broken.Add(1)
			return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: newBody(`{"error":{"code":131016,"message":"unavailable"}}`)}, nil
		}
		return b.api.RoundTrip(req)
	}), outbox.WithWorkers(4), outbox.WithRate(1e6), outbox.WithTransportOptions(
		graphretry.WithOutageThreshold(3), graphretry.WithInitialInterval(200*time.Millisecond), graphretry.WithMaxInterval(time.Second)))
	sick := b.enqueueMany("111", 60)
	sound := b.enqueueMany("222", 60)
	run(t, o)
	assert.Equal(t, 60, b.settled(sound)[outbox.StateSent])
	calls := broken.Load()
	t.Logf("%d calls of 60 messages of the number that is down", calls)
	assert.Less(t, calls, int32(15))
	down.Store(false)
	assert.Equal(t, 60, b.settled(sick)[outbox.StateSent])
}
