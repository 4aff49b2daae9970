package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// sendMessage sends a message that gets these replies, without jitter. It gives
// how the call ended and the times between its attempts.
func sendMessage(t *testing.T, replies []reply, opts ...graphretry.Option) (end ending, waits []time.Duration) {
	t.Helper()
	w := &witness{next: script(replies...)}
	transport := newTransport(t, w, append([]graphretry.Option{graphretry.WithJitter(0)}, opts...)...)
	end = callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
	return end, w.waits()
}

// seconds are so many waits.
func seconds(n ...float64) []time.Duration {
	var waits []time.Duration
	for _, n := range n {
		waits = append(waits, time.Duration(n*float64(time.Second)))
	}
	return waits
}

// What is retried.

func TestEachCodeIsRetriedAsTheTableSays(t *testing.T) {
	const forEver = 10 // the attempts that fit into 15 minutes
	for code, attempts := range map[graphretry.Code]int{
		2: forEver, 131016: forEver,
		131000: 2,
		130472: 1,
		33:     1, 100: 1, 131008: 1, 131009: 1,
		1: 1, 131005: 1, 134011: 1, 0: 1, 3: 1, 4: 1, 10: 1, 190: 1, 200: 1, 299: 1, 368: 1, 613: 1, 80007: 1,
		130429: 1, 131026: 1, 131045: 1, 131047: 1, 131048: 1, 131049: 1, 131056: 1, 131057: 1, 132000: 1,
		133000: 1, 133004: 1, 133016: 1, 134102: 1, 999999: 1,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mock := httpmock.NewMockTransport()
				mock.RegisterResponder(http.MethodPost, messagesURL, httpmock.NewBytesResponder(graphtest.Status(code), graphtest.ErrorBody(code)))
				client, err := graphretry.WrapClient(&http.Client{Transport: mock}, graphretry.WithJitter(0))
				require.NoError(t, err)
				resp, err := client.Post(messagesURL, "application/json", strings.NewReader(messageBody))
				require.NoError(t, err)
				defer resp.Body.Close()
				content, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, string(graphtest.ErrorBody(code)), string(content))
				assert.Equal(t, attempts, mock.GetTotalCallCount())
			})
		})
	}
}

func TestStatusOfAnAnswerDoesNotDecide(t *testing.T) {
	for _, test := range []struct {
		status  int
		code    graphretry.Code
		retried bool
	}{
		{400, 2, true}, {401, 131016, true}, {404, 131000, true}, {429, 2, true}, {500, 2, true}, {503, 2, true}, {599, 2, true},
		{500, 3, false}, {500, 131045, false}, {500, 133000, false}, {500, 134102, false}, {503, 131008, false}, {504, 130472, false},
		{429, 100, false}, {500, 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			first := reply{status: test.status, body: string(graphtest.ErrorBody(test.code))}
			end, waits := sendMessage(t, []reply{first, success})
			require.NoError(t, end.err)
			assert.Equal(t, test.retried, len(waits) == 1, "code %d, status %d", test.code, test.status)
		})
	}
}

func TestSuccessAndRedirectAreReturnedUntouched(t *testing.T) {
	for _, status := range []int{200, 201, 202, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 399} {
		for _, kind := range []bodyKind{noBody, withGetBody, plainReader} {
			body := &watchedBody{from: io.NopCloser(strings.NewReader(down.body))}
			want := &http.Response{StatusCode: status, Body: body, ContentLength: -1, Header: http.Header{}}
			attempts := 0
			next := roundTripper(func(*http.Request) (*http.Response, error) {
				attempts++
				return want, nil
			})
			got, err := newTransport(t, next, allOptIns...).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, kind).Request)
			require.NoError(t, err)
			assert.Same(t, want, got)
			assert.Same(t, body, got.Body, "not wrapped")
			assert.Empty(t, body.text(), "not read")
			assert.Zero(t, body.closed())
			assert.Equal(t, 1, attempts)
		}
	}
}

func TestCallWithoutRetriesPassesThroughUntouched(t *testing.T) {
	off := graphretry.WithMaxRetries(0)
	for name, test := range map[string]struct {
		ctx     context.Context
		options []graphretry.Option
	}{
		"bypass":                     {ctx: graphretry.ContextBypass(t.Context())},
		"retries off":                {ctx: t.Context(), options: []graphretry.Option{off}},
		"retries off in the context": {ctx: graphretry.ContextWithOptions(t.Context(), off)},
	} {
		t.Run(name, func(t *testing.T) {
			body := &watchedBody{from: io.NopCloser(strings.NewReader(down.body))}
			want := &http.Response{StatusCode: http.StatusServiceUnavailable, Body: body, ContentLength: -1, Header: http.Header{}}
			var sent *http.Request
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				sent = req
				return want, nil
			})
			observer := graphretry.WithObserver(func(context.Context, graphretry.Event) { t.Error("there is nothing to tell") })
			options := append(test.options, observer, graphretry.WithAttemptTimeout(time.Minute))
			req := newWatchedRequest(t, test.ctx, http.MethodPost, plainReader)
			got, err := newTransport(t, next, options...).RoundTrip(req.Request)
			require.NoError(t, err)
			assert.True(t, sent == req.Request)
			assert.Same(t, want, got)
			assert.Same(t, body, got.Body)
			assert.Empty(t, body.text())
			assert.Zero(t, body.closed())
		})
	}
}

