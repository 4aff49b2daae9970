package compose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// quicServer is an HTTP/3 server on the loopback interface, and the way to it.
type quicServer struct {
	url       string
	next      *http3.Transport
	socket    *earlySocket              // the client's
	conn      atomic.Pointer[quic.Conn] // the client's last one
	transport *quic.Transport
	tls       *tls.Config
	handler   http.Handler
	http      *http3.Server
	served    chan struct{} // closed when http has ended
}

// serveHTTP3 starts a server for the test.
func serveHTTP3(t *testing.T, handler http.Handler) *quicServer {
	t.Helper()
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	// Its certificate is for 127.0.0.1.
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())

	socket := listenUDP(t)
	s := &quicServer{
		url: "https://" + socket.LocalAddr().String(), handler: handler,
		transport: &quic.Transport{Conn: socket}, tls: &tls.Config{Certificates: certified.TLS.Certificates},
		socket: &earlySocket{PacketConn: listenUDP(t)},
	}
	s.start(t)
	t.Cleanup(func() {
		s.stop()
		assert.NoError(t, s.transport.Close())
		assert.NoError(t, socket.Close())
	})

	client := &quic.Transport{Conn: s.socket}
	s.next = &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			conn, err := client.DialEarly(ctx, socket.LocalAddr(), tlsConfig, config)
			s.conn.Store(conn)
			return conn, err
		},
	}
	t.Cleanup(func() {
		assert.NoError(t, s.next.Close())
		assert.NoError(t, client.Close())
		assert.NoError(t, s.socket.Close())
	})
	return s
}

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	return socket
}

// start starts the server, with keys for its tickets that no other has.
func (s *quicServer) start(t *testing.T) {
	t.Helper()
	listener, err := s.transport.ListenEarly(http3.ConfigureTLSConfig(s.tls.Clone()), &quic.Config{Allow0RTT: true})
	require.NoError(t, err)
	s.http = &http3.Server{Handler: s.handler, ConnContext: func(ctx context.Context, conn *quic.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}}
	server, served := s.http, make(chan struct{})
	s.served = served
	go func() {
		defer close(served)
		defer listener.Close()
		server.ServeListener(listener)
	}()
}

// stop ends the server and its connections.
func (s *quicServer) stop() {
	s.http.Close()
	<-s.served
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// ticketCache tells when a ticket has come, with which the next connection begins.
type ticketCache struct {
	tls.ClientSessionCache
	put chan struct{}
}

func (c *ticketCache) Put(key string, state *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, state)
	c.put <- struct{}{}
}

// earlySocket is a socket that can keep back what arrives until 0-RTT has left: only
// then does quic-go not race with itself, in its http3.Transport, which opens a stream
// while the handshake goes on.
type earlySocket struct {
	net.PacketConn
	left atomic.Pointer[chan struct{}] // closed when 0-RTT has left; nil: nothing is kept back
	once sync.Once
}

func (s *earlySocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := s.PacketConn.ReadFrom(p)
	if left := s.left.Load(); left != nil {
		<-*left
	}
	return n, addr, err
}

func (s *earlySocket) WriteTo(p []byte, addr net.Addr) (int, error) {
	n, err := s.PacketConn.WriteTo(p, addr)
	const zeroRTT = 0b1101 // the header of such a packet (RFC 9000, section 17.2.3)
	if left := s.left.Load(); left != nil && p[0]>>4 == zeroRTT {
		s.once.Do(func() { close(*left) })
	}
	return n, err
}

// hold begins to keep back what arrives.
func (s *earlySocket) hold() {
	left := make(chan struct{})
	s.left.Store(&left)
}

// sendOver sends a message, or asks for something, through a Transport around next.
func sendOver(t *testing.T, next http.RoundTripper, url, method string, kind bodyKind, opts ...graphretry.Option) (*http.Response, []graphretry.Event, error) {
	t.Helper()
	var events []graphretry.Event
	transport := retrying(t, next, append(opts, graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond),
		graphretry.WithObserver(func(_ context.Context, event graphretry.Event) { events = append(events, event) }))...)
	var body io.Reader
	switch kind {
	case known:
		body = strings.NewReader(message)
	case stream:
		body = io.MultiReader(strings.NewReader(message))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		assert.NoError(t, err)
		assert.NoError(t, resp.Body.Close())
	}
	return resp, events, err
}

