package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// What a request is sent on: a connection that it shares, and its trace.

// net/http gives a connection back before it hands on an answer without a body. Who
// takes it in between, and leaves, takes the first request with it.
func TestRequestIsNotCanceledByAnotherOnItsConnection(t *testing.T) {
	for name, test := range map[string]struct {
		end   func(t *testing.T, next *http.Transport, url string, arrived <-chan bool)
		err   string
		joins bool // with a request of its own
	}{
		"canceled context": {
			joins: true, err: `^\*errors\.errorString context canceled$`,
			end: func(t *testing.T, next *http.Transport, url string, arrived <-chan bool) {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				require.NoError(t, err)
				go func() { <-arrived; cancel() }()
				_, err = next.RoundTrip(req)
				assert.ErrorIs(t, err, context.Canceled)
			},
		},
		"closed Cancel": {
			joins: true, err: `^\*errors\.errorString net/http: request canceled$`,
			end: func(t *testing.T, next *http.Transport, url string, arrived <-chan bool) {
				req, err := http.NewRequest(http.MethodGet, url, nil)
				require.NoError(t, err)
				canceled := make(chan struct{})
				//lint:ignore SA1019 http.Client.Timeout still uses it.
				req.Cancel = canceled
				go func() { <-arrived; close(canceled) }()
				_, err = next.RoundTrip(req)
				assert.Error(t, err)
			},
		},
		"CloseIdleConnections": {
			err: `^\*fmt\.wrapError net/http: HTTP/1\.x transport connection broken: http: CloseIdleConnections called$`,
			end: func(_ *testing.T, next *http.Transport, _ string, _ <-chan bool) { next.CloseIdleConnections() },
		},
		"MaxIdleConns": {
			err: `^\*fmt\.wrapError net/http: HTTP/1\.x transport connection broken: http: putIdleConn: too many idle connections$`,
			end: func(t *testing.T, next *http.Transport, _ string, _ <-chan bool) {
				other := httptest.NewServer(http.NotFoundHandler())
				defer other.Close()
				req, err := http.NewRequest(http.MethodGet, other.URL, nil)
				require.NoError(t, err)
				resp, err := next.RoundTrip(req)
				require.NoError(t, err)
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			},
		},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				arrived, requests := make(chan bool), new(atomic.Int32)
				server := protocols[0].serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if requests.Add(1) == 2 && test.joins {
						close(arrived)
						<-r.Context().Done()
					}
				}))
				server.next.MaxIdleConns = 1
				var once sync.Once
				failed := make(chan bool)
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(error) {
					once.Do(func() {
						test.end(t, server.next, server.URL, arrived)
						<-failed
					})
				}})
				attempts := 0
				next := roundTripper(func(req *http.Request) (*http.Response, error) {
					resp, err := server.next.RoundTrip(req)
					if attempts++; attempts == 1 {
						close(failed)
					}
					return resp, err
				})
				transport, events := eventsOf(t, next, graphretry.WithHosts("127.0.0.1"),
					graphretry.WithInitialInterval(time.Millisecond), graphretry.WithNetworkRetries())
				req, err := http.NewRequestWithContext(ctx, method, server.URL, nil)
				require.NoError(t, err)
				resp, err := transport.RoundTrip(req)
				require.NotEmpty(t, events())
				first := events()[0]
				assert.Regexp(t, test.err, fmt.Sprintf("%T %v", first.Err, first.Err))
				if method == http.MethodGet {
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					assert.Equal(t, graphretry.ReasonNetwork, first.Reason)
					assert.Equal(t, 2, attempts)
				} else {
					assert.Equal(t, first.Err, err)
					assert.Equal(t, graphretry.ReasonAmbiguous, first.Reason)
					assert.Equal(t, 1, attempts)
				}
			})
		}
	}
}