func TestEachCodeHasRetriesOfItsOwn(t *testing.T) {
	maintenance := fails(131057)
	for name, test := range map[string]struct {
		options []graphretry.Option
		replies []reply // the last of them ends the call
	}{
		"131000 twice":                 {replies: []reply{unsure, unsure}},
		"131000, 2, 131000":            {replies: []reply{unsure, down, unsure}},
		"2, 2, 131000, 2, 131000":      {replies: []reply{down, down, unsure, down, unsure}},
		"131000 after 2 is retried":    {replies: []reply{down, unsure, success}},
		"131000 and a parameter error": {replies: []reply{unsure, refused}},
		"a limit on each": {
			options: []graphretry.Option{graphretry.WithRetryOn(2, 2), graphretry.WithRetryOn(131057, 1)},
			replies: []reply{down, maintenance, unsure, down, down},
		},
		"a limit on all": {options: []graphretry.Option{graphretry.WithMaxRetries(3)}, replies: []reply{down, unsure, down, down}},
		"131000 oftener": {options: []graphretry.Option{graphretry.WithRetryOn(131000, 2)}, replies: []reply{unsure, unsure, unsure}},
		"2 not at all":   {options: []graphretry.Option{graphretry.WithoutRetryOn(2)}, replies: []reply{unsure, down}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end, waits := sendMessage(t, append(test.replies, reply{status: http.StatusTeapot}), test.options...)
				endsWith(test.replies[len(test.replies)-1])(t, end)
				assert.Len(t, waits, len(test.replies)-1)
			})
		})
	}
}

// The schedule.

func TestWaitsDoubleFromFiveSecondsToThreeMinutesForFifteenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		end, waits := sendMessage(t, []reply{down})
		endsWith(down)(t, end)
		assert.Equal(t, seconds(5, 10, 20, 40, 80, 160, 180, 180, 180), waits)
		// The next would end after 17 min 15 s, so the call ends with its last
		// attempt.
		assert.Equal(t, 14*time.Minute+15*time.Second, time.Since(began))
	})
}

func TestScheduleOfACallIsThatOfItsOptions(t *testing.T) {
	constant := func() backoff.BackOff { return backoff.NewConstantBackOff(7 * time.Second) }
	for name, test := range map[string]struct {
		options []graphretry.Option
		waits   []time.Duration
	}{
		"initial interval": {[]graphretry.Option{graphretry.WithInitialInterval(time.Second), graphretry.WithMaxRetries(4)}, seconds(1, 2, 4, 8)},
		"multiplier":       {[]graphretry.Option{graphretry.WithMultiplier(1.5), graphretry.WithMaxRetries(3)}, seconds(5, 7.5, 11.25)},
		"multiplier of 1":  {[]graphretry.Option{graphretry.WithMultiplier(1), graphretry.WithMaxRetries(3)}, seconds(5, 5, 5)},
		"maximum interval": {[]graphretry.Option{graphretry.WithMaxInterval(6 * time.Second), graphretry.WithMaxRetries(3)}, seconds(5, 6, 6)},
		"no time limit": {
			[]graphretry.Option{graphretry.WithMaxElapsedTime(0), graphretry.WithMaxRetries(12)},
			seconds(5, 10, 20, 40, 80, 160, 180, 180, 180, 180, 180, 180),
		},
		"a schedule of the caller's":                  {[]graphretry.Option{graphretry.WithBackOff(constant), graphretry.WithMaxRetries(3)}, seconds(7, 7, 7)},
		"a schedule of the caller's, maximum of time": {[]graphretry.Option{graphretry.WithBackOff(constant), graphretry.WithMaxElapsedTime(20 * time.Second)}, seconds(7, 7)},
		"a schedule of the caller's that ends by itself": {
			[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return backoff.WithMaxRetries(constant(), 2) })}, seconds(7, 7),
		},
		"no wait at all": {[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return &backoff.ZeroBackOff{} }), graphretry.WithMaxRetries(3)}, seconds(0, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Twice, since each call begins anew.
				for range 2 {
					end, waits := sendMessage(t, []reply{down}, test.options...)
					endsWith(down)(t, end)
					assert.Equal(t, test.waits, waits)
				}
			})
		})
	}
}

