package graphretry_test

import (
	"context"
	"errors"
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

// shutTransport is a Transport over api whose gate the calls it has just made
// have shut. They were not retried, so nothing waits.
func shutTransport(t *testing.T, api http.RoundTripper, opts ...graphretry.Option) *graphretry.Transport {
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

// Workers of a queue send the next message when the last is sent, so the line
// is as long as there are workers however fast it is let go.
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

func TestCallThatCannotWaitForTheOutageIsRefusedAndItsBodyClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		var last graphretry.Event
		transport := shutTransport(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) { last = event }))
		before := api.Totals().Calls

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body := &gateBody{Reader: strings.NewReader("{}")}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, messagesURL, body)
		require.NoError(t, err)
		began := time.Now()
		resp, err := transport.RoundTrip(req)
		assert.Nil(t, resp)
		var waitError *graphretry.WaitError
		require.ErrorAs(t, err, &waitError)
		assert.ErrorIs(t, err, graphretry.ErrOutage)
		assert.False(t, waitError.Timeout(), "no deadline has passed yet")
		assert.Zero(t, waitError.Attempts)
		require.NotNil(t, waitError.Graph)
		assert.Equal(t, graphretry.CodeAPIService, waitError.Graph.Code, "what shut the gate")
		assert.Zero(t, time.Since(began), "at once")
		assert.Equal(t, 1, body.closed)
		assert.Zero(t, body.read, "calls in line buffer nothing")
		assert.Equal(t, before, api.Totals().Calls)
		assert.Equal(t, graphretry.EventGaveUp, last.Kind)
		assert.Equal(t, graphretry.ReasonOutage, last.Reason)
		assert.Zero(t, last.Attempt)
	})
}

func TestDeadlineInLineGivesErrOutageIfNothingWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := shutTransport(t, api)
		// Who has the most time is the probe at 5 s, and the next one leaves at 15 s.
		var group sync.WaitGroup
		group.Go(func() {
			_, _ = statusOf(graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(2)), transport, messagesURL)
		})
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			began := time.Now()
			_, err := statusOf(ctx, transport, messagesURL)
			assert.ErrorIs(t, err, graphretry.ErrOutage)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			var timeout interface{ Timeout() bool }
			if assert.ErrorAs(t, err, &timeout) {
				assert.True(t, timeout.Timeout())
			}
			assert.Equal(t, 8*time.Second, time.Since(began))
		})
		group.Wait()
	})
}

func TestCallWithoutALimitWaitsInLineHoweverLongItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 24*time.Hour, gateDown)
		transport := shutTransport(t, api, graphretry.WithMaxElapsedTime(0))
		status, err := statusOf(t.Context(), transport, messagesURL)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
	})
}

func TestElapsedTimeInLineGivesTheLastResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(time.Millisecond) // so that each is sent before the gate is shut
		api.DownAfter(0, time.Hour, gateDown)
		transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(2), graphretry.WithJitter(0), graphretry.WithMaxElapsedTime(time.Minute))
		require.NoError(t, err)
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				status, err := statusOf(t.Context(), transport, messagesURL)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusServiceUnavailable, status, "the last response, intact")
			})
		}
		began := time.Now()
		group.Wait()
		assert.Equal(t, time.Minute+time.Millisecond, time.Since(began), "a minute from the first failure")
	})
}

// Where callers give up after the same while, who stands first in a long line is
// about to, and would never hear the answer to a probe.
func TestCallersWhoGiveUpDoNotKeepTheGateShut(t *testing.T) {
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

// A caller who leaves while the probe's answer, or the body of a failed one, is
// on its way passes the turn on at once.
func TestProbeWhoseCallerLeavesPassesItsTurnOn(t *testing.T) {
	for _, by := range []string{"cancellation", "cancellation in the body", "deadline"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				api.AnswerNext(3, gateDown)
				began := time.Now()
				var probes []time.Duration
				transport := shutTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
					if api.Totals().Calls == 3 {
						probes = append(probes, time.Since(began))
					}
					hangs := readerFunc(func([]byte) (int, error) {
						<-req.Context().Done()
						return 0, req.Context().Err()
					})
					switch {
					case len(probes) != 1:
						return api.RoundTrip(req)
					case by == "cancellation in the body":
						return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Request: req, Body: io.NopCloser(hangs)}, nil
					default:
						_, err := hangs(nil)
						return nil, err
					}
				}))
				ctx, cancel := context.WithCancel(t.Context())
				if by == "deadline" {
					ctx, cancel = context.WithTimeout(t.Context(), 6*time.Second)
				}
				defer cancel()
				time.AfterFunc(6*time.Second, cancel)
				var calls sync.WaitGroup
				calls.Go(func() { _, _ = statusOf(ctx, transport, messagesURL) })
				time.Sleep(5500 * time.Millisecond)
				status, err := statusOf(t.Context(), transport, messagesURL)
				require.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
				calls.Wait()
				assert.Equal(t, []time.Duration{5 * time.Second, 6 * time.Second}, probes)
			})
		})
	}
}

