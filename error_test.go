package graphretry_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// failedResponse is a failed answer whose body is told to be as long as it is.
func failedResponse(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

func TestNoTextIsEverMatched(t *testing.T) {
	policy := policyWith(t)
	for _, message := range []string{
		"", "(#131009) Parameter value is not valid", "(#2) Service temporarily unavailable",
		"Se ha producido un error inesperado. Vuelve a intentarlo más tarde.", "サービスは一時的に利用できません", "rate limit hit",
	} {
		text, err := json.Marshal(message)
		require.NoError(t, err)
		for code, retried := range map[graphretry.Code]bool{2: true, 131016: true, 1: false, 131009: false, 130429: false} {
			body := `{"error":{"message":` + string(text) + `,"error_data":{"details":` + string(text) + `},"type":` + string(text) +
				`,"code":` + strconv.Itoa(int(code)) + `}}`
			e, ok := graphretry.ParseError(500, nil, []byte(body))
			require.True(t, ok)
			assert.Equal(t, message, e.Message)
			assert.Equal(t, retried, decide(policy, e, 0).Retry, "%d %s", code, message)
		}
	}
}

func TestContentTypeDoesNotMatter(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "text/javascript; charset=UTF-8", "text/html", "image/png", "?"} {
		resp := failedResponse(400, `{"error":{"code":2}}`)
		resp.Header.Set("Content-Type", contentType)
		e, ok := graphretry.ErrorFromResponse(resp)
		if assert.True(t, ok, contentType) {
			assert.EqualValues(t, 2, e.Code)
		}
	}
}

func TestTraceIDIsKept(t *testing.T) {
	e, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"code":2,"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`))
	require.True(t, ok)
	assert.Equal(t, "AzXcvWbXnq1oPbnEGkx3SXJ", e.TraceID)
	assert.ErrorContains(t, e, "AzXcvWbXnq1oPbnEGkx3SXJ")
	assert.Contains(t, e.LogValue().String(), "AzXcvWbXnq1oPbnEGkx3SXJ")
	assert.ErrorContains(t, &graphretry.WaitError{Err: errors.New("x"), Graph: e, Attempts: 1}, "AzXcvWbXnq1oPbnEGkx3SXJ")
}

func TestClassIsThatOfTheWhatsAppCodeInTheSubcode(t *testing.T) {
	for _, test := range []struct {
		code    graphretry.Code
		subcode int
		class   graphretry.Class
	}{
		{2, 0, graphretry.ClassTransient},
		{100, 0, graphretry.ClassParameter},
		{100, 33, graphretry.ClassParameter},
		{10, 33, graphretry.ClassPermission},
		{2, 100, graphretry.ClassTransient},
		{100, 133010, graphretry.ClassPermission},
		{100, 131026, graphretry.ClassRecipient},
		{100, 131016, graphretry.ClassTransient},
		{2, 130472, graphretry.ClassExperiment},
		{2, 2494010, graphretry.ClassTransient}, // a subcode in no catalogue says nothing
		{131009, 2494010, graphretry.ClassParameter},
		{999999, 0, graphretry.ClassUnknown},
	} {
		e := &graphretry.Error{Code: test.code, Subcode: test.subcode}
		assert.Equal(t, test.class, e.Class(), "%d with subcode %d", test.code, test.subcode)
	}
}

func TestNoErrorHasNoTextNoClassAndNoFields(t *testing.T) {
	var e *graphretry.Error
	assert.Equal(t, "graphretry: no Graph error", e.Error())
	assert.Equal(t, graphretry.ClassUnknown, e.Class())
	assert.Equal(t, slog.Value{}, e.LogValue())
}

