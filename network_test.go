package graphretry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// What a network failure is, in memory.

var methods = map[string]struct{ isIdempotent bool }{
	"": {true}, http.MethodGet: {true}, http.MethodHead: {true}, http.MethodOptions: {true}, http.MethodPut: {true}, http.MethodDelete: {true},
	http.MethodPost: {false}, http.MethodPatch: {false}, http.MethodTrace: {false}, http.MethodConnect: {false}, "put": {false},
}

// dialError is what net/http gives when no connection can be made.
func dialError(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: err}
}

func TestNetworkFailureIsRetriedWhereItCannotSendAMessageTwice(t *testing.T) {
	refusedConnection := dialError(syscall.ECONNREFUSED)
	for name, err := range map[string]error{
		"connection refused":          refusedConnection,
		"no such host":                dialError(&net.DNSError{Err: "no such host", Name: "graph.facebook.com", IsNotFound: true}),
		"dial timed out":              dialError(timeoutError{}),
		"proxy cannot be reached":     &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refusedConnection},
		"token server cannot be, too": fmt.Errorf("oauth2: cannot fetch token: %w", &url.Error{Op: "Post", URL: "https://example.com", Err: refusedConnection}),
	} {
		for method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply{err: err}, true) })
		}
	}
	for name, reply := range map[string]reply{
		"reset":                {err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}},
		"broken pipe":          {err: &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}},
		"end":                  {err: io.EOF},
		"unexpected end":       {err: fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", io.ErrUnexpectedEOF)},
		"timeout":              {err: timeoutError{}},
		"proxy refuses":        {err: &net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("Bad Gateway")}},
		"HTML 502":             page,
		"HTML 503":             page.with(func(r *reply) { r.status = 503 }),
		"HTML 504":             page.with(func(r *reply) { r.status = 504 }),
		"empty 503":            {status: 503},
		"error without a code": {status: 503, body: `{"error":{"message":"down"}}`},
		"truncated 503":        cutShort.with(func(r *reply) { r.status = 503 }),
	} {
		for method, m := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply, m.isIdempotent) })
		}
	}
	for name, reply := range map[string]reply{
		"HTML 500":  page.with(func(r *reply) { r.status = 500 }),
		"empty 500": {status: 500},
		"HTML 501":  page.with(func(r *reply) { r.status = 501 }),
		"HTML 429":  page.with(func(r *reply) { r.status = 429 }),
		"empty 408": {status: 408},
		"HTML 400":  page.with(func(r *reply) { r.status = 400 }),
	} {
		for method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) { testNetworkFailure(t, method, reply, false) })
		}
	}
}

// testNetworkFailure has a call fail once, and tells whether the option has it
// retried. Without the option it never is.
func testNetworkFailure(t *testing.T, method string, first reply, isRetried bool) {
	if method == http.MethodHead {
		first.body, first.length = "", int64(len(first.body))
	}
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &witness{next: script(first, success)}
			options := []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithTransientFlag()}
			if on {
				options = allOptIns
			}
			req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
			req.Method = method
			callUnderContract(t, newTransport(t, w, options...), w, req)
			attempts := 1
			if on && isRetried {
				attempts = 2
			}
			assert.Len(t, w.seen(), attempts, "WithNetworkRetries %v", on)
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// joinedErrors is an error of several, or of none.
type joinedErrors []error

func (joinedErrors) Error() string     { return "no try has worked" }
func (e joinedErrors) Unwrap() []error { return e }

// A RoundTripper below that tries more than once can tell of all its tries.
func TestRequestNeverLeftOnlyIfEveryTrySaysSo(t *testing.T) {
	refused, reset := dialError(syscall.ECONNREFUSED), &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	for _, test := range []struct {
		err       error
		isRetried bool
	}{
		{errors.Join(refused, refused), true},
		{fmt.Errorf("after 2 tries: %w", errors.Join(refused, refused)), true},
		{errors.Join(reset, refused), false},
		{errors.Join(refused, reset), false},
		{fmt.Errorf("after 2 tries: %w; %w", io.ErrUnexpectedEOF, refused), false},
		{joinedErrors{}, false},
	} {
		testNetworkFailure(t, http.MethodPost, reply{err: test.err}, test.isRetried)
	}
}

