package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// timedAPI is a next RoundTripper that shows the context of its attempts, and
// whose bodies, like those of net/http, can be read no longer than that lasts.
type timedAPI struct {
	status   int
	headers  time.Duration // until the headers
	body     []string      // in pieces
	each     time.Duration // until each piece, and the end
	contexts []context.Context

	// noCause has it give the context's error in place of its cause, as net/http
	// does over HTTP/2.
	noCause bool
}

// ended is the error of an attempt whose context is done.
func (a *timedAPI) ended(ctx context.Context) error {
	if a.noCause {
		return ctx.Err()
	}
	return context.Cause(ctx)
}

func (a *timedAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	a.contexts = append(a.contexts, ctx)
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	select {
	case <-time.After(a.headers):
	case <-ctx.Done():
		return nil, a.ended(ctx)
	}
	body := &timedBody{api: a, ctx: ctx, pieces: slices.Clone(a.body), each: a.each}
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: body, ContentLength: -1, Request: req}, nil
}

type timedBody struct {
	api    *timedAPI
	ctx    context.Context
	pieces []string
	each   time.Duration
	closed bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	select {
	case <-time.After(b.each):
	case <-b.ctx.Done():
	}
	if b.ctx.Err() != nil {
		return 0, b.api.ended(b.ctx)
	}
	if len(b.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.pieces[0])
	if b.pieces[0] = b.pieces[0][n:]; b.pieces[0] == "" {
		b.pieces = b.pieces[1:]
	}
	return n, nil
}

func (b *timedBody) Close() error {
	b.closed = true
	return nil
}

// assertAttemptTimeout tells the error of an attempt that took too long from the
// caller's own.
func assertAttemptTimeout(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	var timeout net.Error
	if assert.ErrorAs(t, err, &timeout) {
		assert.True(t, timeout.Timeout(), "Timeout()")
		//lint:ignore SA1019 net.Error has it, and its readers may ask.
		assert.True(t, timeout.Temporary(), "Temporary()")
	}
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "graphretry: attempt timed out after ")
}

func TestAttemptThatTimesOutIsNotTheCallersDeadline(t *testing.T) {
	for _, noCause := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { testAttemptTimeout(t, noCause) })
	}
}

func testAttemptTimeout(t *testing.T, noCause bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	api := &timedAPI{status: http.StatusOK, headers: time.Minute, noCause: noCause}
	req := newWatchedRequest(t, ctx, http.MethodPost, plainReader)
	began := time.Now()
	resp, err := newTransport(t, api, graphretry.WithAttemptTimeout(3*time.Second)).RoundTrip(req.Request)
	assert.Nil(t, resp)
	assertAttemptTimeout(t, err)
	assert.Equal(t, 3*time.Second, time.Since(began))
	assert.NoError(t, ctx.Err())

	// http.Client, which looks at Timeout, tells a timeout too.
	client := &http.Client{Transport: newTransport(t, api, graphretry.WithAttemptTimeout(3*time.Second))}
	_, err = client.Post(messagesURL, "application/json", strings.NewReader("{}"))
	assertAttemptTimeout(t, err)
}

func TestAttemptThatTimesOutIsAmbiguous(t *testing.T) {
	for _, test := range []struct {
		name     string
		method   string
		options  []graphretry.Option
		attempts int
	}{
		{"POST", http.MethodPost, nil, 1},
		{"POST, every opt-in", http.MethodPost, allOptIns, 1},
		{"GET", http.MethodGet, nil, 1},
		{"GET, network retries", http.MethodGet, allOptIns, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &timedAPI{status: http.StatusOK, headers: time.Minute}
				options := append(test.options, graphretry.WithAttemptTimeout(3*time.Second), graphretry.WithMaxRetries(2))
				req := newWatchedRequest(t, t.Context(), test.method, noBody)
				_, err := newTransport(t, api, options...).RoundTrip(req.Request)
				assertAttemptTimeout(t, err)
				assert.Len(t, api.contexts, test.attempts)
			})
		})
	}
}