func TestErrorSaysWhatMetaSaid(t *testing.T) {
	for _, test := range []struct {
		e    graphretry.Error
		text string
	}{
		{graphretry.Error{Code: 2}, "graphretry: Graph error 2 (API Service)"},
		{graphretry.Error{Code: 999999}, "graphretry: Graph error 999999"},
		{
			graphretry.Error{Code: 131009, Message: "(#131009) Parameter value is not valid", Details: "text.body is required", TraceID: "A1"},
			"graphretry: Graph error 131009 (Parameter value is not valid): (#131009) Parameter value is not valid: text.body is required [fbtrace_id A1]",
		},
		{
			graphretry.Error{Status: 400, Code: 100, Subcode: 133010, Message: "(#100) Invalid parameter", Raw: []byte("not shown")},
			"graphretry: Graph error 100, subcode 133010 (Phone number Not Registered): (#100) Invalid parameter",
		},
	} {
		assert.EqualError(t, &test.e, test.text)
	}
}

func TestErrorIsOneLine(t *testing.T) {
	e := &graphretry.Error{
		Code: 2, Message: "first\nsecond\r\nlevel=ERROR msg=forged", Details: "a\tb\x1b[31mc\u2028d\u2029e\u202Ef\u2066g\u0085h", TraceID: "A\n1",
	}
	assert.NotRegexp(t, `[[:cntrl:]\x{80}-\x{9F}\x{2028}\x{2029}\x{202A}-\x{202E}\x{2066}-\x{2069}]`, e.Error())
	assert.Equal(t, "first\nsecond\r\nlevel=ERROR msg=forged", e.Message, "the field stays as Meta wrote it")
}

func TestErrorIsReadOnlyFromFailedAnswers(t *testing.T) {
	for status, read := range map[int]bool{
		0: false, 101: false, 200: false, 204: false, 206: false, 302: false, 399: false,
		400: true, 404: true, 429: true, 500: true, 503: true, 599: true, 999: true,
	} {
		resp := failedResponse(status, "")
		body := &countedBody{rest: []byte(`{"error":{"code":2}}`)}
		resp.Body = body
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.Equal(t, read, ok, "status %d", status)
		assert.Equal(t, read, e != nil, "status %d", status)
		if !read {
			assert.Same(t, body, resp.Body, "status %d: not wrapped", status)
			assert.Zero(t, body.read, "status %d: not read", status)
		}
	}
}

