package graphretry_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// What a network failure is, in memory.

var methods = map[string]struct{ isIdempotent bool }{
	"": {true}, http.MethodGet: {true}, http.MethodHead: {true}, http.MethodOptions: {true}, http.MethodPut: {true}, http.MethodDelete: {true},
	http.MethodPost: {false}, http.MethodPatch: {false}, http.MethodTrace: {false}, http.MethodConnect: {false}, "put": {false},
}

// dialError is what net/http gives when no connection can be made.
func dialError(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: err}
}

func TestNetworkFailureIsRetriedWhereItCannotSendAMessageTwice(t *testing.T) {
	refusedConnection := dialError(syscall.ECONNREFUSED)
	for name, err := range map[string]error{
		"connection refused":          refusedConnection,
		"no such host":                dialError(&net.DNSError{Err: "no such host", Name: "graph.facebook.com", IsNotFound: true}),
		"dial timed out":              dialError(timeoutError{}),
		"proxy cannot be reached":     &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refusedConnection},
		"proxy cannot be, either":     &net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("socket closed")},
		"token server cannot be, too": fmt.Errorf("oauth2: cannot fetch token: %w", &url.Error{Op: "Post", URL: "https://example.com", Err: refusedConnection}),
		"stream above a GOAWAY":       errors.New("http2: Transport received Server's graceful shutdown GOAWAY"),
		"stream is refused":           cannotRetry("stream error: stream ID 7; REFUSED_STREAM; received from peer"),
		"0-RTT is rejected":           errors.New("0-RTT rejected"),
	} {
		for method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply{err: err}, true) })
		}
	}
	for name, reply := range map[string]reply{
		"reset":                 {err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}},
		"broken pipe":           {err: &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}},
		"end":                   {err: io.EOF},
		"unexpected end":        {err: fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", io.ErrUnexpectedEOF)},
		"timeout":               {err: timeoutError{}},
		"stream is not refused": {err: cannotRetry("stream error: stream ID 7; PROTOCOL_ERROR; received from peer")},
		"HTML 502":              page,
		"HTML 503":              page.with(func(r *reply) { r.status = 503 }),
		"HTML 504":              page.with(func(r *reply) { r.status = 504 }),
		"empty 503":             {status: 503},
		"error without a code":  {status: 503, body: `{"error":{"message":"down"}}`},
		"truncated 503":         cutShort.with(func(r *reply) { r.status = 503 }),
	} {
		for method, m := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply, m.isIdempotent) })
		}
	}
	for name, reply := range map[string]reply{
		"HTML 500":  page.with(func(r *reply) { r.status = 500 }),
		"empty 500": {status: 500},
		"HTML 501":  page.with(func(r *reply) { r.status = 501 }),
		"HTML 429":  page.with(func(r *reply) { r.status = 429 }),
		"empty 408": {status: 408},
		"HTML 400":  page.with(func(r *reply) { r.status = 400 }),
	} {
		for method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply, false) })
		}
	}
}

// cannotRetry is net/http's error for what it would send again if it had a GetBody.
func cannotRetry(cause string) error {
	return fmt.Errorf("http2: Transport: cannot retry err [%s] after Request.Body was written; define Request.GetBody to avoid this error", cause)
}

// testNetworkFailure has a call fail once, and tells whether the option has it
// retried. Without the option it never is.
func testNetworkFailure(t *testing.T, method string, first reply, isRetried bool) {
	if method == http.MethodHead {
		first.body, first.length = "", int64(len(first.body))
	}
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &witness{next: script(first, success)}
			options := []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithTransientFlag()}
			if on {
				options = allOptIns
			}
			req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
			req.Method = method
			callUnderContract(t, newTransport(t, w, options...), w, req)
			attempts := 1
			if on && isRetried {
				attempts = 2
			}
			assert.Len(t, w.seen(), attempts, "WithNetworkRetries %v", on)
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// joinedErrors is an error of several, or of none.
type joinedErrors []error

func (joinedErrors) Error() string     { return "no try has worked" }
func (e joinedErrors) Unwrap() []error { return e }

// A RoundTripper below that tries more than once can tell of all its tries.
func TestRequestNeverLeftOnlyIfEveryTrySaysSo(t *testing.T) {
	refused, reset := dialError(syscall.ECONNREFUSED), &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	for _, test := range []struct {
		err       error
		isRetried bool
	}{
		{errors.Join(refused, refused), true},
		{fmt.Errorf("after 2 tries: %w", errors.Join(refused, refused)), true},
		{errors.Join(reset, refused), false},
		{errors.Join(refused, reset), false},
		{fmt.Errorf("after 2 tries: %w; %w", io.ErrUnexpectedEOF, refused), false},
		{joinedErrors{}, false},
	} {
		testNetworkFailure(t, http.MethodPost, reply{err: test.err}, test.isRetried)
	}
}