func TestAttemptTimeoutDoesNotLimitReadingTheBodyOfASuccess(t *testing.T) {
	for _, end := range []string{"EOF", "Close"} {
		t.Run("released at "+end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &timedAPI{status: http.StatusOK, headers: 2 * time.Second, body: []string{"one ", "two ", "three"}, each: time.Minute}
				req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
				resp, err := newTransport(t, api, graphretry.WithAttemptTimeout(3*time.Second)).RoundTrip(req.Request)
				require.NoError(t, err)
				time.Sleep(time.Hour)
				attempt := api.contexts[0]
				require.NoError(t, attempt.Err(), "the attempt's context outlives the attempt's timeout")
				if end == "Close" {
					require.NoError(t, resp.Body.Close())
					assert.Error(t, attempt.Err(), "Close releases the attempt's context")
					return
				}
				content, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, "one two three", string(content))
				assert.Error(t, attempt.Err(), "EOF releases the attempt's context")
				require.NoError(t, resp.Body.Close())
				_, err = resp.Body.Read(make([]byte, 1))
				assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
			})
		})
	}
}

func TestAttemptsContextIsReleasedWhateverTheAttemptEndsIn(t *testing.T) {
	for _, reply := range []reply{
		success, down, refused, cutShort,
		{err: errReset}, {neither: true}, {status: http.StatusNoContent, noBody: true},
		down.with(func(r *reply) { r.err, r.both = errReset, true }),
	} {
		synctest.Test(t, func(t *testing.T) {
			var contexts []context.Context
			api := script(reply)
			transport := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				contexts = append(contexts, req.Context())
				return api.RoundTrip(req)
			}), graphretry.WithAttemptTimeout(time.Second))
			resp, err := transport.RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, plainReader).Request)
			if err == nil && resp.Body != nil {
				io.Copy(io.Discard, resp.Body)
			}
			for _, ctx := range contexts {
				assert.ErrorIs(t, ctx.Err(), context.Canceled, "%+v", reply)
			}
		})
	}
}

func TestAttemptTimeoutBoundsTheBodyOfAFailure(t *testing.T) {
	stalls := []string{`{"error":{"code":2,`}
	for _, status := range []int{http.StatusBadRequest, http.StatusServiceUnavailable} {
		t.Run(fmt.Sprintf("what came of a %d is the caller's, and then the timeout", status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &timedAPI{status: status, body: stalls, each: 2 * time.Second, noCause: true}
				req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
				began := time.Now()
				resp, err := newTransport(t, api, append(allOptIns, graphretry.WithAttemptTimeout(3*time.Second))...).RoundTrip(req.Request)
				require.NoError(t, err)
				assert.Equal(t, 3*time.Second, time.Since(began))
				content, err := io.ReadAll(resp.Body)
				assert.Equal(t, stalls[0], string(content))
				assertAttemptTimeout(t, err)
				assert.Len(t, api.contexts, 1)
			})
		})
	}
	t.Run("a GET is sent again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api := &timedAPI{status: http.StatusServiceUnavailable, body: stalls, each: 2 * time.Second}
			req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
			options := append(allOptIns, graphretry.WithAttemptTimeout(3*time.Second), graphretry.WithMaxRetries(1))
			resp, err := newTransport(t, api, options...).RoundTrip(req.Request)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Len(t, api.contexts, 2)
		})
	})
}

func TestCallersDeadlineComesBeforeTheAttemptTimeout(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
	}{{"before it", 2 * time.Second}, {"in the same moment", 3 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			for range 50 {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeoutCause(t.Context(), test.after, errCause)
					defer cancel()
					api := &timedAPI{status: http.StatusOK, headers: time.Minute}
					// The caller's timer and the attempt's fire in no certain order, so
					// a RoundTripper that looks a moment later sees both.
					late := roundTripper(func(req *http.Request) (*http.Response, error) {
						resp, err := api.RoundTrip(req)
						synctest.Wait()
						return resp, err
					})
					req := newWatchedRequest(t, ctx, http.MethodGet, noBody)
					_, err := newTransport(t, late, append(allOptIns, graphretry.WithAttemptTimeout(3*time.Second))...).RoundTrip(req.Request)
					require.ErrorIs(t, err, errCause)
					require.Len(t, api.contexts, 1)
				})
			}
		})
	}
}

