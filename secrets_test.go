package graphretry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// outlets collects every word of a Transport's that a person may read.
type outlets struct{ bytes.Buffer }

// options has a Transport write all it says to o.
func (o *outlets) options() []graphretry.Option {
	return []graphretry.Option{
		graphretry.WithLogger(slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		graphretry.WithLogger(slog.New(slog.NewJSONHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			fmt.Fprintln(o, event.Kind, event.Reason)
			o.graph(event.Graph)
			if wait := new(graphretry.WaitError); errors.As(event.Err, &wait) {
				fmt.Fprintln(o, wait)
			}
		}),
	}
}

// graph writes all texts of e but Raw.
func (o *outlets) graph(e *graphretry.Error) {
	if e == nil {
		return
	}
	fmt.Fprintln(o, e, e.LogValue())
	texts := *e
	texts.Raw = nil
	fmt.Fprintf(o, "%+v\n%#v\n", texts, texts)
}

// carrier is a way in which a request brings a secret along.
type carrier struct {
	request func(*http.Request)
	secrets []string // as they may come back
}

// isNotIn fails the test if one of the secrets stands in a text, or the part of it
// that is easily overlooked.
func (c carrier) isNotIn(t testing.TB, text string) {
	t.Helper()
	for _, secret := range append(c.secrets, "m0re", "p4ss", "s3cr3t") {
		if at := strings.Index(text, secret); at >= 0 {
			assert.Fail(t, "a secret is out", "%q stands in ...%s...", secret, text[max(0, at-100):min(len(text), at+100)])
		}
	}
}

func carriers() map[string]carrier {
	query := func(raw string) func(*http.Request) {
		return func(req *http.Request) { req.URL.RawQuery = raw }
	}
	header := func(name, value string) func(*http.Request) {
		return func(req *http.Request) { req.Header[name] = append(req.Header[name], value) }
	}
	body := func(text string, secrets ...string) carrier {
		return carrier{func(req *http.Request) {
			req.Body = io.NopCloser(strings.NewReader(text))
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
		}, secrets}
	}
	return map[string]carrier{
		"access_token":                  {query("access_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"access_token among others":     {query("fields=id&access_token=s3cr3t-t0k3n&limit=1"), []string{"s3cr3t-t0k3n"}},
		"access_token twice":            {query("access_token=s3cr3t-one&access_token=s3cr3t-two"), []string{"s3cr3t-one", "s3cr3t-two"}},
		"access_token in capitals":      {query("ACCESS_TOKEN=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"access_token of an app":        {query("access_token=123%7Cs3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t"}},
		"the same, otherwise escaped":   {query("access_token=123%7cs3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t", "123%7cs3cr3t"}},
		"the same, not escaped":         {query("access_token=123|s3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t"}},
		"access_token with a semicolon": {query("access_token=s3cr3t;t0k3n"), []string{"s3cr3t;t0k3n"}},
		"access_token escaped badly":    {query("access_token=s3cr3t%zzt0k3n"), []string{"s3cr3t%zzt0k3n"}},
		"access_token with an =":        {query("access_token=s3cr3t=="), []string{"s3cr3t=="}},
		"access_token, name escaped":    {query("access_%74oken=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"appsecret_proof":               {query("appsecret_proof=0123456789abcdef"), []string{"0123456789abcdef"}},
		"client_secret":                 {query("client_id=77&client_secret=s3cr3t"), []string{"s3cr3t"}},
		"input_token":                   {query("input_token=s3cr3t-in&access_token=s3cr3t-ac"), []string{"s3cr3t-in", "s3cr3t-ac"}},
		"fb_exchange_token":             {query("fb_exchange_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"one secret begins another":     {query("access_token=s3cr3t&appsecret_proof=s3cr3t-and-m0re"), []string{"s3cr3t", "s3cr3t-and-m0re"}},
		"one secret ends another":       {query("client_secret=s3cr3t&access_token=m0re-and-s3cr3t"), []string{"s3cr3t", "m0re-and-s3cr3t"}},
		"user and password": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3rname", "p4ssw0rd") },
			[]string{"p4ssw0rd", "us3rname"},
		},
		"password that is escaped": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3rname", "p4ss w0rd/?#@!") },
			[]string{"p4ss w0rd/?#@!", "p4ss%20w0rd%2F%3F%23%40%21"},
		},
		"user that is escaped": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3r/n@me", "p4ssw0rd") },
			[]string{"us3r/n@me", "us3r%2Fn%40me", "p4ssw0rd"},
		},
		"user alone":         {func(req *http.Request) { req.URL.User = url.User("s3cr3t-t0k3n") }, []string{"s3cr3t-t0k3n"}},
		"Bearer":             {header("Authorization", "Bearer s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"OAuth":              {header("Authorization", "OAuth s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"bearer with spaces": {header("Authorization", "bearer   s3cr3t-t0k3n  "), []string{"s3cr3t-t0k3n"}},
		"Basic": {
			func(req *http.Request) { req.SetBasicAuth("user", "p4ssw0rd") },
			[]string{"dXNlcjpwNHNzdzByZA==", "p4ssw0rd"},
		},
		"Authorization without a scheme": {header("Authorization", "s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"Authorization in small letters": {header("authorization", "Bearer s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"Proxy-Authorization":            {header("Proxy-Authorization", "Basic c2VjcmV0"), []string{"c2VjcmV0"}},
		"Instagram's token in the body":  body("access_token=IGQVJXs3cr3ts3cr3ts3cr3t", "IGQVJXs3cr3ts3cr3ts3cr3t"),
		"Threads' token in the body":     body("access_token=THAAs3cr3ts3cr3ts3cr3t", "THAAs3cr3ts3cr3ts3cr3t"),
		"an app's token in the body":     body("access_token=123456|s3cr3t", "123456|s3cr3t", "123456%7Cs3cr3t"),
		"name and value in the body":     body("a=b&access_token=s3cr3t", "&access_token=s3cr3t", "access_token%3Ds3cr3t", `{"access_token":"s3cr3t"}`, `{\"app_secret\":\"s3cr3t\"}`),
		"token behind an escape":         body("", "%3DEAAGm0PX4ZCps3cr3t", "%20EAAGm0PX4ZCps3cr3t", "_EAAGm0PX4ZCps3cr3t", "xIGAAs3cr3ts3cr3t", "%3D123456%7Cs3cr3t"),
		"in a path":                      {func(req *http.Request) { req.URL.Path = "/v23.0/106540352242922/messages&appsecret_proof=0123s3cr3t" }, []string{"0123s3cr3t"}},
		"a second query in a value":      {query("redirect=https://example.com/?access_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"the same, escaped":              {query("redirect=https%3A%2F%2Fexample.com%2F%3Faccess_token%3Ds3cr3t-t0k3n%26x%3Dy"), []string{"s3cr3t-t0k3n"}},
		"a gateway's key":                {header("D360-Api-Key", "s3cr3t-k3y"), []string{"s3cr3t-k3y"}},
		"another gateway's key":          {header("X-Api-Key", "s3cr3t k3y"), []string{"s3cr3t k3y"}},
		"its token":                      {header("x-gateway-token", "s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"cookies":                        {header("Cookie", "a=b; session=s3cr3t-one; other=s3cr3t-two"), []string{"s3cr3t-one", "s3cr3t-two"}},
		"secret with a quote":            {header("X-Api-Key", `s3cr3t"k3y\`), []string{`s3cr3t"k3y\`, `s3cr3t\"k3y\\`, "s3cr3t%22k3y%5C"}},
		"in the body": {
			func(req *http.Request) {
				body := "access_token=EAAGm0PX4ZCpsBAKZCZBs3cr3t"
				req.Body = io.NopCloser(strings.NewReader(body))
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
			},
			[]string{"EAAGm0PX4ZCpsBAKZCZBs3cr3t"},
		},
	}
}

func TestSecretsThatMetaEchoesAreBlankedWhereverWeSpeak(t *testing.T) {
	for name, carrier := range carriers() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				echo := "Malformed access token " + strings.Join(carrier.secrets, ", ") + "."
				body := mustJSON(t, map[string]any{"error": map[string]any{
					"message": echo, "type": echo, "error_user_title": echo, "error_user_msg": echo, "fbtrace_id": echo,
					"error_data": map[string]string{"details": echo}, "code": 2,
				}})
				var said outlets
				transport, err := graphretry.NewTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
					resp := failedResponse(503, body)
					resp.Request = req
					return resp, nil
				}), append(said.options(), graphretry.WithOutageThreshold(1), graphretry.WithMaxElapsedTime(time.Second))...)
				require.NoError(t, err)

				// It gives up, and the host is down.
				req := message(t, t.Context())
				carrier.request(req)
				resp, err := transport.RoundTrip(req)
				require.NoError(t, err)
				e, ok := graphretry.ErrorFromResponse(resp)
				require.True(t, ok)
				said.graph(e)
				after, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, body, string(after), "the response's bytes are the caller's")
				assert.Contains(t, string(e.Raw), mustJSON(t, echo), "Raw is as it was received")

				// Another call is told why it is down.
				_, err = transport.RoundTrip(message(t, t.Context()))
				require.ErrorIs(t, err, graphretry.ErrOutage)
				fmt.Fprintln(&said, err)

				// One is canceled in the queue, one between two attempts.
				for _, gate := range []int{1, 0} {
					transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
						return failedResponse(503, body), nil
					}), append(said.options(), graphretry.WithOutageThreshold(gate))...)
					require.NoError(t, err)
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(2*time.Second, cancel)
					req = message(t, ctx)
					carrier.request(req)
					_, err = transport.RoundTrip(req)
					require.ErrorIs(t, err, context.Canceled)
					var graph *graphretry.Error
					require.ErrorAs(t, err, &graph)
					said.graph(graph)
					fmt.Fprintln(&said, err)
				}

				carrier.isNotIn(t, said.String())
				assert.Regexp(t, `Malformed access token \S*\[REDACTED\]`, said.String(), "all else is there to read")
			})
		})
	}
}

func TestSecretsInErrorsOfTheNextRoundTripperAreBlankedInLogs(t *testing.T) {
	for name, carrier := range carriers() {
		t.Run(name, func(t *testing.T) {
			req := message(t, t.Context())
			carrier.request(req)
			// As a proxy, or a RoundTripper that makes requests of its own, says it.
			failure := &url.Error{Op: "Post", URL: req.URL.String(), Err: fmt.Errorf("refused %v with %v: %s", req.URL, req.Header, strings.Join(carrier.secrets, ", "))}
			var said outlets
			transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
				return nil, failure
			}), said.options()...)
			require.NoError(t, err)
			_, err = transport.RoundTrip(req)
			assert.Equal(t, failure, err, "the error itself is the caller's")
			carrier.isNotIn(t, said.String())
			assert.Contains(t, said.String(), "refused")
			assert.Contains(t, said.String(), "/v23.0/106540352242922/messages")
		})
	}
}

// A RoundTripper below may put a token into the query, and tell of it in an error
// with the URL in quotes.
func TestNoQueryInAnErrorOfTheNextRoundTripperIsLogged(t *testing.T) {
	const secret = "1234|s3cr3t"
	for _, test := range []struct{ error, logged string }{
		{`Get "https://graph.facebook.com/v23.0/1?access_token=1234|s3cr3t": EOF`, `Get "https://graph.facebook.com/v23.0/1?[REDACTED]": EOF`},
		{`Get "https://graph.facebook.com/1?filtering=[{\"to\":\"1234|s3cr3t\"}]&a=b": EOF`, `Get "https://graph.facebook.com/1?[REDACTED]": EOF`},
		{`GET https://graph.facebook.com/1?filtering=[{"to":"1234|s3cr3t"}]: EOF`, `GET https://graph.facebook.com/1?[REDACTED] EOF`},
		{`GET http://127.0.0.1:8080/1?x=1234|s3cr3t`, `GET http://127.0.0.1:8080/1?[REDACTED]`},
		{`proxyconnect "http://proxy": why? nobody knows`, `proxyconnect "http://proxy": why? nobody knows`},
	} {
		var log bytes.Buffer
		next := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New(test.error) })
		transport := newTransport(t, next, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		_, err := transport.RoundTrip(message(t, t.Context()))
		require.EqualError(t, err, test.error, "the caller's is as it came")
		assert.NotContains(t, log.String(), secret)
		assert.Equal(t, test.logged, records(t, &log)[0]["error"])
	}
}

