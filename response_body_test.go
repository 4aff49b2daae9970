package graphretry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

const peekLimit = 64 << 10

func TestLastResponseIsByteEqualWhateverItsLength(t *testing.T) {
	lengths := []int{0, 1, 511, 512, 513, peekLimit - 1, peekLimit, peekLimit + 1, 2*peekLimit - 1, 2 * peekLimit, 3*peekLimit + 7}
	ways := map[string]func(io.Reader) io.Reader{
		"whole":                func(r io.Reader) io.Reader { return r },
		"in halves":            iotest.HalfReader,
		"byte by byte":         iotest.OneByteReader,
		"with the end at once": iotest.DataErrReader,
	}
	for _, length := range lengths {
		content := bytes.Repeat([]byte("0123456789abcdefg"), length/17+1)[:length]
		for received, receives := range ways {
			for read, reads := range ways {
				if read == "with the end at once" {
					continue // iotest's reader loses bytes that come with an end themselves
				}
				if length > 1000 && (received == "byte by byte" || read == "byte by byte") {
					continue // slow
				}
				for _, known := range []bool{true, false} {
					for _, broken := range []error{nil, io.ErrUnexpectedEOF} {
						name := fmt.Sprintf("%d bytes received %s, read %s, length known %v, broken %v", length, received, read, known, broken)
						resp := &http.Response{StatusCode: http.StatusInternalServerError, ContentLength: -1, Header: http.Header{}}
						if known {
							resp.ContentLength = int64(length)
						}
						body := io.MultiReader(bytes.NewReader(content), errorReader{broken})
						resp.Body = io.NopCloser(receives(body))
						next := roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil })
						got, err := newTransport(t, next).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, noBody).Request)
						require.NoError(t, err, name)
						require.Same(t, resp, got, name)
						if known {
							require.Equal(t, int64(length), got.ContentLength, name)
						} else {
							require.Equal(t, int64(-1), got.ContentLength, name)
						}
						all, err := io.ReadAll(reads(got.Body))
						require.Equal(t, broken, err, name)
						require.True(t, bytes.Equal(content, all), "%s: the bytes differ", name)
					}
				}
			}
		}
	}
}

// counter counts the bytes read through it.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func TestNoMoreThanThePeekIsReadAhead(t *testing.T) {
	endless := &counter{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
	for _, length := range []int64{-1, 1 << 20, 10} {
		endless.n = 0
		next := roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusBadGateway, ContentLength: length, Header: http.Header{}, Body: io.NopCloser(endless)}, nil
		})
		resp, err := newTransport(t, next).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, noBody).Request)
		require.NoError(t, err)
		// One byte more tells a body of 64 KiB from a longer one.
		assert.LessOrEqual(t, endless.n, peekLimit+1)
		require.NoError(t, resp.Body.Close())
	}
}

func TestGraphErrorLongerThanThePeekIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		padding := strings.Repeat(" ", peekLimit)
		long := reply{status: http.StatusServiceUnavailable, body: padding + down.body}
		w := &witness{next: script(long)}
		end := callUnderContract(t, newTransport(t, w), w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
		endsWith(long)(t, end)
		assert.Len(t, w.seen(), 1)

		// One that just fits is read.
		w = &witness{next: script(down.with(func(r *reply) { r.body = padding[len(r.body):] + r.body }), success)}
		end = callUnderContract(t, newTransport(t, w), w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
		endsWith(success)(t, end)
	})
}

func TestBodyThatBreaksMidwayHasItsBytesAndThenItsError(t *testing.T) {
	broken := errors.New("stream error: stream ID 3; INTERNAL_ERROR")
	for _, length := range []int{0, 20, peekLimit, 2 * peekLimit} {
		cut := reply{status: http.StatusInternalServerError, body: strings.Repeat("{", length), broken: broken, length: int64(length) + 1}
		w := &witness{next: script(cut)}
		end := callUnderContract(t, newTransport(t, w), w, newWatchedRequest(t, t.Context(), http.MethodPost, plainReader))
		endsWith(cut)(t, end)
	}
}

func TestWholeGraphErrorBeforeABreakDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down.with(func(r *reply) { r.broken = io.ErrUnexpectedEOF }), success)}
		end := callUnderContract(t, newTransport(t, w), w, newWatchedRequest(t, t.Context(), http.MethodPost, plainReader))
		endsWith(success)(t, end)
	})
}

