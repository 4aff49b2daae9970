package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/cenkalti/backoff/v4"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// snapshot remembers a request and gives the check that it is as it was: bit for
// bit, so that not even a field that is not exported has another pointer in it,
// and in all that it points to.
func snapshot(req *http.Request) (isUnchanged func(testing.TB)) {
	bits := func() []byte {
		return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(req)), unsafe.Sizeof(*req)))
	}
	type contents struct {
		URL              *url.URL
		Header, Trailer  http.Header
		TransferEncoding []string
		Form, PostForm   url.Values
	}
	deep := func() contents {
		c := contents{
			Header: req.Header.Clone(), Trailer: req.Trailer.Clone(),
			TransferEncoding: slices.Clone(req.TransferEncoding),
			Form:             url.Values(http.Header(req.Form).Clone()),
			PostForm:         url.Values(http.Header(req.PostForm).Clone()),
		}
		if req.URL != nil {
			clone := *req.URL
			if clone.User != nil {
				user := *clone.User
				clone.User = &user
			}
			c.URL = &clone
		}
		return c
	}
	bitsBefore, deepBefore := bits(), deep()
	return func(t testing.TB) {
		t.Helper()
		assert.Equal(t, bitsBefore, bits(), "a field of the request was changed")
		assert.Equal(t, deepBefore, deep(), "what the request points to was changed")
	}
}

// ending is how a call has ended, and what its caller found in the body.
type ending struct {
	resp *http.Response
	err  error
	body string
	read error // what reading the body ended with; nil: io.EOF
}

// callUnderContract makes a call and checks what http.RoundTripper promises of
// every call, whatever became of it. The transport must stand on the witness. It
// reads the response to its end and closes it. Attempts of calls before it do not
// count, and there must be none beside it.
func callUnderContract(t *testing.T, transport http.RoundTripper, w *witness, req *watchedRequest) ending {
	t.Helper()
	before := len(w.seen())
	isUnchanged := snapshot(req.Request)

	resp, err := transport.RoundTrip(req.Request)

	attempts := w.seen()[before:]
	isUnchanged(t)
	assert.False(t, resp != nil && err != nil, "both a response and an error")
	assert.False(t, resp == nil && err == nil, "neither a response nor an error")
	for i, body := range req.bodies {
		assert.Equal(t, 1, body.closed(), "how often body %d of the request was closed", i+1)
	}
	ours := resp != nil && err == nil
	for i, a := range attempts {
		if last := i == len(attempts)-1; a.answer != nil && !(last && ours) {
			assert.Equal(t, 1, a.answer.closed(), "how often the body of response %d was closed", i+1)
		}
	}
	if !ours {
		return ending{resp: resp, err: err}
	}

	require.NotEmpty(t, attempts, "a response out of nothing")
	last := attempts[len(attempts)-1]
	assert.True(t, req.Request == resp.Request, "the response's Request is the caller's own")
	assert.Equal(t, last.length, resp.ContentLength, "ContentLength")
	end := ending{resp: resp}
	if last.answer == nil {
		return end // nil, http.NoBody, or a connection
	}
	content, readErr := io.ReadAll(resp.Body)
	end.body, end.read = string(content), readErr
	assert.Equal(t, last.answer.text(), end.body, "the caller reads what was received")
	if readErr != nil {
		_, again := resp.Body.Read(make([]byte, 1))
		assert.Equal(t, readErr, again, "a body that broke stays broken")
	}
	assert.NoError(t, resp.Body.Close())
	assert.Equal(t, 1, last.answer.closed(), "how often the body of the last response was closed")
	return end
}

func (neverEnding) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestContractHoldsOnEveryExitPath(t *testing.T) {
	variants := []struct {
		name    string
		options []graphretry.Option
	}{
		{"plain", nil},
		{"attempt timeout", []graphretry.Option{graphretry.WithAttemptTimeout(time.Hour)}},
	}
	for _, path := range exitPaths {
		kinds := path.kinds
		if kinds == nil {
			kinds = []bodyKind{noBody, emptyBody, withGetBody, plainReader, readerOfKnown}
		}
		for _, kind := range kinds {
			for _, variant := range variants {
				t.Run(path.name+"/"+string(kind)+"/"+variant.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { path.run(t, kind, variant.options) })
				})
			}
		}
	}
}

// endsWith wants the response that this reply is.
func endsWith(r reply) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		require.NoError(t, end.err)
		assert.Equal(t, r.status, end.resp.StatusCode)
		assert.Equal(t, r.body, end.body)
		assert.Equal(t, r.broken, end.read)
	}
}

// endsIn wants an error that is each of these.
func endsIn(targets ...error) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		for _, target := range targets {
			assert.ErrorIs(t, end.err, target)
		}
	}
}

// endsInWords wants an error that says so.
func endsInWords(words string) func(*testing.T, ending) {
	return func(t *testing.T, end ending) {
		t.Helper()
		assert.ErrorContains(t, end.err, words)
	}
}

// cancelAfter ends the call's context after a time.
func cancelAfter(d time.Duration, cause error) func(*testing.T, context.CancelCauseFunc) {
	return func(_ *testing.T, cancel context.CancelCauseFunc) {
		time.Sleep(d)
		cancel(cause)
	}
}

// deadline gives a context that ends after a time.
func deadline(d time.Duration) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		ctx, cancel := context.WithTimeout(ctx, d)
		context.AfterFunc(ctx, cancel)
		return ctx
	}
}

// bringDown has a call of somebody else bring the host down, which takes one answer
// with [graphretry.WithOutageThreshold](1). The next probe is due in 5 s.
func bringDown(t *testing.T, transport http.RoundTripper) {
	t.Helper()
	sendAs(t, transport, time.Second, 2)
}

// sendAs sends a message of somebody else's with that much time, and expects a
// Graph error.
func sendAs(t *testing.T, transport http.RoundTripper, timeout time.Duration, code graphretry.Code) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	resp, err := transport.RoundTrip(newWatchedRequest(t, ctx, http.MethodPost, withGetBody).Request)
	if assert.NoError(t, err) {
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.True(t, ok)
		assert.Equal(t, code, e.Code)
		assert.NoError(t, resp.Body.Close())
	}
}

// neverEnding is a context that is done at some time, and does not say when.
type neverEnding struct{ context.Context }

// closeCancelAfter ends the call after a time in the way that came before contexts.
func closeCancelAfter(d time.Duration) func(*http.Request) {
	return func(req *http.Request) {
		canceled := make(chan struct{})
		//lint:ignore SA1019 http.Client.Timeout still uses it.
		req.Cancel = canceled
		time.AfterFunc(d, func() { close(canceled) })
	}
}

var (
	errCause  = errors.New("the process is shutting down")
	errReset  = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	down      = fails(graphretry.CodeAPIService)
	refused   = fails(graphretry.CodeParameterInvalid)
	unsure    = fails(graphretry.CodeSomethingWentWrong)
	page      = reply{status: http.StatusBadGateway, body: "<html>" + strings.Repeat("try later ", 7_000) + "</html>", length: -1}
	cutShort  = down.with(func(r *reply) { r.body, r.broken, r.length = r.body[:20], io.ErrUnexpectedEOF, int64(len(r.body)) })
	patiently = graphretry.WithBackOff(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) })
	allOptIns = []graphretry.Option{
		graphretry.WithNetworkRetries(), graphretry.WithThrottleRetries(), graphretry.WithTransientFlag(),
		graphretry.WithRetryOn(graphretry.CodeAPIUnknown, 5),
	}
)
