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

// What quic-go and its HTTP/3 have.
type (
	quicStreamErrorCode uint64
	quicStreamError     struct {
		StreamID  int64
		ErrorCode quicStreamErrorCode
		Remote    bool
	}
	quicTransportError struct {
		Remote    bool
		ErrorCode uint64
		cause     error
	}
	quicApplicationError struct {
		Remote    bool
		ErrorCode uint64
	}
	http3Error struct {
		Remote    bool
		ErrorCode uint64
		err       error
	}
	http3errConnUnusable  struct{ e error }
	quickbooksStreamError struct{ ErrorCode string }
	rejectedStreamError   quicStreamError
)

func (*quicStreamError) Error() string         { return "stream canceled" }
func (*quicTransportError) Error() string      { return "transport error" }
func (e *quicTransportError) Unwrap() []error  { return []error{net.ErrClosed, e.cause} }
func (*quicApplicationError) Error() string    { return "application error" }
func (*quicApplicationError) Unwrap() error    { return net.ErrClosed }
func (*http3Error) Error() string              { return "H3 error" }
func (e *http3Error) Unwrap() error            { return e.err }
func (*http3errConnUnusable) Error() string    { return "http3: conn unusable" }
func (e *http3errConnUnusable) Unwrap() error  { return e.e }
func (quickbooksStreamError) Error() string    { return "another stream" }
func (*rejectedStreamError) Error() string     { return "a stream of somebody else's" }
func (e quicStreamError) h3() *http3Error      { return &http3Error{e.Remote, uint64(e.ErrorCode), &e} }
func (e quicApplicationError) h3() *http3Error { return &http3Error{e.Remote, e.ErrorCode, &e} }

