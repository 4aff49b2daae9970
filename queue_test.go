package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

func TestCallThatCannotWaitForTheOutageIsRefusedAndItsBodyClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		var last graphretry.Event
		transport := transportToAHostThatIsDown(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) { last = event }))
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
		assert.Equal(t, graphretry.CodeAPIService, waitError.Graph.Code, "what brought the host down")
		assert.Zero(t, time.Since(began), "at once")
		assert.Equal(t, 1, body.closed)
		assert.Zero(t, body.read, "calls in the queue buffer nothing")
		assert.Equal(t, before, api.Totals().Calls)
		assert.Equal(t, graphretry.EventGaveUp, last.Kind)
		assert.Equal(t, graphretry.ReasonOutage, last.Reason)
		assert.Zero(t, last.Attempt)
	})
}

func TestDeadlineInTheQueueIsErrOutageIfNothingWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := transportToAHostThatIsDown(t, api)
		api.SetLatency(3 * time.Second)
		// Who has the most time is the probe at 5 s, and the answer comes too late for us.
		var group sync.WaitGroup
		group.Go(func() {
			_, _ = statusOf(graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(2)), transport, messagesURL)
		})
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
			defer cancel()
			began := time.Now()
			_, err := statusOf(ctx, transport, messagesURL)
			assert.ErrorIs(t, err, graphretry.ErrOutage)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			var timeout interface{ Timeout() bool }
			if assert.ErrorAs(t, err, &timeout) {
				assert.True(t, timeout.Timeout())
			}
			assert.Equal(t, 6950*time.Millisecond, time.Since(began), "in time to be told")
		})
		group.Wait()
	})
}

func TestCallWithoutALimitWaitsInTheQueueHoweverLongItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, 24*time.Hour, gateDown)
		transport := transportToAHostThatIsDown(t, api, graphretry.WithMaxElapsedTime(0))
		status, err := statusOf(t.Context(), transport, messagesURL)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
	})
}

func TestElapsedTimeInTheQueueReturnsTheLastResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(time.Millisecond) // so that each is sent before the host is down
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
		assert.InDelta(t, 60, time.Since(began).Seconds(), 2.45, "a minute from the first failure, or once no probe can come before")
	})
}

// A caller who leaves while the probe's answer, or the body of a failed one, is
// on its way passes the turn on at once.
func TestProbeWhoseCallerLeavesPassesItsPermitOn(t *testing.T) {
	for _, by := range []string{"cancellation", "cancellation in the body", "deadline"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				api.AnswerNext(3, gateDown)
				began := time.Now()
				var probes []time.Duration
				transport := transportToAHostThatIsDown(t, roundTripper(func(req *http.Request) (*http.Response, error) {
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
				first := 5 * time.Second
				if by == "deadline" {
					first = 3550 * time.Millisecond // so that there is time for the answer
				}
				assert.Equal(t, []time.Duration{first, 6 * time.Second}, probes)
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

func TestOutageEndsThoughTheLastWaiterLeavesAsItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(time.Millisecond)
		api.DownAfter(0, time.Second, gateDown)
		var ended int
		transport := transportToAHostThatIsDown(t, api, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
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

func TestCancellationInTheQueueEndsTheCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Hour, gateDown)
		transport := transportToAHostThatIsDown(t, api)
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

func TestContractHoldsForACallWhoseTimeRunsOutInTheQueue(t *testing.T) {
	for _, sentBefore := range []bool{false, true} {
		for _, byDeadline := range []bool{false, true} {
			t.Run(fmt.Sprintf("sent before %v, by deadline %v", sentBefore, byDeadline), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &witness{next: script(down)}
					transport := newTransport(t, w, graphretry.WithJitter(0), graphretry.WithOutageThreshold(1), patiently)
					ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithMaxElapsedTime(7*time.Second))
					if byDeadline {
						ctx = deadline(7 * time.Second)(t.Context())
					}
					if !sentBefore {
						bringDown(t, transport)
					}
					// Somebody who has more time takes the probe that is due 2.45 s before our end; with
					// its answer it is known that the next one comes too late for us.
					var other sync.WaitGroup
					other.Go(func() {
						time.Sleep(500 * time.Millisecond)
						sendAs(t, transport, time.Minute, 2)
					})
					defer other.Wait()
					began := time.Now()
					req := newWatchedRequest(t, ctx, http.MethodPost, plainReader)
					isUnchanged := snapshot(req.Request)
					resp, err := transport.RoundTrip(req.Request)

					assert.Equal(t, 4550*time.Millisecond, time.Since(began))
					isUnchanged(t)
					assert.Equal(t, 1, req.bodies[0].closed())
					if sentBefore {
						require.NoError(t, err)
						assert.True(t, req.Request == resp.Request)
						content, err := io.ReadAll(resp.Body)
						require.NoError(t, err)
						assert.Equal(t, down.body, string(content))
						require.NoError(t, resp.Body.Close())
					} else {
						require.Nil(t, resp)
						require.ErrorIs(t, err, graphretry.ErrOutage)
						require.NotErrorIs(t, err, context.DeadlineExceeded, "there was time left")
						var waitError *graphretry.WaitError
						require.ErrorAs(t, err, &waitError)
						assert.Zero(t, waitError.Attempts)
						assert.Equal(t, graphretry.CodeAPIService, waitError.Graph.Code)
					}
					synctest.Wait() // the probe has failed at this very moment
					for _, a := range w.seen() {
						assert.Equal(t, 1, a.answer.closed())
					}
				})
			})
		}
	}
}

func TestPermitOfACallThatCannotBeRepeatedIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success)}
		transport := newTransport(t, w, graphretry.WithJitter(0), graphretry.WithOutageThreshold(1), patiently)
		var calls sync.WaitGroup
		calls.Go(func() {
			// It has the most time, so it is the probe.
			req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
			req.GetBody = func() (io.ReadCloser, error) { return nil, errCause }
			resp, err := transport.RoundTrip(req.Request)
			if assert.NoError(t, err) {
				assert.Equal(t, down.status, resp.StatusCode)
				assert.NoError(t, resp.Body.Close())
			}
		})
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		resp, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, withGetBody).Request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		calls.Wait()
		assert.Equal(t, seconds(5), w.waits(), "the probe is sent when it is due, by whoever is next")
	})
}

func TestCallInTheQueueReadsNothingOfItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success)}
		transport := newTransport(t, w, graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
		bringDown(t, transport)
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		var call sync.WaitGroup
		call.Go(func() {
			resp, err := transport.RoundTrip(req.Request)
			if assert.NoError(t, err) {
				assert.NoError(t, resp.Body.Close())
			}
		})
		time.Sleep(4 * time.Second)
		synctest.Wait()
		assert.Empty(t, req.bodies[0].text())
		assert.Zero(t, req.bodies[0].closed())
		call.Wait()
		assert.Equal(t, messageBody, req.bodies[0].text())
	})
}
