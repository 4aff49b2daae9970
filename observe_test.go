package graphretry_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// seen is what a test compares of an event.
type seen struct {
	kind    graphretry.EventKind
	attempt int
	code    graphretry.Code // -1: no Graph error
	wait    time.Duration
	reason  graphretry.Reason
}

func seenOf(events []graphretry.Event) []seen {
	var all []seen
	for _, event := range events {
		one := seen{event.Kind, event.Attempt, -1, event.Wait, event.Reason}
		if event.Graph != nil {
			one.code = event.Graph.Code
		}
		if event.Kind == graphretry.EventRecovered || event.Kind == graphretry.EventOutageBegan || event.Kind == graphretry.EventOutageEnded {
			one.reason = 0 // it is about failures
		}
		all = append(all, one)
	}
	return all
}

func TestEachFailedAttemptHasOneEvent(t *testing.T) {
	const (
		retrying, gaveUp      = graphretry.EventRetrying, graphretry.EventGaveUp
		notRetried, recovered = graphretry.EventNotRetried, graphretry.EventRecovered
	)
	answer := func(code graphretry.Code) graphtest.Answer { return graphtest.Answer{Code: code} }
	success := graphtest.Answer{}
	page := graphtest.Answer{Status: 502}
	broken := graphtest.Answer{Fault: graphtest.FaultBreak}
	for _, test := range []struct {
		name    string
		method  string // POST if empty
		opts    []graphretry.Option
		answers []graphtest.Answer
		want    []seen
	}{
		{"a success has none", "", nil, []graphtest.Answer{success}, nil},
		{
			"a failure that passes", "", nil,
			[]graphtest.Answer{answer(2), success},
			[]seen{{retrying, 1, 2, 5 * time.Second, graphretry.ReasonTransient}, {recovered, 2, 2, 0, 0}},
		},
		{
			"two failures that pass", "", nil,
			[]graphtest.Answer{answer(2), answer(131016), success},
			[]seen{
				{retrying, 1, 2, 5 * time.Second, graphretry.ReasonTransient},
				{retrying, 2, 131016, 10 * time.Second, graphretry.ReasonTransient},
				{recovered, 3, 131016, 0, 0},
			},
		},
		{
			"one that is retried once", "", nil,
			[]graphtest.Answer{answer(131000), answer(131000)},
			[]seen{{retrying, 1, 131000, 5 * time.Second, graphretry.ReasonRetryOnce}, {gaveUp, 2, 131000, 0, graphretry.ReasonRetriesExhausted}},
		},
		{
			"131000, then 2, then 131000 again", "", nil,
			[]graphtest.Answer{answer(131000), answer(2), answer(131000)},
			[]seen{
				{retrying, 1, 131000, 5 * time.Second, graphretry.ReasonRetryOnce},
				{retrying, 2, 2, 10 * time.Second, graphretry.ReasonTransient},
				{gaveUp, 3, 131000, 0, graphretry.ReasonRetriesExhausted},
			},
		},
		{"one that is never retried", "", nil, []graphtest.Answer{answer(131009)}, []seen{{notRetried, 1, 131009, 0, graphretry.ReasonNever}}},
		{"one that is not retried", "", nil, []graphtest.Answer{answer(131026)}, []seen{{notRetried, 1, 131026, 0, graphretry.ReasonNotRetried}}},
		{
			"one that is not retried after one that is", "", nil,
			[]graphtest.Answer{answer(2), answer(190)},
			[]seen{{retrying, 1, 2, 5 * time.Second, graphretry.ReasonTransient}, {notRetried, 2, 190, 0, graphretry.ReasonNotRetried}},
		},
		{
			"no retries left", "", []graphretry.Option{graphretry.WithMaxRetries(1)},
			[]graphtest.Answer{answer(2), answer(2)},
			[]seen{{retrying, 1, 2, 5 * time.Second, graphretry.ReasonTransient}, {gaveUp, 2, 2, 0, graphretry.ReasonRetriesExhausted}},
		},
		{
			"no time left", "", []graphretry.Option{graphretry.WithMaxElapsedTime(10 * time.Second)},
			[]graphtest.Answer{answer(2), answer(2)},
			[]seen{{retrying, 1, 2, 5 * time.Second, graphretry.ReasonTransient}, {gaveUp, 2, 2, 0, graphretry.ReasonNoTime}},
		},
		{
			"Retry-After beyond the time", "", nil,
			[]graphtest.Answer{{Code: 2, RetryAfter: "901"}},
			[]seen{{gaveUp, 1, 2, 0, graphretry.ReasonNoTime}},
		},
		{
			"throttled", "", []graphretry.Option{graphretry.WithThrottleRetries()},
			[]graphtest.Answer{{Code: 130429, RetryAfter: "7"}, success},
			[]seen{{retrying, 1, 130429, 7 * time.Second, graphretry.ReasonThrottle}, {recovered, 2, 130429, 0, 0}},
		},
		{
			"marked transient", "", []graphretry.Option{graphretry.WithTransientFlag()},
			[]graphtest.Answer{{Code: 1, Transient: true}, answer(1)},
			[]seen{{retrying, 1, 1, 5 * time.Second, graphretry.ReasonTransientFlag}, {notRetried, 2, 1, 0, graphretry.ReasonNotRetried}},
		},
		{
			"retried by an option", "", []graphretry.Option{graphretry.WithRetryOn(1, 1)},
			[]graphtest.Answer{answer(1), success},
			[]seen{{retrying, 1, 1, 5 * time.Second, graphretry.ReasonRetryOn}, {recovered, 2, 1, 0, 0}},
		},
		{"a gateway's page", "", nil, []graphtest.Answer{page}, []seen{{notRetried, 1, -1, 0, graphretry.ReasonAmbiguous}}},
		{"a status that no server has", "", nil, []graphtest.Answer{{Status: 499, Body: []byte{}}}, []seen{{notRetried, 1, -1, 0, graphretry.ReasonNoGraphError}}},
		{"a server that failed", "", nil, []graphtest.Answer{{Status: 500, Body: []byte{}}}, []seen{{notRetried, 1, -1, 0, graphretry.ReasonAmbiguous}}},
		{"a page that is not found", "", nil, []graphtest.Answer{{Status: 404}}, []seen{{notRetried, 1, -1, 0, graphretry.ReasonNoGraphError}}},
		{"a connection that breaks", "", nil, []graphtest.Answer{broken}, []seen{{notRetried, 1, -1, 0, graphretry.ReasonAmbiguous}}},
		{
			"the same for a message, whatever is opted into", "", everyOptIn(),
			[]graphtest.Answer{broken},
			[]seen{{notRetried, 1, -1, 0, graphretry.ReasonAmbiguous}},
		},
		{
			"network failures of a GET", http.MethodGet, []graphretry.Option{graphretry.WithNetworkRetries()},
			[]graphtest.Answer{broken, page, success},
			[]seen{
				{retrying, 1, -1, 5 * time.Second, graphretry.ReasonNetwork},
				{retrying, 2, -1, 10 * time.Second, graphretry.ReasonNetwork},
				{recovered, 3, -1, 0, 0},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				for _, answer := range test.answers {
					api.AnswerNext(1, answer)
				}
				transport, events := eventsOf(t, api, test.opts...)
				req := message(t, t.Context())
				if test.method != "" {
					req.Method, req.Body, req.GetBody, req.ContentLength = test.method, nil, nil, 0
				}
				if resp, err := transport.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
				assert.Equal(t, test.want, seenOf(events()))
				require.Len(t, api.Calls(), len(test.answers))
				failed := len(test.answers)
				if test.answers[failed-1].Code == 0 && test.answers[failed-1].Status == 0 && test.answers[failed-1].Fault == graphtest.FaultNone {
					failed--
				}
				var ofFailures int
				for _, event := range events() {
					if event.Kind != recovered {
						ofFailures++
						assert.Equal(t, ofFailures, event.Attempt, "in order, from 1")
					}
				}
				assert.Equal(t, failed, ofFailures)
			})
		})
	}
}

func TestCallThatItsCallerEndsIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
		transport, events := eventsOf(t, api, everyOptIn()...)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := transport.RoundTrip(message(t, ctx))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, []seen{{graphretry.EventNotRetried, 1, -1, 0, graphretry.ReasonCanceled}}, seenOf(events()))
		assert.Equal(t, err, events()[0].Err)
	})
}

func TestBodyThatCannotBeSentAgainIsGivenUp(t *testing.T) {
	transport, events := eventsOf(t, graphtestDown(2), graphretry.WithMaxBufferedBody(3))
	req := message(t, t.Context())
	req.Body, req.GetBody = io.NopCloser(req.Body), nil
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, []seen{{graphretry.EventGaveUp, 1, 2, 0, graphretry.ReasonBody}}, seenOf(events()))
}

// graphtestDown is an API that answers every call with code.
func graphtestDown(code graphretry.Code) *graphtest.API {
	api := graphtest.New()
	api.AnswerNext(1<<20, graphtest.Answer{Code: code})
	return api
}

func TestEventDescribesTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "the caller's")
		req := message(t, ctx)
		var events []graphretry.Event
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: 2, Subcode: 7, Message: "down", Details: "for a while"})
		transport, err := graphretry.NewTransport(api, graphretry.WithObserver(func(ctx context.Context, event graphretry.Event) {
			assert.Equal(t, "the caller's", ctx.Value(key{}), "the context is the request's")
			assert.Same(t, req, event.Request, "the request is the caller's own")
			assert.Equal(t, time.Now(), event.Time)
			assert.NoError(t, event.Err)
			events = append(events, event)
		}))
		require.NoError(t, err)
		start := time.Now()
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()

		require.Len(t, events, 2)
		graph := events[0].Graph
		assert.Equal(t, 503, graph.Status)
		assert.EqualValues(t, 2, graph.Code)
		assert.Equal(t, 7, graph.Subcode)
		assert.Equal(t, "down", graph.Message)
		assert.Equal(t, "for a while", graph.Details)
		assert.NotEmpty(t, graph.TraceID)
		assert.NotEmpty(t, graph.Raw)
		assert.Equal(t, start, events[0].Time)
		assert.Equal(t, start.Add(events[0].Wait), events[1].Time, "the wait is the one that is waited, with its jitter")
		assert.GreaterOrEqual(t, events[0].Wait, 5*time.Second)
	})
}

