package graphretry

import (
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only whoever has seen the end of a body may give its connection back.
func TestPeekSeesTheEndOfABodyThatJustFits(t *testing.T) {
	for _, known := range []bool{true, false} {
		for length, end := range map[int]error{peekLimit - 1: io.EOF, peekLimit: io.EOF, peekLimit + 1: nil} {
			resp := &http.Response{ContentLength: -1, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", length)))}
			if known {
				resp.ContentLength = int64(length)
			}
			body := peek(resp)
			require.Len(t, body.peeked, length)
			require.Equal(t, end, body.err, "%d bytes, length known %v", length, known)
		}
	}
}

func TestPeekDoesNotAllocateByContentLength(t *testing.T) {
	for _, length := range []int64{1 << 40, math.MaxInt64} {
		resp := &http.Response{ContentLength: length, Body: io.NopCloser(strings.NewReader("{}"))}
		require.Less(t, cap(peek(resp).peeked), 2*peekLimit)
	}
}

func TestPeekIsNotRepeatedUntilTheCallerHasRead(t *testing.T) {
	resp := &http.Response{ContentLength: -1, Body: io.NopCloser(strings.NewReader("{}"))}
	body := peek(resp)
	require.Same(t, body, peek(resp))
	_, err := resp.Body.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Equal(t, "}", string(peek(resp).peeked), "what is left for the caller")
}