func TestScheduleOfTheCallersIsMadeAnewForEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		transport := newTransport(t, script(down, down, success, success, down, success), graphretry.WithBackOff(func() backoff.BackOff {
			made++
			return backoff.NewConstantBackOff(time.Second)
		}))
		for i, want := range []int{1, 1, 2} {
			assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context()))
			assert.Equal(t, want, made, "after call %d; a success needs none", i+1)
		}
	})
}

func TestRetryComesNoSoonerThanTheScheduleSaysAndAFifthLaterAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		differs := false
		for range 20 {
			w := &witness{next: script(down)}
			transport := newTransport(t, w)
			callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
			waits := w.waits()
			assert.GreaterOrEqual(t, len(waits), 8)
			for i, interval := range seconds(5, 10, 20, 40, 80, 160, 180, 180, 180)[:len(waits)] {
				assert.GreaterOrEqual(t, waits[i], interval)
				assert.LessOrEqual(t, waits[i], interval*6/5)
				differs = differs || waits[i] != interval
			}
		}
		assert.True(t, differs, "there is jitter")
	})
}

func TestRetryAfterOfAnAnswerRaisesTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for value, wait := range map[string]float64{
			"30": 30, "5": 5, "4": 5, "0": 5, "-30": 5, "soon": 5, "1e3": 5, "30.5": 5, "": 5, "+30": 5,
		} {
			first := down.with(func(r *reply) { r.header = http.Header{"Retry-After": {value}} })
			_, waits := sendMessage(t, []reply{first, success})
			assert.Equal(t, seconds(wait), waits, "Retry-After: %s", value)
		}
		for _, layout := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
			for in, wait := range map[time.Duration]float64{42 * time.Second: 42, 4 * time.Second: 5, -time.Hour: 5} {
				value := time.Now().Add(in).UTC().Format(layout)
				_, waits := sendMessage(t, []reply{down.with(func(r *reply) { r.header = http.Header{"Retry-After": {value}} }), success})
				assert.Equal(t, seconds(wait), waits, "Retry-After: %s", value)
			}
		}
	})
}

// A wait that Retry-After lengthened does not move the schedule.
func TestScheduleGoesOnAfterARetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asks := down.with(func(r *reply) { r.header = http.Header{"Retry-After": {"100"}} })
		_, waits := sendMessage(t, []reply{asks, down, asks, down, success})
		assert.Equal(t, seconds(100, 10, 100, 40), waits)
	})
}

func TestThrottledCallWaitsOnItsOwnTerms(t *testing.T) {
	usage := `{"1":[{"type":"whatsapp","estimated_time_to_regain_access":2},{"estimated_time_to_regain_access":1}]}`
	throttled := fails(graphretry.CodeRateLimitHit).with(func(r *reply) {
		r.header = http.Header{"X-Business-Use-Case-Usage": {usage}, "Retry-After": {"60"}}
	})
	pair := fails(graphretry.CodePairRateLimitHit)
	for name, test := range map[string]struct {
		replies []reply
		options []graphretry.Option
		waits   []time.Duration
	}{
		"not by default":             {[]reply{throttled, success}, nil, nil},
		"the largest of all":         {[]reply{throttled, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(120)},
		"usage is not for others":    {[]reply{throttled.with(func(r *reply) { r.body = down.body }), success}, nil, seconds(60)},
		"131056, not by default":     {[]reply{pair, success}, nil, nil},
		"131056 has its own":         {[]reply{pair, pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 256)},
		"131056 above every maximum": {[]reply{pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(10 * time.Second)}, seconds(1, 4, 16, 64)},
		"131056 beside the schedule": {[]reply{pair, down, pair, down, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 5, 4, 10)},
		"131056 until time is over":  {[]reply{pair}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 256)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end, waits := sendMessage(t, test.replies, test.options...)
				require.NoError(t, end.err)
				assert.Equal(t, test.waits, waits)
			})
		})
	}
}

// Time.