// cannotRetryText is net/http's error for a body that it cannot send again.
func cannotRetryText(cause string) error {
	return fmt.Errorf("http2: Transport: cannot retry err [%s] after Request.Body was written; define Request.GetBody to avoid this error", cause)
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
		{textError("http: server closed idle connection"), 0},
		{fmt.Errorf("http2: client connection lost, %w", errNoGrant), 0},

		// The server has not processed it.
		{http2StreamError{Code: 0x7}, neverSent | temporary},
		{fmt.Errorf("stream: %w", http2StreamError{Code: 0x7}), neverSent | temporary},
		{http2StreamError{Code: 0x1}, temporary},
		{http2StreamError{Code: 0x8}, temporary},
		{errors.Join(http2StreamError{Code: 0x7}, http2StreamError{Code: 0x8}), temporary},
		{http2GoAwayError{LastStreamID: 0, ErrCode: 0x7}, temporary},
		{errors.New("http2: Transport received Server's graceful shutdown GOAWAY"), neverSent | temporary},
		{errors.New("http2: Transport received GOAWAY from server ErrCode:ENHANCE_YOUR_CALM"), neverSent | temporary},
		{errors.New("http2: client conn not usable"), neverSent | temporary},
		{errors.New("http2: client conn could not be established"), neverSent | temporary},
		{errors.New("http2: client conn is closed"), temporary},
		{errors.New("http2: client connection lost"), temporary},
		{errors.New("http2: client connection force closed via ClientConn.Close"), temporary},
		{cannotRetryText("http2: client conn not usable"), neverSent | temporary},
		{cannotRetryText("http2: Transport received Server's graceful shutdown GOAWAY"), neverSent | temporary},
		{cannotRetryText("stream error: stream ID 7; REFUSED_STREAM; received from peer"), neverSent | temporary},
		{cannotRetryText("stream error: stream ID 7; REFUSED_STREAM"), neverSent | temporary},
		{fmt.Errorf("send: %w", cannotRetryText("stream error: stream ID 7; REFUSED_STREAM")), neverSent | temporary},
		{cannotRetryText("stream error: stream ID 7; PROTOCOL_ERROR; received from peer"), temporary},
		{cannotRetryText("stream error: stream ID 7; PROTOCOL_ERROR; REFUSED_STREAM"), temporary},
		{cannotRetryText("stream error: stream ID 7"), temporary},
		{cannotRetryText("connection error; REFUSED_STREAM"), temporary},
		{cannotRetryText("http2: client conn is closed"), temporary},
		{cannotRetryText(""), temporary},
		{errors.New("http2: Transport: cannot retry err ["), temporary},
		{textError("http2: Transport received Server's graceful shutdown GOAWAY"), 0},
		{textError(cannotRetryText("http2: client conn not usable").Error()), 0},
		{errors.New("stream error: stream ID 7; REFUSED_STREAM; received from peer"), 0},

		// HTTP/3.
		{quicStreamError{ErrorCode: 0x10b, Remote: true}.h3(), neverSent | temporary},
		{&quicStreamError{ErrorCode: 0x10b, Remote: true}, neverSent | temporary},
		{fmt.Errorf("http3: Transport: cannot retry err [%w]", quicStreamError{ErrorCode: 0x10b, Remote: true}.h3()), neverSent | temporary},
		{quicStreamError{ErrorCode: 0x10b}.h3(), temporary},
		{quicStreamError{ErrorCode: 0x102, Remote: true}.h3(), temporary},
		{quicStreamError{ErrorCode: 0x10c}.h3(), temporary},
		{quicApplicationError{ErrorCode: 0x10b, Remote: true}.h3(), temporary},
		{quicApplicationError{ErrorCode: 0x100, Remote: true}.h3(), temporary},
		{&quicTransportError{ErrorCode: 0x1, Remote: true}, temporary},
		{&quicTransportError{ErrorCode: 0x2, Remote: true}, temporary},
		{&quicTransportError{ErrorCode: 0x1, cause: reset}, temporary},
		{&quicTransportError{ErrorCode: 0x100 + 42, Remote: true}, 0},
		{&quicTransportError{ErrorCode: 0x100 + 42, cause: untrusted}, 0},
		{&quicTransportError{ErrorCode: 0x200}, temporary},
		{&http3errConnUnusable{errors.New("0-RTT rejected")}, neverSent | temporary},
		{&http3errConnUnusable{errors.New("connection in graceful shutdown")}, neverSent | temporary},
		{&http3errConnUnusable{quicApplicationError{ErrorCode: 0x100}.h3()}, neverSent | temporary},
		{&http3errConnUnusable{&quicTransportError{ErrorCode: 0x100 + 42, Remote: true}}, neverSent},
		{fmt.Errorf("%w", &http3errConnUnusable{}), neverSent},
		{&http3errConnUnusable{&quicTransportError{ErrorCode: 0x1, Remote: true}}, neverSent | temporary},
		{errors.New("0-RTT rejected"), neverSent | temporary},
		{errors.New("connection in graceful shutdown"), temporary},
		{(*quicStreamError)(nil), 0},
		{quickbooksStreamError{}, 0},
		{&quickbooksStreamError{}, 0},
		{&rejectedStreamError{ErrorCode: 0x10b, Remote: true}, 0},

		{errNoGrant, 0},
		{&url.Error{Op: "Post", URL: "https://example.com/token", Err: errNoGrant}, 0},
		{syscall.ENOENT, 0},
		{syscall.ETIMEDOUT, 0},
		{&fs.PathError{Op: "open", Path: "token", Err: syscall.ENOENT}, 0},
		{&os.SyscallError{Syscall: "open", Err: syscall.EMFILE}, 0},
		{http.ErrSchemeMismatch, 0}, // net/http makes it of any record that begins so
		{tls.RecordHeaderError{Msg: "first record", Conn: new(net.TCPConn)}, neverSent},
		{tls.RecordHeaderError{Msg: "a later one"}, 0},
		{&net.OpError{Op: "proxyconnect", Err: errors.New("no more dials")}, neverSent | temporary},
		{http.ErrBodyReadAfterClose, 0},
		{errors.New(""), 0},
		{untrusted, neverSent},
		{errors.Join(io.ErrUnexpectedEOF, untrusted), 0},
		{fmt.Errorf("after 2 tries: %w", errors.Join(untrusted, io.ErrUnexpectedEOF)), 0},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, 0},
		{&net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "local error", Err: errors.New("tls: no version")}}, neverSent},

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

