package graphretry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func TestBadOptionInAContextFailsTheCallBeforeAnythingIsSent(t *testing.T) {
	transportOnly := []string{"WithHosts", "WithOutageThreshold", "WithLogger", "WithObserver", "WithMaxBufferedBody"}
	for name, bad := range badOptions() {
		t.Run(name, func(t *testing.T) {
			api := graphtest.New()
			transport, events := eventsOf(t, api)
			req := message(t, graphretry.ContextWithOptions(t.Context(), graphretry.WithThrottleRetries(), bad.opt))
			body := &closeCounter{Reader: req.Body}
			req.Body = body

			resp, err := transport.RoundTrip(req)
			assert.Nil(t, resp)
			require.Error(t, err)
			_, constructor := graphretry.NewPolicy(bad.opt)
			assert.ErrorContains(t, err, constructor.Error(), "the same words")
			for _, only := range transportOnly {
				if strings.HasPrefix(bad.words[0], only) {
					assert.ErrorContains(t, err, "graphretry: "+only+" cannot be set for one call")
				}
			}
			assert.Equal(t, 1, body.closed, "the body is closed")
			assert.Empty(t, api.Calls(), "nothing is sent")
			assert.Empty(t, events())

			assert.Equal(t, 200, sentStatus(t, transport, t.Context()), "other calls go on")
		})
	}
}

// closeCounter counts how often a body is closed.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

func TestOptionThatCannotBeSetInAContextIsRefused(t *testing.T) {
	for name, opt := range map[string]graphretry.Option{
		"WithHosts":           graphretry.WithHosts("graph.facebook.com"),
		"WithOutageThreshold": graphretry.WithOutageThreshold(5),
		"WithLogger":          graphretry.WithLogger(slog.New(slog.DiscardHandler)),
		"WithObserver":        graphretry.WithObserver(func(context.Context, graphretry.Event) {}),
		"WithMaxBufferedBody": graphretry.WithMaxBufferedBody(1 << 20),
	} {
		t.Run(name, func(t *testing.T) {
			api := graphtest.New()
			transport, _ := eventsOf(t, api)
			ctx := graphretry.ContextWithOptions(t.Context(), opt)
			resp, err := transport.RoundTrip(message(t, graphretry.ContextWithOptions(ctx, graphretry.WithMaxRetries(1))))
			assert.Nil(t, resp)
			assert.EqualError(t, err, "graphretry: "+name+" cannot be set for one call: give it to NewTransport")
			assert.Empty(t, api.Calls())
		})
	}
}

func TestBadOptionsInAContextAreRefusedTogether(t *testing.T) {
	transport, _ := eventsOf(t, graphtest.New())
	ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithHosts(""), graphretry.WithJitter(2))
	ctx = graphretry.ContextWithOptions(ctx, graphretry.WithRetryOn(100, 1), graphretry.WithLogger(nil))
	_, err := transport.RoundTrip(message(t, ctx))
	for _, words := range []string{
		"WithHosts cannot be set for one call", `WithHosts("")`, "WithJitter(2)",
		"WithRetryOn(100, 1)", "WithLogger cannot be set for one call", "WithLogger(nil)",
	} {
		assert.ErrorContains(t, err, words)
	}
}

func TestBadOptionInAContextDoesNotAffectOtherHosts(t *testing.T) {
	api := graphtest.New()
	transport, _ := eventsOf(t, api, graphretry.WithHosts("graph.example.com"))
	assert.Equal(t, 200, sentStatus(t, transport, graphretry.ContextWithOptions(t.Context(), graphretry.WithJitter(2))))
}

func TestOptionsInAContextApplyOnlyToItsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, _ := eventsOf(t, api, graphretry.WithRetryOn(1, 1), graphretry.WithMaxElapsedTime(time.Hour))
		down := func(code graphretry.Code) {
			api.Clear()
			api.DownAfter(0, 24*time.Hour, graphtest.Answer{Code: code})
		}
		calls := func(ctx context.Context) (attempts int, took time.Duration) {
			before, start := len(api.Calls()), time.Now()
			sentStatus(t, transport, ctx)
			return len(api.Calls()) - before, time.Since(start)
		}
		for _, test := range []struct {
			name     string
			code     graphretry.Code
			opts     []graphretry.Option
			attempts int
			took     time.Duration
		}{
			{"none", 1, nil, 2, 5 * time.Second},
			{"WithRetryOn", 131005, []graphretry.Option{graphretry.WithRetryOn(131005, 2)}, 3, 15 * time.Second},
			{"WithoutRetryOn", 1, []graphretry.Option{graphretry.WithoutRetryOn(1)}, 1, 0},
			{"WithMaxRetries", 2, []graphretry.Option{graphretry.WithMaxRetries(3)}, 4, 35 * time.Second},
			{"WithMaxRetries of 0", 2, []graphretry.Option{graphretry.WithMaxRetries(0)}, 1, 0},
			{"WithMaxElapsedTime", 2, []graphretry.Option{graphretry.WithMaxElapsedTime(15 * time.Second)}, 3, 15 * time.Second},
			{"WithInitialInterval", 1, []graphretry.Option{graphretry.WithInitialInterval(time.Second)}, 2, time.Second},
			{"WithMultiplier", 2, []graphretry.Option{graphretry.WithMultiplier(1), graphretry.WithMaxRetries(3)}, 4, 15 * time.Second},
			{"WithMaxInterval", 2, []graphretry.Option{graphretry.WithMaxInterval(10 * time.Second), graphretry.WithMaxRetries(3)}, 4, 25 * time.Second},
			{"WithThrottleRetries", 130429, []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxRetries(1)}, 2, 5 * time.Second},
			{
				"WithBackOff", 2,
				[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return &listedWaits{waits: []time.Duration{7 * time.Second}} })},
				2, 7 * time.Second,
			},
			{"none, after all these", 131005, nil, 1, 0},
			{"none, again", 1, nil, 2, 5 * time.Second},
		} {
			down(test.code)
			attempts, took := calls(graphretry.ContextWithOptions(t.Context(), test.opts...))
			assert.Equal(t, test.attempts, attempts, "attempts with %s", test.name)
			assert.Equal(t, test.took, took, "time with %s", test.name)
			api.Clear()
			sentStatus(t, transport, t.Context()) // so that no run of 2s shuts the gate
			time.Sleep(time.Minute)               // nor so many of them in a while have it try less load
		}
	})
}

func TestOptionsOfContextsNest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, _ := eventsOf(t, api, graphretry.WithOutageThreshold(0))
		attempts := func(code graphretry.Code, ctx context.Context) int {
			api.Clear()
			api.DownAfter(0, 24*time.Hour, graphtest.Answer{Code: code})
			before := len(api.Calls())
			sentStatus(t, transport, ctx)
			return len(api.Calls()) - before
		}
		outer := graphretry.ContextWithOptions(t.Context(), graphretry.WithRetryOn(1, 3), graphretry.WithRetryOn(131005, 1))
		inner := graphretry.ContextWithOptions(outer, graphretry.WithRetryOn(1, 2))
		sibling := graphretry.ContextWithOptions(outer, graphretry.WithoutRetryOn(131005))

		assert.Equal(t, 4, attempts(1, outer))
		assert.Equal(t, 3, attempts(1, inner), "the inner context has the last word")
		assert.Equal(t, 2, attempts(131005, inner), "and adds to the outer one")
		assert.Equal(t, 1, attempts(131005, sibling))
		assert.Equal(t, 4, attempts(1, sibling), "and does not know its siblings")
		assert.Equal(t, 4, attempts(1, outer), "nor has it changed the outer one")

		bypass := graphretry.ContextBypass(inner)
		assert.Equal(t, 1, attempts(1, bypass), "bypassed")
		assert.Equal(t, 1, attempts(2, graphretry.ContextWithOptions(bypass, graphretry.WithMaxRetries(2))), "and stays so further in")

		type key struct{}
		between := context.WithValue(inner, key{}, "another package's")
		assert.Equal(t, 3, attempts(1, between), "any context may lie between")
	})
}

func TestBypassedCallGoesStraightToTheNextRoundTripper(t *testing.T) {
	want := &http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader(`{"error":{"code":2}}`))}
	body := want.Body
	var got *http.Request
	transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return want, nil
	}), graphretry.WithAttemptTimeout(time.Minute))
	req := message(t, graphretry.ContextBypass(t.Context()))
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	assert.Same(t, req, got)
	assert.Same(t, want, resp)
	assert.Equal(t, body, resp.Body, "neither read nor wrapped")
	assert.Empty(t, events())
}

func TestBypassedCallDoesNotSeeTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(1), graphretry.WithMaxElapsedTime(time.Second))
		api.AnswerNext(1, graphtest.Answer{Code: 2})
		assert.Equal(t, 503, sentStatus(t, transport, t.Context()), "the host is down")
		before := len(events())
		assert.Equal(t, 200, sentStatus(t, transport, graphretry.ContextBypass(t.Context())))
		assert.Len(t, events(), before)
		_, err := transport.RoundTrip(message(t, t.Context()))
		assert.ErrorIs(t, err, graphretry.ErrOutage, "the host is down still")
	})
}
