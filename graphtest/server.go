package graphtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A Server is an [API] that listens on this machine, over TLS, HTTP/1.1 and HTTP/2.
// [NewServer] makes one for a test, and [StartServer] one for a program.
type Server struct {
	// API answers the calls to the server.
	*API
	// URL is the server's address for other clients than its own, as in
	// "https://127.0.0.1:36299".
	URL string

	server *httptest.Server
	client *http.Client
}

// NewServer returns a running server with an [API] of its own. It is closed when the test
// ends, and calls that still hang are ended.
func NewServer(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := StartServer(options...)
	t.Cleanup(s.Close)
	return s
}

// StartServer is [NewServer] for a program that is no test. The caller closes the server.
// It panics if the machine lets it listen on no port of the loopback interface, as
// [httptest.NewServer] does.
func StartServer(options ...Option) *Server {
	api := New(options...)
	server := httptest.NewUnstartedServer(api)
	server.EnableHTTP2 = true
	server.StartTLS()

	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // whose certificate the server has
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	return &Server{API: api, URL: server.URL, server: server, client: &http.Client{Transport: transport}}
}

// Close stops the server. Calls that still hang are ended.
func (s *Server) Close() {
	s.client.CloseIdleConnections()
	s.server.CloseClientConnections()
	s.server.Close()
}

// Client returns a client that reaches the server whatever the host in the URL. So
// the code under test keeps its URLs, and a
// [github.com/graphretry/graphretry.Transport] around the client needs no WithHosts.
// It is the same client each time.
func (s *Server) Client() *http.Client { return s.client }
