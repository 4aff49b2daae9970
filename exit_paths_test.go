package graphretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
)

// exitPath is a way out of RoundTrip.
type exitPath struct {
	name    string
	method  string // "": POST
	kinds   []bodyKind
	options []graphretry.Option
	zero    bool                                      // the zero Transport
	context func(context.Context) context.Context     // the request's; its end comes with the test's
	change  func(*http.Request)                       // changes the request
	prepare func(*testing.T, http.RoundTripper)       // before the call
	beside  func(*testing.T, context.CancelCauseFunc) // in a goroutine of its own, beside the call
	replies []reply                                   // to all attempts of the test
	wants   func(t *testing.T, end ending)            // how the call ends
	sent    int                                       // attempts of this call
	takes   time.Duration                             // how long the call takes
	loose   bool                                      // takes and sent are not to be checked
}

// exitPaths are all the ways out of RoundTrip. Each is run with every kind of
// body it does not restrict itself to, with and without an attempt timeout.
var exitPaths = []exitPath{
	// Before anything is sent.
	{
		name: "nil URL", change: func(req *http.Request) { req.URL = nil },
		replies: []reply{success}, wants: endsWith(success), sent: 1,
	},
	{name: "zero Transport", zero: true, replies: []reply{success}, wants: endsInWords("NewTransport")},
	{
		name: "bad option in the context",
		context: func(ctx context.Context) context.Context {
			return graphretry.ContextWithOptions(ctx, graphretry.WithJitter(2), graphretry.WithHosts("example.com"))
		},
		replies: []reply{success}, wants: endsInWords("WithJitter(2)"),
	},

	// Not ours.
	{
		name: "another host", change: func(req *http.Request) { req.URL.Host = "example.com" },
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "bypass", context: graphretry.ContextBypass,
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "retries off", options: []graphretry.Option{graphretry.WithMaxRetries(0)},
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "retries off in the context",
		context: func(ctx context.Context) context.Context {
			return graphretry.ContextWithOptions(ctx, graphretry.WithMaxRetries(0))
		},
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "another host, error", change: func(req *http.Request) { req.URL.Host = "example.com" },
		replies: []reply{{err: errReset}}, wants: endsIn(errReset), sent: 1,
	},

	// Successes.
	{name: "success", replies: []reply{success}, wants: endsWith(success), sent: 1},
	{
		name: "success whose body breaks", replies: []reply{{status: 200, body: "{", broken: io.ErrUnexpectedEOF, length: 9}},
		wants: endsWith(reply{status: 200, body: "{", broken: io.ErrUnexpectedEOF}), sent: 1,
	},
	{
		name: "success after retries", replies: []reply{down, fails(graphretry.CodeServiceUnavailable), unsure, success},
		wants: endsWith(success), sent: 4, takes: 35 * time.Second,
	},
	{
		name: "redirect after a retry", replies: []reply{down, {status: http.StatusTemporaryRedirect, header: http.Header{"Location": {"/"}}}},
		wants: endsWith(reply{status: http.StatusTemporaryRedirect}), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "switching protocols", replies: []reply{down, {status: http.StatusSwitchingProtocols}},
		wants: func(t *testing.T, end ending) {
			require.NoError(t, end.err)
			assert.Implements(t, (*io.ReadWriteCloser)(nil), end.resp.Body)
		}, sent: 2, takes: 5 * time.Second,
	},
	{
		name: "nil response body, success", replies: []reply{down, {status: http.StatusOK, noBody: true}},
		wants: func(t *testing.T, end ending) {
			require.NoError(t, end.err)
			assert.Nil(t, end.resp.Body)
		}, sent: 2, takes: 5 * time.Second,
	},

	// Failures that are not retried.
	{name: "not retried", replies: []reply{refused}, wants: endsWith(refused), sent: 1},
	{name: "not retried after a retry", replies: []reply{down, refused}, wants: endsWith(refused), sent: 2, takes: 5 * time.Second},
	{name: "no Graph error", replies: []reply{page}, wants: endsWith(page), sent: 1},
	{
		name: "nil response body, failure", replies: []reply{{status: http.StatusServiceUnavailable, noBody: true}},
		wants: func(t *testing.T, end ending) {
			require.NoError(t, end.err)
			assert.Nil(t, end.resp.Body)
		}, sent: 1,
	},
	{name: "error body breaks", replies: []reply{cutShort}, wants: endsWith(cutShort), sent: 1},
	{
		name: "HEAD", method: http.MethodHead, replies: []reply{{status: http.StatusNotFound, length: 120}},
		wants: func(t *testing.T, end ending) {
			require.NoError(t, end.err)
			assert.Equal(t, http.StatusNotFound, end.resp.StatusCode)
			content, err := io.ReadAll(end.resp.Body)
			assert.NoError(t, err)
			assert.Empty(t, content)
		}, sent: 1,
	},
	{name: "network error", replies: []reply{{err: errReset}}, wants: endsIn(errReset), sent: 1},
	{name: "network error after a retry", replies: []reply{down, {err: errReset}}, wants: endsIn(errReset), sent: 2, takes: 5 * time.Second},
	{name: "network error of a POST, every opt-in", options: allOptIns, replies: []reply{{err: errReset}}, wants: endsIn(errReset), sent: 1},
	{
		name: "neither response nor error", replies: []reply{{neither: true}},
		wants: endsInWords("neither a response nor an error"), sent: 1,
	},
	{name: "both response and error", replies: []reply{down.with(func(r *reply) { r.err, r.both = errReset, true })}, wants: endsIn(errReset), sent: 1},

	// Failures that are retried.
	{
		name: "network error of a PUT, retried", method: http.MethodPut, options: allOptIns,
		replies: []reply{{err: errReset}, {err: io.EOF}, success}, wants: endsWith(success), sent: 3, takes: 15 * time.Second,
	},
	{
		name: "both response and error of a PUT, retried", method: http.MethodPut, options: allOptIns,
		replies: []reply{down.with(func(r *reply) { r.err, r.both = errReset, true }), success},
		wants:   endsWith(success), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "gateway's page, nil body and a broken body of a PUT, retried", method: http.MethodPut, options: allOptIns,
		replies: []reply{page, {status: http.StatusServiceUnavailable, noBody: true}, cutShort.with(func(r *reply) { r.status = 504 }), success},
		wants:   endsWith(success), sent: 4, takes: 35 * time.Second,
	},
	{
		name: "HEAD, retried", method: http.MethodHead, options: allOptIns,
		replies: []reply{{status: http.StatusBadGateway, length: 120}, {status: http.StatusOK, length: 120}},
		wants:   func(t *testing.T, end ending) { require.NoError(t, end.err) }, sent: 2, takes: 5 * time.Second,
	},
	{name: "code's retries exhausted", replies: []reply{unsure}, wants: endsWith(unsure), sent: 2, takes: 5 * time.Second},
	{
		name: "retries exhausted", options: []graphretry.Option{graphretry.WithMaxRetries(2)},
		replies: []reply{down}, wants: endsWith(down), sent: 3, takes: 15 * time.Second,
	},
	{
		name: "retries exhausted by a network error", method: http.MethodPut, options: append(allOptIns, graphretry.WithMaxRetries(1)),
		replies: []reply{page, {err: errReset}}, wants: endsIn(errReset), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "schedule stops", options: []graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} })},
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},

	// No time.
	{
		name: "deadline before the wait's end", context: deadline(7 * time.Second),
		replies: []reply{down}, wants: endsWith(down), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "deadline at the wait's end", context: deadline(5 * time.Second),
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "maximum elapsed time", options: []graphretry.Option{graphretry.WithMaxElapsedTime(15*time.Second - 1)},
		replies: []reply{down}, wants: endsWith(down), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "Retry-After beyond the maximum elapsed time", replies: []reply{down.with(func(r *reply) { r.header = http.Header{"Retry-After": {"901"}} })},
		wants: endsWith(down), sent: 1,
	},
	{
		name: "no time for a gateway's long page", method: http.MethodPut, options: append(allOptIns, graphretry.WithMaxElapsedTime(time.Second)),
		replies: []reply{page}, wants: endsWith(page), sent: 1,
	},

	// Bodies that cannot be sent again.
	{
		name: "body too long to keep", kinds: []bodyKind{plainReader, readerOfKnown}, options: []graphretry.Option{graphretry.WithMaxBufferedBody(8)},
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "bodies not kept", kinds: []bodyKind{plainReader, readerOfKnown}, options: []graphretry.Option{graphretry.WithMaxBufferedBody(0)},
		replies: []reply{down}, wants: endsWith(down), sent: 1,
	},
	{
		name: "answered before the body was read", kinds: []bodyKind{plainReader, readerOfKnown},
		replies: []reply{down.with(func(r *reply) { r.unread = true }), success}, wants: endsWith(down), sent: 1,
	},
	{
		name: "answered before the body was read, GetBody", kinds: []bodyKind{withGetBody},
		replies: []reply{down.with(func(r *reply) { r.unread = true }), success}, wants: endsWith(success), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "GetBody fails", kinds: []bodyKind{withGetBody},
		change:  func(req *http.Request) { req.GetBody = func() (io.ReadCloser, error) { return nil, errCause } },
		replies: []reply{down}, wants: endsWith(down), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "GetBody gives nothing", kinds: []bodyKind{withGetBody},
		change:  func(req *http.Request) { req.GetBody = func() (io.ReadCloser, error) { return nil, nil } },
		replies: []reply{down}, wants: endsWith(down), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "GetBody gives another body", kinds: []bodyKind{withGetBody},
		change: func(req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }
		},
		replies: []reply{down, success}, wants: endsInWords("with Body length 2"), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "GetBody's body breaks", kinds: []bodyKind{withGetBody},
		change: func(req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(errorReader{errCause}), nil }
		},
		replies: []reply{down, success}, wants: endsIn(errCause), sent: 2, takes: 5 * time.Second,
	},

	// The caller ends the call in a wait.
	{
		name: "canceled in the wait", beside: cancelAfter(12*time.Second, nil),
		replies: []reply{down}, wants: endsIn(context.Canceled), sent: 2, takes: 12 * time.Second,
	},
	{
		name: "canceled in the wait, with a cause", beside: cancelAfter(2*time.Second, errCause),
		replies: []reply{down}, wants: endsIn(context.Canceled, errCause), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "canceled in the wait after a network error", method: http.MethodPut, options: allOptIns, beside: cancelAfter(2*time.Second, nil),
		replies: []reply{{err: errReset}}, wants: endsIn(context.Canceled), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "canceled in the wait after a long page", method: http.MethodPut, options: allOptIns, beside: cancelAfter(2*time.Second, nil),
		replies: []reply{page}, wants: endsIn(context.Canceled), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "Cancel closed in the wait", change: closeCancelAfter(2 * time.Second),
		replies: []reply{down}, wants: endsIn(context.Canceled), sent: 1, takes: 2 * time.Second,
	},
	{
		name:    "deadline that was not announced, in the wait",
		context: func(ctx context.Context) context.Context { return neverEnding{deadline(2 * time.Second)(ctx)} },
		replies: []reply{down}, wants: endsIn(context.DeadlineExceeded), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "canceled as the wait ends", beside: cancelAfter(5*time.Second, nil), replies: []reply{down},
		wants: endsIn(context.Canceled), takes: 5 * time.Second, loose: true,
	},

	// The caller ends the call in an attempt.
	{
		name: "canceled in an attempt", beside: cancelAfter(2*time.Second, errCause), options: allOptIns,
		replies: []reply{{delay: time.Minute}}, wants: endsIn(errCause), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "canceled in a PUT's second attempt", method: http.MethodPut, beside: cancelAfter(7*time.Second, nil), options: allOptIns,
		replies: []reply{down, {delay: time.Minute}}, wants: endsIn(context.Canceled), sent: 2, takes: 7 * time.Second,
	},
	{
		name: "deadline in a PUT's attempt", method: http.MethodPut, context: deadline(2 * time.Second), options: allOptIns,
		replies: []reply{{delay: time.Minute}}, wants: endsIn(context.DeadlineExceeded), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "Cancel closed in a PUT's attempt", method: http.MethodPut, options: allOptIns,
		change:  closeCancelAfter(2 * time.Second),
		replies: []reply{{delay: time.Minute}}, wants: endsInWords("request canceled"), sent: 1, takes: 2 * time.Second,
	},

	// Attempts that take too long.
	{
		name: "attempt timeout", options: append(allOptIns, graphretry.WithAttemptTimeout(2*time.Second)),
		replies: []reply{{delay: time.Minute}}, wants: endsInWords("attempt timed out after 2s"), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "attempt timeout of a PUT, retried", method: http.MethodPut, options: append(allOptIns, graphretry.WithAttemptTimeout(2*time.Second)),
		replies: []reply{{delay: time.Minute}, success}, wants: endsWith(success), sent: 2, takes: 7 * time.Second,
	},

	// The outage gate.
	{
		name: "gate: refused at once", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		context: deadline(2 * time.Second), replies: []reply{down}, wants: endsIn(graphretry.ErrOutage),
	},
	{
		name: "gate: canceled in the queue", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		beside: cancelAfter(2*time.Second, errCause), replies: []reply{down}, wants: endsIn(context.Canceled, errCause), takes: 2 * time.Second,
	},
	{
		name: "gate: Cancel closed in the queue", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		change:  closeCancelAfter(2 * time.Second),
		replies: []reply{down}, wants: endsIn(context.Canceled), takes: 2 * time.Second,
	},
	{
		name: "gate: released", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		replies: []reply{down, success}, wants: endsWith(success), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "gate: released and not retried", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		replies: []reply{down, refused}, wants: endsWith(refused), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "gate: canceled as it is released", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: bringDown,
		beside: cancelAfter(5*time.Second, nil), replies: []reply{down, success.with(func(r *reply) { r.delay = time.Second })},
		wants: endsIn(context.Canceled), takes: 5 * time.Second, loose: true,
	},
	{
		name: "gate: own wait and line, then success", options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		replies: []reply{down, success}, wants: endsWith(success), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "gate: no place in line, own last response", options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		context: deadline(2 * time.Second), replies: []reply{down}, wants: endsWith(down), sent: 1, takes: time.Second,
	},
	{
		name: "gate: canceled in line after an attempt", options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		beside: cancelAfter(2*time.Second, nil), replies: []reply{down}, wants: endsIn(context.Canceled), sent: 1, takes: 2 * time.Second,
	},
	{
		name: "gate: GetBody fails when released", kinds: []bodyKind{withGetBody}, options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		change:  func(req *http.Request) { req.GetBody = func() (io.ReadCloser, error) { return nil, errCause } },
		replies: []reply{down}, wants: endsWith(down), sent: 1, takes: 5 * time.Second,
	},
}