// What is not positively a failure of the network is not retried, and neither is
// one that would come again.
func TestFailureThatWouldComeAgainIsNeverRetried(t *testing.T) {
	asItIs := func(err error) error { return err }
	wrapped := func(err error) error { return fmt.Errorf("send: %w", err) }
	inADial := func(err error) error { return dialError(err) }
	anywhere, notInADial := []func(error) error{asItIs, wrapped, inADial}, []func(error) error{asItIs, wrapped}
	for name, test := range map[string]struct {
		err   error
		wraps []func(error) error
	}{
		"unknown authority":   {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, anywhere},
		"expired":             {x509.CertificateInvalidError{Reason: x509.Expired}, anywhere},
		"other host":          {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "graph.facebook.com"}, anywhere},
		"not TLS":             {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, anywhere},
		"server's alert":      {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, anywhere},
		"our alert":           {&net.OpError{Op: "local error", Err: errors.New("tls: protocol version not supported")}, anywhere},
		"QUIC's alert":        {tls.AlertError(42), anywhere},
		"not HTTPS":           {http.ErrSchemeMismatch, notInADial},
		"unsupported scheme":  {errors.New(`unsupported protocol scheme "ftp"`), notInADial},
		"header's value":      {errors.New("net/http: invalid header field value for \"X\""), notInADial},
		"token is refused":    {&url.Error{Op: "Post", URL: "https://example.com/token", Err: errors.New("oauth2: invalid_grant")}, notInADial},
		"bad challenge":       {errors.New("digest: challenge is bad"), notInADial},
		"body of wrong size":  {fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", errors.New("http: ContentLength=10 with Body length 3")), notInADial},
		"file that is not":    {&fs.PathError{Op: "open", Path: "token", Err: syscall.ENOENT}, notInADial},
		"text of net/http's":  {textError("http: server closed idle connection"), notInADial},
		"text of a stream's":  {errors.New("stream error: stream ID 3; INTERNAL_ERROR; received from peer"), notInADial},
		"proxy's text, alone": {errors.New(http.StatusText(http.StatusBadGateway)), notInADial},
		"one of two":          {errors.Join(errReset, errors.New("oauth2: invalid_grant")), notInADial},
		"none":                {joinedErrors{}, notInADial},
		"answer that is none": {errors.New(`malformed HTTP response "SSH-2.0"`), notInADial},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				for _, wrap := range test.wraps {
					synctest.Test(t, func(t *testing.T) {
						w := &witness{next: script(reply{err: wrap(test.err)})}
						req := newWatchedRequest(t, t.Context(), method, noBody)
						end := callUnderContract(t, newTransport(t, w, allOptIns...), w, req)
						assert.Equal(t, wrap(test.err).Error(), end.err.Error())
						assert.Len(t, w.seen(), 1)
					})
				}
			})
		}
	}
}

// Somebody may send again what is told as certainly not carried out.
func TestWhatIsNotKnownIsNotToldAsCertain(t *testing.T) {
	const asked, got = 1, 2
	unknown, untrusted := errors.New("fasthttp: something went wrong"), &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	for _, test := range []struct {
		name   string
		hooks  int // that the RoundTripper below calls
		err    error
		reason graphretry.Reason
	}{
		{"unknown, no hook", 0, unknown, graphretry.ReasonAmbiguous},
		{"unknown, no connection", asked, unknown, graphretry.ReasonNotRetried},
		{"unknown, on a connection", asked | got, unknown, graphretry.ReasonAmbiguous},
		{"unknown, on a connection that was not asked for", got, unknown, graphretry.ReasonAmbiguous},
		{"a token source's, no hook", 0, errors.New("oauth2: invalid_grant"), graphretry.ReasonAmbiguous},
		{"a reset, no hook", 0, errReset, graphretry.ReasonAmbiguous},
		{"a dial's, no hook", 0, dialError(errReset), graphretry.ReasonNotRetried},
		{"a certificate's, no hook", 0, untrusted, graphretry.ReasonNotRetried},
		{"a refused stream's, no hook", 0, cannotRetry("stream error: stream ID 7; REFUSED_STREAM; received from peer"), graphretry.ReasonNotRetried},
		{"a refused stream's, on a connection", asked | got, cannotRetry("stream error: stream ID 7; REFUSED_STREAM; received from peer"), graphretry.ReasonNotRetried},
		{"an alert, no hook", 0, tls.AlertError(42), graphretry.ReasonAmbiguous},
	} {
		t.Run(test.name, func(t *testing.T) {
			transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				req.Body.Close()
				trace := httptrace.ContextClientTrace(req.Context())
				if test.hooks&asked != 0 {
					trace.GetConn("graph.facebook.com:443")
				}
				if test.hooks&got != 0 {
					trace.GotConn(httptrace.GotConnInfo{})
				}
				return nil, test.err
			}))
			_, err := transport.RoundTrip(message(t, t.Context()))
			assert.ErrorIs(t, err, test.err)
			require.Len(t, events(), 1)
			assert.Equal(t, graphretry.EventNotRetried, events()[0].Kind)
			assert.Equal(t, test.reason, events()[0].Reason)
		})
	}
}

