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
		"token server cannot be, too": fmt.Errorf("oauth2: cannot fetch token: %w", &url.Error{Op: "Post", URL: "https://example.com", Err: refusedConnection}),
	} {
		for method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply{err: err}, true) })
		}
	}
	for name, reply := range map[string]reply{
		"reset":                {err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}},
		"broken pipe":          {err: &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}},
		"end":                  {err: io.EOF},
		"unexpected end":       {err: fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", io.ErrUnexpectedEOF)},
		"timeout":              {err: timeoutError{}},
		"proxy refuses":        {err: &net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("Bad Gateway")}},
		"HTML 502":             page,
		"HTML 503":             page.with(func(r *reply) { r.status = 503 }),
		"HTML 504":             page.with(func(r *reply) { r.status = 504 }),
		"empty 503":            {status: 503},
		"error without a code": {status: 503, body: `{"error":{"message":"down"}}`},
		"truncated 503":        cutShort.with(func(r *reply) { r.status = 503 }),
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