// What is not positively a failure of the network is not retried, and neither is
// one that would come again.
func TestFailureThatWouldComeAgainIsNeverRetried(t *testing.T) {
	asItIs := func(err error) error { return err }
	wrapped := func(err error) error { return fmt.Errorf("send: %w", err) }
	inADial := func(err error) error { return dialError(err) }
	anywhere, notInADial := []func(error) error{asItIs, wrapped, inADial}, []func(error) error{asItIs, wrapped}
	for name, test := range map[string]struct {
		err   error
		wraps []func(error) error
	}{
		"unknown authority":   {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, anywhere},
		"expired":             {x509.CertificateInvalidError{Reason: x509.Expired}, anywhere},
		"other host":          {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "graph.facebook.com"}, anywhere},
		"not TLS":             {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, anywhere},
		"server's alert":      {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, anywhere},
		"our alert":           {&net.OpError{Op: "local error", Err: errors.New("tls: protocol version not supported")}, anywhere},
		"QUIC's alert":        {tls.AlertError(42), anywhere},
		"not HTTPS":           {http.ErrSchemeMismatch, notInADial},
		"unsupported scheme":  {errors.New(`unsupported protocol scheme "ftp"`), notInADial},
		"header's value":      {errors.New("net/http: invalid header field value for \"X\""), notInADial},
		"token is refused":    {&url.Error{Op: "Post", URL: "https://example.com/token", Err: errors.New("oauth2: invalid_grant")}, notInADial},
		"bad challenge":       {errors.New("digest: challenge is bad"), notInADial},
		"body of wrong size":  {fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", errors.New("http: ContentLength=10 with Body length 3")), notInADial},
		"file that is not":    {&fs.PathError{Op: "open", Path: "token", Err: syscall.ENOENT}, notInADial},
		"text of net/http's":  {textError("http: server closed idle connection"), notInADial},
		"text of a stream's":  {errors.New("stream error: stream ID 3; INTERNAL_ERROR; received from peer"), notInADial},
		"proxy's text, alone": {errors.New(http.StatusText(http.StatusBadGateway)), notInADial},
		"one of two":          {errors.Join(errReset, errors.New("oauth2: invalid_grant")), notInADial},
		"none":                {joinedErrors{}, notInADial},
		"answer that is none": {errors.New(`malformed HTTP response "SSH-2.0"`), notInADial},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				for _, wrap := range test.wraps {
					synctest.Test(t, func(t *testing.T) {
						w := &witness{next: script(reply{err: wrap(test.err)})}
						req := newWatchedRequest(t, t.Context(), method, noBody)
						end := callUnderContract(t, newTransport(t, w, allOptIns...), w, req)
						assert.Equal(t, wrap(test.err).Error(), end.err.Error())
						assert.Len(t, w.seen(), 1)
					})
				}
			})
		}
	}
}

// textError is an error of a type of its own.
type textError string

func (e textError) Error() string { return string(e) }

func TestNetworkFailuresAreCountedTogetherAndApartFromCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(reply{err: errReset}, unsure, page, down, reply{err: io.EOF}, unsure)}
		req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
		end := callUnderContract(t, newTransport(t, w, graphretry.WithNetworkRetries()), w, req)
		endsWith(unsure)(t, end)
		assert.Len(t, w.seen(), 6)
	})
}

func TestGatewayMayAskForAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(page.with(func(r *reply) { r.header = http.Header{"Retry-After": {"77"}} }), success)}
		req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
		callUnderContract(t, newTransport(t, w, graphretry.WithNetworkRetries(), graphretry.WithJitter(0)), w, req)
		assert.Equal(t, []time.Duration{77 * time.Second}, w.waits())
	})
}

func TestNoHeaderIsEverAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			w := &witness{next: script(down, reply{err: dialError(errReset)}, down, success)}
			req := newWatchedRequest(t, t.Context(), method, withGetBody)
			callUnderContract(t, newTransport(t, w, append(allOptIns, graphretry.WithAttemptTimeout(time.Minute))...), w, req)
			require.Len(t, w.seen(), 4)
			for _, a := range w.seen() {
				assert.Equal(t, http.Header{"Authorization": {"Bearer EAAGtoken"}, "Content-Type": {"application/json"}}, a.request.Header)
			}
		}
	})
}

// Real connections.

// protocol is a version of HTTP to run a test over.
type protocol struct {
	name  string
	major int
}

var protocols = []protocol{{"HTTP/1.1", 1}, {"HTTP/2", 2}}

// realServer is a server on the loopback interface and the way to it.
type realServer struct {
	*httptest.Server
	next        *http.Transport
	connections *atomic.Int32 // made so far
}

// serve starts a server for the test, which ends with no goroutine left.
func (p protocol) serve(t *testing.T, handler http.Handler) *realServer {
	t.Helper()
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
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before the test\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

func TestTenCallsOfThreeAttemptsAreThirtyRequestsOnOneConnection(t *testing.T) {
	for _, protocol := range protocols {
		for _, kind := range []bodyKind{withGetBody, plainReader, readerOfKnown} {
			for _, size := range []int{len(messageBody), 64 << 10} {
				t.Run(fmt.Sprintf("%s/%s/%d bytes", protocol.name, kind, size), func(t *testing.T) {
					var mu sync.Mutex
					var received []string
					server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						body, err := io.ReadAll(r.Body)
						assert.NoError(t, err)
						mu.Lock()
						received = append(received, string(body))
						answer := down
						if len(received)%3 == 0 {
							answer = success
						}
						mu.Unlock()
						w.WriteHeader(answer.status)
						io.WriteString(w, answer.body)
					}))
					w := &witness{next: server.next}
					transport := server.transport(t, w)
					var want []string
					for call := range 10 {
						content := strings.Repeat(fmt.Sprint(call), size)
						want = append(want, content, content, content)
						var body io.Reader = strings.NewReader(content)
						if kind != withGetBody {
							body = io.LimitReader(body, int64(size)) // hides what it is
						}
						req, err := http.NewRequest(http.MethodPost, server.URL, body)
						require.NoError(t, err)
						if kind == readerOfKnown {
							req.ContentLength = int64(size)
						}
						resp, err := transport.RoundTrip(req)
						require.NoError(t, err)
						got, err := io.ReadAll(resp.Body)
						require.NoError(t, err)
						require.NoError(t, resp.Body.Close())
						require.Equal(t, success.body, string(got))
					}
					assert.True(t, equalTexts(want, received), "what the server received")
					assert.True(t, equalTexts(want, w.bodies()), "what was handed to net/http")
					assert.Equal(t, int32(1), server.connections.Load(), "connections")
				})
			}
		}
	}
}