// The token is on a clone of the request, as of golang.org/x/oauth2, which the
// caller never sees.
func TestTokenOfARoundTripperBelowIsBlankedHoweverTheBodyIsSent(t *testing.T) {
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		_, err := io.Copy(io.Discard, req.Body)
		require.NoError(t, err)
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer 1234|s3cr3t")
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Request: req,
			Body: io.NopCloser(strings.NewReader(`{"error":{"code":190,"message":"Malformed access token 1234|s3cr3t"}}`))}, nil
	})
	for name, body := range map[string]io.Reader{
		"GetBody": strings.NewReader(messageBody), "stream": io.MultiReader(strings.NewReader(messageBody)),
	} {
		resp, err := newTransport(t, next).RoundTrip(messageRequest(t, body))
		require.NoError(t, err)
		graph, isGraph := graphretry.ErrorFromResponse(resp)
		require.True(t, isGraph)
		assert.Equal(t, "Malformed access token [REDACTED]", graph.Message, name)
	}
}

func TestNoQueryOfTheRequestIsLogged(t *testing.T) {
	req := message(t, t.Context())
	req.URL.RawQuery = "phone=16505551234&name=J%C3%BCrgen"
	var said outlets
	transport, err := graphretry.NewTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: io.EOF}
	}), said.options()...)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	require.ErrorIs(t, err, io.EOF)
	assert.NotContains(t, said.String(), "16505551234")
	assert.NotContains(t, said.String(), "rgen")
	assert.Contains(t, said.String(), "path=/v23.0/106540352242922/messages")
}

