package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Response bodies.

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

func TestGraphErrorLongerThanThePeekIsNone(t *testing.T) {
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

func TestBodyThatBreaksMidwayGivesItsBytesAndThenItsError(t *testing.T) {
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

func TestCompressedErrorIsDecodedForTheDecisionAlone(t *testing.T) {
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

// Request bodies.

func TestRequestItselfGoesDownTheFirstTimeAndACopyOfItsOwnForEachRetry(t *testing.T) {
	for _, kind := range []bodyKind{noBody, emptyBody, withGetBody, plainReader, readerOfKnown} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{next: script(down, down, success)}
				req := newWatchedRequest(t, t.Context(), http.MethodPost, kind)
				callUnderContract(t, newTransport(t, w), w, req)
				seen := w.seen()
				require.Len(t, seen, 3)
				isRecorded := kind == plainReader || kind == readerOfKnown
				assert.Equal(t, !isRecorded, seen[0].request == req.Request)
				assert.False(t, seen[1].request == req.Request)
				assert.False(t, seen[2].request == req.Request)
				assert.False(t, seen[1].request == seen[2].request)
				for _, a := range seen {
					assert.Equal(t, req.Method, a.request.Method)
					assert.Equal(t, req.URL, a.request.URL)
					assert.Equal(t, req.Host, a.request.Host)
					assert.Equal(t, req.ContentLength, a.request.ContentLength)
					assert.True(t, req.Context() == a.request.Context())
				}
				if kind == noBody || kind == emptyBody {
					assert.Empty(t, w.bodies())
				} else {
					assert.Equal(t, []string{messageBody, messageBody, messageBody}, w.bodies())
				}
			})
		})
	}
}

func TestRequestItselfGoesDownIfItsBodyIsNotKept(t *testing.T) {
	for name, test := range map[string]struct {
		limit  int64
		length int64
	}{"known to be too long": {10, 11}, "bodies are not kept": {0, -1}} {
		var sent *http.Request
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			sent = req
			return nil, errReset
		})
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		req.ContentLength = test.length
		_, err := newTransport(t, next, graphretry.WithMaxBufferedBody(test.limit)).RoundTrip(req.Request)
		require.ErrorIs(t, err, errReset)
		assert.True(t, sent == req.Request, name)
	}
}

func TestGetBodyIsAskedOnceForEachRetryAndNeverForASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(success)}
		req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
		callUnderContract(t, newTransport(t, w), w, req)
		assert.Len(t, req.bodies, 1)

		w = &witness{next: script(down, down, success)}
		req = newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
		callUnderContract(t, newTransport(t, w), w, req)
		assert.Len(t, req.bodies, 3)
	})
}

// What never left, such as a request on a connection that was closed as it was
// taken, net/http sends again by itself if there is a GetBody. A body that we
// kept may serve it from the second attempt on; in the first it is the caller's,
// who gave none.
func TestNextRoundTripperMayMakeTheBodyOfARetryAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		api := script(down, success)
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			if attempts++; attempts == 1 {
				assert.Nil(t, req.GetBody)
				return api.RoundTrip(req)
			}
			for range 2 {
				body, err := req.GetBody()
				require.NoError(t, err)
				content, err := io.ReadAll(body)
				require.NoError(t, err)
				assert.Equal(t, messageBody, string(content))
				require.NoError(t, body.Close())
			}
			return api.RoundTrip(req)
		})
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		resp, err := newTransport(t, next).RoundTrip(req.Request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, 2, attempts)
	})
}

func TestBodyIsKeptUpToTheLimitAndNotAByteMore(t *testing.T) {
	for _, limit := range []int{1, 511, 512, 513, 5000, 1 << 20} {
		for _, more := range []int{-1, 0, 1} {
			for _, known := range []bool{true, false} {
				name := fmt.Sprintf("%d bytes, limit %d, length known %v", limit+more, limit, known)
				synctest.Test(t, func(t *testing.T) {
					content := strings.Repeat("0123456789abcdefg", (limit+more)/17+1)[:limit+more]
					w := &witness{next: script(down, success)}
					transport := newTransport(t, w, graphretry.WithMaxBufferedBody(int64(limit)))
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, iotest.HalfReader(strings.NewReader(content)))
					require.NoError(t, err)
					if known {
						req.ContentLength = int64(len(content))
					}
					resp, err := transport.RoundTrip(req)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					bodies := w.bodies()
					for _, body := range bodies {
						require.True(t, content == body, "%s: a body differs", name)
					}
					if more > 0 {
						require.Len(t, w.seen(), 1, name)
						require.Equal(t, down.status, resp.StatusCode, name)
					} else {
						require.Len(t, bodies, 2, name)
						require.Equal(t, http.StatusOK, resp.StatusCode, name)
					}
				})
			}
		}
	}
}

func TestBodyThatFailsIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A server that answers what it has got, and a client that tells it.
		attempts := 0
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			attempts++
			_, err := io.ReadAll(req.Body)
			assert.ErrorIs(t, err, errCause)
			req.Body.Close()
			return &http.Response{StatusCode: down.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(down.body)), Request: req}, nil
		})
		body := io.MultiReader(strings.NewReader(messageBody), errorReader{errCause})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, body)
		require.NoError(t, err)
		resp, err := newTransport(t, next).RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, down.status, resp.StatusCode)
		assert.Equal(t, 1, attempts)
	})
}

func TestNothingOfABodyIsReadAhead(t *testing.T) {
	body := &counter{Reader: strings.NewReader(messageBody)}
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		assert.Zero(t, body.n, "before the next RoundTripper reads")
		for want := 1; want <= 10; want++ {
			n, err := req.Body.Read(make([]byte, 1))
			require.NoError(t, err)
			require.Equal(t, 1, n)
			assert.Equal(t, want, body.n)
		}
		req.Body.Close()
		return nil, errReset
	})
	req, err := http.NewRequest(http.MethodPost, messagesURL, body)
	require.NoError(t, err)
	_, err = newTransport(t, next).RoundTrip(req)
	require.ErrorIs(t, err, errReset)
	assert.Equal(t, 10, body.n)
}

func TestCallInTheQueueReadsNothingOfItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success)}
		transport := newTransport(t, w, graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
		bringDown(t, transport)
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		var call sync.WaitGroup
		call.Go(func() {
			resp, err := transport.RoundTrip(req.Request)
			if assert.NoError(t, err) {
				assert.NoError(t, resp.Body.Close())
			}
		})
		time.Sleep(4 * time.Second)
		synctest.Wait()
		assert.Empty(t, req.bodies[0].text())
		assert.Zero(t, req.bodies[0].closed())
		call.Wait()
		assert.Equal(t, messageBody, req.bodies[0].text())
	})
}

// net/http closes a body more than once at times.
func TestCallersBodyIsClosedOnceHoweverOftenTheNextRoundTripperClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := script(down, success)
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := api.RoundTrip(req)
			var closing sync.WaitGroup
			for range 3 {
				closing.Go(func() { assert.NoError(t, req.Body.Close()) })
			}
			closing.Wait()
			return resp, err
		})
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		resp, err := newTransport(t, next).RoundTrip(req.Request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, 1, req.bodies[0].closed())
	})
}

func TestErrorOfClosingTheBodyReachesTheNextRoundTripper(t *testing.T) {
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		assert.ErrorIs(t, req.Body.Close(), errCause)
		assert.ErrorIs(t, req.Body.Close(), errCause)
		return nil, errReset
	})
	req, err := http.NewRequest(http.MethodPost, messagesURL, failingCloser{strings.NewReader(messageBody)})
	require.NoError(t, err)
	_, err = newTransport(t, next).RoundTrip(req)
	assert.ErrorIs(t, err, errReset)
}

type failingCloser struct{ io.Reader }

func (failingCloser) Close() error { return errCause }

func TestBodyThatMayNotBeKeptIsSentOnceEvenIfAnAttemptTimeoutWatchesIt(t *testing.T) {
	for _, content := range []string{"", "x", messageBody} {
		w := &witness{next: script(down, success)}
		req := messageRequest(t, io.MultiReader(strings.NewReader(content)))
		resp, err := newTransport(t, w, graphretry.WithMaxBufferedBody(0), graphretry.WithAttemptTimeout(time.Hour)).RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, down.status, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, []string{content}, w.bodies())
	}
}

func TestRetryHasTheBodyThatGetBodyMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := script(down, success)
		req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
		attempts := 0
		resp, err := newTransport(t, roundTripper(func(sent *http.Request) (*http.Response, error) {
			assert.Same(t, req.bodies[attempts], sent.Body)
			attempts++
			return api.RoundTrip(sent)
		})).RoundTrip(req.Request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, 2, attempts)
	})
}

