// Package sdktest is what the tests of both programs need: a suite that any SDK
// can run, a fake Graph API behind a real server, and the wire between it and
// graphretry.
package sdktest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// Server is a fake Graph API over HTTP/1.1.
type Server struct {
	API  *graphtest.API
	URL  string // without a slash at the end
	wire *wire
}

// Start starts a server that lives as long as the test.
func Start(t *testing.T) *Server {
	t.Helper()
	api := graphtest.New()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return &Server{API: api, URL: server.URL, wire: &wire{next: server.Client().Transport}}
}

// PlainClient is a client as a program has it before graphretry.
func (s *Server) PlainClient() *http.Client {
	return &http.Client{Transport: s.wire}
}

// Client is a client that retries, within milliseconds unless an option says
// otherwise.
func (s *Server) Client(t *testing.T, opts ...graphretry.Option) *http.Client {
	t.Helper()
	client, err := graphretry.WrapClient(s.PlainClient(), append([]graphretry.Option{
		graphretry.WithHosts(strings.TrimPrefix(s.URL, "http://")),
		graphretry.WithInitialInterval(time.Millisecond),
		graphretry.WithMaxInterval(4 * time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	return client
}

// PatientClient is a client whose first wait takes a day, longer than any test.
func (s *Server) PatientClient(t *testing.T, opts ...graphretry.Option) *http.Client {
	t.Helper()
	return s.Client(t, append([]graphretry.Option{
		graphretry.WithInitialInterval(24 * time.Hour),
		graphretry.WithMaxInterval(24 * time.Hour),
		graphretry.WithMaxElapsedTime(0),
	}, opts...)...)
}

// Bodies are the bodies of all attempts, as graphretry handed them down.
func (s *Server) Bodies() [][]byte {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	return s.wire.bodies
}

// Statuses are the statuses of all answers.
func (s *Server) Statuses() []int {
	var statuses []int
	for _, call := range s.API.Calls() {
		statuses = append(statuses, call.Status)
	}
	return statuses
}

// wire stands between graphretry and net/http and reads each body whole. A server
// would not do: over HTTP/1.1 net/http rewinds a drained body by itself, and so
// would hide that graphretry had not.
type wire struct {
	next   http.RoundTripper
	mu     sync.Mutex
	bodies [][]byte
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		defer req.Body.Close()
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	w.bodies = append(w.bodies, body)
	w.mu.Unlock()

	sent := req.Clone(req.Context())
	sent.Body, sent.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	return w.next.RoundTrip(sent)
}

// File makes a file of so many bytes that no two parts of are alike, and returns
// its path and its content.
func File(t *testing.T, name string, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // it never fails
	path = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path, content
}

// AssertReplayed checks that attempts had one and the same body, with the whole
// file in it.
func AssertReplayed(t *testing.T, bodies [][]byte, content []byte) {
	t.Helper()
	for i, body := range bodies {
		// Not assert.Equal, which would print megabytes.
		assert.True(t, bytes.Contains(body, content), "attempt %d did not send the file whole", i+1)
		assert.True(t, bytes.Equal(bodies[0], body), "attempt %d differs from the first", i+1)
	}
}