// watchedConn knows when it is closed.
type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestConnectionThatTheServerClosesAsItIsTaken(t *testing.T) {
	server := protocols[0].serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &watchedConn{Conn: conn, closed: make(chan struct{})}, err
	}
	send := func(ctx context.Context, method string) (*http.Response, []graphretry.Event, error) {
		transport, events := eventsOf(t, server.next, graphretry.WithHosts("127.0.0.1"),
			graphretry.WithInitialInterval(time.Millisecond), graphretry.WithNetworkRetries())
		req, err := http.NewRequestWithContext(ctx, method, server.URL, io.MultiReader(strings.NewReader(messageBody)))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
		return resp, events(), err
	}
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		seen := false
		for range 1000 { // it can also see the connection that is closed on our side
			_, _, err := send(t.Context(), method)
			require.NoError(t, err)
			var once sync.Once
			_, events, err := send(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				once.Do(func() {
					require.True(t, info.Reused)
					server.CloseClientConnections()
					<-info.Conn.(*watchedConn).closed
				})
			}}), method)
			require.NotEmpty(t, events)
			var closed net.Error
			if seen = fmt.Sprintf("%T %v", events[0].Err, events[0].Err) == "*errors.errorString http: server closed idle connection"; !seen {
				require.ErrorAs(t, events[0].Err, &closed)
				continue
			}
			if method == http.MethodPut {
				// Of its body nothing was read, and it is closed.
				require.Equal(t, graphretry.ReasonBody, events[0].Reason)
			} else {
				require.Equal(t, graphretry.ReasonAmbiguous, events[0].Reason)
			}
			require.Error(t, err)
			break
		}
		assert.True(t, seen, "net/http's error for it")
	}
}

// net/http sends what was refused again by itself, for a minute. It was not processed,
// so that even a message is sent again after that.
func TestStreamThatIsRefusedOverAndOver(t *testing.T) {
	needsHTTP2(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		synctest.Test(t, func(t *testing.T) {
			var refused atomic.Int32
			next := &http.Transport{Protocols: new(http.Protocols)}
			next.Protocols.SetUnencryptedHTTP2(true)
			next.DialContext = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				// A pipe has no buffer: what both sides write at once would wait for ever.
				go func() {
					defer server.Close()
					buffered := bufferedConn{server, make(chan []byte, 100)}
					go buffered.writeAll()
					defer close(buffered.out)
					framed, err := acceptFrames(buffered)
					for err == nil {
						var stream uint32
						if stream, err = framed.request(); err == nil {
							refused.Add(1)
							framed.reset(stream, codeRefused)
						}
					}
				}()
				return client, nil
			}
			defer next.CloseIdleConnections()
			transport, events := eventsOf(t, next, graphretry.WithHosts("graph.test"), graphretry.WithNetworkRetries(), graphretry.WithMaxRetries(1))
			req, err := http.NewRequestWithContext(t.Context(), method, "http://graph.test/", strings.NewReader(messageBody))
			require.NoError(t, err)
			_, err = transport.RoundTrip(req)
			assert.Regexp(t, `^http\.http2StreamError stream error: stream ID \d+; REFUSED_STREAM; received from peer$`, fmt.Sprintf("%T %v", err, err))
			require.Len(t, events(), 2)
			assert.Equal(t, graphretry.ReasonNetwork, events()[0].Reason)
			assert.EqualValues(t, 16, refused.Load())
		})
	}
}

// bufferedConn is a connection whose writes do not wait.
type bufferedConn struct {
	net.Conn
	out chan []byte
}

func (c bufferedConn) Write(p []byte) (int, error) {
	c.out <- append([]byte(nil), p...)
	return len(p), nil
}

func (c bufferedConn) writeAll() {
	for p := range c.out {
		c.Conn.Write(p)
	}
}

func TestTraceOfTheCallerGoesOn(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			fails := true
			server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if fails {
					fails = false
					w.WriteHeader(http.StatusBadGateway)
				}
			}))
			var asked, got, written atomic.Int32
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn:      func(string) { asked.Add(1) },
				GotConn:      func(httptrace.GotConnInfo) { got.Add(1) },
				WroteRequest: func(httptrace.WroteRequestInfo) { written.Add(1) },
			}), http.MethodGet, server.URL, nil)
			require.NoError(t, err)
			resp, err := server.transport(t, server.next, graphretry.WithNetworkRetries()).RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Same(t, req, resp.Request)
			assert.GreaterOrEqual(t, asked.Load(), int32(2)) // HTTP/2 asks twice
			assert.EqualValues(t, 2, got.Load())
			assert.EqualValues(t, 2, written.Load())
		})
	}
}