// equalTexts compares texts that are too long to be shown.
func equalTexts(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestMessageWhoseConnectionBreaksAfterItWasTakenArrivesOnce(t *testing.T) {
	for name, answer := range map[string]graphtest.Answer{
		"connection breaks":         {Fault: graphtest.FaultBreak, Accept: true},
		"answer is cut short":       {Fault: graphtest.FaultTruncate, Accept: true, Status: 503},
		"gateway gives up":          {Status: http.StatusGatewayTimeout, Accept: true},
		"gateway's answer is empty": {Status: http.StatusServiceUnavailable, Body: []byte{}, Accept: true},
		"success is cut short":      {Fault: graphtest.FaultTruncate},
		"attempt times out":         {Fault: graphtest.FaultHang, Accept: true},
		"answer stalls":             {Fault: graphtest.FaultStall, Accept: true, Status: 503},
	} {
		for _, kind := range []bodyKind{withGetBody, plainReader} {
			t.Run(name+"/in memory/"+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := graphtest.New()
					transport := newTransport(t, api, append(allOptIns, graphretry.WithAttemptTimeout(30*time.Second))...)
					sendFiftyMessages(t, api, answer, transport, messagesURL, kind)
				})
			})
			if answer.Fault == graphtest.FaultHang || answer.Fault == graphtest.FaultStall {
				continue // no test waits for a real clock
			}
			for _, protocol := range protocols {
				t.Run(name+"/"+protocol.name+"/"+string(kind), func(t *testing.T) {
					api := graphtest.New()
					server := protocol.serve(t, api)
					transport := server.transport(t, server.next, append(allOptIns, graphretry.WithMaxElapsedTime(5*time.Second))...)
					sendFiftyMessages(t, api, answer, transport, server.URL+"/v23.0/1/messages", kind)
				})
			}
		}
	}
}

