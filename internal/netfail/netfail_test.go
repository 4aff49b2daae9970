package netfail

import (
	"context"
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
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	refused    = &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}}
	reset      = &net.OpError{Op: "read", Net: "tcp", Err: &os.SyscallError{Syscall: "read", Err: syscall.ECONNRESET}}
	forbidden  = &net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("unknown error connection not allowed by ruleset")}
	untrusted  = &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	errNoGrant = errors.New("oauth2: invalid_grant")
)

// textError is an error of a type of its own.
type textError string

func (e textError) Error() string { return string(e) }

// joined is an error of several, or of none.
type joined []error

func (joined) Error() string     { return "no try has worked" }
func (e joined) Unwrap() []error { return e }

// What golang.org/x/net/http2 has, which only names such types.
type (
	http2StreamError struct {
		StreamID uint32
		Code     uint32
		Cause    error
	}
	http2ConnectionError uint32
	http2GoAwayError     struct {
		LastStreamID uint32
		ErrCode      uint32
		DebugData    string
	}
	http2OtherError  struct{ LastStreamID uint32 }
	http2NumberError uint32
	connectionError  uint32
)

func (http2StreamError) Error() string     { return "stream error" }
func (http2ConnectionError) Error() string { return "connection error" }
func (http2GoAwayError) Error() string     { return "GOAWAY" }
func (http2OtherError) Error() string      { return "other" }
func (http2NumberError) Error() string     { return "number" }
func (connectionError) Error() string      { return "connection error" }

func (e http2StreamError) As(target any) bool {
	stream, ok := target.(*streamError)
	if ok {
		*stream = streamError(e)
	}
	return ok
}

func TestWhatIsCertainOfAnError(t *testing.T) {
	const neverSent, temporary, unavailable = 1, 2, 4
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{refused, neverSent | temporary},
		{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused}, neverSent | temporary},
		{&url.Error{Op: "Post", URL: "https://example.com/token", Err: refused}, neverSent | temporary},
		{fmt.Errorf("after 2 tries: %w", errors.Join(refused, refused)), neverSent | temporary},
		{fmt.Errorf("%w, then %w", refused, reset), temporary},
		{errors.Join(reset, refused), temporary},
		{errors.Join(refused, errNoGrant), 0},
		{errors.Join(errNoGrant, reset), 0},
		{joined{}, 0},
		{joined{nil}, 0},
		{joined{refused, nil}, 0},
		{&net.OpError{Op: "dial", Net: "tcp", Err: untrusted}, neverSent},

		{reset, temporary},
		{fmt.Errorf("broken: %w", io.EOF), temporary},
		{io.ErrUnexpectedEOF, temporary},
		{io.ErrClosedPipe, 0},
		{context.Canceled, temporary},
		{context.DeadlineExceeded, temporary},
		{os.ErrDeadlineExceeded, temporary},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, temporary},
		{net.ErrClosed, temporary},

		{http2StreamError{}, temporary},
		{fmt.Errorf("stream: %w", http2StreamError{}), temporary},
		{http2ConnectionError(1), temporary},
		{http2GoAwayError{}, temporary},
		{http2OtherError{}, 0},
		{http2NumberError(1), 0},
		{connectionError(1), 0},
		{errors.New("http: server closed idle connection"), temporary},
		{errors.New("http2: Transport received GOAWAY from server ErrCode:ENHANCE_YOUR_CALM"), temporary},
		{errors.New("http2: Transport: cannot retry err [http2: client conn not usable] after Request.Body was written; define Request.GetBody to avoid this error"), temporary},
		{textError("http: server closed idle connection"), 0},
		{fmt.Errorf("http2: client connection lost, %w", errNoGrant), 0},

		{errNoGrant, 0},
		{&url.Error{Op: "Post", URL: "https://example.com/token", Err: errNoGrant}, 0},
		{syscall.ENOENT, 0},
		{syscall.ETIMEDOUT, 0},
		{&fs.PathError{Op: "open", Path: "token", Err: syscall.ENOENT}, 0},
		{&os.SyscallError{Syscall: "open", Err: syscall.EMFILE}, 0},
		{http.ErrSchemeMismatch, 0},
		{http.ErrBodyReadAfterClose, 0},
		{errors.New(""), 0},
		{untrusted, neverSent},
		{errors.Join(io.ErrUnexpectedEOF, untrusted), 0},
		{fmt.Errorf("after 2 tries: %w", errors.Join(untrusted, io.ErrUnexpectedEOF)), 0},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, 0},
		{&net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "local error", Err: errors.New("tls: no version")}}, 0},

		{errors.New("Bad Gateway"), unavailable},
		{errors.New("Service Unavailable"), unavailable},
		{errors.New("Service Temporarily Unavailable"), unavailable},
		{errors.New("Gateway Timeout"), unavailable},
		{errors.New("Gateway Time-out"), unavailable},
		{&url.Error{Op: "Get", URL: "https://example.com/", Err: errors.New("Bad Gateway")}, unavailable},
		{textError("Bad Gateway"), 0},
		{errors.New("Forbidden"), 0},
		{errors.New("Proxy Authentication Required"), 0},

		{&net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("unknown error host unreachable")}, temporary},
		{&net.OpError{Op: "socks connect", Net: "tcp", Err: io.EOF}, temporary},
		{&net.OpError{Op: "socks connect", Net: "tcp", Err: reset}, temporary},
		{forbidden, 0},
	} {
		got := 0
		for what, holds := range map[int]bool{
			neverSent: NeverSent(test.err), temporary: Temporary(test.err), unavailable: ProxyUnavailable(test.err),
		} {
			if holds {
				got |= what
			}
		}
		assert.Equal(t, test.want, got, "%T %v", test.err, test.err)
	}
}

func TestConnectionThatWasAskedForAndNotGot(t *testing.T) {
	var none *Connection
	assert.False(t, none.Refused())
	assert.False(t, none.Got())

	var theirs []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn: func(address string) { theirs = append(theirs, address) },
		GotConn: func(httptrace.GotConnInfo) { theirs = append(theirs, "got") },
	})
	var c Connection
	trace := httptrace.ContextClientTrace(c.Watch(ctx))
	assert.False(t, c.Refused(), "nobody has called a hook")
	trace.GetConn("example.com:443")
	assert.True(t, c.Refused())
	assert.False(t, c.Got())
	trace.GotConn(httptrace.GotConnInfo{})
	assert.False(t, c.Refused())
	assert.True(t, c.Got())
	// Whoever tries again by itself may have sent it the first time.
	trace.GetConn("example.com:443")
	assert.False(t, c.Refused())
	assert.Equal(t, []string{"example.com:443", "got", "example.com:443"}, theirs)
}