// bodyKind is what a request has for a body.
type bodyKind string

const (
	none   bodyKind = "no body"
	known  bodyKind = "GetBody"
	stream bodyKind = "no GetBody"
)

func TestEachFailureOverHTTP3(t *testing.T) {
	reset := func(code http3.ErrCode) func(*testing.T, http.ResponseWriter, *http.Request) {
		return func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			stream, err := w.(http3.HTTPStreamer).HTTPStream()
			if assert.NoError(t, err) {
				stream.CancelWrite(quic.StreamErrorCode(code))
				stream.CancelRead(quic.StreamErrorCode(code))
			}
		}
	}
	end := func(code http3.ErrCode) func(*testing.T, http.ResponseWriter, *http.Request) {
		return func(_ *testing.T, _ http.ResponseWriter, r *http.Request) {
			r.Context().Value(connKey{}).(*quic.Conn).CloseWithError(quic.ApplicationErrorCode(code), "")
		}
	}
	const rejected = `^\*fmt\.wrapError http3: .*H3_REQUEST_REJECTED`
	for name, test := range map[string]struct {
		fault    func(*testing.T, http.ResponseWriter, *http.Request) // after the request has arrived
		err      string                                               // its type and its text
		rejected bool                                                 // the server has not processed it
	}{
		"stream is reset":         {reset(http3.ErrCodeInternalError), `^\*fmt\.wrapError http3: parsing frame failed: H3_INTERNAL_ERROR$`, false},
		"request is rejected":     {reset(http3.ErrCodeRequestRejected), rejected, true},
		"connection is closed":    {end(http3.ErrCodeInternalError), `^\*fmt\.wrapError http3: parsing frame failed: H3_INTERNAL_ERROR$`, false},
		"connection is shut down": {end(http3.ErrCodeNoError), `^\*fmt\.wrapError http3: parsing frame failed: H3_NO_ERROR$`, false},
		// RFC 9114 has no such thing.
		"connection is rejected": {end(http3.ErrCodeRequestRejected), rejected, false},
	} {
		for _, call := range []struct {
			method string
			kind   bodyKind
		}{{http.MethodGet, none}, {http.MethodPut, known}, {http.MethodPost, known}, {http.MethodPost, stream}} {
			for _, on := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s, %s, WithNetworkRetries %v", name, call.method, call.kind, on), func(t *testing.T) {
					faults := int32(1)
					if test.err == rejected && call.kind != stream {
						faults = 2 // quic-go itself sends it once more
					}
					var arrived atomic.Int32
					server := serveHTTP3(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						content, err := io.ReadAll(r.Body)
						assert.NoError(t, err)
						if call.kind != none {
							assert.Equal(t, message, string(content))
						}
						if arrived.Add(1) <= faults {
							test.fault(t, w, r)
						}
					}))
					var opts []graphretry.Option
					if on {
						opts = append(opts, graphretry.WithNetworkRetries())
					}
					resp, events, err := sendOver(t, server.next, server.url, call.method, call.kind, opts...)
					require.NotEmpty(t, events)
					assert.Regexp(t, test.err, fmt.Sprintf("%T %v", events[0].Err, events[0].Err))
					if on && (test.rejected || call.method != http.MethodPost) {
						require.NoError(t, err)
						assert.Equal(t, http.StatusOK, resp.StatusCode)
						assert.Equal(t, graphretry.ReasonNetwork, events[0].Reason)
						assert.Equal(t, faults+1, arrived.Load())
						return
					}
					assert.Equal(t, events[0].Err, err)
					require.Len(t, events, 1)
					reason := graphretry.ReasonAmbiguous
					if test.rejected {
						reason = graphretry.ReasonNotRetried
					}
					assert.Equal(t, reason, events[0].Reason)
					assert.Equal(t, faults, arrived.Load())
				})
			}
		}
	}
}