func TestWaitThatCannotFitIsNotBegun(t *testing.T) {
	asks := func(value string) reply {
		return down.with(func(r *reply) { r.header = http.Header{"Retry-After": {value}} })
	}
	for name, test := range map[string]struct {
		context func(context.Context) context.Context
		options []graphretry.Option
		reply   reply
	}{
		"deadline":                       {context: deadline(4 * time.Second)},
		"deadline in the same moment":    {context: deadline(5 * time.Second)},
		"deadline and a Retry-After":     {context: deadline(time.Hour), options: []graphretry.Option{graphretry.WithMaxElapsedTime(0)}, reply: asks("3600")},
		"maximum elapsed time":           {options: []graphretry.Option{graphretry.WithMaxElapsedTime(5*time.Second - 1)}},
		"Retry-After":                    {reply: asks("901")},
		"Retry-After of an age":          {options: []graphretry.Option{graphretry.WithMaxElapsedTime(24 * time.Hour)}, reply: asks("99999999999999999999")},
		"a deadline before the elapsed":  {context: deadline(time.Second), options: []graphretry.Option{graphretry.WithMaxElapsedTime(time.Hour)}},
		"an elapsed before the deadline": {context: deadline(time.Hour), options: []graphretry.Option{graphretry.WithMaxElapsedTime(time.Second)}},
		"no maximum, and the longest wait": {
			context: deadline(24 * time.Hour), options: []graphretry.Option{graphretry.WithMaxElapsedTime(0)}, reply: asks("9223372036854775807"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				last := test.reply
				if last.status == 0 {
					last = down
				}
				var events []graphretry.Event
				w := &witness{next: script(last)}
				transport := newTransport(t, w, append(test.options, graphretry.WithJitter(0),
					graphretry.WithObserver(func(_ context.Context, e graphretry.Event) { events = append(events, e) }))...)
				ctx := t.Context()
				if test.context != nil {
					ctx = test.context(ctx)
				}
				began := time.Now()
				end := callUnderContract(t, transport, w, newWatchedRequest(t, ctx, http.MethodPost, plainReader))
				endsWith(last)(t, end)
				assert.Zero(t, time.Since(began))
				require.Len(t, events, 1)
				assert.Equal(t, graphretry.EventGaveUp, events[0].Kind)
				assert.Equal(t, graphretry.ReasonNoTime, events[0].Reason)
			})
		})
	}
}

func TestWaitThatJustFitsIsBegun(t *testing.T) {
	for name, test := range map[string]struct {
		context func(context.Context) context.Context
		options []graphretry.Option
	}{
		"deadline":             {context: deadline(5*time.Second + 1)},
		"maximum elapsed time": {options: []graphretry.Option{graphretry.WithMaxElapsedTime(5 * time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{next: script(down, success)}
				ctx := t.Context()
				if test.context != nil {
					ctx = test.context(ctx)
				}
				transport := newTransport(t, w, append(test.options, graphretry.WithJitter(0))...)
				end := callUnderContract(t, transport, w, newWatchedRequest(t, ctx, http.MethodPost, plainReader))
				endsWith(success)(t, end)
				assert.Equal(t, seconds(5), w.waits())
			})
		})
	}
}

func TestElapsedTimeIsCountedFromTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := down.with(func(r *reply) { r.delay = time.Hour })
		end, waits := sendMessage(t, []reply{slow, success})
		endsWith(success)(t, end)
		assert.Equal(t, seconds(3605), waits)

		// From then on, what attempts take counts.
		slow = down.with(func(r *reply) { r.delay = 10 * time.Minute })
		end, waits = sendMessage(t, []reply{slow, slow, slow, success})
		endsWith(slow)(t, end)
		assert.Equal(t, seconds(605, 610), waits)
	})
}

// Waits.

func TestWaitErrorIsWhatEndedTheWaitAndWhatMetaSaidLast(t *testing.T) {
	for name, test := range map[string]struct {
		context   func(context.Context) context.Context
		change    func(*http.Request)
		is        []error
		isNot     []error
		isTimeout bool
	}{
		"canceled": {
			context: func(ctx context.Context) context.Context {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(7*time.Second, cancel)
				return ctx
			},
			is: []error{context.Canceled}, isNot: []error{context.DeadlineExceeded, graphretry.ErrOutage},
		},
		"canceled with a cause": {
			context: func(ctx context.Context) context.Context {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(7*time.Second, func() { cancel(errCause) })
				return ctx
			},
			is: []error{context.Canceled, errCause}, isNot: []error{context.DeadlineExceeded},
		},
		"Cancel closed": {
			change: closeCancelAfter(7 * time.Second),
			is:     []error{context.Canceled}, isNot: []error{context.DeadlineExceeded},
		},
		"deadline that was not announced": {
			context: func(ctx context.Context) context.Context { return neverEnding{deadline(7 * time.Second)(ctx)} },
			is:      []error{context.DeadlineExceeded}, isNot: []error{context.Canceled}, isTimeout: true,
		},
		"deadline that was not announced, with a cause": {
			context: func(ctx context.Context) context.Context {
				ctx, cancel := context.WithTimeoutCause(ctx, 7*time.Second, errCause)
				context.AfterFunc(ctx, cancel)
				return neverEnding{ctx}
			},
			is: []error{context.DeadlineExceeded, errCause}, isTimeout: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{next: script(unsure, down)}
				ctx := t.Context()
				if test.context != nil {
					ctx = test.context(ctx)
				}
				req := newWatchedRequest(t, ctx, http.MethodPost, plainReader)
				if test.change != nil {
					test.change(req.Request)
				}
				began := time.Now()
				err := callUnderContract(t, newTransport(t, w, graphretry.WithJitter(0)), w, req).err
				assert.Equal(t, 7*time.Second, time.Since(began), "the call ends at once")

				var waitError *graphretry.WaitError
				require.ErrorAs(t, err, &waitError)
				assert.Equal(t, 2, waitError.Attempts)
				assert.Equal(t, graphretry.CodeAPIService, waitError.Graph.Code)
				var graphError *graphretry.Error
				require.ErrorAs(t, err, &graphError)
				assert.Same(t, waitError.Graph, graphError)
				for _, target := range test.is {
					assert.ErrorIs(t, err, target)
				}
				for _, target := range test.isNot {
					assert.NotErrorIs(t, err, target)
				}
				var timeout net.Error
				assert.Equal(t, test.isTimeout, waitError.Timeout())
				assert.False(t, errors.As(err, &timeout) && timeout.Timeout() != test.isTimeout)
				assert.ErrorContains(t, err, "graphretry: ")
				assert.ErrorContains(t, err, "sent 2 times")
				assert.ErrorContains(t, err, "Graph error 2")
			})
		})
	}
}

