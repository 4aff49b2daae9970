package graphretry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
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

// What is wrong with a connection and will be again.

func TestFailureThatWouldComeAgainIsNotRetriedOverRealConnections(t *testing.T) {
	refuse := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("this must not be reached") })
	for name, test := range map[string]struct {
		url    func(*realServer) string
		server func(*tls.Config)
		client func(*http.Transport)
		header http.Header
		dials  int
	}{
		"unknown authority": {client: func(next *http.Transport) { next.TLSClientConfig.RootCAs = x509.NewCertPool() }, dials: 1},
		"certificate of another host": {
			url: func(s *realServer) string { return strings.Replace(s.URL, "127.0.0.1", "localhost", 1) }, dials: 1,
		},
		"expired certificate": {
			client: func(next *http.Transport) {
				next.TLSClientConfig.Time = func() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }
			}, dials: 1,
		},
		// By TLS 1.3 the server says so after the handshake, and the reset of the
		// connection can overtake the alert; then nobody can tell it from any other.
		"our certificate is missing": {
			server: func(config *tls.Config) {
				config.ClientAuth, config.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
			}, dials: 1,
		},
		"no version in common": {
			server: func(config *tls.Config) { config.MinVersion = tls.VersionTLS13 },
			client: func(next *http.Transport) { next.TLSClientConfig.MaxVersion = tls.VersionTLS12 }, dials: 1,
		},
		"HTTP where HTTPS is":  {url: func(s *realServer) string { return strings.Replace(s.URL, "http:", "https:", 1) }, dials: 1},
		"unsupported scheme":   {url: func(s *realServer) string { return strings.Replace(s.URL, "http", "gopher", 1) }},
		"invalid header name":  {header: http.Header{"a b": {"c"}}},
		"invalid header value": {header: http.Header{"A": {"b\r\nc: d"}}},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				leavesNoGoroutine(t)
				server := httptest.NewUnstartedServer(refuse)
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				if strings.HasPrefix(name, "HTTP where") {
					server.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
					server.Start()
				} else {
					server.TLS = &tls.Config{}
					if test.server != nil {
						test.server(server.TLS)
					}
					server.StartTLS()
				}
				defer server.Close()
				next := server.Client().Transport.(*http.Transport)
				defer next.CloseIdleConnections()
				if test.client != nil {
					test.client(next)
				}
				var dials atomic.Int32
				next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					dials.Add(1)
					return new(net.Dialer).DialContext(ctx, network, address)
				}
				w := &witness{next: next}
				transport := newTransport(t, w, append(allOptIns, graphretry.WithHosts("127.0.0.1", "localhost"),
					graphretry.WithInitialInterval(time.Millisecond), graphretry.WithMaxRetries(3))...)
				target := server.URL
				if test.url != nil {
					target = test.url(&realServer{Server: server})
				}
				req, err := http.NewRequest(method, target, bytes.NewReader([]byte("{}")))
				require.NoError(t, err)
				if test.header != nil {
					req.Header = test.header
				}
				resp, err := transport.RoundTrip(req)
				assert.Nil(t, resp)
				assert.Error(t, err)
				assert.Len(t, w.seen(), 1, "attempts")
				assert.Equal(t, int32(test.dials), dials.Load(), "dials")
			})
		}
	}
}
