package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// What arrives over real connections, and how often.

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
					transport := server.transport(t, server.next, allOptIns...)
					sendFiftyMessages(t, api, answer, transport, server.URL+"/v25.0/1/messages", kind)
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

// A caller can leave in three ways: each does so once its request has arrived.
func TestCallersCancellationOverRealHTTPIsNeverRetried(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			requests, arrived := new(atomic.Int32), make(chan bool)
			server := protocol.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				arrived <- true
				<-r.Context().Done()
			}))
			transport := server.transport(t, server.next, allOptIns...)
			get := func(ctx context.Context) *http.Request {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				require.NoError(t, err)
				return req
			}

			canceled, cancel := context.WithCancelCause(t.Context())
			go func() { <-arrived; cancel(errCause) }()
			_, err := transport.RoundTrip(get(canceled))
			assertCanceled(t, err)
			assert.EqualValues(t, 1, requests.Load())

			// As a deadline ends a context, when the test says so.
			over := &deadlineContext{Context: t.Context(), done: make(chan struct{})}
			go func() { <-arrived; close(over.done) }()
			_, err = transport.RoundTrip(get(over))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.EqualValues(t, 2, requests.Load())

			left := make(chan struct{})
			req := get(t.Context())
			//lint:ignore SA1019 http.Client.Timeout still uses it.
			req.Cancel = left
			go func() { <-arrived; close(left) }()
			_, err = transport.RoundTrip(req)
			assert.Error(t, err)
			assert.EqualValues(t, 3, requests.Load())
		})
	}
}

// deadlineContext is a context whose deadline is over when its channel is closed.
type deadlineContext struct {
	context.Context
	done chan struct{}
}

func (c *deadlineContext) Done() <-chan struct{} { return c.done }

func (c *deadlineContext) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// http.Client.Timeout runs by the clock, so it is made longer until a request
// arrives before it is over.
func TestTimeoutOfAClientOverRealHTTPIsNeverRetried(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			requests := new(atomic.Int32)
			server := protocol.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				<-r.Context().Done()
			}))
			attempts, calls := 0, 0
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				attempts++
				return server.next.RoundTrip(req)
			})
			client := &http.Client{Transport: server.transport(t, next, allOptIns...), Timeout: 20 * time.Millisecond}
			for ; requests.Load() == 0; calls++ {
				_, err := client.Get(server.URL)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				var timeout net.Error
				require.ErrorAs(t, err, &timeout)
				assert.True(t, timeout.Timeout())
				client.Timeout *= 2
			}
			assert.Equal(t, calls, attempts)
		})
	}
}
