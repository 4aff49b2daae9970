// Package clients_test tests that clients which retry by themselves do not, with the
// settings that the guide gives, and what they do without.
package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/gregjones/httpcache"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/markbates/goth/providers/facebook"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"golang.org/x/oauth2"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/messages"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	base    = "https://graph.facebook.com/v25.0"
	sendURL = base + "/106540352242922/messages"
	text    = `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":"See you at nine."}}`
)

// call makes one call through a client that has the given transport.
type call func(ctx context.Context, next http.RoundTripper) error

// failed returns an error for a status that is no success.
func failed(status int) error {
	if status >= http.StatusBadRequest {
		return fmt.Errorf("HTTP status %d", status)
	}
	return nil
}

// retryOptions have the waits take milliseconds.
var retryOptions = []graphretry.Option{graphretry.WithInitialInterval(time.Millisecond), graphretry.WithMaxInterval(4 * time.Millisecond)}

// wrap returns what retries around next.
func wrap(next http.RoundTripper) (*graphretry.Transport, error) {
	return graphretry.NewTransport(next, retryOptions...)
}

// calls are the clients, with the settings that the guide gives.
var calls = map[string]call{
	"resty": func(ctx context.Context, next http.RoundTripper) error {
		transport, err := wrap(next)
		if err != nil {
			return err
		}
		client := resty.NewWithClient(&http.Client{Transport: transport})
		client.SetRetryCount(0) // the default
		resp, err := client.R().SetContext(ctx).SetHeader("Content-Type", "application/json").SetBody(text).Post(sendURL)
		if err != nil {
			return err
		}
		return failed(resp.StatusCode())
	},
	"go-retryablehttp": func(ctx context.Context, next http.RoundTripper) error {
		transport, err := wrap(next)
		if err != nil {
			return err
		}
		client := retryablehttp.NewClient()
		client.HTTPClient = &http.Client{Transport: transport}
		client.RetryMax = 0
		client.ErrorHandler = retryablehttp.PassthroughErrorHandler // else the response is dropped
		client.Logger = nil
		req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, sendURL, []byte(text))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, ok := graphretry.ErrorFromResponse(resp); !ok && resp.StatusCode >= http.StatusBadRequest {
			return fmt.Errorf("HTTP status %d, and no Graph error", resp.StatusCode)
		}
		return failed(resp.StatusCode)
	},
	"oapi-codegen": func(ctx context.Context, next http.RoundTripper) error {
		transport, err := wrap(next)
		if err != nil {
			return err
		}
		client, err := messages.NewClientWithResponses(base, messages.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			return err
		}
		resp, err := client.SendMessageWithBodyWithResponse(ctx, "106540352242922", "application/json", bytes.NewReader([]byte(text)))
		if err != nil {
			return err
		}
		return failed(resp.StatusCode())
	},
	// The token goes inside: each attempt asks for it.
	"oauth2, its transport": func(ctx context.Context, next http.RoundTripper) error {
		token := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "EAAJ-example"})
		transport, err := wrap(&oauth2.Transport{Source: token, Base: next})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, bytes.NewReader([]byte(text)))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		return failed(resp.StatusCode)
	},
	// Login with Facebook: a code is exchanged for a token.
	"oauth2, an exchange": func(ctx context.Context, next http.RoundTripper) error {
		transport, err := wrap(next)
		if err != nil {
			return err
		}
		ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: transport})
		config := &oauth2.Config{ClientID: "1", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: base + "/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams}}
		_, err = config.Exchange(ctx, "code")
		return err
	},
	"goth": func(_ context.Context, next http.RoundTripper) error {
		transport, err := wrap(next)
		if err != nil {
			return err
		}
		provider := facebook.New("1", "secret", "https://example.com/callback")
		provider.HTTPClient = &http.Client{Transport: transport}
		_, err = provider.FetchUser(&facebook.Session{AccessToken: "EAAJ-example"})
		return err
	},
}

// token is what the API answers to an exchange.
var token = graphtest.Answer{Body: []byte(`{"access_token":"EAAJ-example","token_type":"bearer"}`), Header: http.Header{"Content-Type": {"application/json"}}}

func TestTwoTwiceIsRiddenOut(t *testing.T) {
	for name, call := range calls {
		server := graphtest.NewServer(t)
		server.AnswerNext(2, graphtest.Answer{Code: 2})
		server.AnswerNext(1, token)
		require.NoError(t, call(t.Context(), server.Client().Transport), name)
		assert.Len(t, server.Calls(), 3, name)
	}
}

func Test131000IsRetriedOnce(t *testing.T) {
	for name, call := range calls {
		server := graphtest.NewServer(t)
		server.AnswerNext(5, graphtest.Answer{Code: 131000})
		assert.Error(t, call(t.Context(), server.Client().Transport), name)
		assert.Len(t, server.Calls(), 2, name)
	}
}