func TestWaitErrorAfterANetworkFailureHasNoGraphError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		w := &witness{next: script(down, reply{err: errReset})}
		err := callUnderContract(t, newTransport(t, w, allOptIns...), w, newWatchedRequest(t, ctx, http.MethodGet, noBody)).err
		var waitError *graphretry.WaitError
		require.ErrorAs(t, err, &waitError)
		assert.Nil(t, waitError.Graph)
		var graphError *graphretry.Error
		assert.False(t, errors.As(err, &graphError))
	})
}

func TestContextThatEndsAsTheAnswerComesEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []reply{down, {err: errReset}} {
			ctx, cancel := context.WithCancel(t.Context())
			api := script(first, success)
			attempts := 0
			transport := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				attempts++
				resp, err := api.RoundTrip(req)
				cancel()
				return resp, err
			}), allOptIns...)
			began := time.Now()
			resp, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodGet, noBody).Request)
			assert.True(t, (resp == nil) != (err == nil))
			assert.Equal(t, 1, attempts, "nothing is sent for a caller who has left")
			assert.Zero(t, time.Since(began))
		}
	})
}

// http.Client.

func TestTimeoutOfTheClientBoundsTheWholeCall(t *testing.T) {
	for timeout, want := range map[time.Duration]struct {
		attempts int
		takes    time.Duration
	}{
		3 * time.Second:  {1, 0},
		5 * time.Second:  {1, 0},
		12 * time.Second: {2, 5 * time.Second},
		40 * time.Second: {4, 35 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &witness{next: script(down)}
			client, err := graphretry.WrapClient(&http.Client{Transport: w, Timeout: timeout}, graphretry.WithJitter(0))
			require.NoError(t, err)
			began := time.Now()
			resp, err := client.Post(messagesURL, "application/json", strings.NewReader(messageBody))
			require.NoError(t, err, "a call that has an answer gets it")
			assert.Equal(t, want.takes, time.Since(began))
			assert.Len(t, w.seen(), want.attempts)
			content, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, down.body, string(content))
			require.NoError(t, resp.Body.Close())
			synctest.Wait()
		})
	}
}

func TestTimeoutOfTheClientEndsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success.with(func(r *reply) { r.delay = time.Hour }))}
		client, err := graphretry.WrapClient(&http.Client{Transport: w, Timeout: 10 * time.Second}, append(allOptIns, graphretry.WithJitter(0))...)
		require.NoError(t, err)
		began := time.Now()
		_, err = client.Get(messagesURL)
		assert.Equal(t, 10*time.Second, time.Since(began))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, w.seen(), 2)
	})
}

// An outage keeps a call in line until its client's time is over, which may come
// by the context or by the Cancel channel, in whatever order.
func TestTimeoutOfTheClientInLineIsADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down)}
		client, err := graphretry.WrapClient(&http.Client{Transport: w, Timeout: 7 * time.Second}, graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
		require.NoError(t, err)
		shutGate(t, client.Transport)
		var other sync.WaitGroup
		other.Go(func() { sendAs(t, client.Transport, time.Minute, 2) })
		time.Sleep(100 * time.Millisecond)
		_, err = client.Post(messagesURL, "application/json", strings.NewReader(messageBody))
		other.Wait()
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "never sent")
	})
}

// announced is a context whose timer is late: its deadline is over, and it is
// not done yet.
type announced struct {
	context.Context
	deadline time.Time
}

func (c announced) Deadline() (time.Time, bool) { return c.deadline, true }

