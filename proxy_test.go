package graphretry_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Proxies that refuse, and proxies that cannot.

// serveProxy starts a proxy that answers the first CONNECT as told, and tunnels
// those after it. It returns how many there were.
func serveProxy(t *testing.T, next *http.Transport, answer string) *atomic.Int32 {
	t.Helper()
	connects := new(atomic.Int32)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodConnect, r.Method)
		conn, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		if connects.Add(1) == 1 {
			io.WriteString(conn, answer)
			return
		}
		target, err := net.Dial("tcp", r.Host)
		if !assert.NoError(t, err) {
			return
		}
		defer target.Close()
		io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			io.Copy(target, conn)
			target.Close()
		}()
		io.Copy(conn, target)
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	next.Proxy = http.ProxyURL(address)
	return connects
}

func TestUnavailableProxyIsRetriedAndOneThatRefusesIsNot(t *testing.T) {
	for answer, isRetried := range map[string]bool{
		"502 Bad Gateway": true, "503 Service Unavailable": true, "504 Gateway Timeout": true,
		"503 Service Temporarily Unavailable": true, "504 Gateway Time-out": true, // nginx
		"":              true, // it breaks off
		"403 Forbidden": false, "407 Proxy Authentication Required": false, "400 Bad Request": false,
		"429 Too Many Requests": false, "500 Internal Server Error": false, "502 Blocked": false, "502": false,
	} {
		for _, protocol := range protocols {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				t.Run(fmt.Sprintf("%q/%s/%s", answer, protocol.name, method), func(t *testing.T) {
					server := serveFaulty(t, protocol.major, true, nil)
					text := ""
					if answer != "" {
						text = "HTTP/1.1 " + answer + "\r\nContent-Length: 0\r\n\r\n"
					}
					connects := serveProxy(t, server.next, text)
					kind := noBody
					if method == http.MethodPost {
						kind = withGetBody
					}
					_, events, err := server.send(t, server.next, method, kind, graphretry.WithNetworkRetries())
					require.NotEmpty(t, events)
					t.Logf("%T %v", events[0].Err, events[0].Err)
					if isRetried {
						require.NoError(t, err)
						assert.Equal(t, graphretry.ReasonNetwork, events[0].Reason)
						assert.EqualValues(t, 2, connects.Load())
						assert.EqualValues(t, 1, server.served.Load())
						return
					}
					assert.Error(t, err)
					assert.Equal(t, graphretry.ReasonNotRetried, events[0].Reason)
					assert.EqualValues(t, 1, connects.Load())
					assert.Zero(t, server.served.Load())
				})
			}
		}
	}
}

// serveSOCKS starts a SOCKS5 proxy (RFC 1928) that answers the first greeting with
// the method, and the first request with the code, and tunnels those after it. It
// returns how many connections there were.
func serveSOCKS(t *testing.T, next *http.Transport, method, code byte) *atomic.Int32 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	connections := new(atomic.Int32)
	serve := func(conn net.Conn) {
		defer conn.Close()
		isFirst := connections.Add(1) == 1
		io.ReadFull(conn, make([]byte, len("\x05\x01\x00")))
		if isFirst && method != 0 {
			conn.Write([]byte{5, method})
			untilClosed(conn)
			return
		}
		conn.Write([]byte{5, 0})
		var request [10]byte // with an IPv4 address
		io.ReadFull(conn, request[:])
		if isFirst {
			conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
			untilClosed(conn)
			return
		}
		target, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: request[4:8], Port: int(request[8])<<8 | int(request[9])})
		if !assert.NoError(t, err) {
			return
		}
		defer target.Close()
		conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		go func() {
			io.Copy(target, conn)
			target.Close()
		}()
		io.Copy(conn, target)
	}
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	t.Cleanup(func() { listener.Close(); <-ended })
	next.Proxy = http.ProxyURL(&url.URL{Scheme: "socks5", Host: listener.Addr().String()})
	return connections
}

func TestSOCKSProxyThatCannotReachTheHostIsRetriedAndOneThatRefusesIsNot(t *testing.T) {
	for _, test := range []struct {
		method, code byte
		isRetried    bool
	}{
		{0, 1, true}, {0, 3, true}, {0, 4, true}, {0, 5, true}, {0, 6, true},
		{0, 2, false}, {0, 7, false}, {0, 8, false}, {0xff, 0, false},
	} {
		for _, protocol := range protocols {
			t.Run(fmt.Sprintf("method %d, code %d/%s", test.method, test.code, protocol.name), func(t *testing.T) {
				server := serveFaulty(t, protocol.major, true, nil)
				connections := serveSOCKS(t, server.next, test.method, test.code)
				_, events, err := server.send(t, server.next, http.MethodPost, withGetBody, graphretry.WithNetworkRetries())
				require.NotEmpty(t, events)
				t.Logf("%T %v", events[0].Err, events[0].Err)
				if test.isRetried {
					require.NoError(t, err)
					assert.Equal(t, graphretry.ReasonNetwork, events[0].Reason)
					assert.EqualValues(t, 2, connections.Load())
					assert.EqualValues(t, 1, server.served.Load())
					return
				}
				assert.Error(t, err)
				assert.Equal(t, graphretry.ReasonNotRetried, events[0].Reason)
				assert.EqualValues(t, 1, connections.Load())
			})
		}
	}
}