func TestCallOverABrokenConnectionIsMadeOnce(t *testing.T) {
	for name, call := range calls {
		server := graphtest.NewServer(t)
		server.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		server.AnswerNext(5, token)
		assert.Error(t, call(t.Context(), server.Client().Transport), name)
		assert.Len(t, server.Calls(), 1, name)
	}
}

// What they do by themselves, without graphretry: a message that was accepted is sent again
// because the connection broke.
func TestRetriesOfTheirOwnSendTwiceAfterABrokenConnection(t *testing.T) {
	for name, send := range map[string]func(*graphtest.Server){
		"go-retryablehttp, by default": func(server *graphtest.Server) {
			client := retryablehttp.NewClient()
			client.HTTPClient, client.Logger = server.Client(), nil
			client.RetryWaitMin = time.Millisecond
			resp, err := client.Post(sendURL, "application/json", []byte(text))
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		},
		"resty, with SetRetryCount alone": func(server *graphtest.Server) {
			client := resty.NewWithClient(server.Client()).SetRetryCount(3).SetRetryWaitTime(time.Millisecond)
			_, err := client.R().SetHeader("Content-Type", "application/json").SetBody(text).Post(sendURL)
			assert.NoError(t, err)
		},
	} {
		server := graphtest.NewServer(t)
		server.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		send(server)
		assert.Len(t, server.Accepted(), 2, name)
	}
}

// 5 attempts of go-retryablehttp's with 3 of graphretry's each.
func TestRetriesOfBothMultiply(t *testing.T) {
	server := graphtest.NewServer(t)
	server.AnswerNext(100, graphtest.Answer{Code: 2})
	transport, err := graphretry.NewTransport(server.Client().Transport, append(retryOptions, graphretry.WithMaxRetries(2))...)
	require.NoError(t, err)
	client := retryablehttp.NewClient()
	client.HTTPClient, client.Logger = &http.Client{Transport: transport}, nil
	client.RetryWaitMin, client.RetryWaitMax = time.Millisecond, time.Millisecond
	_, err = client.Post(sendURL, "application/json", []byte(text))
	assert.Error(t, err)
	assert.Len(t, server.Calls(), 15)
}

// fasthttp takes no RoundTripper, so the policy decides. Its client repeats no POST by itself.
func TestFasthttp(t *testing.T) {
	api := graphtest.New()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	policy, err := graphretry.NewPolicy()
	require.NoError(t, err)
	client := &fasthttp.Client{}
	post := func() (graphretry.Decision, error) {
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		req.SetRequestURI(server.URL + "/v25.0/106540352242922/messages")
		req.Header.SetMethod(http.MethodPost)
		req.SetBodyString(text)
		if err := client.Do(req, resp); err != nil {
			return policy.Next(nil, err, graphretry.History{}), err
		}
		return decide(policy, resp, graphretry.History{}), nil
	}
	api.AnswerNext(1, graphtest.Answer{Code: 4, RetryAfter: "120"})
	decision, err := post()
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeHeld, decision.Outcome)
	assert.Equal(t, 2*time.Minute, decision.Wait, "the header counts")

	api.AnswerNext(1, graphtest.Answer{Status: 502, Accept: true})
	decision, err = post()
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeUnknown, decision.Outcome)

	decision, err = post()
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeSent, decision.Outcome)

	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	decision, err = post()
	assert.Error(t, err)
	assert.Equal(t, graphretry.OutcomeUnknown, decision.Outcome)
	assert.Len(t, api.Accepted(), 3, "each once")
}

// decide says what becomes of a job after an answer of fasthttp's.
func decide(policy *graphretry.Policy, resp *fasthttp.Response, history graphretry.History) graphretry.Decision {
	answer := &http.Response{StatusCode: resp.StatusCode(), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(resp.Body()))}
	for name, value := range resp.Header.All() {
		answer.Header.Add(string(name), string(value))
	}
	return policy.Next(answer, nil, history)
}

// An HTTP cache inside answers each retry from itself.
func TestCacheGoesOutside(t *testing.T) {
	get := func(t *testing.T, build func(next http.RoundTripper) (http.RoundTripper, error)) (status, reached int) {
		server := graphtest.NewServer(t)
		server.AnswerNext(2, graphtest.Answer{Code: 2, Header: http.Header{"Cache-Control": {"max-age=60"}}})
		transport, err := build(server.Client().Transport)
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: transport}).Get(base + "/106540352242922")
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode, len(server.Calls())
	}
	status, reached := get(t, func(next http.RoundTripper) (http.RoundTripper, error) {
		transport, err := wrap(next)
		return &httpcache.Transport{Transport: transport, Cache: httpcache.NewMemoryCache()}, err
	})
	assert.Equal(t, []int{200, 3}, []int{status, reached}, "outside")
	status, reached = get(t, func(next http.RoundTripper) (http.RoundTripper, error) {
		return graphretry.NewTransport(&httpcache.Transport{Transport: next, Cache: httpcache.NewMemoryCache()}, append(retryOptions, graphretry.WithMaxRetries(5))...)
	})
	assert.Equal(t, []int{503, 1}, []int{status, reached}, "inside")
}