func TestCancelThatClosesAtTheDeadlineIsADeadline(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			transport := newTransport(t, script(down), graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
			shutGate(t, transport)
			var other sync.WaitGroup
			other.Go(func() { sendAs(t, transport, time.Minute, 2) })
			time.Sleep(time.Second)
			ctx := announced{t.Context(), time.Now().Add(6 * time.Second)}
			req := newWatchedRequest(t, ctx, http.MethodPost, withGetBody)
			closeCancelAfter(6 * time.Second)(req.Request)
			_, err := transport.RoundTrip(req.Request)
			other.Wait()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, context.Canceled)
		})
	}
}

// messageServer answers each path by its script, over real HTTP/1.1.
type messageServer struct {
	*httptest.Server
	mu      sync.Mutex
	scripts map[string][]func(http.ResponseWriter, *http.Request)
	got     []string // method, path and body
}

func newMessageServer(t *testing.T, scripts map[string][]func(http.ResponseWriter, *http.Request)) *messageServer {
	s := &messageServer{scripts: scripts}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		s.mu.Lock()
		s.got = append(s.got, r.Method+" "+r.URL.Path+" "+string(body))
		answers := s.scripts[r.URL.Path]
		answer := answers[0]
		if len(answers) > 1 {
			s.scripts[r.URL.Path] = answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func answers(r reply) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range r.header {
			w.Header()[name] = values
		}
		w.WriteHeader(r.status)
		io.WriteString(w, r.body)
	}
}

func (s *messageServer) client(t *testing.T, opts ...graphretry.Option) *http.Client {
	t.Helper()
	client, err := graphretry.WrapClient(s.Client(), append([]graphretry.Option{
		graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestRedirectsAreLeftToTheClient(t *testing.T) {
	redirect := func(status int) func(http.ResponseWriter, *http.Request) {
		return answers(reply{status: status, header: http.Header{"Location": {"/new"}}})
	}
	for status, want := range map[int][]string{
		http.StatusTemporaryRedirect: {"POST /old hello", "POST /old hello", "POST /new hello", "POST /new hello"},
		http.StatusPermanentRedirect: {"POST /old hello", "POST /old hello", "POST /new hello", "POST /new hello"},
		http.StatusFound:             {"POST /old hello", "POST /old hello", "GET /new ", "GET /new "},
	} {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/old": {answers(down), redirect(status)},
			"/new": {answers(down), answers(success)},
		})
		resp, err := s.client(t).Post(s.URL+"/old", "text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, "/new", resp.Request.URL.Path)
		assert.Equal(t, want, s.got)
	}
	t.Run("a body that the client cannot send again", func(t *testing.T) {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/old": {answers(down), redirect(http.StatusTemporaryRedirect)},
		})
		resp, err := s.client(t).Post(s.URL+"/old", "text/plain", io.LimitReader(strings.NewReader("hello"), 5))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode, "as without us")
		assert.Equal(t, []string{"POST /old hello", "POST /old hello"}, s.got)
	})
}

func TestCookiesAreLeftToTheClient(t *testing.T) {
	var sent []string
	cookies := func(r reply, set string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, req *http.Request) {
			sent = append(sent, req.Header.Get("Cookie"))
			w.Header().Set("Set-Cookie", set)
			answers(r)(w, req)
		}
	}
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
		"/": {cookies(success, "a=1"), cookies(down, "b=2"), cookies(success, "c=3"), cookies(refused, "d=4"), cookies(success, "e=5")},
	})
	client := s.client(t)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client.Jar = jar
	for range 4 {
		resp, err := client.Get(s.URL + "/")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	assert.Equal(t, []string{"", "a=1", "a=1", "a=1; c=3", "a=1; c=3; d=4"}, sent)
}

func TestCredentialsAreLeftToTheClient(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
		"/": {func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			assert.Equal(t, "user password", user+" "+password)
			answers(down)(w, r)
		}},
	})
	resp, err := s.client(t, graphretry.WithMaxRetries(2)).Get(strings.Replace(s.URL, "http://", "http://user:password@", 1) + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Len(t, s.got, 3)
}

