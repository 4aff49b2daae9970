package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// transportToAHostThatIsDown is a Transport over api whose gate the calls it has just made
// have brought down. They were not retried, so nothing waits.
func transportToAHostThatIsDown(t *testing.T, api http.RoundTripper, opts ...graphretry.Option) *graphretry.Transport {
	t.Helper()
	transport, err := graphretry.NewTransport(api, append([]graphretry.Option{graphretry.WithOutageThreshold(3), graphretry.WithJitter(0)}, opts...)...)
	require.NoError(t, err)
	once := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(graphretry.CodeAPIService))
	for range 3 {
		status, err := statusOf(once, transport, messagesURL)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	return transport
}

var gateDown = graphtest.Answer{Code: graphretry.CodeAPIService}

func TestSingleCallerSeesPlainBackoffToTheSecond(t *testing.T) {
	for _, threshold := range []int{0, 1, 3, 20} {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			api.DownAfter(0, time.Hour, gateDown)
			transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(threshold), graphretry.WithJitter(0))
			require.NoError(t, err)
			began := time.Now()
			status, err := statusOf(t.Context(), transport, messagesURL)
			require.NoError(t, err)
			assert.Equal(t, http.StatusServiceUnavailable, status)
			var waits []float64
			for _, call := range api.Calls() {
				waits = append(waits, call.Time.Sub(began).Seconds())
				began = call.Time
			}
			assert.Equal(t, []float64{0, 5, 10, 20, 40, 80, 160, 180, 180, 180}, waits, "threshold %d", threshold)
		})
	}
}

func TestManySendersPutAFewDozenCallsOnAnAPIThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		api.DownAfter(10*time.Second, 3*time.Minute, gateDown)
		var mu sync.Mutex
		var outages []graphretry.Event
		transport, err := graphretry.NewTransport(api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			if event.Kind == graphretry.EventOutageBegan || event.Kind == graphretry.EventOutageEnded {
				mu.Lock()
				defer mu.Unlock()
				outages = append(outages, event)
			}
		}))
		require.NoError(t, err)
		var group sync.WaitGroup
		var failed atomic.Int64
		for i := range 50 * 300 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				if status, err := statusOf(t.Context(), transport, messagesURL); err != nil || status != http.StatusOK {
					failed.Add(1)
				}
			})
		}
		group.Wait()
		assert.Zero(t, failed.Load())
		assert.LessOrEqual(t, api.Totals().WhileDown, 35)
		require.Len(t, outages, 2)
		assert.Equal(t, graphretry.EventOutageBegan, outages[0].Kind)
		assert.Equal(t, graphretry.CodeAPIService, outages[0].Graph.Code)
		assert.Equal(t, graphretry.EventOutageEnded, outages[1].Kind)
		assert.Equal(t, graphretry.CodeAPIService, outages[1].Graph.Code, "what Meta said")
		assert.Equal(t, outages[1].Time.Sub(outages[0].Time), outages[1].Lasted, "how long it lasted")
		assert.Zero(t, outages[1].Wait)
		assert.Greater(t, outages[1].Held, 8000, "the calls of 3 minutes, less those who had not failed yet")
	})
}

// Workers of a queue send the next message when the last is sent, so the queue
// is as long as there are workers however fast they are released.
func TestWorkersOfAQueueAreAsFastAfterAnOutageAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		began := time.Now()
		api.DownAfter(10*time.Second, time.Minute, gateDown)
		transport, err := graphretry.NewTransport(api)
		require.NoError(t, err)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				for time.Since(began) < 122*time.Second {
					status, err := statusOf(t.Context(), transport, messagesURL)
					assert.NoError(t, err)
					assert.Equal(t, http.StatusOK, status)
				}
			})
		}
		group.Wait()
		perSecond := api.CallsPerSecond(began)
		assert.Equal(t, 400, perSecond[5])
		assert.Equal(t, 400, perSecond[120], "within a minute")
	})
}

// Where callers give up after the same while, who stands first in a long line is
// about to, and would never hear the answer to a probe.
func TestCallersWhoGiveUpDoNotKeepTheHostDown(t *testing.T) {
	for _, test := range []struct {
		perSecond        int
		answers, givesUp time.Duration
	}{
		{50, 50 * time.Millisecond, 30 * time.Second},
		{10, 300 * time.Millisecond, 30 * time.Second},
		{5, 300 * time.Millisecond, time.Minute},
	} {
		for _, by := range []string{"deadline", "cancellation"} {
			t.Run(fmt.Sprintf("%d a second, %s after %v", test.perSecond, by, test.givesUp), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := graphtest.New()
					api.SetLatency(test.answers)
					api.DownAfter(10*time.Second, 80*time.Second, gateDown)
					over := time.Now().Add(2 * time.Minute) // half a minute after the API is back
					transport, err := graphretry.NewTransport(api)
					require.NoError(t, err)
					var delivered, lost atomic.Int64
					var calls sync.WaitGroup
					for i := range test.perSecond * 60 * 5 {
						calls.Go(func() {
							time.Sleep(time.Duration(i) * time.Second / time.Duration(test.perSecond))
							ctx, cancel := context.WithCancel(t.Context())
							if by == "deadline" {
								ctx, cancel = context.WithTimeout(t.Context(), test.givesUp)
							}
							defer cancel()
							defer time.AfterFunc(test.givesUp, cancel).Stop()
							began := time.Now()
							status, err := statusOf(ctx, transport, messagesURL)
							switch {
							case err == nil && status == http.StatusOK:
								delivered.Add(1)
							case began.After(over):
								lost.Add(1)
							}
						})
					}
					calls.Wait()
					assert.Zero(t, lost.Load(), "of those that came when all was over")
					inVain := int64(api.Totals().Accepted) - delivered.Load()
					t.Logf("%d delivered, %d in vain", delivered.Load(), inVain)
					assert.LessOrEqual(t, inVain, delivered.Load()/50, "were taken when their callers had left")
				})
			})
		}
	}
}