func TestUserOfAProxyIsNotLogged(t *testing.T) {
	var said outlets
	transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, errors.New(`proxyconnect "http://us3rname:p4ssw0rd@proxy.example.com:3128": Proxy Authentication Required; mail me@example.com`)
	}), said.options()...)
	require.NoError(t, err)
	_, err = transport.RoundTrip(message(t, t.Context()))
	require.ErrorContains(t, err, "p4ssw0rd", "the error itself is the caller's")
	assert.NotContains(t, said.String(), "p4ssw0rd")
	assert.NotContains(t, said.String(), "us3rname")
	assert.Contains(t, said.String(), "proxy.example.com:3128")
	assert.Contains(t, said.String(), "me@example.com", "an address of mail is no user of a URL")
}

func TestAccessTokenIsBlankedWhereNoRequestIsKnown(t *testing.T) {
	const token = "EAAGm0PX4ZCpsBAKZCZBs3cr3t"
	var said outlets
	body := `{"error":{"message":"Malformed access token ` + token + `","code":190}}`
	e, ok := graphretry.ParseError(401, []byte(body))
	require.True(t, ok)
	said.graph(e)
	e, ok = graphretry.ErrorFromResponse(failedResponse(401, body))
	require.True(t, ok)
	said.graph(e)
	failures, err := graphretry.ParseWebhook([]byte(`{"entry":[{"changes":[{"value":{"errors":[{"code":190,"title":"Malformed access token ` + token + `"}]}}]}]}`))
	require.NoError(t, err)
	require.Len(t, failures, 1)
	said.graph(failures[0].Graph)

	assert.NotContains(t, said.String(), token)
	assert.Equal(t, 0, strings.Count(said.String(), "EAAG"))
	assert.Contains(t, said.String(), "Malformed access token [REDACTED]")
}