// The 504 of a cache that has no answer would come again at once.
func TestWhatACacheDoesNotHaveIsNotAskedForAgain(t *testing.T) {
	const header = "Cache-Control"
	gatewayTimeout := page.with(func(r *reply) { r.status = http.StatusGatewayTimeout })
	for _, test := range []struct {
		method string
		header http.Header
		reply  reply
		reason graphretry.Reason
	}{
		{http.MethodGet, http.Header{header: {"only-if-cached"}}, gatewayTimeout, graphretry.ReasonNoGraphError},
		{"", http.Header{header: {"only-if-cached"}}, gatewayTimeout, graphretry.ReasonNoGraphError},
		{http.MethodHead, http.Header{header: {"only-if-cached"}}, gatewayTimeout, graphretry.ReasonNoGraphError},
		{http.MethodGet, http.Header{header: {"max-stale=60 ,\tOnly-If-Cached, no-transform"}}, gatewayTimeout, graphretry.ReasonNoGraphError},
		{http.MethodGet, http.Header{header: {"max-stale=60", "only-if-cached"}}, gatewayTimeout, graphretry.ReasonNoGraphError},
		{http.MethodGet, nil, gatewayTimeout, graphretry.ReasonNetwork},
		{http.MethodGet, http.Header{header: {"no-cache"}}, gatewayTimeout, graphretry.ReasonNetwork},
		{http.MethodGet, http.Header{header: {"only-if-cached-or-not"}}, gatewayTimeout, graphretry.ReasonNetwork},
		{http.MethodGet, http.Header{header: {"only-if-cached"}}, page, graphretry.ReasonNetwork},
		{http.MethodGet, http.Header{header: {"only-if-cached"}}, reply{err: io.EOF}, graphretry.ReasonNetwork},
		{http.MethodGet, http.Header{header: {"only-if-cached"}}, down.with(func(r *reply) { r.status = http.StatusGatewayTimeout }), graphretry.ReasonTransient},
		{http.MethodPut, http.Header{header: {"only-if-cached"}}, gatewayTimeout, graphretry.ReasonNetwork},
		{http.MethodPost, http.Header{header: {"only-if-cached"}}, gatewayTimeout, graphretry.ReasonAmbiguous},
	} {
		synctest.Test(t, func(t *testing.T) {
			api := script(test.reply, success)
			transport, events := eventsOf(t, api, graphretry.WithNetworkRetries())
			req := message(t, t.Context())
			req.Method, req.Header = test.method, test.header
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.NotEmpty(t, events())
			assert.Equal(t, test.reason, events()[0].Reason, "%s %v %d", test.method, test.header, test.reply.status)
			attempts := 2
			if test.reason == graphretry.ReasonNoGraphError || test.reason == graphretry.ReasonAmbiguous {
				attempts = 1
				assert.Equal(t, test.reply.status, resp.StatusCode)
			}
			assert.Equal(t, attempts, api.calls)
		})
	}
}

// textError is an error of a type of its own.
type textError string

func (e textError) Error() string { return string(e) }

func TestNetworkFailuresAreCountedTogetherAndSeparatelyFromCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(reply{err: errReset}, unsure, page, down, reply{err: io.EOF}, unsure)}
		req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
		end := callUnderContract(t, newTransport(t, w, graphretry.WithNetworkRetries()), w, req)
		endsWith(unsure)(t, end)
		assert.Len(t, w.seen(), 6)
	})
}

func TestGatewayMayAskForAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(page.with(func(r *reply) { r.header = http.Header{"Retry-After": {"77"}} }), success)}
		req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
		callUnderContract(t, newTransport(t, w, graphretry.WithNetworkRetries(), graphretry.WithJitter(0)), w, req)
		assert.Equal(t, []time.Duration{77 * time.Second}, w.waits())
	})
}

func TestNoHeaderIsEverAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			w := &witness{next: script(down, reply{err: dialError(errReset)}, down, success)}
			req := newWatchedRequest(t, t.Context(), method, withGetBody)
			callUnderContract(t, newTransport(t, w, append(allOptIns, graphretry.WithAttemptTimeout(time.Minute))...), w, req)
			require.Len(t, w.seen(), 4)
			for _, a := range w.seen() {
				assert.Equal(t, http.Header{"Authorization": {"Bearer EAAGtoken"}, "Content-Type": {"application/json"}}, a.request.Header)
			}
		}
	})
}