// The server that has restarted refuses the 0-RTT of a connection, and quic-go then
// opens no stream on it.
func TestMessageIsSentAgainAfterARestartHasRefusedThe0RTTOfItsConnection(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint("WithNetworkRetries ", on), func(t *testing.T) {
			var arrived atomic.Int32
			server := serveHTTP3(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
			tickets := &ticketCache{tls.NewLRUClientSessionCache(1), make(chan struct{}, 100)}
			server.next.TLSClientConfig.ClientSessionCache = tickets
			_, _, err := sendOver(t, server.next, server.url, http.MethodPost, known)
			require.NoError(t, err)
			<-tickets.put
			server.stop()
			<-server.conn.Load().Context().Done()
			server.start(t)
			server.socket.hold()

			var opts []graphretry.Option
			if on {
				opts = append(opts, graphretry.WithNetworkRetries())
			}
			resp, events, err := sendOver(t, server.next, server.url, http.MethodPost, known, opts...)
			require.NotEmpty(t, events)
			assert.Equal(t, "*http3.errConnUnusable http3: conn unusable: 0-RTT rejected", fmt.Sprintf("%T %v", events[0].Err, events[0].Err))
			if on {
				require.NoError(t, err)
				assert.Equal(t, http.StatusOK, resp.StatusCode)
				assert.Equal(t, graphretry.ReasonNetwork, events[0].Reason)
				assert.EqualValues(t, 2, arrived.Load())
				return
			}
			assert.Equal(t, events[0].Err, err)
			assert.Equal(t, graphretry.ReasonNotRetried, events[0].Reason)
			assert.EqualValues(t, 1, arrived.Load())
		})
	}
}

func TestCertificateThatIsRefusedOverHTTP3IsNotRetried(t *testing.T) {
	server := serveHTTP3(t, http.NotFoundHandler())
	server.next.TLSClientConfig.RootCAs = x509.NewCertPool()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		_, events, err := sendOver(t, server.next, server.url, method, none, graphretry.WithNetworkRetries())
		var untrusted *tls.CertificateVerificationError
		require.ErrorAs(t, err, &untrusted)
		require.Len(t, events, 1)
		assert.Equal(t, graphretry.ReasonNotRetried, events[0].Reason)
	}
}

// Those that quic-go returns for a connection that one of both sides has ended.
func TestErrorsOfAQUICConnection(t *testing.T) {
	const badCertificate = 0x100 + 42
	for _, test := range []struct {
		err       error
		temporary bool
	}{
		{&quic.TransportError{Remote: true, ErrorCode: quic.InternalError}, true},
		{&quic.TransportError{Remote: true, ErrorCode: quic.ConnectionRefused}, true},
		{&quic.TransportError{ErrorCode: quic.FlowControlError}, true},
		{&quic.TransportError{Remote: true, ErrorCode: badCertificate}, false},
		{&quic.ApplicationError{Remote: true, ErrorCode: 0x100}, true},
		{&quic.StreamError{Remote: true, ErrorCode: 0x102}, true},
		{&quic.IdleTimeoutError{}, true},
		{&quic.HandshakeTimeoutError{}, true},
		{&quic.StatelessResetError{}, true},
		{errors.New("a stream of somebody else's"), false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			attempts := 0
			_, events, _ := sendOver(t, roundTripper(func(*http.Request) (*http.Response, error) {
				if attempts++; attempts == 1 {
					return nil, test.err
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}), "https://127.0.0.1/", method, none, graphretry.WithNetworkRetries())
			require.NotEmpty(t, events)
			want := graphretry.ReasonAmbiguous
			if test.temporary && method == http.MethodGet {
				want = graphretry.ReasonNetwork
			}
			assert.Equal(t, want, events[0].Reason, "%s %T %v", method, test.err, test.err)
		}
	}
}
