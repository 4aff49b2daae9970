package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Trailers, which come with the end of a body.

// withTrailers answers a failure of some length with trailers.
func withTrailers(announced bool, length int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		prefix := http.TrailerPrefix
		if announced {
			w.Header().Set("Trailer", "X-Checksum, X-Missing")
			prefix = ""
		}
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, strings.Repeat(" ", max(0, length-len(refused.body)))+refused.body)
		http.NewResponseController(w).Flush()
		w.Header().Set(prefix+"X-Checksum", "abc")
	})
}

func TestTrailersComeWithTheEndOfTheBody(t *testing.T) {
	for _, protocol := range protocols {
		for _, announced := range []bool{true, false} {
			for _, length := range []int{0, 10 << 10, peekLimit - 1, peekLimit, peekLimit + 1, 3 * peekLimit} {
				for _, options := range [][]graphretry.Option{nil, {graphretry.WithAttemptTimeout(time.Hour)}} {
					t.Run(fmt.Sprintf("%s/announced %v/%d bytes/%d options", protocol.name, announced, length, len(options)), func(t *testing.T) {
						server := protocol.serve(t, withTrailers(announced, length))
						get := func(next http.RoundTripper) *http.Response {
							req, err := http.NewRequest(http.MethodPost, server.URL, nil)
							require.NoError(t, err)
							resp, err := next.RoundTrip(req)
							require.NoError(t, err)
							return resp
						}
						without, with := get(server.next), get(server.transport(t, server.next, options...))
						copied := *with
						assert.Equal(t, without.Trailer, with.Trailer, "with the header")
						if announced {
							assert.Equal(t, http.Header{"X-Checksum": nil, "X-Missing": nil}, with.Trailer)
						} else {
							assert.Nil(t, with.Trailer)
						}
						before := with.Trailer.Clone()
						graphretry.ErrorFromResponse(with)
						_, err := io.ReadFull(with.Body, make([]byte, 20))
						require.NoError(t, err)
						assert.Equal(t, before, with.Trailer, "in the body")
						for _, resp := range []*http.Response{without, with} {
							_, err := io.Copy(io.Discard, resp.Body)
							require.NoError(t, err)
							require.NoError(t, resp.Body.Close())
						}
						assert.Equal(t, without.Trailer, with.Trailer, "at the end")
						assert.Equal(t, "abc", with.Trailer.Get("X-Checksum"))
						if announced {
							assert.Equal(t, with.Trailer, copied.Trailer, "of a copy")
						}

						closed := get(server.transport(t, server.next))
						require.NoError(t, closed.Body.Close())
						assert.Empty(t, closed.Trailer.Get("X-Checksum"), "of a body that nobody read")
					})
				}
			}
		}
	}
}

func TestTrailersOfACallThatHasNoTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := roundTripper(func(*http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: down.status, Header: http.Header{}, Trailer: http.Header{"X-Checksum": nil}}
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(down.body), readerFunc(func([]byte) (int, error) {
				resp.Trailer.Set("X-Checksum", "abc")
				return 0, io.EOF
			})))
			return resp, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		transport, events := eventsOf(t, next)
		resp, err := transport.RoundTrip(message(t, ctx))
		require.NoError(t, err)
		require.Len(t, events(), 2)
		assert.Equal(t, graphretry.ReasonNoTime, events()[1].Reason)
		assert.Equal(t, http.Header{"X-Checksum": nil}, resp.Trailer)
		content, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, down.body, string(content))
		assert.Equal(t, "abc", resp.Trailer.Get("X-Checksum"))
		require.NoError(t, resp.Body.Close())
	})
}