// sendFiftyMessages sends messages that get this answer, and checks that the API
// received each of them once.
func sendFiftyMessages(t *testing.T, api *graphtest.API, answer graphtest.Answer, transport http.RoundTripper, url string, kind bodyKind) {
	t.Helper()
	const messages = 50
	for i := range messages {
		// Each break comes to a connection that has served before: net/http sends
		// again by itself, where it dares, what breaks on such a one.
		api.AnswerNext(1, graphtest.Answer{})
		api.AnswerNext(1, answer)
		for _, key := range []string{fmt.Sprint("before ", i), fmt.Sprint("message ", i)} {
			content := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"15550100001","biz_opaque_callback_data":%q}`, key)
			var body io.Reader = strings.NewReader(content)
			if kind == plainReader {
				body = io.LimitReader(body, 1<<20)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			resp, err := transport.RoundTrip(req)
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				require.NoError(t, resp.Body.Close())
			}
		}
	}
	totals := api.Totals()
	assert.Equal(t, 2*messages, totals.Calls)
	assert.Equal(t, 2*messages, totals.Accepted)
	assert.Zero(t, totals.Duplicates)
}

func TestBreakIsRetriedForAGETOverRealHTTP(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			api := graphtest.New()
			server := protocol.serve(t, api)
			api.AnswerNext(2, graphtest.Answer{Fault: graphtest.FaultBreak})
			client := &http.Client{Transport: server.transport(t, server.next, graphretry.WithNetworkRetries())}
			resp, err := client.Get(server.URL + "/v23.0/1")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Len(t, api.Calls(), 3)
		})
	}
}

// net/http alone does not hold to this over HTTP/1.1, where it waits until whoever
// reads the body is back.
func TestStalledUploadEndsWhenItsContextDoes(t *testing.T) {
	for _, protocol := range protocols {
		for _, by := range []string{"context", "attempt timeout"} {
			lengths := []int64{-1, 1000}
			if by == "attempt timeout" {
				lengths = append(lengths, 2<<20) // which is not kept
			}
			for _, length := range lengths {
				t.Run(fmt.Sprintf("%s/%s/length %d", protocol.name, by, length), func(t *testing.T) {
					arrived := make(chan bool, 1)
					server := protocol.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						_, err := io.ReadFull(r.Body, make([]byte, len("a little")))
						assert.NoError(t, err)
						arrived <- true
						io.Copy(io.Discard, r.Body)
					}))
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					options := allOptIns
					if by == "attempt timeout" {
						options = append(options, graphretry.WithAttemptTimeout(200*time.Millisecond))
					}
					// The writer writes a little, and then no more.
					read, write := io.Pipe()
					body := &watchedBody{from: read}
					go func() {
						write.Write([]byte("a little"))
						<-arrived
						if by == "context" {
							cancel(errCause)
						}
					}()
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
					require.NoError(t, err)
					req.ContentLength = length
					type end struct {
						resp *http.Response
						err  error
					}
					ended := make(chan end, 1)
					transport := server.transport(t, server.next, options...)
					go func() {
						resp, err := transport.RoundTrip(req)
						ended <- end{resp, err}
					}()
					select {
					case end := <-ended:
						assert.Nil(t, end.resp)
						if by == "context" {
							assertCanceled(t, end.err)
						} else {
							assertAttemptTimeout(t, end.err)
						}
					case <-time.After(10 * time.Second):
						write.Close()
						require.Fail(t, "the call did not end with its context")
					}
					// Whoever writes learns of it.
					_, err = write.Write([]byte("more"))
					assert.ErrorIs(t, err, io.ErrClosedPipe)
					assert.Equal(t, 1, body.closed())
				})
			}
		}
	}
}

// fedBody is a body whose reader waits for more and, as many do, is at its end
// once it is closed.
type fedBody struct {
	first  io.Reader
	closed chan struct{}
	once   sync.Once
}

func newFedBody(first string) *fedBody {
	return &fedBody{first: strings.NewReader(first), closed: make(chan struct{})}
}

func (b *fedBody) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, io.EOF
}

func (b *fedBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// A part of a message that is taken for the whole is worse than none.
func TestUploadThatIsCutOffNeverArrivesAsIfItWereWhole(t *testing.T) {
	for _, protocol := range protocols {
		for _, by := range []string{"caller", "attempt timeout", "early answer"} {
			if by == "early answer" && protocol.major == 1 {
				continue // net/http sends on: the reader is not closed
			}
			t.Run(protocol.name+"/"+by, func(t *testing.T) {
				for range 5 {
					var whole atomic.Int32
					arrived := make(chan bool, 10)
					server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						_, err := io.ReadFull(r.Body, make([]byte, len("a little")))
						assert.NoError(t, err)
						arrived <- true
						if by == "early answer" {
							w.WriteHeader(down.status)
							io.WriteString(w, down.body)
							return
						}
						if _, err := io.Copy(io.Discard, r.Body); err == nil {
							whole.Add(1)
						}
					}))
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					options := allOptIns
					if by == "attempt timeout" {
						options = append(options, graphretry.WithAttemptTimeout(100*time.Millisecond))
					}
					// A PUT, which is sent again after a timeout if it can be.
					req, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, newFedBody("a little"))
					require.NoError(t, err)
					ended := make(chan bool)
					go func() {
						resp, err := server.transport(t, server.next, options...).RoundTrip(req)
						if err == nil {
							assert.Equal(t, down.status, resp.StatusCode)
							resp.Body.Close()
						}
						close(ended)
					}()
					<-arrived
					if by == "caller" {
						cancel()
					}
					<-ended
					server.next.CloseIdleConnections()
					server.Close() // it waits for its handlers
					assert.Zero(t, whole.Load(), "of the uploads were taken for whole")
					assert.Empty(t, arrived, "it was sent again")
				}
			})
		}
	}
}

func TestFirstByteOfAStreamGoesOutBeforeItsLastIsRead(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			arrived := make(chan byte)
			server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first := make([]byte, 1)
				_, err := io.ReadFull(r.Body, first)
				assert.NoError(t, err)
				arrived <- first[0]
				rest, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Equal(t, "bc", string(rest))
				io.WriteString(w, success.body)
			}))
			read, write := io.Pipe()
			go func() {
				write.Write([]byte("a"))
				select {
				case first := <-arrived:
					assert.Equal(t, byte('a'), first)
				case <-time.After(10 * time.Second):
					assert.Fail(t, "the first byte did not arrive while the rest was not there")
				}
				write.Write([]byte("bc"))
				write.Close()
			}()
			req, err := http.NewRequest(http.MethodPost, server.URL, read)
			require.NoError(t, err)
			resp, err := server.transport(t, server.next).RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusOK, resp.StatusCode)
		})
	}
}

// A server that refuses before it has the whole body is answered by an end of the
// upload, whose body cannot be sent again then.
func TestEarlyRefusalOfAnUploadIsReturnedAtOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			var calls atomic.Int32
			server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				io.ReadFull(r.Body, make([]byte, 1))
				w.WriteHeader(down.status)
				io.WriteString(w, down.body)
				http.NewResponseController(w).Flush()
			}))
			read, write := io.Pipe()
			writer := make(chan error)
			go func() {
				var err error
				for err == nil {
					_, err = write.Write(make([]byte, 8<<10))
				}
				writer <- err
			}()
			body := &watchedBody{from: read}
			req, err := http.NewRequest(http.MethodPost, server.URL, body)
			require.NoError(t, err)
			resp, err := server.transport(t, server.next, graphretry.WithMaxBufferedBody(1<<40)).RoundTrip(req)
			require.NoError(t, err)
			content, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, down.body, string(content))
			require.NoError(t, resp.Body.Close())
			server.next.CloseIdleConnections()
			server.CloseClientConnections()
			assert.ErrorIs(t, <-writer, io.ErrClosedPipe)
			assert.Equal(t, 1, body.closed())
			assert.Equal(t, int32(1), calls.Load())
		})
	}
}

// assertCanceled tells whether net/http says that the caller has ended the call:
// over HTTP/1.1 by the context's cause, over HTTP/2 by its error.
func assertCanceled(t testing.TB, err error) {
	t.Helper()
	assert.True(t, errors.Is(err, errCause) || errors.Is(err, context.Canceled), "%v", err)
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func TestDialThatFailsIsRetriedForAPOST(t *testing.T) {
	for _, protocol := range protocols {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/WithNetworkRetries %v", protocol.name, on), func(t *testing.T) {
				api := graphtest.New()
				server := protocol.serve(t, api)
				closed := closedPort(t)
				dials := 0
				server.next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					if dials++; dials <= 2 {
						address = closed
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}
				var options []graphretry.Option
				if on {
					options = append(options, graphretry.WithNetworkRetries())
				}
				transport := server.transport(t, server.next, options...)
				req, err := http.NewRequest(http.MethodPost, server.URL+"/v23.0/1/messages", strings.NewReader(messageBody))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/json")
				resp, err := transport.RoundTrip(req)
				if !on {
					assert.ErrorIs(t, err, syscall.ECONNREFUSED)
					assert.Equal(t, 1, dials)
					return
				}
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, http.StatusOK, resp.StatusCode)
				assert.Equal(t, 3, dials)
				require.Len(t, api.Accepted(), 1)
				assert.Equal(t, messageBody, string(api.Accepted()[0].Body))
			})
		}
	}
}

func TestHopelessFailureIsNotRetriedOverRealConnections(t *testing.T) {
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

func TestCallersCancellationOverRealHTTPIsNeverRetried(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			api := graphtest.New()
			server := protocol.serve(t, api)
			api.AnswerNext(3, graphtest.Answer{Fault: graphtest.FaultHang})
			transport := server.transport(t, server.next, allOptIns...)

			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/1", nil)
			require.NoError(t, err)
			_, err = transport.RoundTrip(req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)

			client := &http.Client{Transport: transport, Timeout: 30 * time.Millisecond}
			_, err = client.Get(server.URL + "/1")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			assert.True(t, timeout.Timeout())

			canceled, cancelNow := context.WithCancelCause(t.Context())
			time.AfterFunc(30*time.Millisecond, func() { cancelNow(errCause) })
			req, err = http.NewRequestWithContext(canceled, http.MethodGet, server.URL+"/1", nil)
			require.NoError(t, err)
			_, err = transport.RoundTrip(req)
			assertCanceled(t, err)
			assert.Len(t, api.Calls(), 3)
		})
	}
}
