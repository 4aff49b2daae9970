package graphretry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

func TestSecretsThatMetaEchoesAreBlankedInLogsErrorsAndEvents(t *testing.T) {
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
				another := message(t, t.Context())
				another.URL.Path = req.URL.Path // of another path one call would be sent
				_, err = transport.RoundTrip(another)
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
			assert.Contains(t, said.String(), "/v25.0/106540352242922/messages")
		})
	}
}

// A RoundTripper below may put a token into the query, and tell of it in an error
// with the URL in quotes.
func TestNoQueryInAnErrorOfTheNextRoundTripperIsLogged(t *testing.T) {
	const secret = "1234|s3cr3t"
	for _, test := range []struct{ error, logged string }{
		{`Get "https://graph.facebook.com/v25.0/1?access_token=1234|s3cr3t": EOF`, `Get "https://graph.facebook.com/v25.0/1?[REDACTED]": EOF`},
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
		assert.Equal(t, test.logged, records(t, &log)[0]["error.message"])
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
	assert.Contains(t, said.String(), "path=/v25.0/106540352242922/messages")
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
	e, ok := graphretry.ParseError(401, nil, []byte(body))
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

func TestTextThatIsNotASecretIsNotBlanked(t *testing.T) {
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

// What Meta says of tokens and parameters is what helps, and none of it is a value.
func TestNameOfASecretIsNotBlanked(t *testing.T) {
	for _, text := range []string{
		"Error validating access token: Session has expired on Friday, 27-Nov-26 04:00:00 PST.",
		"Invalid appsecret_proof provided in the API argument",
		"The access token could not be decrypted",
		"Invalid OAuth 2.0 Access Token: it was issued for another app",
		"(#100) The parameter access_token is required",
		"(#132001) Template name does not exist in the translation: template name (token_reminder) does not exist in en_US",
		"Unsupported get request. Object with ID '106540352242922' does not exist: THROUGHPUT_LIMIT, IGNORED_FIELD",
		"Key: not found; value: 12|34; see https://developers.facebook.com/docs/graph-api?x=y",
	} {
		req := messageRequest(t, strings.NewReader(`{"messaging_product":"whatsapp","to":"16505551234","type":"template",`+
			`"template":{"name":"token_reminder","language":{"code":"en_US"}}}`))
		resp := failedResponse(400, mustJSON(t, map[string]any{"error": map[string]any{"message": text, "code": 100}}))
		resp.Request = req
		graph, isGraph := graphretry.ErrorFromResponse(resp)
		require.True(t, isGraph)
		assert.Equal(t, text, graph.Message)
	}
}

func TestSecretInAPathIsNotLogged(t *testing.T) {
	var said outlets
	transport, err := graphretry.NewTransport(graphtest.New(), append(said.options(), graphretry.WithMaxElapsedTime(1))...)
	require.NoError(t, err)
	req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v25.0/s3cr3t-t0k3n/messages", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer s3cr3t-t0k3n")
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Contains(t, said.String(), "/v25.0/[REDACTED]/messages")
	assert.NotContains(t, said.String(), "s3cr3t-t0k3n")
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// It is of no form of Meta's, and comes back without its name.
func TestSecretOfTheBodyIsBlankedInAnyError(t *testing.T) {
	for name, body := range map[string]string{
		"form":      "a=b&client_secret=0paque+s3cr3t&c=d",
		"JSON":      `{"client_secret":"0paque s3cr3t","a":1}`,
		"multipart": "--x\r\nContent-Disposition: form-data; name=\"client_secret\"\r\n\r\n0paque s3cr3t\r\n--x--\r\n",
	} {
		for _, code := range []int{190, 100, 10, 1, 2, 4, 131000, 999999} {
			var said outlets
			transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) {
				return failedResponse(400, fmt.Sprintf(`{"error":{"message":"Bad value 0paque s3cr3t, or 0paque+s3cr3t","code":%d}}`, code)), nil
			}), append(said.options(), graphretry.WithMaxElapsedTime(1))...)
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

// A proxy chooses the text. Were it read in quadratic time, this would take hours.
func TestTextOfAnErrorIsBlankedInOnePass(t *testing.T) {
	for _, text := range []string{"\\\"a://? ", `"a://?\" `, "://? ", `"a://`} {
		hostile := errors.New(strings.Repeat(text, 1<<18/len(text)) + `\`)
		next := roundTripper(func(*http.Request) (*http.Response, error) { return nil, hostile })
		var said outlets
		transport, err := graphretry.NewTransport(next, said.options()...)
		require.NoError(t, err)
		_, err = transport.RoundTrip(message(t, t.Context()))
		require.Equal(t, hostile, err)
	}
}

// It has no GetBody, and nobody can read a Buffer a second time.
func TestSecretOfABufferIsBlankedFromTheFirstAttemptOn(t *testing.T) {
	for _, code := range []int{2, 4, 190} {
		synctest.Test(t, func(t *testing.T) {
			var said outlets
			transport, err := graphretry.NewTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
				_, err := io.Copy(io.Discard, req.Body)
				require.NoError(t, err)
				resp := failedResponse(400, fmt.Sprintf(`{"error":{"code":%d,"message":"Malformed access token 0paque-s3cr3t"}}`, code))
				resp.Request = req
				return resp, nil
			}), append(said.options(), graphretry.WithMaxRetries(1))...)
			require.NoError(t, err)
			req := messageRequest(t, io.NopCloser(bytes.NewBufferString("access_token=0paque-s3cr3t")))
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			graph, ok := graphretry.ErrorFromResponse(resp)
			require.True(t, ok)
			said.graph(graph)
			assert.NotContains(t, said.String(), "s3cr3t", code)
			assert.Nil(t, req.GetBody, "the request is the caller's")
			assert.Same(t, req, resp.Request)
		})
	}
}

// An early answer is described while net/http still reads the body. The race detector
// sees whoever reads it in a way that Read would notice.
func TestBodyIsLookedIntoWhileItIsStillSent(t *testing.T) {
	const answer = `{"error":{"code":100,"message":"m"}}`
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	described := make(chan struct{})
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = connection.Read(make([]byte, 1024)) // the header at least
		fmt.Fprintf(connection, "HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		_, _ = io.CopyN(io.Discard, connection, 4<<20)
		<-described
	}()
	client, err := graphretry.WrapClient(&http.Client{Transport: &http.Transport{}}, graphretry.WithHosts(listener.Addr().String()),
		graphretry.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	require.NoError(t, err)
	resp, err := client.Post("http://"+listener.Addr().String()+"/v25.0/1/messages", "text/plain", bytes.NewReader(make([]byte, 8<<20)))
	close(described)
	if err == nil {
		resp.Body.Close()
	}
}
