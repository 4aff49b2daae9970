package compose

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// mint is a source of numbered tokens that are good for a minute.
type mint struct {
	made    int
	expires map[string]time.Time // by Authorization header
}

func (m *mint) Token() (*oauth2.Token, error) {
	m.made++
	token := &oauth2.Token{AccessToken: fmt.Sprintf("token-%d", m.made), Expiry: time.Now().Add(time.Minute)}
	m.expires["Bearer "+token.AccessToken] = token.Expiry
	return token, nil
}

// checked answers as the API does to a token that has expired: with code 190.
func (m *mint) checked(w *wire) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if !time.Now().Before(m.expires[req.Header.Get("Authorization")]) {
			w.AnswerNext(1, graphtest.Answer{Code: 190})
		}
		return w.RoundTrip(req)
	})
}

func TestOauth2InsideIsAskedForATokenPerAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tokens := newWire(), &mint{expires: map[string]time.Time{}}
		w.failTwice()

		status, _ := send(t.Context(), t, retrying(t, &oauth2.Transport{Source: tokens, Base: tokens.checked(w)}))

		require.Equal(t, 200, status)
		assert.Equal(t, []string{"Bearer token-1", "Bearer token-2", "Bearer token-3"}, w.values("Authorization"))
	})
}

// Inside is right: a call may wait for longer than its token is good.
func TestOauth2InsideRenewsATokenThatExpiredInAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tokens := newWire(), &mint{expires: map[string]time.Time{}}
		w.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		source := oauth2.ReuseTokenSource(nil, tokens) // as oauth2.NewClient has it

		status, _ := send(t.Context(), t, retrying(t, &oauth2.Transport{Source: source, Base: tokens.checked(w)}))

		assert.Equal(t, 200, status)
		used := w.values("Authorization")
		require.Greater(t, len(used), 2)
		assert.Equal(t, used[0], used[1], "renewed although it was good")
		assert.NotEqual(t, used[0], used[len(used)-1])
		for _, call := range w.Calls() {
			assert.NotEqual(t, graphretry.Code(190), call.Code, "an expired token was sent")
		}
	})
}

// Outside is second best: the token is chosen once, before the first attempt. If
// it expires in a wait the call is lost with code 190, which no retry can cure.
func TestOauth2OutsideSendsTheTokenOfTheFirstInEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tokens := newWire(), &mint{expires: map[string]time.Time{}}
		w.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		source := oauth2.ReuseTokenSource(nil, tokens)
		stack := &oauth2.Transport{Source: source, Base: retrying(t, tokens.checked(w))}

		status, answer := send(t.Context(), t, stack)

		assert.Equal(t, 401, status)
		assert.Contains(t, answer, `"code":190`)
		expired := 0
		for _, call := range w.Calls() {
			if call.Code == 190 {
				expired++
			}
		}
		assert.Equal(t, 1, expired, "what no retry can cure was retried")
		for _, used := range w.values("Authorization") {
			assert.Equal(t, "Bearer token-1", used)
		}

		w.Clear()
		status, _ = send(t.Context(), t, stack)
		assert.Equal(t, 200, status, "the next call has the next token")
	})
}

// A token source that fails is a failure of the call, told as it is.
func TestFailureOfATokenSourceInsideIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, asked := newWire(), 0
		source := tokenSource(func() (*oauth2.Token, error) {
			asked++
			return nil, &oauth2.RetrieveError{ErrorCode: "invalid_grant"}
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, nil)
		require.NoError(t, err)

		var reasons []graphretry.Reason
		_, err = retrying(t, &oauth2.Transport{Source: source, Base: w}, graphretry.WithNetworkRetries(),
			graphretry.WithObserver(func(_ context.Context, event graphretry.Event) { reasons = append(reasons, event.Reason) })).RoundTrip(req)

		var refused *oauth2.RetrieveError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, []graphretry.Reason{graphretry.ReasonAmbiguous}, reasons, "the error does not say that nothing was sent")
		assert.Equal(t, 1, asked)
		assert.Empty(t, w.Calls())
	})
}

// tokenSource is a function that is an oauth2.TokenSource.
type tokenSource func() (*oauth2.Token, error)

func (f tokenSource) Token() (*oauth2.Token, error) { return f() }

// Meta echoes a token that it finds malformed. The caller's request does not
// hold it, since the transport inside set it.
func TestTokenSetInsideNeverReachesALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "1234567890|Zk3k2jfAppSecret"
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, Message: "Malformed access token " + secret})
		api.AnswerNext(1, graphtest.Answer{Code: 190, Message: "Malformed access token " + secret})
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(
			&oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: secret}), Base: api},
			graphretry.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, err)

		status, _ := send(t.Context(), t, transport)

		require.Equal(t, 401, status)
		assert.Contains(t, log.String(), "Malformed access token [REDACTED]")
		assert.NotContains(t, log.String(), secret)
	})
}
