package graphretry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
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

func TestEventTellsOfTheCall(t *testing.T) {
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

func TestErrorOfAnAttemptIsInItsEventAsItCame(t *testing.T) {
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

// records are the lines of a JSON log.
func records(t testing.TB, log io.Reader) []map[string]any {
	t.Helper()
	var all []map[string]any
	for decoder := json.NewDecoder(log); ; {
		var record map[string]any
		err := decoder.Decode(&record)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, record)
	}
}

func TestLogHasALevelForEachKindOfEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(api, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		require.NoError(t, err)
		for _, test := range []struct {
			name    string
			answers []graphtest.Answer
			want    [][2]string
		}{
			{"success", []graphtest.Answer{{}}, nil},
			{"recovered", []graphtest.Answer{{Code: 2}, {}}, [][2]string{{"WARN", "graphretry: retrying"}, {"INFO", "graphretry: recovered"}}},
			{"gave up", []graphtest.Answer{{Code: 131000}, {Code: 131000}}, [][2]string{{"WARN", "graphretry: retrying"}, {"ERROR", "graphretry: gave up"}}},
			{"not retried", []graphtest.Answer{{Code: 100}}, [][2]string{{"INFO", "graphretry: not retried"}}},
			{"no Graph error", []graphtest.Answer{{Status: 502}}, [][2]string{{"INFO", "graphretry: not retried"}}},
			{"no answer", []graphtest.Answer{{Fault: graphtest.FaultBreak}}, [][2]string{{"INFO", "graphretry: not retried"}}},
		} {
			for _, answer := range test.answers {
				api.AnswerNext(1, answer)
			}
			if resp, err := transport.RoundTrip(message(t, t.Context())); err == nil {
				resp.Body.Close()
			}
			var got [][2]string
			for _, record := range records(t, &log) {
				got = append(got, [2]string{record["level"].(string), record["msg"].(string)})
			}
			assert.Equal(t, test.want, got, test.name)
		}
	})
}

func TestLogHasEveryAttributeThatHasAValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		for _, answer := range []graphtest.Answer{
			{Code: 2, Subcode: 7, Details: "for a while"}, {Code: 131000}, {Code: 131000}, // retrying twice, gave up
			{Code: 100, Subcode: 133010}, // not retried
			{Status: 502},                // not retried: no Graph error
			{Fault: graphtest.FaultBreak},
		} {
			api.AnswerNext(1, answer)
		}
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(api, graphretry.WithJitter(0), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		require.NoError(t, err)
		for range 4 {
			if resp, err := transport.RoundTrip(message(t, t.Context())); err == nil {
				resp.Body.Close()
			}
		}
		all := records(t, &log)
		require.Len(t, all, 6)
		for _, record := range all {
			for name, value := range record {
				assert.NotEmpty(t, value, "%v: %s", record["msg"], name)
			}
			assert.NotEmpty(t, record["reason"])
			assert.Equal(t, "POST", record["method"])
			assert.Equal(t, "graph.facebook.com", record["host"])
			assert.Equal(t, "/v23.0/106540352242922/messages", record["path"])
		}
		first := all[0]
		assert.EqualValues(t, 2, first["code"])
		assert.EqualValues(t, 7, first["subcode"])
		assert.Equal(t, "transient", first["class"])
		assert.Equal(t, "API Service", first["title"])
		assert.Equal(t, "for a while", first["details"])
		assert.NotEmpty(t, first["fbtrace_id"])
		assert.EqualValues(t, 1, first["attempt"])
		assert.EqualValues(t, 5*time.Second, first["wait"])
		assert.Equal(t, "temporary failure", first["reason"])
		assert.Equal(t, graphretry.CodeAPIService.Advice(), first["advice"])

		subcode := all[3]
		assert.EqualValues(t, 100, subcode["code"])
		assert.EqualValues(t, 133010, subcode["subcode"])
		assert.Equal(t, "Phone number Not Registered", subcode["title"], "the title of the WhatsApp code in the subcode")
		assert.Equal(t, "permission", subcode["class"])
		for _, record := range all[4:] {
			for _, name := range []string{"status", "code", "subcode", "class", "title", "message", "details", "fbtrace_id", "advice", "wait"} {
				assert.NotContains(t, record, name, "there was no code, not even 0")
			}
		}
		assert.Contains(t, all[5]["error"], "connection reset")
	})
}

func TestMethodThatIsLeftOutIsLoggedAsGET(t *testing.T) {
	var log bytes.Buffer
	transport, err := graphretry.NewTransport(failing(), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	require.NoError(t, err)
	req := message(t, t.Context())
	req.Method, req.Body, req.GetBody = "", nil, nil
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "GET", records(t, &log)[0]["method"])
}

func TestNothingIsPutIntoWordsForALevelThatIsNotLogged(t *testing.T) {
	failure := new(countedError)
	next := roundTripper(func(*http.Request) (*http.Response, error) { return nil, failure })
	for level, words := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelWarn: 0} {
		failure.texts = 0
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(next, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: level}))))
		require.NoError(t, err)
		_, err = transport.RoundTrip(message(t, t.Context()))
		require.Same(t, failure, err)
		assert.Len(t, records(t, &log), words, "what is not retried is told at Info; logged is %v", level)
		assert.Equal(t, words, failure.texts, "logged is %v", level)
	}
}