func TestCompressedErrorIsDecodedOnlyForTheDecision(t *testing.T) {
	for _, encoding := range []string{"gzip", "deflate"} {
		t.Run(encoding, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				encoded := func(r *reply) {
					r.body = string(compressed(t, encoding, r.body))
					r.header = http.Header{"Content-Encoding": {encoding}}
				}
				last := refused.with(encoded)
				w := &witness{next: script(down.with(encoded), last)}
				req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
				req.Header.Set("Accept-Encoding", encoding)
				end := callUnderContract(t, newTransport(t, w), w, req)
				endsWith(last)(t, end)
				assert.Len(t, w.seen(), 2)
				assert.Equal(t, encoding, end.resp.Header.Get("Content-Encoding"))
			})
		})
	}
}

func TestCompressedErrorIsDecodedOverRealHTTP(t *testing.T) {
	var calls int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		answer := down
		if calls > 1 {
			answer = refused
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(answer.status)
		w.Write(compressed(t, "gzip", answer.body))
	}))
	defer server.Close()
	client, err := graphretry.WrapClient(nil, graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond))
	require.NoError(t, err)
	defer client.CloseIdleConnections()

	for _, own := range []bool{false, true} {
		calls = 0
		req, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader("{}"))
		require.NoError(t, err)
		want := refused.body
		if own {
			req.Header.Set("Accept-Encoding", "gzip")
			want = string(compressed(t, "gzip", refused.body))
		}
		resp, err := client.Do(req)
		require.NoError(t, err)
		content, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, want, string(content))
		assert.Equal(t, 2, calls)
		assert.Equal(t, !own, resp.Uncompressed)
	}
}

func TestConnectionIsGivenBackBeforeTheWait(t *testing.T) {
	for name, test := range map[string]struct {
		first  reply
		closed int // in the wait
	}{
		"Graph error": {down, 1},
		// The caller may have to get it whole, should time run out in the queue.
		"longer than the peek": {page, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{next: script(test.first, success)}
				transport := newTransport(t, w, append(allOptIns, graphretry.WithAttemptTimeout(time.Minute))...)
				var call sync.WaitGroup
				call.Go(func() { callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodGet, noBody)) })
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Equal(t, test.closed, w.seen()[0].answer.closed())
				call.Wait()
			})
		})
	}
}

func TestBodyIsClosedForGoodAfterClose(t *testing.T) {
	w := &witness{next: script(refused)}
	resp, err := newTransport(t, w).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody).Request)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	_, err = resp.Body.Read(make([]byte, 1))
	assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
}

// net/http lets one goroutine close a body that another reads, which is how some
// callers end a long read.
func TestBodyMayBeClosedWhileItIsRead(t *testing.T) {
	read, write := io.Pipe()
	next := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: read}, nil
	})
	go write.Write(make([]byte, peekLimit+1))
	resp, err := newTransport(t, next).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, noBody).Request)
	require.NoError(t, err)
	reading := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		reading <- err
	}()
	require.NoError(t, resp.Body.Close())
	assert.Error(t, <-reading)
}

// stalledBody is a body that says nothing until it is closed.
type stalledBody struct {
	closed chan struct{}
	reads  atomic.Int32
}

func (b *stalledBody) Read([]byte) (int, error) {
	b.reads.Add(1)
	<-b.closed
	return 0, http.ErrBodyReadAfterClose
}

func (b *stalledBody) Close() error { close(b.closed); return nil }

// There is none, whatever stands below gives.
func TestBodyOfAFailedAnswerToAHEADIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []*stalledBody
		transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			body := &stalledBody{closed: make(chan struct{})}
			bodies = append(bodies, body)
			resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Trailer: http.Header{"X-Checksum": nil}, Body: body, Request: req}
			if len(bodies) == 2 {
				resp.StatusCode = http.StatusBadRequest
			}
			return resp, nil
		}), graphretry.WithNetworkRetries())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, messagesURL, nil)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.Len(t, events(), 2)
		assert.Equal(t, graphretry.ReasonNetwork, events()[0].Reason)
		assert.Equal(t, graphretry.ReasonNoGraphError, events()[1].Reason)

		require.Len(t, bodies, 2)
		<-bodies[0].closed
		assert.True(t, resp.Body == bodies[1], "the body is as it was")
		assert.Equal(t, http.Header{"X-Checksum": nil}, resp.Trailer)
		_, isGraph := graphretry.ErrorFromResponse(resp)
		assert.False(t, isGraph)
		require.NoError(t, resp.Body.Close())
		for _, body := range bodies {
			assert.Zero(t, body.reads.Load())
		}
	})
}