func TestTraceHooksFireForEveryAttempt(t *testing.T) {
	for _, kind := range []bodyKind{withGetBody, plainReader} {
		for _, timeout := range []bool{false, true} {
			s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
			var gotConn, reused, wroteHeaders, wroteRequest, firstByte atomic.Int32
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) {
					gotConn.Add(1)
					if info.Reused {
						reused.Add(1)
					}
				},
				WroteHeaders:         func() { wroteHeaders.Add(1) },
				WroteRequest:         func(httptrace.WroteRequestInfo) { wroteRequest.Add(1) },
				GotFirstResponseByte: func() { firstByte.Add(1) },
			})
			var body io.Reader = strings.NewReader(messageBody)
			if kind == plainReader {
				body = io.LimitReader(body, 1<<20)
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/", body)
			require.NoError(t, err)
			var options []graphretry.Option
			if timeout {
				options = append(options, graphretry.WithAttemptTimeout(time.Minute))
			}
			resp, err := s.client(t, options...).Do(req)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			for name, hook := range map[string]*atomic.Int32{"GotConn": &gotConn, "WroteHeaders": &wroteHeaders, "WroteRequest": &wroteRequest, "GotFirstResponseByte": &firstByte} {
				assert.Equal(t, int32(3), hook.Load(), name)
			}
			assert.Equal(t, int32(2), reused.Load(), "connections used again")
		}
	}
}

func TestSwitchedProtocolIsAConnectionThatCanBeWritten(t *testing.T) {
	for _, options := range [][]graphretry.Option{nil, {graphretry.WithAttemptTimeout(10 * time.Second)}} {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/": {answers(down), func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				rw.Flush()
				line, err := rw.ReadString('\n')
				assert.NoError(t, err)
				rw.WriteString(line)
				rw.Flush()
			}},
		})
		req, err := http.NewRequest(http.MethodGet, s.URL+"/", nil)
		require.NoError(t, err)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := s.client(t, options...).Transport.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		conn, ok := resp.Body.(io.ReadWriteCloser)
		require.True(t, ok)
		_, err = io.WriteString(conn, "hello\n")
		require.NoError(t, err)
		echo, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "hello\n", string(echo))
		require.NoError(t, conn.Close())
	}
}

func TestCallRidesOutAnOutageOverRealHTTP(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
	resp, err := s.client(t).Post(s.URL+"/", "application/json", strings.NewReader(`{"to":"1"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, success.body, string(body))
	assert.Equal(t, []string{`POST / {"to":"1"}`, `POST / {"to":"1"}`, `POST / {"to":"1"}`}, s.got)
}

// What is wrapped around SDKs that take no client at all.
func TestTransportCanTakeThePlaceOfTheDefaultOne(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
	before := http.DefaultTransport
	t.Cleanup(func() {
		http.DefaultTransport = before
		http.DefaultClient.CloseIdleConnections()
	})
	http.DefaultTransport = newTransport(t, nil, graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond))
	resp, err := http.Post(s.URL+"/", "text/plain", strings.NewReader("hello"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Len(t, s.got, 3)
}

type idleCloser struct {
	http.RoundTripper
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

func TestCloseIdleConnectionsIsPassedOn(t *testing.T) {
	next := &idleCloser{}
	client, err := graphretry.WrapClient(&http.Client{Transport: next})
	require.NoError(t, err)
	client.CloseIdleConnections()
	assert.Equal(t, 1, next.closed)

	assert.NotPanics(t, func() {
		newTransport(t, script(success)).CloseIdleConnections()
		new(graphretry.Transport).CloseIdleConnections()
		(*graphretry.Transport)(nil).CloseIdleConnections()
	})
}

func TestTransportThatNobodyMadeSaysSo(t *testing.T) {
	for _, transport := range []*graphretry.Transport{nil, new(graphretry.Transport)} {
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		resp, err := transport.RoundTrip(req.Request)
		assert.Nil(t, resp)
		assert.ErrorContains(t, err, "graphretry: zero Transport: want one made by NewTransport or WrapClient")
		assert.Equal(t, 1, req.bodies[0].closed())
	}
}

func TestNilRequestSaysSo(t *testing.T) {
	resp, err := newTransport(t, script(success)).RoundTrip(nil)
	assert.Nil(t, resp)
	assert.ErrorContains(t, err, "graphretry: nil request: want one made by http.NewRequestWithContext")
}

func TestRequestWithoutAURLIsForTheNextRoundTripper(t *testing.T) {
	for _, req := range []*http.Request{{}, {Body: io.NopCloser(strings.NewReader(""))}} {
		_, without := http.DefaultTransport.RoundTrip(req)
		_, err := newTransport(t, http.DefaultTransport).RoundTrip(req)
		require.Error(t, err)
		assert.Equal(t, without, err)
	}
}

// Many at once.

func TestManyCallsAtOnceAreEachDeliveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 300
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		api.AnswerShare(0.4, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		transport := newTransport(t, api)
		var keys []string
		var sending sync.WaitGroup
		for i := range calls {
			key := fmt.Sprint("message ", i)
			keys = append(keys, key)
			content := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"1","biz_opaque_callback_data":%q}`, key)
			sending.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				var body io.Reader = strings.NewReader(content)
				if i%2 == 0 {
					body = io.LimitReader(body, 1<<20)
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, body)
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := transport.RoundTrip(req)
				if assert.NoError(t, err) {
					assert.Equal(t, http.StatusOK, resp.StatusCode)
					assert.NoError(t, resp.Body.Close())
				}
			})
		}
		sending.Wait()
		assert.Empty(t, api.Lost(keys...))
		assert.Empty(t, api.Duplicates())
		assert.Greater(t, api.Totals().Calls, calls*3/2)
		assert.Zero(t, api.Totals().OpenBodies)
	})
}