// countedError counts how often it is put into words.
type countedError struct{ texts int }

func (e *countedError) Error() string {
	e.texts++
	return "broken"
}

func TestErrorIsLoggedAsAGroupOfItsFields(t *testing.T) {
	e, ok := graphretry.ParseError(400, []byte(`{"error":{"message":"m","type":"OAuthException","code":100,"error_subcode":133010,`+
		`"error_data":{"details":"d"},"fbtrace_id":"A1"}}`))
	require.True(t, ok)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("sending failed", "graph", e)
	assert.Equal(t, map[string]any{
		"status": 400.0, "code": 100.0, "subcode": 133010.0, "class": "permission", "title": "Phone number Not Registered",
		"message": "m", "details": "d", "fbtrace_id": "A1", "advice": graphretry.Code(133010).Advice(),
	}, records(t, &log)[0]["graph"], "and without Raw")

	slog.New(slog.NewJSONHandler(&log, nil)).Error("sending failed", "graph", (*graphretry.Error)(nil))
	assert.Nil(t, records(t, &log)[0]["graph"])
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

func TestWaitErrorTellsWhyHowOftenAndWhat(t *testing.T) {
	graph := &graphretry.Error{Code: 2, Message: "down", TraceID: "A1"}
	for _, test := range []struct {
		err     *graphretry.WaitError
		words   []string
		timeout bool
	}{
		{&graphretry.WaitError{Err: context.Canceled}, []string{"graphretry: ", "never sent", "context canceled"}, false},
		{&graphretry.WaitError{Err: context.Canceled, Graph: graph, Attempts: 1}, []string{"sent once", "context canceled", "Graph error 2", "down", "A1"}, false},
		{&graphretry.WaitError{Err: context.DeadlineExceeded, Graph: graph, Attempts: 7}, []string{"sent 7 times", "deadline exceeded"}, true},
		{&graphretry.WaitError{Err: fmt.Errorf("%w: shutting down", context.Canceled)}, []string{"shutting down"}, false},
		{&graphretry.WaitError{Err: graphretry.ErrOutage, Graph: graph}, []string{"never sent", "the API is down"}, false},
		{&graphretry.WaitError{}, []string{"never sent"}, false},
	} {
		for _, words := range test.words {
			assert.ErrorContains(t, test.err, words)
		}
		assert.Equal(t, test.timeout, test.err.Timeout())
		if test.err.Err != nil {
			assert.ErrorIs(t, test.err, test.err.Err)
		}
		var found *graphretry.Error
		assert.Equal(t, test.err.Graph != nil, errors.As(test.err, &found))
		assert.Same(t, test.err.Graph, found)
		assert.NotErrorIs(t, test.err, io.EOF)
		assert.NotContains(t, strings.TrimPrefix(test.err.Error(), "graphretry: "), "\n")
	}
}

// An alert on a code must not be set off by a success.
func TestLogOfASuccessAfterARetryHasTheCodeUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		transport := newTransport(t, script(down, reply{err: errReset}, success),
			graphretry.WithNetworkRetries(), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		req := message(t, t.Context())
		req.Method = http.MethodGet
		_, err := transport.RoundTrip(req)
		require.NoError(t, err)
		_, err = newTransport(t, script(down, success), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil)))).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		var recovered []map[string]any
		for _, record := range records(t, &log) {
			if record["msg"] == "graphretry: recovered" {
				delete(record, "time")
				recovered = append(recovered, record)
			}
		}
		common := map[string]any{"level": "INFO", "msg": "graphretry: recovered", "host": "graph.facebook.com", "path": req.URL.Path}
		first, second := maps.Clone(common), maps.Clone(common)
		first["method"], first["attempt"], first["after_error"] = "GET", 3.0, errReset.Error()
		second["method"], second["attempt"], second["after_code"] = "POST", 2.0, 2.0
		assert.Equal(t, []map[string]any{first, second}, recovered)
	})
}

func TestLogSaysWhatWouldRetryALimitAndABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reasonOf := func(next http.RoundTripper, req *http.Request, options ...graphretry.Option) any {
			var log bytes.Buffer
			resp, err := newTransport(t, next, append(options, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))...).RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			all := records(t, &log)
			return all[len(all)-1]["reason"]
		}
		for _, code := range []graphretry.Code{4, 130429, 131056} {
			assert.Equal(t, "not among what is retried: WithThrottleRetries retries this code", reasonOf(script(fails(code)), message(t, t.Context())))
		}
		assert.Equal(t, "not among what is retried", reasonOf(script(fails(131048)), message(t, t.Context())), "no option retries it")
		stream := messageRequest(t, io.MultiReader(strings.NewReader(messageBody)))
		assert.Equal(t, "body cannot be sent again: set GetBody or raise WithMaxBufferedBody", reasonOf(script(down), stream, graphretry.WithMaxBufferedBody(0)))
	})
}
