// Package compose tests graphretry among other RoundTrippers. One that wraps
// graphretry is outside and sees calls; one that graphretry wraps is inside and
// sees attempts.
package compose

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"golang.org/x/oauth2"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	messagesURL = "https://graph.facebook.com/v25.0/106540352242922/messages"
	message     = `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":"See you at nine."}}`
)

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// wire is the end of every stack: a fake API, and the headers of what came there.
type wire struct {
	*graphtest.API
	headers []http.Header
}

func newWire() *wire { return &wire{API: graphtest.New()} }

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.headers = append(w.headers, req.Header.Clone())
	return w.API.RoundTrip(req)
}

// values are the values of one header, attempt by attempt.
func (w *wire) values(name string) []string {
	var values []string
	for _, header := range w.headers {
		values = append(values, strings.Join(header.Values(name), ", "))
	}
	return values
}

// failTwice has the API fail twice in a way that is retried.
func (w *wire) failTwice() { w.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService}) }

// retrying wraps next in graphretry.
func retrying(t *testing.T, next http.RoundTripper, opts ...graphretry.Option) *graphretry.Transport {
	t.Helper()
	transport, err := graphretry.NewTransport(next, opts...)
	require.NoError(t, err)
	return transport
}

// send sends a message and reads the answer, as a program does.
func send(ctx context.Context, t *testing.T, stack http.RoundTripper) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, messagesURL, strings.NewReader(message))
	require.NoError(t, err)
	return do(t, stack, req)
}

func do(t *testing.T, stack http.RoundTripper, req *http.Request) (status int, answer string) {
	t.Helper()
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: stack}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// Whatever stands above or below, each attempt has the whole body: one that
// net/http can make again, and a stream that graphretry has to keep.
func TestBodyIsWholeInEveryAttemptOfEveryStack(t *testing.T) {
	token := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token"})
	for name, stack := range map[string]func(*testing.T, *wire) http.RoundTripper{
		"alone":            func(t *testing.T, w *wire) http.RoundTripper { return retrying(t, w) },
		"otelhttp outside": func(t *testing.T, w *wire) http.RoundTripper { return otelhttp.NewTransport(retrying(t, w)) },
		"otelhttp inside":  func(t *testing.T, w *wire) http.RoundTripper { return retrying(t, otelhttp.NewTransport(w)) },
		"oauth2 outside": func(t *testing.T, w *wire) http.RoundTripper {
			return &oauth2.Transport{Source: token, Base: retrying(t, w)}
		},
		"oauth2 inside": func(t *testing.T, w *wire) http.RoundTripper {
			return retrying(t, &oauth2.Transport{Source: token, Base: w})
		},
		"header outside": func(t *testing.T, w *wire) http.RoundTripper { return setHeader(retrying(t, w), theTime) },
		"header inside":  func(t *testing.T, w *wire) http.RoundTripper { return retrying(t, setHeader(w, theTime)) },
		"all of them, otelhttp on both sides": func(t *testing.T, w *wire) http.RoundTripper {
			authorized := &oauth2.Transport{Source: token, Base: otelhttp.NewTransport(w)}
			return otelhttp.NewTransport(retrying(t, setHeader(authorized, theTime)))
		},
	} {
		for kind, body := range map[string]io.Reader{
			"known":  strings.NewReader(message),
			"stream": io.MultiReader(strings.NewReader(message)), // no GetBody
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWire()
					w.failTwice()
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, body)
					require.NoError(t, err)

					status, answer := do(t, stack(t, w), req)

					assert.Equal(t, 200, status)
					assert.Contains(t, answer, "wamid.")
					require.Len(t, w.Calls(), 3)
					for _, call := range w.Calls() {
						assert.Equal(t, message, string(call.Body))
					}
					assert.Zero(t, w.Totals().OpenBodies, "an answer was not closed")
				})
			})
		}
	}
}
