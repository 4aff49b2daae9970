package graphtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// way is one way to reach an API.
type way struct {
	name   string
	client *http.Client
	url    string
}

func (w way) inMemory() bool { return w.name == "in memory" }

// overEachWay runs a test in memory (and in virtual time), over HTTP/1.1 and over
// HTTP/2, each with an API of its own.
func overEachWay(t *testing.T, test func(*testing.T, *graphtest.API, way)) {
	t.Helper()
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			test(t, api, memory(api))
		})
	})
	for name, major := range map[string]int{"HTTP/1.1": 1, "HTTP/2": 2} {
		t.Run(name, func(t *testing.T) {
			if major == 2 {
				needsHTTP2(t)
			}
			api := graphtest.New()
			checked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, major, r.ProtoMajor)
				api.ServeHTTP(w, r)
			})
			server := httptest.NewUnstartedServer(checked)
			server.EnableHTTP2 = major == 2
			server.StartTLS()
			t.Cleanup(server.Close)
			client := server.Client()
			// What is left hanging must fail the test, not block it.
			client.Timeout = 30 * time.Second
			test(t, api, way{name, client, server.URL})
		})
	}
}

// needsHTTP2 skips a test where GODEBUG forbids net/http's client to speak HTTP/2.
func needsHTTP2(t *testing.T) {
	t.Helper()
	if strings.Contains(os.Getenv("GODEBUG"), "http2client=0") {
		t.Skip("GODEBUG has http2client=0, so net/http asks for no HTTP/2")
	}
}

func memory(api *graphtest.API) way {
	return way{"in memory", &http.Client{Transport: api}, "https://graph.facebook.com"}
}

// answered is a response that has been read to its end.
type answered struct {
	*http.Response
	body string
}

func (w way) do(t *testing.T, method, path, contentType, body string) answered {
	t.Helper()
	response, err := w.try(t, method, path, contentType, body)
	require.NoError(t, err)
	return read(t, response)
}

func (w way) try(t *testing.T, method, path, contentType, body string) (*http.Response, error) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, w.url+path, reader)
	require.NoError(t, err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return w.client.Do(request)
}

func read(t *testing.T, response *http.Response) answered {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answered{response, string(body)}
}

const (
	messages = "/v25.0/106540352242922/messages"
	media    = "/v25.0/106540352242922/media"
)

// message is a text message with that biz_opaque_callback_data.
func message(key string) string {
	return `{"messaging_product":"whatsapp","to":"+1 650-555-1234","type":"text","text":{"body":"Hello"},` +
		`"biz_opaque_callback_data":"` + key + `"}`
}

func (w way) send(t *testing.T, key string) answered {
	t.Helper()
	return w.do(t, http.MethodPost, messages, "application/json", message(key))
}

// code is the code of the Graph error in an answer, 0 if there is none.
func (a answered) code(t *testing.T) int {
	t.Helper()
	var body struct {
		Error struct{ Code int }
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	return body.Error.Code
}