func TestManyCallsAtOnceAreEachDeliveredOnceOverRealConnections(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			api := graphtest.New()
			server := protocol.serve(t, api)
			api.AnswerShare(0.4, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong, Status: 500})
			transport := server.transport(t, server.next, graphretry.WithRetryOn(graphretry.CodeSomethingWentWrong, 50), graphretry.WithMaxInterval(2*time.Millisecond))
			var keys []string
			var sending sync.WaitGroup
			for sender := range 16 {
				for i := range 10 {
					keys = append(keys, fmt.Sprint(sender, ".", i))
				}
				sending.Go(func() {
					for i := range 10 {
						key := fmt.Sprint(sender, ".", i)
						content := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"1","biz_opaque_callback_data":%q}`, key)
						resp, err := (&http.Client{Transport: transport}).Post(server.URL+"/v23.0/1/messages", "application/json", io.LimitReader(strings.NewReader(content), 1<<20))
						if assert.NoError(t, err) {
							assert.Equal(t, http.StatusOK, resp.StatusCode)
							assert.NoError(t, resp.Body.Close())
						}
					}
				})
			}
			sending.Wait()
			assert.Empty(t, api.Lost(keys...))
			assert.Empty(t, api.Duplicates())
		})
	}
}

// A RoundTripper that sends a clone, as golang.org/x/oauth2's does, says so in the
// response, and it is not for us to unsay it where the request went down as it was.
func TestResponseToTheRequestItselfIsNotTouched(t *testing.T) {
	for _, r := range []reply{success, fails(graphretry.CodeInvalidParameter)} {
		var clone *http.Request
		api := script(r)
		resp, err := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			clone = req.Clone(req.Context())
			return api.RoundTrip(clone)
		})).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Same(t, clone, resp.Request)
	}
}

// Against its contract, but better a call that fails as it did than one that says
// nothing.
func TestBodyThatARoundTripperBelowTakesAwayIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := script(down, success)
		w := &witness{next: roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := api.RoundTrip(req)
			req.Body = nil
			return resp, err
		})}
		resp, err := newTransport(t, w).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, []string{messageBody, messageBody}, w.bodies())
	})
}

// What the API said to others, in an outage that is over, is not its last word to
// this call.
func TestWaitErrorHasNoGraphErrorOfAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := script(down, success, success, reply{err: errReset})
		transport := newTransport(t, api, graphretry.WithNetworkRetries(), graphretry.WithOutageThreshold(1))
		for range 2 {
			assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context()))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		_, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodGet, noBody).Request)
		var waitError *graphretry.WaitError
		require.ErrorAs(t, err, &waitError)
		assert.Equal(t, 1, waitError.Attempts)
		assert.Nil(t, waitError.Graph)
	})
}

func TestWrappedClientIsACopy(t *testing.T) {
	jar := new(cookieJar)
	redirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: failing(), Jar: jar, Timeout: time.Minute, CheckRedirect: redirect}
	wrapped, err := graphretry.WrapClient(client)
	require.NoError(t, err)
	assert.NotSame(t, client, wrapped)
	assert.IsType(t, roundTripper(nil), client.Transport, "the client itself stays as it was")
	assert.IsType(t, new(graphretry.Transport), wrapped.Transport)
	assert.Same(t, jar, wrapped.Jar)
	assert.Equal(t, time.Minute, wrapped.Timeout)
	assert.NotNil(t, wrapped.CheckRedirect)

	zero, err := graphretry.WrapClient(nil)
	require.NoError(t, err)
	assert.IsType(t, new(graphretry.Transport), zero.Transport)
	assert.Zero(t, zero.Timeout)
	assert.Nil(t, http.DefaultClient.Transport, "the default client stays as it was")
}

type cookieJar struct{ http.CookieJar }

func TestDefaultTransportIsTheOneOfTheConstruction(t *testing.T) {
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	var calls int
	http.DefaultTransport = roundTripper(func(req *http.Request) (*http.Response, error) {
		calls++
		return failing().RoundTrip(req)
	})
	transport, err := graphretry.NewTransport(nil)
	require.NoError(t, err)
	http.DefaultTransport = transport // else it would call itself without end

	resp, err := new(http.Client).Do(message(t, t.Context()))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 400, resp.StatusCode)
	assert.Equal(t, 1, calls)
}
