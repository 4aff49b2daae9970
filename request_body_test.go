package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
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

// Request bodies.

func TestFirstAttemptSendsTheRequestItselfAndEachRetryACopy(t *testing.T) {
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

// net/http may still send the last attempt, and so read its header, as a RoundTripper
// below sets a field of the next one.
func TestEachRetryHasAHeaderOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []bodyKind{noBody, withGetBody} {
			var seen []*http.Request
			stop, stopped := make(chan struct{}), make(chan struct{})
			api := script(down, down, success)
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				seen = append(seen, req)
				if len(seen) == 1 {
					go func() {
						defer close(stopped)
						<-stop
						req.Header.Write(io.Discard)
					}()
				} else {
					if len(seen) == 2 {
						close(stop)
					}
					req.Header.Set("X-Attempt", fmt.Sprint(len(seen)))
				}
				return api.RoundTrip(req)
			})
			req := newWatchedRequest(t, t.Context(), http.MethodPost, kind)
			before := req.Header.Clone()
			resp, err := newTransport(t, next).RoundTrip(req.Request)
			<-stopped
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Len(t, seen, 3)
			assert.True(t, seen[0] == req.Request)
			assert.Equal(t, before, req.Header)
			assert.Equal(t, []string{"2"}, seen[1].Header["X-Attempt"])
			assert.Equal(t, []string{"3"}, seen[2].Header["X-Attempt"])
		}
	})
}

// A body may set the values of its trailer as it ends (see http.Request.Trailer), so
// that the one of a retry is the caller's own, too.
func TestTrailerThatTheBodySetsIsSentWithEachRetry(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			var got []string
			server := protocol.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				assert.NoError(t, err)
				if got = append(got, r.Trailer.Get("X-Checksum")); len(got) == 1 {
					w.WriteHeader(down.status)
					io.WriteString(w, down.body)
				}
			}))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
			require.NoError(t, err)
			req.Trailer = http.Header{"X-Checksum": nil}
			bodies := 0
			req.GetBody = func() (io.ReadCloser, error) {
				bodies++
				body := bodies
				return io.NopCloser(io.MultiReader(strings.NewReader(messageBody), readerFunc(func([]byte) (int, error) {
					req.Trailer.Set("X-Checksum", fmt.Sprint(body))
					return 0, io.EOF
				}))), nil
			}
			req.Body, err = req.GetBody()
			require.NoError(t, err)
			req.ContentLength = -1
			resp, err := server.transport(t, server.next).RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Len(t, got, 2)
			assert.Equal(t, "1", got[0])
			assert.Equal(t, fmt.Sprint(bodies), got[1], "of the last body that was made")
		})
	}
}

func TestRequestItselfIsSentIfItsBodyIsNotRecorded(t *testing.T) {
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

func TestGetBodyIsCalledOnceForEachRetryAndNeverForASuccess(t *testing.T) {
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
