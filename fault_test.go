package graphretry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Failures of the network, on real connections.

// faultyListener has the first connection go wrong, and hands on those after it.
type faultyListener struct {
	net.Listener
	fault    func(*net.TCPConn)
	accepted atomic.Int32
}

func (l *faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.accepted.Add(1) > 1 {
			return conn, err
		}
		go func() {
			defer conn.Close()
			l.fault(conn.(*net.TCPConn))
		}()
	}
}

// faultyServer is a server whose first connection goes wrong.
type faultyServer struct {
	url      string
	next     *http.Transport
	listener *faultyListener
	served   atomic.Int32 // requests, on the connections after it
}

// serveFaulty starts a server for the test; a nil fault is none. Over HTTP/2 it has no TLS, unless both
// sides are to have it.
func serveFaulty(t *testing.T, major int, secure bool, fault func(*net.TCPConn)) *faultyServer {
	t.Helper()
	if major == 2 {
		needsHTTP2(t)
	}
	leavesNoGoroutine(t)
	s := new(faultyServer)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, major, r.ProtoMajor)
		content, err := io.ReadAll(r.Body)
		if err != nil {
			return // a client that leaves; it is asserted on what that gets
		}
		if r.Method != http.MethodGet {
			assert.Equal(t, messageBody, string(content))
		}
		s.served.Add(1)
		io.WriteString(w, success.body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.listener = &faultyListener{Listener: server.Listener, fault: fault}
	if fault == nil {
		s.listener.accepted.Store(1)
	}
	server.Listener = s.listener
	if secure {
		server.EnableHTTP2 = major == 2
		server.StartTLS()
	} else {
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(major == 1)
		server.Config.Protocols.SetUnencryptedHTTP2(major == 2)
		server.Start()
	}
	t.Cleanup(server.Close)
	s.url, s.next = server.URL, server.Client().Transport.(*http.Transport)
	if !secure {
		s.next.Protocols = server.Config.Protocols
	}
	t.Cleanup(s.next.CloseIdleConnections)
	return s
}

// send makes a call of the kind through a Transport around next.
func (s *faultyServer) send(t *testing.T, next http.RoundTripper, method string, kind bodyKind, opts ...graphretry.Option) (*http.Response, []graphretry.Event, error) {
	t.Helper()
	transport, events := eventsOf(t, next, append(opts, graphretry.WithHosts("127.0.0.1", "localhost"),
		graphretry.WithInitialInterval(time.Millisecond), graphretry.WithMaxInterval(10*time.Millisecond),
		graphretry.WithMaxElapsedTime(0))...)
	var body io.Reader
	switch kind {
	case withGetBody:
		body = strings.NewReader(messageBody)
	case plainReader:
		body = io.LimitReader(strings.NewReader(messageBody), 1<<20)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url, body)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		content, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.NoError(t, resp.Body.Close())
		assert.Equal(t, success.body, string(content))
	}
	return resp, events(), err
}

// readRequest reads one request over HTTP/1.1.
func readRequest(conn net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		io.Copy(io.Discard, req.Body)
	}
}

// afterFrames is a fault after a request has arrived over HTTP/2.
func afterFrames(fault func(conn framedConn, stream uint32)) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		if framed, err := acceptFrames(conn); err == nil {
			if stream, err := framed.request(); err == nil {
				fault(framed, stream)
			}
		}
	}
}

// untilClosed waits until the client closes the connection.
func untilClosed(conn net.Conn) { io.Copy(io.Discard, conn) }

// reset breaks a connection off.
func reset(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) }

// brokenOff is how a connection ends that breaks off while both sides write: a
// reset and an end can come in either's place.
const brokenOff = `^\*net\.OpError (read|write) tcp|^\*errors\.errorString unexpected EOF`

// dialRefused is how a connection is refused: by Unix, by js/wasm and by Windows.
const dialRefused = `^\*net\.OpError dial tcp .*: (connect: [Cc]onnection refused|connectex: .* actively refused it\.)$`