func TestShortestSecretHasFourCharacters(t *testing.T) {
	for secret, message := range map[string]string{"abc": "Bad token abc", "abcd": "Bad token [REDACTED]"} {
		resp := failedResponse(400, `{"error":{"message":"Bad token `+secret+`","code":190}}`)
		resp.Request = messageRequest(t, nil)
		resp.Request.URL.RawQuery = "access_token=" + secret
		graph, _ := graphretry.ErrorFromResponse(resp)
		assert.Equal(t, message, graph.Message)
	}
}

func TestWhatIsNoSecretIsLeftToRead(t *testing.T) {
	for name, prepare := range map[string]func(*http.Request){
		"short values":      func(req *http.Request) { req.URL.RawQuery = "access_token=a&fields=id" },
		"an empty value":    func(req *http.Request) { req.URL.RawQuery = "access_token=&appsecret_proof" },
		"no headers":        func(req *http.Request) { req.Header = nil },
		"an empty header":   func(req *http.Request) { req.Header.Set("Authorization", "") },
		"a scheme alone":    func(req *http.Request) { req.Header.Set("Authorization", "Bearer ") },
		"a scheme, no more": func(req *http.Request) { req.Header.Set("Authorization", "a") },
		"ordinary fields":   func(req *http.Request) { req.URL.RawQuery = "fields=nonexisting&limit=field" },
	} {
		t.Run(name, func(t *testing.T) {
			const text = "(#100) Tried accessing nonexisting field (a) of a Bearer token, EAAs and EAA1 among them?"
			var said outlets
			transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
				return failedResponse(400, mustJSON(t, map[string]any{"error": map[string]any{"message": text, "code": 100}})), nil
			}), said.options()...)
			require.NoError(t, err)
			req := message(t, t.Context())
			prepare(req)
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Contains(t, said.String(), text)
			assert.NotContains(t, said.String(), "[REDACTED]")
		})
	}
}