// The limit is somebody else's lesson too: while it answers, the pace does not
// rise.
func TestThrottlingAnswersLowerTheRate(t *testing.T) {
	drained := map[graphretry.Code]time.Duration{}
	for _, code := range []graphretry.Code{graphretry.CodeRateLimitHit, graphretry.CodeInvalidParameter} {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			api.DownAfter(0, time.Second, gateDown)
			api.AnswerNext(3, gateDown)
			transport := transportToAHostThatIsDown(t, api)
			api.AnswerNext(1000, graphtest.Answer{Code: code})
			var calls sync.WaitGroup
			for range 200 {
				calls.Go(func() { _, _ = statusOf(t.Context(), transport, messagesURL) })
			}
			began := time.Now()
			calls.Wait()
			drained[code] = time.Since(began) - 5*time.Second
		})
	}
	assert.Greater(t, drained[graphretry.CodeRateLimitHit], 4*drained[graphretry.CodeInvalidParameter])
}

func TestParameterErrorAmongOutageAnswersKeepsTheHostUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(3), graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			assert.NotEqual(t, graphretry.EventOutageBegan, event.Kind)
		}))
		require.NoError(t, err)
		ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(graphretry.CodeAPIService))
		for range 10 {
			api.AnswerNext(2, gateDown)
			api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter})
			for range 3 {
				_, err := statusOf(ctx, transport, messagesURL)
				require.NoError(t, err)
			}
		}
	})
}

func TestMaintenanceOfOneAccountBringsNoHostDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, graphtest.Answer{Code: 131057})
		transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(3))
		require.NoError(t, err)
		for range 30 {
			_, err := statusOf(t.Context(), transport, messagesURL)
			require.NoError(t, err)
		}
		assert.Equal(t, 30, api.Totals().Calls)
	})
}

func TestEachHostHasItsOwnGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Second, gateDown)
		transport := transportToAHostThatIsDown(t, api, graphretry.WithHosts("graph.facebook.com", "graph.example.com"))
		time.Sleep(2 * time.Second)
		began := time.Now()
		status, err := statusOf(t.Context(), transport, strings.Replace(messagesURL, "facebook", "example", 1))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Zero(t, time.Since(began), "the other host's gate is open")
		status, err = statusOf(t.Context(), transport, messagesURL)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, 3*time.Second, time.Since(began), "the probe is due 5 s after the host went down")
	})
}

func TestOutageEndsBeforeTheReleaseThatEmptiesTheQueueIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 2*time.Second, gateDown)
		var calls int
		transport := transportToAHostThatIsDown(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			if event.Kind == graphretry.EventOutageEnded {
				calls = api.Totals().Calls
			}
		}))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				status, err := statusOf(t.Context(), transport, messagesURL)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
			})
		}
		group.Wait()
		assert.Equal(t, 3+4, api.Totals().Calls)
		assert.Equal(t, 3+3, calls, "the last in the queue had not been sent")
	})
}

func TestLogSaysHowLongAnOutageLastedAndHowManyCallsItHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 2*time.Second, gateDown)
		var log strings.Builder
		transport := transportToAHostThatIsDown(t, api, graphretry.WithLogger(slogWithoutTime(&log)))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() { _, _ = statusOf(t.Context(), transport, messagesURL) })
		}
		group.Wait()
		var began, ended string
		for line := range strings.Lines(log.String()) {
			switch {
			case strings.Contains(line, "outage began"):
				began = line
			case strings.Contains(line, "outage ended"):
				ended = line
			}
		}
		assert.Contains(t, began, "level=WARN")
		assert.Contains(t, began, "graph.code=2")
		assert.Contains(t, ended, "level=INFO")
		assert.Contains(t, ended, "graphretry.lasted_s=6.5", "four calls, from 1 a second on")
		assert.Contains(t, ended, "graphretry.held=4")
		assert.Contains(t, ended, "graphretry.after_code=2")
	})
}

func TestBypassAndZeroThresholdSwitchOffTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := transportToAHostThatIsDown(t, api)
		began := time.Now()
		_, err := statusOf(graphretry.ContextBypass(t.Context()), transport, messagesURL)
		require.NoError(t, err)
		ungated := transportToAHostThatIsDown(t, api, graphretry.WithOutageThreshold(0))
		_, err = statusOf(graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(2)), ungated, messagesURL)
		require.NoError(t, err)
		assert.Zero(t, time.Since(began))
	})
}

// slogWithoutTime is a logger whose lines are the same each time.
func slogWithoutTime(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}
