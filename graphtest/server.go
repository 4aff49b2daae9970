package graphtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A Server is an [API] that listens on this machine. [NewServer] makes one.
type Server struct {
	// API answers the calls to the server.
	*API
	// URL is the server's address for other clients than its own, as in
	// "https://127.0.0.1:36299".
	URL string

	client *http.Client
}

// NewServer returns a running server with an [API] of its own, over TLS, HTTP/1.1
// and HTTP/2. It is closed when the test ends, and calls that still hang are ended.
func NewServer(t testing.TB, options ...Option) *Server {
	t.Helper()
	api := New(options...)
	server := httptest.NewUnstartedServer(api)
	server.EnableHTTP2 = true
	server.StartTLS()

	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // whose certificate the server has
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	return &Server{API: api, URL: server.URL, client: &http.Client{Transport: transport}}
}

// Client returns a client that reaches the server whatever the host in the URL. So
// the code under test keeps its URLs, and a
// [github.com/graphretry/graphretry.Transport] around the client needs no WithHosts.
// It is the same client each time.
func (s *Server) Client() *http.Client { return s.client }
