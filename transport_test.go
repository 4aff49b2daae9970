package graphretry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

func TestCallRidesOutAnOutageOverRealHTTP(t *testing.T) {
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(body))
		if len(bodies) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":{"message":"down","code":2,"fbtrace_id":"A1"}}`)
			return
		}
		io.WriteString(w, `{"messages":[{"id":"wamid.1"}]}`)
	}))
	defer server.Close()

	client, err := graphretry.WrapClient(nil, graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond))
	require.NoError(t, err)
	resp, err := client.Post(server.URL+"/v23.0/1/messages", "application/json", strings.NewReader(`{"to":"1"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, `{"messages":[{"id":"wamid.1"}]}`, string(body))
	assert.Equal(t, []string{`{"to":"1"}`, `{"to":"1"}`, `{"to":"1"}`}, bodies)
}