// A success whose headers come in the very moment in which the attempt's time is
// over is a success that can be read or a timeout, and nothing between.
func TestAnswerAtTheMomentOfTheAttemptTimeoutIsAnAnswerOrATimeout(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			api := &timedAPI{status: http.StatusOK, headers: 3 * time.Second, body: []string{"{}"}}
			req := newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody)
			resp, err := newTransport(t, api, graphretry.WithAttemptTimeout(3*time.Second)).RoundTrip(req.Request)
			if err != nil {
				require.Nil(t, resp)
				assertAttemptTimeout(t, err)
				return
			}
			content, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "{}", string(content))
		})
	}
}

// Between the moment when the attempt's timer has fired and the moment when its
// goroutine has run, the timer cannot be stopped and the context is not done. The
// answer that comes then must not become "neither a response nor an error".
func TestTimerThatHasFiredAndNotRunIsATimeout(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			body := &watchedBody{from: io.NopCloser(strings.NewReader("{}"))}
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return &http.Response{StatusCode: http.StatusOK, Body: body, Request: req}, nil
			})
			req := newWatchedRequest(t, t.Context(), http.MethodPost, noBody)
			resp, err := newTransport(t, next, graphretry.WithAttemptTimeout(time.Second)).RoundTrip(req.Request)
			if err != nil {
				assertAttemptTimeout(t, err)
			} else {
				require.NoError(t, resp.Body.Close())
			}
			require.Equal(t, 1, body.closed())
		})
	}
}

func TestSuccessWithoutABodyIsNeverATimeout(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				time.Sleep(2 * time.Second) // and takes no heed of its context
				return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
			})
			req := newWatchedRequest(t, t.Context(), http.MethodPost, noBody)
			resp, err := newTransport(t, next, graphretry.WithAttemptTimeout(time.Second)).RoundTrip(req.Request)
			require.NoError(t, err)
			require.Equal(t, http.StatusNoContent, resp.StatusCode)
		})
	}
}

func TestAttemptTimeoutLeavesASwitchedProtocolAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &connection{strings.NewReader("")}
		var ctx context.Context
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: conn, Request: req}, nil
		})
		req := newWatchedRequest(t, t.Context(), http.MethodGet, noBody)
		resp, err := newTransport(t, next, graphretry.WithAttemptTimeout(time.Second)).RoundTrip(req.Request)
		require.NoError(t, err)
		assert.Same(t, conn, resp.Body)
		time.Sleep(time.Hour)
		assert.NoError(t, ctx.Err(), "the context of a connection that lives on")
		assert.True(t, resp.Request == req.Request)
	})
}

func TestAttemptTimeoutCanBeSetForOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &timedAPI{status: http.StatusOK, headers: time.Minute}
		transport := newTransport(t, api)
		ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithAttemptTimeout(time.Second))
		_, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, withGetBody).Request)
		assertAttemptTimeout(t, err)
		resp, err := transport.RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody).Request)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	})
}

// A dial that breaks off with the attempt may have come to nothing for another
// reason, so not even it is taken for a request that never left.
func TestDialThatTimesOutWithItsAttemptIsAmbiguous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			attempts++
			<-req.Context().Done()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("operation was canceled")}
		})
		req := newWatchedRequest(t, t.Context(), http.MethodPost, noBody)
		_, err := newTransport(t, next, append(allOptIns, graphretry.WithAttemptTimeout(time.Second))...).RoundTrip(req.Request)
		assertAttemptTimeout(t, err)
		assert.Equal(t, 1, attempts)
	})
}
