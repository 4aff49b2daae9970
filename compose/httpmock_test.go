package compose

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// failOnce is a responder that fails once and then succeeds.
func failOnce() httpmock.Responder {
	return httpmock.NewBytesResponder(503, graphtest.ErrorBody(graphretry.CodeAPIService)).
		Then(httpmock.NewStringResponder(200, `{"messages":[{"id":"wamid.1"}]}`))
}

// Inside is right: the mock stands for the API, and answers each attempt.
func TestHttpmockInsideAnswersEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mock := httpmock.NewMockTransport()
		mock.RegisterMatcherResponder(http.MethodPost, messagesURL, httpmock.BodyContainsString("See you at nine."), failOnce())

		status, answer := send(t.Context(), t, retrying(t, mock))

		assert.Equal(t, 200, status)
		assert.Contains(t, answer, "wamid.1")
		assert.Equal(t, 2, mock.GetTotalCallCount())
	})
}

// ActivateNonDefault puts the mock in place of a client's Transport. Of a client
// that is wrapped already it takes the retries away, and the test tests less than
// it seems to; so wrap it after.
func TestHttpmockReplacesGraphretryUnlessTheClientIsWrappedAfter(t *testing.T) {
	for _, test := range []struct {
		name   string
		client func(*testing.T) *http.Client
		status int
	}{
		{"activated, then wrapped", func(t *testing.T) *http.Client {
			client := &http.Client{}
			httpmock.ActivateNonDefault(client)
			wrapped, err := graphretry.WrapClient(client)
			require.NoError(t, err)
			return wrapped
		}, 200},
		{"wrapped, then activated", func(t *testing.T) *http.Client {
			wrapped, err := graphretry.WrapClient(&http.Client{})
			require.NoError(t, err)
			httpmock.ActivateNonDefault(wrapped)
			return wrapped
		}, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Cleanup(httpmock.DeactivateAndReset)
				httpmock.RegisterResponder(http.MethodPost, messagesURL, failOnce())
				resp, err := test.client(t).Post(messagesURL, "application/json", strings.NewReader(message))
				require.NoError(t, err)
				defer resp.Body.Close()
				assert.Equal(t, test.status, resp.StatusCode)
			})
		})
	}
}

// Activate replaces http.DefaultTransport, which NewTransport(nil) looks up when
// it is called. So activate first: what was made before goes on to the network.
func TestHttpmockMustBeActiveBeforeANilNextIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newWire()
		setDefaultTransport(t, network)

		before := retrying(t, nil)
		httpmock.Activate(t)
		httpmock.RegisterResponder(http.MethodPost, messagesURL, failOnce())
		after := retrying(t, nil)

		_, _ = send(t.Context(), t, before)
		assert.Len(t, network.Calls(), 1)
		assert.Zero(t, httpmock.GetTotalCallCount())

		status, _ := send(t.Context(), t, after)
		assert.Equal(t, 200, status)
		assert.Equal(t, 2, httpmock.GetTotalCallCount())
		assert.Len(t, network.Calls(), 1)
	})
}

// A mock does not read the request, which the API always does. A body that
// net/http cannot make again is kept only as far as it was read, so without a
// reading responder such a call has one attempt.
func TestHttpmockMustReadAStreamForItToBeRetried(t *testing.T) {
	reading := func(respond httpmock.Responder) httpmock.Responder {
		return func(req *http.Request) (*http.Response, error) {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return nil, err
			}
			return respond(req)
		}
	}
	for _, test := range []struct {
		name      string
		responder httpmock.Responder
		status    int
	}{
		{"read", reading(failOnce()), 200},
		{"not read", failOnce(), 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mock := httpmock.NewMockTransport()
				mock.RegisterResponder(http.MethodPost, messagesURL, test.responder)
				stream := io.MultiReader(strings.NewReader(message)) // no GetBody
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, stream)
				require.NoError(t, err)

				status, _ := do(t, retrying(t, mock), req)

				assert.Equal(t, test.status, status)
			})
		})
	}
}