// refuseFirstDial has the first dial go where nobody listens.
func refuseFirstDial(next *http.Transport) {
	var dials atomic.Int32
	next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			address = listener.Addr().String()
			listener.Close()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// A request that may have arrived is sent again if it does no harm, and one that
// never left or was not processed, always.
func TestEachFailureOfARealConnection(t *testing.T) {
	for name, test := range map[string]struct {
		major     int
		secure    bool
		fault     func(*net.TCPConn)
		client    func(*http.Transport)
		err       string // its type and its text, in part
		neverSent bool
		refused   bool // it was sent, and the server has said that it did not process it
		itself    bool // net/http sends again what has a GetBody
	}{
		"reset": {
			major: 1, err: `^\*net\.OpError read tcp`,
			fault: func(conn *net.TCPConn) { readRequest(conn); reset(conn) },
		},
		"end": {
			major: 1, err: `^\*errors\.errorString EOF`,
			fault: func(conn *net.TCPConn) { readRequest(conn) },
		},
		"end in the header": {
			major: 1, err: `unexpected EOF`,
			fault: func(conn *net.TCPConn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
			},
		},
		"no header": {
			major: 1, err: `timeout awaiting response headers`,
			fault:  func(conn *net.TCPConn) { untilClosed(conn) },
			client: func(next *http.Transport) { next.ResponseHeaderTimeout = 50 * time.Millisecond },
		},
		"HTTP/2, no header": {
			major: 2, err: `timeout awaiting response headers`,
			// The connection goes on, and with it would the silence.
			fault:  afterFrames(func(conn framedConn, _ uint32) { conn.request() }),
			client: func(next *http.Transport) { next.ResponseHeaderTimeout = 50 * time.Millisecond },
		},
		"HTTP/2, reset": {
			major: 2, err: brokenOff,
			fault: afterFrames(func(conn framedConn, _ uint32) { reset(conn.Conn) }),
		},
		"HTTP/2, end": {
			major: 2, err: brokenOff,
			fault: afterFrames(func(framedConn, uint32) {}),
		},
		"HTTP/2, no answer to a PING": {
			major: 2, err: `^\*errors\.errorString http2: client connection lost`,
			fault: untilClosedFrames,
			client: func(next *http.Transport) {
				next.HTTP2 = &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}
			},
		},
		"RST_STREAM": {
			major: 2, err: `^http\.http2StreamError stream error: stream ID 1; INTERNAL_ERROR; received from peer`,
			fault: afterFrames(func(conn framedConn, stream uint32) { conn.reset(stream, codeInternal); conn.goAway(stream, codeNone) }),
		},
		"RST_STREAM, canceled": {
			major: 2, err: `^http\.http2StreamError stream error: stream ID 1; CANCEL; received from peer`,
			fault: afterFrames(func(conn framedConn, stream uint32) { conn.reset(stream, codeCancel); conn.goAway(stream, codeNone) }),
		},
		"RST_STREAM, refused": {
			major: 2, err: `^\*errors\.errorString http2: Transport: cannot retry err \[stream error: stream ID 1; REFUSED_STREAM; received from peer\]`, refused: true, itself: true,
			fault: afterFrames(func(conn framedConn, stream uint32) {
				conn.goAway(stream, codeNone)
				conn.reset(stream, codeRefused)
				untilClosed(conn)
			}),
		},
		"RST_STREAM, protocol error": {
			major: 2, err: `^\*errors\.errorString http2: Transport: cannot retry err \[stream error: stream ID 1; PROTOCOL_ERROR; received from peer\]`, itself: true,
			fault: afterFrames(func(conn framedConn, stream uint32) {
				conn.goAway(stream, codeNone)
				conn.reset(stream, codeProtocol)
				untilClosed(conn)
			}),
		},
		"GOAWAY before the stream": {
			major: 2, err: `^\*errors\.errorString http2: Transport: cannot retry err \[http2: Transport received Server's graceful shutdown GOAWAY\]`, refused: true, itself: true,
			fault: afterFrames(func(conn framedConn, _ uint32) { conn.goAway(0, codeNone); untilClosed(conn) }),
		},
		"GOAWAY before the stream, with an error": {
			major: 2, err: `^\*errors\.errorString http2: Transport received GOAWAY from server ErrCode:ENHANCE_YOUR_CALM`, refused: true,
			fault: afterFrames(func(conn framedConn, _ uint32) { conn.goAway(0, codeCalm); untilClosed(conn) }),
		},
		"GOAWAY after the stream": {
			major: 2, err: `^http\.http2GoAwayError http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR`,
			fault: afterFrames(func(conn framedConn, stream uint32) { conn.goAway(stream, codeNone) }),
		},
		"GOAWAY after the stream, with an error": {
			major: 2, err: `^http\.http2GoAwayError http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=INTERNAL_ERROR`,
			fault: afterFrames(func(conn framedConn, stream uint32) { conn.goAway(stream, codeInternal) }),
		},
		"connection error": {
			major: 2, err: `^http\.http2ConnectionError connection error: PROTOCOL_ERROR`,
			fault: afterFrames(func(conn framedConn, _ uint32) { conn.send(frameData, 0, nil); untilClosed(conn) }),
		},

		"dial is refused":         {major: 1, neverSent: true, err: dialRefused, client: refuseFirstDial},
		"HTTP/2, dial is refused": {major: 2, neverSent: true, err: dialRefused, client: refuseFirstDial},
		"TLS stalls": {
			major: 1, secure: true, neverSent: true, err: `TLS handshake timeout`, fault: func(conn *net.TCPConn) { untilClosed(conn) },
			client: func(next *http.Transport) { next.TLSHandshakeTimeout = 100 * time.Millisecond },
		},
		"TLS is reset": {
			major: 1, secure: true, neverSent: true, err: `^\*net\.OpError`,
			fault: func(conn *net.TCPConn) { conn.Read(make([]byte, 1)); reset(conn) },
		},
		"TLS ends": {
			major: 1, secure: true, neverSent: true, err: `^\*errors\.errorString EOF`,
			fault: func(conn *net.TCPConn) { io.CopyN(io.Discard, conn, clientHello(conn)) },
		},
		"HTTP/2, TLS stalls": {
			major: 2, secure: true, neverSent: true, err: `TLS handshake timeout`, fault: func(conn *net.TCPConn) { untilClosed(conn) },
			client: func(next *http.Transport) { next.TLSHandshakeTimeout = 100 * time.Millisecond },
		},
		"HTTP/2, TLS ends": {
			major: 2, secure: true, neverSent: true, err: `^\*errors\.errorString EOF`,
			fault: func(conn *net.TCPConn) { io.CopyN(io.Discard, conn, clientHello(conn)) },
		},
	} {
		for _, call := range []struct {
			method string
			kind   bodyKind
		}{{http.MethodGet, noBody}, {http.MethodPut, plainReader}, {http.MethodPost, withGetBody}, {http.MethodPost, plainReader}} {
			for _, on := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s, %s, WithNetworkRetries %v", name, call.method, call.kind, on), func(t *testing.T) {
					server := serveFaulty(t, test.major, test.secure, test.fault)
					if test.client != nil {
						test.client(server.next)
					}
					var opts []graphretry.Option
					if on {
						opts = append(opts, graphretry.WithNetworkRetries())
					}
					resp, events, err := server.send(t, server.next, call.method, call.kind, opts...)
					if test.itself && call.kind != plainReader {
						require.NoError(t, err)
						assert.Empty(t, events)
						assert.EqualValues(t, 1, server.served.Load())
						return
					}
					require.NotEmpty(t, events)
					attemptErr := events[0].Err
					assert.Equal(t, test.neverSent || test.refused, graphretry.NeverSent(attemptErr))
					if unwrapped := errors.Unwrap(attemptErr); test.neverSent && test.secure {
						assert.Equal(t, unwrapped.Error(), attemptErr.Error())
						assert.Equal(t, timedOut(unwrapped), timedOut(attemptErr))
						attemptErr = unwrapped
					}
					assert.Regexp(t, test.err, fmt.Sprintf("%T %v", attemptErr, attemptErr))
					if on && test.neverSent && call.kind == plainReader {
						// It was closed unread, and there is no other.
						assert.Equal(t, events[0].Err, err)
						assert.Equal(t, graphretry.ReasonBody, events[0].Reason)
						return
					}
					if on && (test.neverSent || test.refused || call.method != http.MethodPost) {
						require.NoError(t, err)
						assert.Equal(t, http.StatusOK, resp.StatusCode)
						assert.Equal(t, graphretry.EventRetrying, events[0].Kind)
						assert.Equal(t, graphretry.ReasonNetwork, events[0].Reason)
						assert.Equal(t, graphretry.EventRecovered, events[len(events)-1].Kind)
						if test.client == nil { // else it can come again, on a slow machine
							assert.EqualValues(t, 1, server.served.Load())
						}
						return
					}
					assert.Equal(t, events[0].Err, err)
					require.Len(t, events, 1)
					assert.Equal(t, graphretry.EventNotRetried, events[0].Kind)
					reason := graphretry.ReasonAmbiguous
					if test.neverSent || test.refused {
						reason = graphretry.ReasonNotRetried
					}
					assert.Equal(t, reason, events[0].Reason)
					assert.Zero(t, server.served.Load())
				})
			}
		}
	}
}

// untilClosedFrames begins HTTP/2 and answers nothing.
func untilClosedFrames(conn *net.TCPConn) {
	if framed, err := acceptFrames(conn); err == nil {
		untilClosed(framed)
	}
}

// clientHello reads the header of a TLS record and returns how much follows.
func clientHello(conn net.Conn) int64 {
	var header [5]byte
	io.ReadFull(conn, header[:])
	return int64(header[3])<<8 | int64(header[4])
}

// timedOut reports whether an error says of itself that it is a timeout.
func timedOut(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}
