package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
)

// snapshot remembers a request and gives the check that it is as it was: bit for
// bit, so that not even a field that is not exported has another pointer in it,
// and in all that it points to.
func snapshot(req *http.Request) (isUnchanged func(testing.TB)) {
	bits := func() []byte {
		return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(req)), unsafe.Sizeof(*req)))
	}
	type contents struct {
		URL              *url.URL
		Header, Trailer  http.Header
		TransferEncoding []string
		Form, PostForm   url.Values
	}
	deep := func() contents {
		c := contents{
			Header: req.Header.Clone(), Trailer: req.Trailer.Clone(),
			TransferEncoding: slices.Clone(req.TransferEncoding),
			Form:             url.Values(http.Header(req.Form).Clone()),
			PostForm:         url.Values(http.Header(req.PostForm).Clone()),
		}
		if req.URL != nil {
			clone := *req.URL
			if clone.User != nil {
				user := *clone.User
				clone.User = &user
			}
			c.URL = &clone
		}
		return c
	}
	bitsBefore, deepBefore := bits(), deep()
	return func(t testing.TB) {
		t.Helper()
		assert.Equal(t, bitsBefore, bits(), "a field of the request was changed")
		assert.Equal(t, deepBefore, deep(), "what the request points to was changed")
	}
}

// ending is how a call has ended, and what its caller found in the body.
type ending struct {
	resp *http.Response
	err  error
	body string
	read error // what reading the body ended with; nil: io.EOF
}

// callUnderContract makes a call and checks what http.RoundTripper promises of
// every call, whatever became of it. The transport must stand on the witness. It
// reads the response to its end and closes it. Attempts of calls before it do not
// count, and there must be none beside it.
func callUnderContract(t *testing.T, transport http.RoundTripper, w *witness, req *watchedRequest) ending {
	t.Helper()
	before := len(w.seen())
	isUnchanged := snapshot(req.Request)

	resp, err := transport.RoundTrip(req.Request)

	attempts := w.seen()[before:]
	isUnchanged(t)
	assert.False(t, resp != nil && err != nil, "both a response and an error")
	assert.False(t, resp == nil && err == nil, "neither a response nor an error")
	for i, body := range req.bodies {
		assert.Equal(t, 1, body.closed(), "how often body %d of the request was closed", i+1)
	}
	ours := resp != nil && err == nil
	for i, a := range attempts {
		if last := i == len(attempts)-1; a.answer != nil && !(last && ours) {
			assert.Equal(t, 1, a.answer.closed(), "how often the body of response %d was closed", i+1)
		}
	}
	if !ours {
		return ending{resp: resp, err: err}
	}

	require.NotEmpty(t, attempts, "a response out of nothing")
	last := attempts[len(attempts)-1]
	assert.True(t, req.Request == resp.Request, "the response's Request is the caller's own")
	assert.Equal(t, last.length, resp.ContentLength, "ContentLength")
	end := ending{resp: resp}
	if last.answer == nil {
		return end // nil, http.NoBody, or a connection
	}
	content, readErr := io.ReadAll(resp.Body)
	end.body, end.read = string(content), readErr
	assert.Equal(t, last.answer.text(), end.body, "the caller reads what was received")
	if readErr != nil {
		_, again := resp.Body.Read(make([]byte, 1))
		assert.Equal(t, readErr, again, "a body that broke stays broken")
	}
	assert.NoError(t, resp.Body.Close())
	assert.Equal(t, 1, last.answer.closed(), "how often the body of the last response was closed")
	return end
}

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

// endsWith wants the response that this reply is.
func endsWith(r reply) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		require.NoError(t, end.err)
		assert.Equal(t, r.status, end.resp.StatusCode)
		assert.Equal(t, r.body, end.body)
		assert.Equal(t, r.broken, end.read)
	}
}

// endsIn wants an error that is each of these.
func endsIn(targets ...error) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		for _, target := range targets {
			assert.ErrorIs(t, end.err, target)
		}
	}
}

// endsInWords wants an error that says so.
func endsInWords(words string) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		assert.ErrorContains(t, end.err, words)
	}
}

// cancelAfter ends the call's context after a time.
func cancelAfter(d time.Duration, cause error) func(*testing.T, context.CancelCauseFunc) {
	return func(_ *testing.T, cancel context.CancelCauseFunc) {
		time.Sleep(d)
		cancel(cause)
	}
}

// deadline gives a context that ends after a time.
func deadline(d time.Duration) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		ctx, cancel := context.WithTimeout(ctx, d)
		context.AfterFunc(ctx, cancel)
		return ctx
	}
}

// shutGate has a call of somebody else shut the gate, which takes one answer
// with [graphretry.WithOutageThreshold](1). The next probe is due in 5 s.
func shutGate(t *testing.T, transport http.RoundTripper) {
	t.Helper()
	sendAs(t, transport, time.Second, 2)
}