func TestResponseWithoutAReadableBodyHasNoError(t *testing.T) {
	for name, resp := range map[string]*http.Response{
		"nil":           nil,
		"zero":          {},
		"no body":       {StatusCode: 500},
		"no bytes":      {StatusCode: 500, Body: http.NoBody},
		"broken":        {StatusCode: 500, Body: io.NopCloser(iotest.ErrReader(errors.New("broken")))},
		"broken midway": {StatusCode: 500, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"error":{"code":2}`), iotest.ErrReader(errors.New("broken"))))},
	} {
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.False(t, ok, name)
		assert.Nil(t, e, name)
	}
}

// countedBody counts what is read of it and how often it is closed.
type countedBody struct {
	rest    []byte
	atATime int   // 0: as much as there is room for
	end     error // nil: io.EOF
	endsBy  bool  // the end comes with the last bytes, not after them

	read, closed int
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.atATime > 0 && len(p) > b.atATime {
		p = p[:b.atATime]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	b.read += n
	if len(b.rest) == 0 && (n == 0 || b.endsBy) {
		if b.end != nil {
			return n, b.end
		}
		return n, io.EOF
	}
	return n, nil
}

func (b *countedBody) Close() error {
	b.closed++
	return nil
}

func TestBodyStaysReadableByteForByte(t *testing.T) {
	const peek = 64 << 10
	graph := `{"error":{"code":2,"x":"m"}}`
	for _, size := range []int{0, 1, len(graph), 511, 512, 513, 4096, peek - 1, peek, peek + 2, 2 * peek, 200 << 10, 1 << 20} {
		content := []byte(strings.Replace(graph, "m", strings.Repeat("m", max(1, size-len(graph)+1)), 1))[:size]
		for _, atATime := range []int{0, 1, 1000} {
			if atATime == 1 && size > 2*peek {
				continue // it takes seconds, and is as 2*peek is
			}
			for _, contentLength := range []int64{-1, int64(size)} {
				for _, endsBy := range []bool{false, true} {
					body := &countedBody{rest: content, atATime: atATime, endsBy: endsBy}
					resp := failedResponse(503, "")
					resp.Body, resp.ContentLength = body, contentLength
					name := []any{"%d bytes, %d at a time, ContentLength %d, EOF with the last: %t", size, atATime, contentLength, endsBy}

					e, ok := graphretry.ErrorFromResponse(resp)
					assert.Equal(t, size >= len(graph) && size <= peek, ok, name...)
					assert.Equal(t, ok, e != nil, name...)
					assert.LessOrEqual(t, body.read, peek+1, name...) // one more tells the end from a cut
					assert.Equal(t, contentLength, resp.ContentLength, name...)
					assert.Zero(t, body.closed, name...)

					again, okAgain := graphretry.ErrorFromResponse(resp)
					assert.Equal(t, ok, okAgain, name...)
					assert.Equal(t, e, again, name...)

					after, err := io.ReadAll(resp.Body)
					assert.NoError(t, err, name...)
					assert.True(t, bytes.Equal(content, after), name...)
					assert.NoError(t, resp.Body.Close(), name...)
					assert.Equal(t, 1, body.closed, name...)
				}
			}
		}
	}
}

func TestErrorAtTheEndOfABodyIsTheCallersToo(t *testing.T) {
	broken := errors.New("connection reset")
	for _, size := range []int{0, 10, 64 << 10, 200 << 10} {
		for _, endsBy := range []bool{false, true} {
			content := bytes.Repeat([]byte("x"), size)
			resp := failedResponse(502, "")
			resp.Body = &countedBody{rest: content, end: broken, endsBy: endsBy}
			_, ok := graphretry.ErrorFromResponse(resp)
			assert.False(t, ok)
			after, err := io.ReadAll(resp.Body)
			assert.Equal(t, broken, err, "after %d bytes", size)
			assert.True(t, bytes.Equal(content, after), "%d bytes", size)
		}
	}
}

func TestCompressedBodyStaysCompressedForTheCaller(t *testing.T) {
	graph := `{"error":{"code":131016,"message":"` + strings.Repeat("m", 3000) + `"}}`
	gzipped, deflated := compressed(t, "gzip", graph), compressed(t, "deflate", graph)
	bomb := compressed(t, "gzip", `{"error":{"code":2,"message":"`+strings.Repeat("m", 4<<20)+`"}}`)
	require.Less(t, len(bomb), 64<<10+1)
	for _, test := range []struct {
		name, encoding string
		body           []byte
		ok             bool
	}{
		{"gzip", "gzip", gzipped, true},
		{"gzip in capitals", "GZIP", gzipped, true},
		{"gzip by its old name", "x-gzip", gzipped, true},
		{"gzip with spaces", " gzip ", gzipped, true},
		{"deflate", "deflate", deflated, true},
		{"identity", "identity", []byte(graph), true},
		{"gzip that is none", "gzip", []byte(graph), true},
		{"gzip that is deflate", "gzip", deflated, false},
		{"gzip that is not told", "", gzipped, false},
		{"gzip cut off", "gzip", gzipped[:len(gzipped)-20], false},
		{"gzip of nothing", "gzip", nil, false},
		{"gzip of 4 MiB", "gzip", bomb, false},
		{"an encoding we do not know", "br", []byte("\x0b\x02\x80"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := failedResponse(503, string(test.body))
			resp.Header.Set("Content-Encoding", test.encoding)
			e, ok := graphretry.ErrorFromResponse(resp)
			assert.Equal(t, test.ok, ok)
			if test.ok {
				assert.EqualValues(t, 131016, e.Code)
				assert.Len(t, e.Message, 3000)
			}
			assert.Equal(t, test.encoding, resp.Header.Get("Content-Encoding"))
			assert.EqualValues(t, len(test.body), resp.ContentLength)
			after, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(test.body, after), "the caller gets the compressed bytes")
		})
	}
}

// compressed is content with a Content-Encoding.
func compressed(t testing.TB, encoding, content string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	var encoder io.WriteCloser
	switch encoding {
	case "gzip":
		encoder = gzip.NewWriter(&buffer)
	case "deflate":
		encoder = zlib.NewWriter(&buffer)
	}
	_, err := io.WriteString(encoder, content)
	require.NoError(t, err)
	require.NoError(t, encoder.Close())
	return buffer.Bytes()
}

func TestErrorIsFoundInTheResponseThatATransportReturned(t *testing.T) {
	const body = `{"error":{"message":"(#131009) Parameter value is not valid","code":131009,"fbtrace_id":"A1"}}`
	transport, _ := eventsOf(t, roundTripper(func(*http.Request) (*http.Response, error) {
		resp := failedResponse(400, body)
		resp.Header.Set("Retry-After", "7")
		return resp, nil
	}))
	resp, err := transport.RoundTrip(message(t, t.Context()))
	require.NoError(t, err)
	for range 2 {
		e, ok := graphretry.ErrorFromResponse(resp)
		require.True(t, ok)
		assert.Equal(t, "A1", e.TraceID)
		assert.EqualValues(t, 7e9, e.RetryAfter)
	}
	after, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Equal(t, body, string(after))
}

func TestWaitErrorSaysItsPrefixAndMetasTitleOnce(t *testing.T) {
	for want, err := range map[string]*graphretry.WaitError{
		"graphretry: the wait for an attempt ended, never sent: the API is down and the call cannot wait until it is back; " +
			"last answer: Graph error 131016: (#131016) Service unavailable [fbtrace_id A1]": {
			Err: graphretry.ErrOutage, Graph: &graphretry.Error{Code: 131016, Message: "(#131016) Service unavailable", TraceID: "A1"},
		},
		"graphretry: the wait for an attempt ended, sent 2 times: context canceled; last answer: Graph error 2 (API Service): try later": {
			Err: context.Canceled, Attempts: 2, Graph: &graphretry.Error{Code: 2, Message: "try later"},
		},
		"graphretry: the wait for an attempt ended, sent once: context canceled": {Err: context.Canceled, Attempts: 1},
	} {
		assert.EqualError(t, err, want)
	}
}

func TestWaitErrorSaysWhyTheWaitEndedAndHowOftenTheCallWasSent(t *testing.T) {
	graph := &graphretry.Error{Code: 2, Message: "down", TraceID: "A1"}
	for _, test := range []struct {
		err     *graphretry.WaitError
		words   []string
		timeout bool
	}{
		{&graphretry.WaitError{Err: context.Canceled}, []string{"graphretry: ", "never sent", "context canceled"}, false},
		{&graphretry.WaitError{Err: context.Canceled, Graph: graph, Attempts: 1}, []string{"sent once", "context canceled", "Graph error 2", "down", "A1"}, false},
		{&graphretry.WaitError{Err: context.DeadlineExceeded, Graph: graph, Attempts: 7}, []string{"sent 7 times", "deadline exceeded"}, true},
		{&graphretry.WaitError{Err: fmt.Errorf("%w: shutting down", context.Canceled)}, []string{"shutting down"}, false},
		{&graphretry.WaitError{Err: graphretry.ErrOutage, Graph: graph}, []string{"never sent", "the API is down"}, false},
		{&graphretry.WaitError{}, []string{"never sent"}, false},
	} {
		for _, words := range test.words {
			assert.ErrorContains(t, test.err, words)
		}
		assert.Equal(t, test.timeout, test.err.Timeout())
		if test.err.Err != nil {
			assert.ErrorIs(t, test.err, test.err.Err)
		}
		var found *graphretry.Error
		assert.Equal(t, test.err.Graph != nil, errors.As(test.err, &found))
		assert.Same(t, test.err.Graph, found)
		assert.NotErrorIs(t, test.err, io.EOF)
		assert.NotContains(t, strings.TrimPrefix(test.err.Error(), "graphretry: "), "\n")
	}
}