func (p exitPath) run(t *testing.T, kind bodyKind, options []graphretry.Option) {
	w := &witness{next: script(p.replies...)}
	transport := &graphretry.Transport{}
	if !p.zero {
		options = append(slices.Clone(options), graphretry.WithJitter(0))
		transport = newTransport(t, w, append(options, p.options...)...)
	}
	if p.prepare != nil {
		p.prepare(t, transport)
	}
	before := len(w.seen())

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var beside sync.WaitGroup
	if p.beside != nil {
		beside.Go(func() { p.beside(t, cancel) })
	}
	defer beside.Wait()
	if p.context != nil {
		ctx = p.context(ctx)
	}
	method := p.method
	if method == "" {
		method = http.MethodPost
	}
	req := newWatchedRequest(t, ctx, method, kind)
	if p.change != nil {
		p.change(req.Request)
	}

	began := time.Now()
	end := callUnderContract(t, transport, w, req)

	p.wants(t, end)
	assert.Equal(t, p.takes, time.Since(began), "how long the call took")
	attempts := w.seen()[before:]
	if !p.loose {
		assert.Len(t, attempts, p.sent, "attempts")
	}
	for i, a := range attempts {
		hasBody := kind != noBody && kind != emptyBody
		assert.Equal(t, hasBody, a.sent != nil, "attempt %d has a body as the request has", i+1)
		assert.Equal(t, req.Header, a.request.Header, "headers of attempt %d", i+1)
	}
	if end.err == nil {
		return
	}
	var waitError *graphretry.WaitError
	if errors.As(end.err, &waitError) && !p.loose {
		assert.Equal(t, p.sent, waitError.Attempts)
	}
}