// cancelsLate is a context whose end can be seen before it is told.
type cancelsLate struct {
	context.Context
	canceled *atomic.Bool
}

func (c cancelsLate) Err() error {
	if c.canceled.Load() {
		return context.Canceled
	}
	return c.Context.Err()
}

func TestOutageEndsThoughTheLastInLineLeavesAsItIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(time.Millisecond)
		api.DownAfter(0, time.Second, gateDown)
		var ended int
		transport := shutTransport(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			if event.Kind == graphretry.EventOutageEnded {
				ended++
			}
		}))
		ctx := cancelsLate{t.Context(), new(atomic.Bool)}
		time.AfterFunc(4*time.Second, func() { ctx.canceled.Store(true) })
		var calls sync.WaitGroup
		calls.Go(func() {
			_, err := statusOf(ctx, transport, messagesURL)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		calls.Go(func() { // it comes later, so it is the probe
			_, err := statusOf(t.Context(), transport, messagesURL)
			assert.NoError(t, err)
		})
		calls.Wait()
		assert.Equal(t, 1, ended)
	})
}

// The limit is somebody else's lesson too: while it answers, the pace does not
// rise.
func TestThrottlingAnswersHoldTheLineBack(t *testing.T) {
	drained := map[graphretry.Code]time.Duration{}
	for _, code := range []graphretry.Code{graphretry.CodeRateLimitHit, graphretry.CodeInvalidParameter} {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			api.DownAfter(0, time.Second, gateDown)
			api.AnswerNext(3, gateDown)
			transport := shutTransport(t, api)
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

func TestCancellationInLineEndsTheCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := shutTransport(t, api)
		mine := errors.New("the person closed the window")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(mine) })
		began := time.Now()
		_, err := statusOf(ctx, transport, messagesURL)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, err, mine)
		var graph *graphretry.Error
		require.ErrorAs(t, err, &graph)
		assert.Equal(t, graphretry.CodeAPIService, graph.Code)
		assert.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestParameterErrorAmongOutageAnswersKeepsTheGateOpen(t *testing.T) {
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

func TestMaintenanceOfOneAccountDoesNotShutTheGate(t *testing.T) {
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

func TestEachHostHasAGateOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Second, gateDown)
		transport := shutTransport(t, api, graphretry.WithHosts("graph.facebook.com", "graph.example.com"))
		time.Sleep(2 * time.Second)
		began := time.Now()
		status, err := statusOf(t.Context(), transport, strings.Replace(messagesURL, "facebook", "example", 1))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Zero(t, time.Since(began), "the other host's gate is open")
		status, err = statusOf(t.Context(), transport, messagesURL)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, 3*time.Second, time.Since(began), "the probe is due 5 s after the gate was shut")
	})
}

func TestOutageEndsBeforeTheReleaseThatEmptiesTheLineIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 2*time.Second, gateDown)
		var calls int
		transport := shutTransport(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
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
		assert.Equal(t, 3+3, calls, "the last of the line had not been sent")
	})
}

func TestLoggerTellsHowLongAnOutageLastedAndHowManyCallsItHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 2*time.Second, gateDown)
		var log strings.Builder
		transport := shutTransport(t, api, graphretry.WithLogger(slogWithoutTime(&log)))
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
		assert.Contains(t, began, "code=2")
		assert.Contains(t, ended, "level=INFO")
		assert.Contains(t, ended, "lasted=5.2s")
		assert.Contains(t, ended, "held=4")
		assert.Contains(t, ended, "code=2")
	})
}

func TestBypassAndZeroThresholdKnowNoGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := shutTransport(t, api)
		began := time.Now()
		_, err := statusOf(graphretry.ContextBypass(t.Context()), transport, messagesURL)
		require.NoError(t, err)
		ungated := shutTransport(t, api, graphretry.WithOutageThreshold(0))
		_, err = statusOf(graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(2)), ungated, messagesURL)
		require.NoError(t, err)
		assert.Zero(t, time.Since(began))
	})
}

// gateBody is a body that counts its reads and its closings.
type gateBody struct {
	io.Reader
	read, closed int
}

func (c *gateBody) Read(p []byte) (int, error) {
	c.read++
	return c.Reader.Read(p)
}

func (c *gateBody) Close() error {
	c.closed++
	return nil
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