// What is known of an error stays as it was, and that nothing was sent comes on top.
func TestErrorOfARequestThatGotNoConnection(t *testing.T) {
	var refusedConnection Connection
	trace := httptrace.ContextClientTrace(refusedConnection.Watch(t.Context()))
	trace.GetConn("example.com:443")
	for _, err := range []error{
		io.EOF, context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, errNoGrant, reset, forbidden, tls.AlertError(42),
		errors.New("Bad Gateway"), errors.New("Forbidden"),
	} {
		ended := err == context.Canceled || err == errNoGrant // as a cause, of a context that has ended
		if ended {
			assert.Equal(t, err, refusedConnection.Explain(err, false), "it can be that of a RoundTripper which calls no GotConn")
		}
		explained := refusedConnection.Explain(err, ended)
		assert.True(t, NeverSent(explained), "%T", err)
		assert.False(t, NeverSent(err), "%T", err)
		assert.Equal(t, err.Error(), explained.Error())
		assert.ErrorIs(t, explained, err)
		assert.Equal(t, Temporary(err), Temporary(explained), "%T", err)
		assert.Equal(t, ProxyUnavailable(err), ProxyUnavailable(explained), "%T", err)
		was, isNet := err.(net.Error)
		is, still := explained.(net.Error)
		assert.Equal(t, isNet, still, "%T", err)
		timeout, _ := explained.(interface{ Timeout() bool })
		if isNet {
			assert.Equal(t, was.Timeout(), is.Timeout())
			//lint:ignore SA1019 net.Error has it.
			assert.Equal(t, was.Temporary(), is.Temporary())
		} else {
			assert.False(t, timeout.Timeout())
		}
	}
	for _, err := range []error{nil, refused, untrusted} {
		assert.Equal(t, err, refusedConnection.Explain(err, false), "what tells by itself is left alone")
	}
	trace.GotConn(httptrace.GotConnInfo{})
	assert.Equal(t, io.EOF, refusedConnection.Explain(io.EOF, true))
	var none *Connection
	assert.Equal(t, io.EOF, none.Explain(io.EOF, true))
}

func TestErrorThatIsAboutAnotherRequestProvesNothing(t *testing.T) {
	for _, err := range []error{refused, untrusted, io.EOF, context.Canceled, fmt.Errorf("dial: %w", refused)} {
		ambiguous := Ambiguous(err)
		assert.False(t, NeverSent(ambiguous), "%T", err)
		assert.True(t, IsAmbiguous(fmt.Errorf("wrapped: %w", ambiguous)))
		assert.False(t, IsAmbiguous(err))
		assert.Equal(t, err.Error(), ambiguous.Error())
		assert.ErrorIs(t, ambiguous, err)
		_, isNet := err.(net.Error)
		_, still := ambiguous.(net.Error)
		assert.Equal(t, isNet, still, "%T", err)
	}
	assert.False(t, NeverSent(errors.Join(refused, Ambiguous(refused))))
}

// What the server did not process had a connection.
func TestErrorOfADialProvesThatThereWasNoConnection(t *testing.T) {
	for err, want := range map[error]bool{
		refused: true,
		&net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused}:        true,
		&url.Error{Op: "Post", URL: "https://example.com/", Err: refused}: true,
		reset:                              false,
		untrusted:                          false,
		http2StreamError{Code: 7}:          false,
		errNoGrant:                         false,
		Ambiguous(refused):                 false,
		explain(io.ErrUnexpectedEOF, true): true,
		fmt.Errorf("tried once: %w", explain(reset, true)): true,
	} {
		assert.Equal(t, want, NoConnection(err), "%T %v", err, err)
	}
	assert.False(t, NoConnection(nil))
}

func TestConnectionThatWasAskedForAndNotGot(t *testing.T) {
	var none *Connection
	assert.False(t, none.Refused())

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
	trace.GotConn(httptrace.GotConnInfo{})
	assert.False(t, c.Refused())
	// Whoever tries again by itself may have sent it the first time.
	trace.GetConn("example.com:443")
	assert.False(t, c.Refused())
	assert.Equal(t, []string{"example.com:443", "got", "example.com:443"}, theirs)
}
