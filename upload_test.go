package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Uploads over real connections, and what cuts them off.

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
						// By an attempt timeout it may be over before.
						if _, err := io.ReadFull(r.Body, make([]byte, len("a little"))); err == nil {
							arrived <- true
						}
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
						if by == "context" {
							<-arrived
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
					case <-time.After(patience):
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
				timeout := 50 * time.Millisecond
				for shown := 0; shown < 5; {
					var whole, arrivals atomic.Int32
					arrived := make(chan bool, 10)
					server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if _, err := io.ReadFull(r.Body, make([]byte, len("a little"))); err != nil {
							return // the attempt is over already
						}
						arrivals.Add(1)
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
						options = append(options, graphretry.WithAttemptTimeout(timeout))
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
					select {
					case <-arrived:
					case <-ended:
						assert.Equal(t, "attempt timeout", by)
					}
					if by == "caller" {
						cancel()
					}
					<-ended
					server.next.CloseIdleConnections()
					server.Close() // it waits for its handlers
					assert.Zero(t, whole.Load(), "of the uploads were taken for whole")
					assert.LessOrEqual(t, arrivals.Load(), int32(1), "it was sent again")
					if shown += int(arrivals.Load()); arrivals.Load() == 0 {
						timeout *= 2 // until it is long enough for the request to arrive
					}
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
				case <-time.After(patience):
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