// As net/http does over HTTP/2, when a connection goes away between its choice and
// the opening of a stream.
func TestBodyThatIsClosedUnreadCanStillBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success)}
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			require.NoError(t, req.Body.Close())
			return w.RoundTrip(req)
		})
		resp, err := newTransport(t, next).RoundTrip(messageRequest(t, io.MultiReader(strings.NewReader(messageBody))))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, []string{messageBody, messageBody}, w.bodies())
	})
}

// Whoever sends a body that is cut off tells of the body, and the caller of why.
func TestUploadThatIsCutOffFailsWithTheCauseOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			defer req.Body.Close()
			cancel(errCause)
			synctest.Wait()
			_, err := io.ReadAll(req.Body)
			return nil, err
		})
		_, err := newTransport(t, next).RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, plainReader).Request)
		assert.ErrorIs(t, err, errCause)
	})
}

func TestAnswerThatComesAsTheContextEndsIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			_, err := io.ReadAll(req.Body)
			require.NoError(t, err)
			req.Body.Close()
			cancel()
			synctest.Wait()
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
		})
		resp, err := newTransport(t, next).RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, plainReader).Request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
	})
}

// net/http answers while it still sends the body, in another goroutine. The rest
// of the body must go its way, and the race detector must not see it.
func TestBodyIsSentOnAfterAnEarlyAnswer(t *testing.T) {
	for _, early := range []reply{success, down, {err: errReset}} {
		const size = 256 << 10
		half := strings.Repeat("x", size/2)
		// Its end does not come before the answer, or the call could be repeated.
		answered := make(endsWhenClosed)
		body := &watchedBody{from: io.NopCloser(io.MultiReader(strings.NewReader(half), answered, strings.NewReader(half)))}
		sent := make(chan int64)
		attempts := 0
		api := script(early)
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			attempts++
			_, err := io.ReadFull(req.Body, make([]byte, 1000))
			require.NoError(t, err)
			upload := req.Body
			go func() {
				n, _ := io.Copy(io.Discard, iotest.HalfReader(upload))
				upload.Close()
				sent <- n
			}()
			clone := *req
			clone.Body = http.NoBody
			return api.RoundTrip(&clone)
		})
		req, err := http.NewRequest(http.MethodPost, messagesURL, body)
		require.NoError(t, err)
		transport := newTransport(t, next, graphretry.WithInitialInterval(time.Nanosecond))
		resp, err := transport.RoundTrip(req)
		close(answered)
		if early.err == nil {
			require.NoError(t, err)
			assert.Equal(t, early.status, resp.StatusCode)
			require.NoError(t, resp.Body.Close())
		} else {
			require.ErrorIs(t, err, early.err)
		}
		assert.Equal(t, int64(size-1000), <-sent)
		assert.Equal(t, 1, attempts)
		assert.Equal(t, 1, body.closed())
	}
}

// endsWhenClosed is a reader that ends when the channel is closed.
type endsWhenClosed chan struct{}

func (e endsWhenClosed) Read([]byte) (int, error) {
	<-e
	return 0, io.EOF
}

func TestEmptyBodyWithoutGetBodyIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success)}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, io.MultiReader())
		require.NoError(t, err)
		resp, err := newTransport(t, w).RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, []string{"", ""}, w.bodies())
	})
}

func TestGiveUpForTheBodySaysSo(t *testing.T) {
	var events []graphretry.Event
	observer := graphretry.WithObserver(func(_ context.Context, e graphretry.Event) { events = append(events, e) })
	transport := newTransport(t, script(down), observer, graphretry.WithMaxBufferedBody(0), graphretry.WithInitialInterval(time.Nanosecond))
	_, err := transport.RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, plainReader).Request)
	require.NoError(t, err)

	req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
	req.GetBody = func() (io.ReadCloser, error) { return nil, errCause }
	_, err = transport.RoundTrip(req.Request)
	require.NoError(t, err)

	require.Len(t, events, 3)
	assert.Equal(t, graphretry.EventGaveUp, events[0].Kind)
	assert.Equal(t, graphretry.ReasonBody, events[0].Reason)
	assert.Equal(t, graphretry.EventRetrying, events[1].Kind)
	assert.Equal(t, graphretry.EventGaveUp, events[2].Kind)
	assert.Equal(t, graphretry.ReasonBody, events[2].Reason)
	assert.ErrorIs(t, events[2].Err, errCause)
}