func TestSecretInAPathIsNotLogged(t *testing.T) {
	var said outlets
	transport, err := graphretry.NewTransport(graphtest.New(), append(said.options(), graphretry.WithMaxElapsedTime(1))...)
	require.NoError(t, err)
	req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v23.0/s3cr3t-t0k3n/messages", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer s3cr3t-t0k3n")
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Contains(t, said.String(), "/v23.0/[REDACTED]/messages")
	assert.NotContains(t, said.String(), "s3cr3t-t0k3n")
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// It is of no form of Meta's, and comes back without its name.
func TestSecretOfTheBodyIsBlankedInAnErrorAboutATokenOrAParameter(t *testing.T) {
	for name, body := range map[string]string{
		"form":      "a=b&client_secret=0paque+s3cr3t&c=d",
		"JSON":      `{"client_secret":"0paque s3cr3t","a":1}`,
		"multipart": "--x\r\nContent-Disposition: form-data; name=\"client_secret\"\r\n\r\n0paque s3cr3t\r\n--x--\r\n",
	} {
		for _, code := range []int{190, 100, 10} {
			var said outlets
			transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
				return failedResponse(400, fmt.Sprintf(`{"error":{"message":"Bad value 0paque s3cr3t, or 0paque+s3cr3t","code":%d}}`, code)), nil
			}), said.options()...)
			require.NoError(t, err)
			resp, err := transport.RoundTrip(messageRequest(t, strings.NewReader(body)))
			require.NoError(t, err)
			graph, _ := graphretry.ErrorFromResponse(resp)
			said.graph(graph)
			assert.NotContains(t, said.String(), "s3cr3t", "%s, %d", name, code)
			assert.Contains(t, said.String(), "Bad value [REDACTED], or [REDACTED]", "%s, %d", name, code)
		}
	}
}
