package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// What the tests share: requests, an API that answers by a script, and what
// watches both.

const (
	messagesURL = "https://graph.facebook.com/v25.0/106540352242922/messages"
	messageBody = `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":"hello"}}`
)

// message is the request of a message.
func message(t testing.TB, ctx context.Context) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, messagesURL, strings.NewReader(messageBody))
	require.NoError(t, err)
	return req
}

// messageRequest is a request with a body, and GetBody if it has one.
func messageRequest(t testing.TB, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, messagesURL, body)
	require.NoError(t, err)
	return req
}

// statusOf sends a message through transport and gives the status, 0 for an error.
func statusOf(ctx context.Context, transport http.RoundTripper, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(messageBody))
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// sentStatus sends a message and gives the status of the answer.
func sentStatus(t testing.TB, transport http.RoundTripper, ctx context.Context) int {
	t.Helper()
	status, err := statusOf(ctx, transport, messagesURL)
	require.NoError(t, err)
	return status
}

// newTransport is NewTransport for options that are right.
func newTransport(t testing.TB, next http.RoundTripper, opts ...graphretry.Option) *graphretry.Transport {
	t.Helper()
	transport, err := graphretry.NewTransport(next, opts...)
	require.NoError(t, err)
	return transport
}

// eventsOf is a Transport around an API whose events are listed.
func eventsOf(t testing.TB, next http.RoundTripper, opts ...graphretry.Option) (*graphretry.Transport, func() []graphretry.Event) {
	t.Helper()
	var mu sync.Mutex
	var events []graphretry.Event
	transport, err := graphretry.NewTransport(next, append([]graphretry.Option{
		graphretry.WithJitter(0),
		graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event)
		}),
	}, opts...)...)
	require.NoError(t, err)
	return transport, func() []graphretry.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]graphretry.Event(nil), events...)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// failing is an API that refuses every request as wrong.
func failing() http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close()
		}
		recorder := httptest.NewRecorder()
		recorder.WriteHeader(http.StatusBadRequest)
		io.WriteString(recorder, `{"error":{"message":"(#100) Invalid parameter","code":100}}`)
		return recorder.Result(), nil
	})
}

// reply is how scriptedAPI answers one attempt.
type reply struct {
	status int
	header http.Header
	body   string
	broken error // what reading the body ends with; nil: io.EOF
	length int64 // ContentLength: 0 for the body's own, -1 for unknown
	noBody bool  // Response.Body is nil, which http.Client allows

	err     error // in place of a response
	both    bool  // err, and the response too
	neither bool  // neither of them

	delay  time.Duration // until the headers
	unread bool          // the request's body is closed unread, as a server does that refuses early
}

var success = reply{status: http.StatusOK, body: `{"messages":[{"id":"wamid.1"}]}`}

// fails is a reply with a Graph error, in the shape and with the status that Meta
// documents.
func fails(code graphretry.Code) reply {
	return reply{status: graphtest.Status(code), body: string(graphtest.ErrorBody(code))}
}

// with changes a reply.
func (r reply) with(change func(*reply)) reply {
	change(&r)
	return r
}

// scriptedAPI is a next RoundTripper that gives its replies in turn, and the last
// one for ever. As [http.Transport] does, it reads the request's body to its end,
// closes it, leaves when the caller does, and gives the response the request that
// it got.
type scriptedAPI struct {
	mu      sync.Mutex
	replies []reply
	calls   int
}

func script(replies ...reply) *scriptedAPI { return &scriptedAPI{replies: replies} }

func (a *scriptedAPI) next() reply {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.replies[min(a.calls, len(a.replies)-1)]
	a.calls++
	return r
}

func (a *scriptedAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	r := a.next()
	if req.Body != nil {
		defer req.Body.Close()
		if !r.unread {
			n, err := io.Copy(io.Discard, req.Body)
			if err != nil {
				return nil, err
			}
			if req.ContentLength > 0 && n != req.ContentLength {
				return nil, fmt.Errorf("http: ContentLength=%d with Body length %d", req.ContentLength, n)
			}
		}
	}
	//lint:ignore SA1019 http.Client.Timeout still uses it.
	canceled := req.Cancel
	select {
	case <-time.After(r.delay):
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	case <-canceled:
		return nil, errors.New("net/http: request canceled")
	}
	if r.neither {
		return nil, nil
	}
	if r.err != nil && !r.both {
		return nil, r.err
	}
	resp := &http.Response{
		StatusCode: r.status, Status: fmt.Sprint(r.status, " ", http.StatusText(r.status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.header.Clone(), ContentLength: r.length, Request: req,
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	if r.length == 0 {
		resp.ContentLength = int64(len(r.body))
	}
	switch {
	case r.noBody:
	case req.Method == http.MethodHead:
		resp.Body = http.NoBody
	case r.status == http.StatusSwitchingProtocols:
		resp.Body = &connection{strings.NewReader(r.body)}
	default:
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(r.body), errorReader{r.broken}))
	}
	return resp, r.err
}

// errorReader ends in an error.
type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) {
	if r.err == nil {
		return 0, io.EOF
	}
	return 0, r.err
}