// sendAs sends a message of somebody else's with that much time, and expects a
// Graph error.
func sendAs(t *testing.T, transport http.RoundTripper, patience time.Duration, code graphretry.Code) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, withGetBody).Request)
	if assert.NoError(t, err) {
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.True(t, ok)
		assert.Equal(t, code, e.Code)
		assert.NoError(t, resp.Body.Close())
	}
}

// neverEnding is a context that is done at some time, and does not say when.
type neverEnding struct{ context.Context }

func (neverEnding) Deadline() (time.Time, bool) { return time.Time{}, false }

var (
	errCause  = errors.New("the process is shutting down")
	errReset  = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	down      = fails(graphretry.CodeAPIService)
	refused   = fails(graphretry.CodeParameterInvalid)
	unsure    = fails(graphretry.CodeSomethingWentWrong)
	page      = reply{status: http.StatusBadGateway, body: "<html>" + strings.Repeat("try later ", 7_000) + "</html>", length: -1}
	cutShort  = down.with(func(r *reply) { r.body, r.broken, r.length = r.body[:20], io.ErrUnexpectedEOF, int64(len(r.body)) })
	patiently = graphretry.WithBackOff(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) })
	allOptIns = []graphretry.Option{
		graphretry.WithNetworkRetries(), graphretry.WithThrottleRetries(), graphretry.WithTransientFlag(),
		graphretry.WithRetryOn(graphretry.CodeAPIUnknown, 5),
	}
)

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
		name: "gate: refused at once", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		context: deadline(2 * time.Second), replies: []reply{down}, wants: endsIn(graphretry.ErrOutage),
	},
	{
		name: "gate: canceled in line", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		beside: cancelAfter(2*time.Second, errCause), replies: []reply{down}, wants: endsIn(context.Canceled, errCause), takes: 2 * time.Second,
	},
	{
		name: "gate: Cancel closed in line", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		change:  closeCancelAfter(2 * time.Second),
		replies: []reply{down}, wants: endsIn(context.Canceled), takes: 2 * time.Second,
	},
	{
		name: "gate: released", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		replies: []reply{down, success}, wants: endsWith(success), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "gate: released and not retried", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		replies: []reply{down, refused}, wants: endsWith(refused), sent: 1, takes: 5 * time.Second,
	},
	{
		name: "gate: canceled as it is released", options: []graphretry.Option{graphretry.WithOutageThreshold(1)}, prepare: shutGate,
		beside: cancelAfter(5*time.Second, nil), replies: []reply{down, success.with(func(r *reply) { r.delay = time.Second })},
		wants: endsIn(context.Canceled), takes: 5 * time.Second, loose: true,
	},
	{
		name: "gate: own wait and line, then success", options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		replies: []reply{down, success}, wants: endsWith(success), sent: 2, takes: 5 * time.Second,
	},
	{
		name: "gate: no place in line, own last response", options: []graphretry.Option{graphretry.WithOutageThreshold(1), patiently},
		context: deadline(3 * time.Second), replies: []reply{down}, wants: endsWith(down), sent: 1, takes: time.Second,
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

// closeCancelAfter ends the call after a time in the way that came before contexts.
func closeCancelAfter(d time.Duration) func(*http.Request) {
	return func(req *http.Request) {
		canceled := make(chan struct{})
		//lint:ignore SA1019 http.Client.Timeout still uses it.
		req.Cancel = canceled
		time.AfterFunc(d, func() { close(canceled) })
	}
}

func TestContractHoldsOnEveryExitPath(t *testing.T) {
	variants := []struct {
		name    string
		options []graphretry.Option
	}{
		{"plain", nil},
		{"attempt timeout", []graphretry.Option{graphretry.WithAttemptTimeout(time.Hour)}},
	}
	for _, path := range exitPaths {
		kinds := path.kinds
		if kinds == nil {
			kinds = []bodyKind{noBody, emptyBody, withGetBody, plainReader, readerOfKnown}
		}
		for _, kind := range kinds {
			for _, variant := range variants {
				t.Run(path.name+"/"+string(kind)+"/"+variant.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { path.run(t, kind, variant.options) })
				})
			}
		}
	}
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

// The paths below take more than one call.

func TestContractHoldsForACallWhoseTimeRunsOutInLine(t *testing.T) {
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
						shutGate(t, transport)
					}
					// Somebody who has more time takes the probe that is due in 5 s; the
					// next one comes too late for us.
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

					assert.Equal(t, 7*time.Second, time.Since(began))
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
						assert.Equal(t, byDeadline, errors.Is(err, context.DeadlineExceeded))
						var waitError *graphretry.WaitError
						require.ErrorAs(t, err, &waitError)
						assert.Zero(t, waitError.Attempts)
						assert.Equal(t, graphretry.CodeAPIService, waitError.Graph.Code)
					}
					for _, a := range w.seen() {
						assert.Equal(t, 1, a.answer.closed())
					}
				})
			})
		}
	}
}

func TestTurnOfACallThatCannotBeRepeatedIsPassedOn(t *testing.T) {
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
