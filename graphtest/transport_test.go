package graphtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// watchedBody counts how often it is closed.
type watchedBody struct {
	io.Reader
	closed atomic.Int32
}

func (b *watchedBody) Close() error {
	b.closed.Add(1)
	return nil
}

// TestRoundTripperContractHoldsOnEveryPath: the request unchanged, its body
// closed once, a response or an error and never both.
func TestRoundTripperContractHoldsOnEveryPath(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		answer graphtest.Answer
		change func(*http.Request)
		fails  string
	}{
		"success":          {},
		"Graph error":      {answer: graphtest.Answer{Code: 2}},
		"truncated":        {answer: graphtest.Answer{Fault: graphtest.FaultTruncate}},
		"broken":           {answer: graphtest.Answer{Fault: graphtest.FaultBreak}, fails: syscall.ECONNRESET.Error()},
		"wrong argument":   {answer: graphtest.Answer{Code: -1}, fails: "Answer.Code -1"},
		"no URL":           {change: func(r *http.Request) { r.URL = nil }, fails: "no URL"},
		"already canceled": {change: func(r *http.Request) { *r = *r.WithContext(canceled) }, fails: "context canceled"},
		"body too short":   {change: func(r *http.Request) { r.ContentLength++ }, fails: "with Body length"},
		"body too long":    {change: func(r *http.Request) { r.ContentLength-- }, fails: "with Body length"},
		"body fails": {change: func(r *http.Request) {
			r.Body.(*watchedBody).Reader = io.MultiReader(strings.NewReader("{"), failing{errors.New("disk on fire")})
		}, fails: "disk on fire"},
		"hanging until the deadline": {
			answer: graphtest.Answer{Fault: graphtest.FaultHang},
			change: func(r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
				context.AfterFunc(ctx, cancel)
				*r = *r.WithContext(ctx)
			},
			fails: "deadline exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				api.AnswerNext(1, test.answer)
				body := &watchedBody{Reader: strings.NewReader(message("order-1"))}
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://graph.facebook.com"+messages, body)
				require.NoError(t, err)
				request.ContentLength = int64(len(message("order-1")))
				request.Header.Set("Authorization", "Bearer token")
				if test.change != nil {
					test.change(request)
				}
				before := request.Clone(request.Context())
				before.Body = request.Body

				response, err := api.RoundTrip(request)

				assert.Equal(t, before, request)
				assert.EqualValues(t, 1, body.closed.Load())
				if test.fails != "" {
					assert.ErrorContains(t, err, test.fails)
					assert.Nil(t, response)
					assert.Empty(t, api.Accepted())
					return
				}
				require.NoError(t, err)
				assert.Same(t, request, response.Request)
				assert.Equal(t, "HTTP/1.1", response.Proto)
				assert.Contains(t, response.Status, http.StatusText(response.StatusCode))
			})
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCallThatBreaksOffBeforeItIsReadIsRecordedAndTakesNoAnswer(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Code: 190})
		request, err := http.NewRequest(http.MethodPost, w.url+messages,
			io.MultiReader(strings.NewReader(message("order-1")[:10]), failing{errors.New("disk on fire")}))
		require.NoError(t, err)
		_, err = w.client.Do(request)
		require.Error(t, err)

		// Over HTTP the server may see the end a moment after the caller.
		require.Eventually(t, func() bool { return len(api.Calls()) == 1 }, time.Minute, time.Millisecond)
		assert.Zero(t, api.Calls()[0].Status)
		assert.Equal(t, 401, w.send(t, "order-1").StatusCode, "the answer was kept for the next call")
	})
}

func TestStalledUploadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stalled, _ := io.Pipe()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://graph.facebook.com"+messages, stalled)
		require.NoError(t, err)
		_, err = api.RoundTrip(request)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Empty(t, api.Accepted())
	})
}

func TestBodyOfUnknownLengthIsRead(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		request, err := http.NewRequest(http.MethodPost, w.url+messages, struct{ io.Reader }{strings.NewReader(message("order-1"))})
		require.NoError(t, err)
		response, err := w.client.Do(request)
		require.NoError(t, err)
		assert.Equal(t, 200, read(t, response).StatusCode)
		assert.Equal(t, []string{"order-1"}, api.AcceptedKeys())
	})
}

func TestAnswersBodyIsReadableUntilClosedOrTheContextEnds(t *testing.T) {
	w, api := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	get := func() *http.Response {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v25.0/1", nil)
		require.NoError(t, err)
		response, err := api.RoundTrip(request)
		require.NoError(t, err)
		return response
	}
	one := make([]byte, 1)

	closed, open := get(), get()
	assert.Equal(t, 2, api.Totals().OpenBodies)
	_, err := closed.Body.Read(one)
	require.NoError(t, err)
	require.NoError(t, closed.Body.Close())
	require.NoError(t, closed.Body.Close())
	_, err = closed.Body.Read(one)
	assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	assert.Equal(t, 1, api.Totals().OpenBodies)

	cancel()
	_, err = open.Body.Read(one)
	assert.ErrorIs(t, err, context.Canceled)
	open.Body.Close()
	assert.Zero(t, api.Totals().OpenBodies)
}

func TestRequestWithoutMethodIsAGet(t *testing.T) {
	api := graphtest.New()
	response, err := api.RoundTrip(&http.Request{URL: &url.URL{Scheme: "https", Host: "graph.facebook.com", Path: "/v25.0/1"}, Header: http.Header{}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"1"}`, read(t, response).body)
	assert.Equal(t, http.MethodGet, api.Calls()[0].Method)
}

func TestHandlerCanBeCalledWithoutAServer(t *testing.T) {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: 2})
	recorder := httptest.NewRecorder()
	api.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, messages, strings.NewReader(message("order-1"))))
	assert.Equal(t, http.StatusServiceUnavailable, recorder.Code)

	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
		api.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/1", nil))
	})
}

func TestKeptAliveConnectionServesManyCalls(t *testing.T) {
	api := graphtest.New()
	api.AnswerShare(0.5, graphtest.Answer{Code: 2})
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(api)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	way{"HTTP/1.1", server.Client(), server.URL}.outcomes(t, 50)
	assert.EqualValues(t, 1, connections.Load())
}

func TestMediaOfAnySizeStreamsThrough(t *testing.T) {
	head, tail, _ := bytes.Cut([]byte("--b\r\nContent-Disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n"+
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"film.mp4\"\r\n\r\n|\r\n--b--\r\n"), []byte("|"))
	const size = 32 << 20
	body := io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size), bytes.NewReader(tail))
	w, api := newMemory()
	request, err := http.NewRequest(http.MethodPost, w.url+media, body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	response, err := w.client.Do(request)
	require.NoError(t, err)
	assert.Contains(t, read(t, response).body, `"id"`)
	assert.EqualValues(t, len(head)+size+len(tail), api.Calls()[0].Size)
	assert.Less(t, cap(api.Calls()[0].Body), 2<<20)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