func TestEventHasTheErrorOfTheAttemptUnchanged(t *testing.T) {
	failure := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	transport, events := eventsOf(t, roundTripper(func(*http.Request) (*http.Response, error) { return nil, failure }))
	_, err := transport.RoundTrip(message(t, t.Context()))
	assert.Same(t, failure, err)
	require.Len(t, events(), 1)
	assert.Same(t, failure, events()[0].Err)
	assert.Nil(t, events()[0].Graph)
}

func TestObserversAreCalledInTheOrderTheyWereGiven(t *testing.T) {
	var order []string
	observer := func(name string) graphretry.Option {
		return graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			order = append(order, name+" "+event.Kind.String())
		})
	}
	logger := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		order = append(order, "logger")
		return len(p), nil
	}), nil))
	transport, err := graphretry.NewTransport(failing(), observer("first"), graphretry.WithLogger(logger), observer("second"), observer("third"))
	require.NoError(t, err)
	sentStatus(t, transport, t.Context())
	assert.Equal(t, []string{"first not retried", "logger", "second not retried", "third not retried"}, order)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestObserverMayUseTheTransportItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An observer under a lock of ours would wait here for itself.
		api := graphtest.New()
		api.DownAfter(0, time.Minute, graphtest.Answer{Code: 2})
		kinds := map[graphretry.EventKind]int{}
		var mu sync.Mutex
		var transport *graphretry.Transport
		observe := func(_ context.Context, event graphretry.Event) {
			mu.Lock()
			kinds[event.Kind]++
			mu.Unlock()
			if event.Request.URL.RawQuery == "" {
				req := message(t, graphretry.ContextWithOptions(t.Context(), graphretry.WithMaxElapsedTime(1)))
				req.URL.RawQuery = "from=observer"
				if resp, err := transport.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
			}
		}
		var err error
		transport, err = graphretry.NewTransport(api, graphretry.WithOutageThreshold(3), graphretry.WithObserver(observe))
		require.NoError(t, err)
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { sentStatus(t, transport, t.Context()) })
		}
		group.Wait()
		for _, kind := range []graphretry.EventKind{
			graphretry.EventRetrying, graphretry.EventGaveUp, graphretry.EventRecovered, graphretry.EventOutageBegan, graphretry.EventOutageEnded,
		} {
			assert.Positive(t, kinds[kind], "events %v", kind)
		}
	})
}

func TestOutageHasOneBeginningAndOneEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.DownAfter(0, time.Minute, graphtest.Answer{Code: 131016})
		var logged bytes.Buffer
		transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(5), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&logged, nil))))
		start := time.Now()
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() { assert.Equal(t, 200, sentStatus(t, transport, t.Context())) })
		}
		group.Wait()

		var began, ended []graphretry.Event
		for _, event := range events() {
			switch event.Kind {
			case graphretry.EventOutageBegan:
				began = append(began, event)
			case graphretry.EventOutageEnded:
				ended = append(ended, event)
			}
		}
		require.Len(t, began, 1)
		require.Len(t, ended, 1)
		assert.Equal(t, start, began[0].Time)
		assert.EqualValues(t, 131016, began[0].Graph.Code)
		assert.Equal(t, ended[0].Time.Sub(start), ended[0].Lasted, "how long it lasted")
		assert.GreaterOrEqual(t, ended[0].Lasted, time.Minute)
		assert.GreaterOrEqual(t, ended[0].Held, 20, "and the probes that failed, once more")
		assert.Zero(t, ended[0].Wait)
		assert.Zero(t, began[0].Lasted)
		assert.Zero(t, began[0].Held)
		assert.EqualValues(t, 131016, ended[0].Graph.Code, "what it was")

		var levels []string
		for _, record := range records(t, &logged) {
			switch record["msg"] {
			case "graphretry: outage began", "graphretry: outage ended":
				levels = append(levels, record["level"].(string))
			}
		}
		assert.Equal(t, []string{"WARN", "INFO"}, levels)
	})
}

func TestEventKindIsNamedInWords(t *testing.T) {
	for kind, text := range map[graphretry.EventKind]string{
		graphretry.EventRetrying:        "retrying",
		graphretry.EventGaveUp:          "gave up",
		graphretry.EventNotRetried:      "not retried",
		graphretry.EventRecovered:       "recovered",
		graphretry.EventOutageBegan:     "outage began",
		graphretry.EventOutageEnded:     "outage ended",
		0:                               "EventKind(0)",
		-1:                              "EventKind(-1)",
		graphretry.EventOutageEnded + 1: "EventKind(7)",
	} {
		assert.Equal(t, text, kind.String())
	}
}