// connection is the body of a 101.
type connection struct{ io.Reader }

func (connection) Write(p []byte) (int, error) { return len(p), nil }

func (connection) Close() error { return nil }

// watchedBody is a body that knows how often it was closed and what was read of
// it.
type watchedBody struct {
	from io.ReadCloser

	mu     sync.Mutex
	read   bytes.Buffer
	closes int
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	closed := b.closes > 0
	b.mu.Unlock()
	if closed {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.from.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read.Write(p[:n])
	return n, err
}

func (b *watchedBody) Close() error {
	b.mu.Lock()
	b.closes++
	b.mu.Unlock()
	return b.from.Close()
}

func (b *watchedBody) closed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closes
}

func (b *watchedBody) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read.String()
}

// witness stands below a Transport and watches what it sends and what becomes of
// the answers.
type witness struct {
	next http.RoundTripper

	mu       sync.Mutex
	attempts []*attempt
}

// attempt is one request that a witness saw.
type attempt struct {
	request *http.Request
	at      time.Time
	sent    *watchedBody // the request's body; nil: none
	length  int64        // the response's ContentLength
	answer  *watchedBody // the response's body; nil: none
}

func (w *witness) RoundTrip(req *http.Request) (*http.Response, error) {
	a := &attempt{request: req, at: time.Now()}
	w.mu.Lock()
	w.attempts = append(w.attempts, a)
	w.mu.Unlock()

	clone := *req
	if req.Body != nil && req.Body != http.NoBody {
		a.sent = &watchedBody{from: req.Body}
		clone.Body = a.sent
		// net/http would make a body afresh that came to it read to its end, and
		// so hide it.
		clone.GetBody = nil
	}
	resp, err := w.next.RoundTrip(&clone)
	if resp == nil {
		return resp, err
	}
	a.length = resp.ContentLength
	if resp.Request == &clone {
		resp.Request = req
	}
	if resp.Body != nil && resp.Body != http.NoBody && resp.StatusCode != http.StatusSwitchingProtocols {
		a.answer = &watchedBody{from: resp.Body}
		resp.Body = a.answer
	}
	return resp, err
}

func (w *witness) seen() []*attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.attempts)
}

// waits are the times between the attempts.
func (w *witness) waits() []time.Duration {
	var waits []time.Duration
	for i, a := range w.seen() {
		if i > 0 {
			waits = append(waits, a.at.Sub(w.attempts[i-1].at))
		}
	}
	return waits
}

// bodies are the request bodies as they went out.
func (w *witness) bodies() []string {
	var bodies []string
	for _, a := range w.seen() {
		if a.sent != nil {
			bodies = append(bodies, a.sent.text())
		}
	}
	return bodies
}

// bodyKind is a way in which a caller gives a body.
type bodyKind string

const (
	noBody        bodyKind = "no body"
	emptyBody     bodyKind = "http.NoBody"
	withGetBody   bodyKind = "GetBody"
	plainReader   bodyKind = "plain reader"
	readerOfKnown bodyKind = "reader of known length"
)

// watchedRequest is a caller's request whose bodies are watched.
type watchedRequest struct {
	*http.Request
	bodies []*watchedBody // the request's own and those that its GetBody made
}

func newWatchedRequest(t testing.TB, ctx context.Context, method string, kind bodyKind) *watchedRequest {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, messagesURL, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer EAAGtoken")
	req.Header.Set("Content-Type", "application/json")
	w := &watchedRequest{Request: req}
	make := func() (io.ReadCloser, error) {
		body := &watchedBody{from: io.NopCloser(strings.NewReader(messageBody))}
		w.bodies = append(w.bodies, body)
		return body, nil
	}
	switch kind {
	case noBody:
		return w
	case emptyBody:
		req.Body = http.NoBody
		return w
	case withGetBody:
		req.GetBody = make
		req.ContentLength = int64(len(messageBody))
	case readerOfKnown:
		req.ContentLength = int64(len(messageBody))
	}
	req.Body, _ = make()
	return w
}
