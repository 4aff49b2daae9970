package graphretry_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
)

// Real connections: a server on the loopback interface, and the way to it.

// patience is how long a test waits for what takes moments, before it fails. Nothing
// is measured by it: on a machine that has no time to spare, moments are long.
const patience = 5 * time.Minute

// protocol is a version of HTTP to run a test over.
type protocol struct {
	name  string
	major int
}

var protocols = []protocol{{"HTTP/1.1", 1}, {"HTTP/2", 2}}

// needsHTTP2 skips a test where GODEBUG forbids net/http's client to speak HTTP/2.
func needsHTTP2(t testing.TB) {
	t.Helper()
	if strings.Contains(os.Getenv("GODEBUG"), "http2client=0") {
		t.Skip("GODEBUG has http2client=0, so net/http asks for no HTTP/2")
	}
}

// realServer is a server on the loopback interface and the way to it.
type realServer struct {
	*httptest.Server
	next        *http.Transport
	connections *atomic.Int32 // made so far
}

// serve starts a server for the test, which ends with no goroutine left.
func (p protocol) serve(t *testing.T, handler http.Handler) *realServer {
	t.Helper()
	if p.major == 2 {
		needsHTTP2(t)
	}
	leavesNoGoroutine(t)
	connections := new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, p.major, r.ProtoMajor)
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	if p.major == 2 {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	next := server.Client().Transport.(*http.Transport)
	t.Cleanup(next.CloseIdleConnections)
	return &realServer{server, next, connections}
}

// transport is a Transport for the server that does not wait long.
func (s *realServer) transport(t *testing.T, next http.RoundTripper, opts ...graphretry.Option) *graphretry.Transport {
	t.Helper()
	return newTransport(t, next, append([]graphretry.Option{
		graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond),
	}, opts...)...)
}

// leavesNoGoroutine checks, when all else of the test is cleaned up, that there
// are no more goroutines than there were.
func leavesNoGoroutine(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		// Those of net/http end a moment after their connections.
		for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before the test\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// assertCanceled tells whether net/http says that the caller has ended the call:
// over HTTP/1.1 by the context's cause, over HTTP/2 by its error.
func assertCanceled(t testing.TB, err error) {
	t.Helper()
	assert.True(t, errors.Is(err, errCause) || errors.Is(err, context.Canceled), "%v", err)
}
