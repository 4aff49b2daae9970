package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// Each code is decided in TestNoOtherCodeIsRetriedByDefault.
func TestCallIsRetriedAsItsCodeSays(t *testing.T) {
	const forEver = 10 // the attempts that fit into 15 minutes
	for code, attempts := range map[graphretry.Code]int{
		2: forEver, 131016: forEver, 131000: 2, 130472: 1, 131009: 1, 1: 1, 130429: 1, 299: 1, 999999: 1,
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

func TestRetriesAreCountedByCode(t *testing.T) {
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

func TestWaitErrorHasWhatEndedTheWaitAndTheLastGraphError(t *testing.T) {
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
		time.AfterFunc(9*time.Second, cancel)
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
