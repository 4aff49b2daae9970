package graphtest_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func TestGraphErrorHasTheShapeOfMetas(t *testing.T) {
	for name, test := range map[string]struct {
		answer graphtest.Answer
		status int
		body   string // less fbtrace_id
	}{
		"a code of WhatsApp's": {
			graphtest.Answer{Code: graphretry.CodeServiceUnavailable}, 500,
			`{"message":"(#131016) Service unavailable","type":"OAuthException","code":131016,
			  "error_data":{"messaging_product":"whatsapp","details":"Service unavailable"}}`,
		},
		"a code of every Graph API": {
			graphtest.Answer{Code: graphretry.CodeAPIService}, 503,
			`{"message":"(#2) API Service","type":"OAuthException","code":2}`,
		},
		"a code that Meta does not document": {
			graphtest.Answer{Code: 999}, 400,
			`{"message":"(#999) Unknown error","type":"OAuthException","code":999}`,
		},
		"everything given": {
			graphtest.Answer{
				Code: 100, Subcode: 133010, Transient: true, Status: 403, Message: "A message", Details: "Some details",
			}, 403,
			`{"message":"A message","type":"OAuthException","is_transient":true,"code":100,"error_subcode":133010,
			  "error_data":{"messaging_product":"whatsapp","details":"Some details"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
				api.AnswerNext(1, test.answer)
				answer := w.send(t, "order-1")

				var got map[string]map[string]any
				require.NoError(t, json.Unmarshal([]byte(answer.body), &got))
				traceID := got["error"]["fbtrace_id"]
				assert.Regexp(t, `^A[A-Za-z0-9_-]{22}$`, traceID)
				delete(got["error"], "fbtrace_id")
				assert.JSONEq(t, `{"error":`+test.body+`}`, string(marshal(t, got)))

				assert.Equal(t, test.status, answer.StatusCode)
				assert.Equal(t, "application/json; charset=UTF-8", answer.Header.Get("Content-Type"))
				assert.Equal(t, traceID, answer.Header.Get("X-Fb-Trace-Id"))
				message, _ := got["error"]["message"].(string)
				assert.Equal(t, `OAuth "Facebook Platform" "invalid_request" "`+message+`"`, answer.Header.Get("WWW-Authenticate"))

				call := api.Calls()[0]
				assert.Equal(t, test.status, call.Status)
				assert.Equal(t, test.answer.Code, call.Code)
				assert.Equal(t, traceID, call.TraceID)
				assert.Empty(t, api.Accepted(), "an error is no acceptance")
			})
		})
	}
}

func TestEachCodeHasItsDocumentedStatus(t *testing.T) {
	for code, status := range map[graphretry.Code]int{
		1:      400,
		2:      503, // documented as 503 and 500
		3:      500,
		4:      400, // documented as 400 and 429
		33:     400,
		190:    401,
		200:    403, // its own row has none: that of its range
		231:    403,
		299:    403, // a range includes its last
		300:    400,
		613:    429,
		80004:  400, // a range without a status
		131000: 500,
		131005: 403,
		131016: 500,
		131057: 500,
		131201: 206,
		132001: 404,
		133004: 503,
		999999: 400,
	} {
		assert.Equal(t, status, graphtest.Status(code), "code %d", code)
	}
}

func TestErrorBodyIsTheBodyOfTheAPI(t *testing.T) {
	w, api := newMemory()
	api.AnswerNext(1, graphtest.Answer{Code: 132001})
	answer := w.send(t, "order-1")
	want := strings.Replace(answer.body, api.Calls()[0].TraceID, "AGraphtestTraceIDxxxxxx", 1)
	assert.Equal(t, want, string(graphtest.ErrorBody(132001)))
}

func TestAuthenticationErrorChallengesTheToken(t *testing.T) {
	w, api := newMemory()
	api.AnswerNext(1, graphtest.Answer{Code: 190, Message: "Malformed \"access\"\r\ntoken"})
	challenge := w.send(t, "order-1").Header.Get("WWW-Authenticate")
	assert.Equal(t, `OAuth "Facebook Platform" "invalid_token" "Malformed 'access'  token"`, challenge)
}

func TestHeadersOfAnAnswerAreSent(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		usage := `{"106540352242922":[{"estimated_time_to_regain_access":19}]}`
		api.AnswerNext(1, graphtest.Answer{Code: 130429, RetryAfter: "120", Header: http.Header{
			"x-business-use-case-usage": {usage}, "Content-Type": {"text/javascript; charset=UTF-8"},
		}})
		header := w.send(t, "order-1").Header
		assert.Equal(t, "120", header.Get("Retry-After"))
		assert.Equal(t, usage, header.Get("X-Business-Use-Case-Usage"))
		assert.Equal(t, []string{"text/javascript; charset=UTF-8"}, header["Content-Type"])
	})
}

func TestConnectionCloseClosesTheConnection(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Header: http.Header{"Connection": {"close"}}})
		answer := w.send(t, "order-1")
		// HTTP/2 says it in a frame, not in the answer.
		assert.Equal(t, w.name != "HTTP/2", answer.Close)
	})
}

func TestAnswerIsTheScriptsOwnCopy(t *testing.T) {
	w, api := newMemory()
	answer := graphtest.Answer{Code: 2, Header: http.Header{"X-Test": {"before"}}, Body: []byte("before")}
	api.AnswerNext(2, answer)
	answer.Header.Set("X-Test", "after")
	copy(answer.Body, "after!")

	for range 2 {
		got := w.send(t, "order-1")
		assert.Equal(t, "before", got.Header.Get("X-Test"))
		assert.Equal(t, "before", got.body)
		got.Header.Set("X-Test", "the caller's") // nor does the next answer share this one's header
	}
}

func TestStatusWithoutACodeIsAGatewaysPage(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Status: 502})
		answer := w.send(t, "order-1")
		assert.Equal(t, http.StatusBadGateway, answer.StatusCode)
		assert.Equal(t, "text/html; charset=utf-8", answer.Header.Get("Content-Type"))
		assert.Contains(t, answer.body, "<h1>Sorry, something went wrong.</h1>")
		assert.Empty(t, answer.Header.Get("WWW-Authenticate"))
		assert.Empty(t, api.Accepted())
		assert.Zero(t, api.Calls()[0].Code)
	})
}

func TestBodyIsSentAsItStands(t *testing.T) {
	for name, test := range map[string]struct {
		answer      graphtest.Answer
		contentType string
	}{
		"empty":         {graphtest.Answer{Status: 503, Body: []byte{}}, "text/plain; charset=utf-8"},
		"HTML":          {graphtest.Answer{Status: 500, Body: []byte("<html></html>")}, "text/html; charset=utf-8"},
		"JSON":          {graphtest.Answer{Status: 500, Body: []byte(`[{"code":2}]`)}, "application/json; charset=UTF-8"},
		"with a code":   {graphtest.Answer{Code: 2, Status: 500, Body: []byte(`{"error":{"code":"2"}}`)}, "application/json; charset=UTF-8"},
		"of a success":  {graphtest.Answer{Status: 500, Body: []byte(`{"data":[]}`)}, "application/json; charset=UTF-8"},
		"AuthException": {graphtest.Answer{Status: 500, Body: graphtest.ErrorBody(0)}, "application/json; charset=UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
				api.AnswerNext(1, test.answer)
				answer := w.send(t, "order-1")
				assert.Equal(t, test.answer.Status, answer.StatusCode)
				assert.Equal(t, string(test.answer.Body), answer.body)
				assert.Equal(t, test.contentType, answer.Header.Get("Content-Type"))
				assert.Equal(t, test.answer.Code, api.Calls()[0].Code)
			})
		})
	}
}

func TestStatusWithoutABodyHasNone(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Status: http.StatusNoContent, Fault: graphtest.FaultTruncate})
		answer := w.send(t, "order-1")
		assert.Equal(t, http.StatusNoContent, answer.StatusCode)
		assert.Empty(t, answer.body)
		assert.Empty(t, answer.Header.Get("Content-Length"))
	})
}

func TestGzipIsForACallerWhoAsksForIt(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(2, graphtest.Answer{Code: 2, Gzip: true})
		assert.Equal(t, 2, w.send(t, "order-1").code(t), "net/http decodes what it asked for; in memory nobody asked")

		request, err := http.NewRequest(http.MethodPost, w.url+messages, strings.NewReader(message("order-1")))
		require.NoError(t, err)
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := w.client.Do(request)
		require.NoError(t, err)
		compressed := read(t, response)
		assert.Equal(t, "gzip", compressed.Header.Get("Content-Encoding"))
		assert.EqualValues(t, len(compressed.body), compressed.ContentLength)
		plain, err := gzip.NewReader(strings.NewReader(compressed.body))
		require.NoError(t, err)
		body, err := io.ReadAll(plain)
		require.NoError(t, err)
		assert.Equal(t, 2, answered{body: string(body)}.code(t))
	})
}

func TestEmptyBodyIsNotCompressed(t *testing.T) {
	w, api := newMemory()
	api.AnswerNext(1, graphtest.Answer{Status: 503, Body: []byte{}, Gzip: true})
	request, err := http.NewRequest(http.MethodGet, w.url+"/v25.0/1", nil)
	require.NoError(t, err)
	request.Header.Set("Accept-Encoding", "gzip")
	response, err := w.client.Do(request)
	require.NoError(t, err)
	answer := read(t, response)
	assert.Empty(t, answer.body)
	assert.Empty(t, answer.Header.Get("Content-Encoding"))
}

func TestConnectionBreaksBeforeOrAfterTheMessageIsAccepted(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		for _, key := range []string{"not taken", "taken"} {
			response, err := w.try(t, http.MethodPost, messages, "", message(key))
			require.Error(t, err)
			assert.Nil(t, response)
			if w.name != "HTTP/2" {
				var operation *net.OpError
				assert.ErrorAs(t, err, &operation)
				assert.ErrorIs(t, err, syscall.ECONNRESET)
			}
		}
		assert.Equal(t, []string{"taken"}, api.AcceptedKeys())
		for i, call := range api.Calls() {
			assert.Zero(t, call.Status)
			assert.Equal(t, i == 1, call.Accepted)
		}
		w.send(t, "afterwards")
	})
}

func TestMessageMayBeAcceptedUnderAnyAnswer(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Status: 504, Accept: true})
		assert.Equal(t, http.StatusGatewayTimeout, w.send(t, "order-1").StatusCode)
		assert.Equal(t, []string{"order-1"}, api.AcceptedKeys())

		api.AnswerNext(1, graphtest.Answer{Status: 504, Accept: true})
		answer := w.do(t, http.MethodPost, messages, "", "no message")
		assert.Equal(t, http.StatusGatewayTimeout, answer.StatusCode)
		assert.Equal(t, []string{"order-1"}, api.AcceptedKeys())
	})
}

func TestRedirectAcceptsNothing(t *testing.T) {
	w, api := newMemory()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	api.AnswerNext(1, graphtest.Answer{Status: 302, Header: http.Header{"Location": {"https://example.com/"}}})
	assert.Equal(t, http.StatusFound, w.send(t, "order-1").StatusCode)
	assert.Empty(t, api.Accepted())
}

func TestScriptedSuccessIsNotOverruledByWhatIsWrongWithTheRequest(t *testing.T) {
	for name, script := range map[string]func(*graphtest.API){
		"queue": func(api *graphtest.API) { api.AnswerNext(1, graphtest.Answer{}) },
		"share": func(api *graphtest.API) { api.AnswerShare(1, graphtest.Answer{Status: 200}) },
		"down":  func(api *graphtest.API) { api.DownAfter(0, time.Hour, graphtest.Answer{Status: 200}) },
		"limit": func(api *graphtest.API) { api.SetLimit(1, graphtest.Answer{Status: 200}) },
	} {
		api := graphtest.New()
		script(api)
		client := &http.Client{Transport: api}
		for call, body := range []string{"no JSON", `{"to":"1"}`} {
			if name == "limit" && call == 0 {
				body = `{"messaging_product":"whatsapp","to":"1"}` // the limit lets it through
			} else if name == "queue" && call == 1 {
				continue
			}
			resp, err := client.Post("https://graph.facebook.com/v25.0/1/messages", "application/json", strings.NewReader(body))
			require.NoError(t, err)
			content, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, http.StatusOK, resp.StatusCode, name)
			if body != `{"messaging_product":"whatsapp","to":"1"}` {
				assert.JSONEq(t, `{"success":true}`, string(content), name)
			}
		}
		for _, message := range api.Accepted() {
			assert.Contains(t, string(message.Body), "whatsapp", "only what is well formed is accepted")
		}
	}
}

func TestTruncatedAnswerEndsUnexpectedly(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultTruncate})
		response, err := w.try(t, http.MethodPost, messages, "", message("order-1"))
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.Error(t, err)
		if w.name != "HTTP/2" {
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
		assert.EqualValues(t, response.ContentLength/2, len(body))
		assert.Equal(t, []string{"order-1"}, api.AcceptedKeys(), "it was a success all the same")
	})
}

func TestAnswerWithoutABodyCannotBeTruncated(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(1, graphtest.Answer{Status: 503, Body: []byte{}, Fault: graphtest.FaultStall})
		assert.Empty(t, w.send(t, "order-1").body)
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultTruncate})
		assert.Empty(t, w.do(t, http.MethodHead, "/v25.0/1", "", "").body)
	})
}

// leavings are the ways in which a caller can leave: each prepares a request and
// returns it with what makes its caller leave.
var leavings = map[string]func(*http.Request) (*http.Request, func()){
	"context": func(r *http.Request) (*http.Request, func()) {
		ctx, cancel := context.WithCancel(r.Context())
		return r.WithContext(ctx), cancel
	},
	"Cancel": func(r *http.Request) (*http.Request, func()) {
		cancel := make(chan struct{})
		//lint:ignore SA1019 net/http itself still sets it for http.Client.Timeout
		r.Cancel = cancel
		return r, func() { close(cancel) }
	},
}

func TestCallerCanEndACallThatIsNotAnswered(t *testing.T) {
	for how, prepare := range leavings {
		for name, answer := range map[string]graphtest.Answer{
			"hanging": {Fault: graphtest.FaultHang},
			"late":    {Delay: time.Hour},
		} {
			t.Run(how+"/"+name, func(t *testing.T) {
				overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
					api.AnswerNext(1, answer)
					request, err := http.NewRequest(http.MethodPost, w.url+messages, strings.NewReader(message("order-1")))
					require.NoError(t, err)
					request, leave := prepare(request)
					go func() {
						for begun := time.Now(); api.Totals().Calls == 0 && time.Since(begun) < time.Minute; {
							time.Sleep(time.Millisecond)
						}
						leave()
					}()
					response, err := w.client.Do(request)
					require.Error(t, err)
					assert.Nil(t, response)
					assert.Equal(t, how == "context", errors.Is(err, context.Canceled))
					assert.Equal(t, name == "late", api.Calls()[0].Accepted, "settled before the caller left")
				})
			})
		}
	}
}

func TestCallerCanEndAnAnswerThatStalls(t *testing.T) {
	for how, prepare := range leavings {
		t.Run(how, func(t *testing.T) {
			overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
				api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultStall})
				request, err := http.NewRequest(http.MethodPost, w.url+messages, strings.NewReader(message("order-1")))
				require.NoError(t, err)
				request, leave := prepare(request)
				response, err := w.client.Do(request)
				require.NoError(t, err)
				defer response.Body.Close()

				half := make([]byte, response.ContentLength/2)
				_, err = io.ReadFull(response.Body, half)
				require.NoError(t, err)
				// Now or while the Read waits: nothing comes of it.
				go leave()
				n, err := response.Body.Read(half)
				assert.Zero(t, n)
				require.Error(t, err)
				assert.NotErrorIs(t, err, io.EOF)
				assert.True(t, api.Calls()[0].Accepted)
			})
		})
	}
}

func TestDeadlineEndsACallThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		w.client.Timeout = time.Hour
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
		begun := time.Now()
		_, err := w.try(t, http.MethodPost, messages, "", message("order-1"))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(begun))
	})
}

func TestStalledBodyCanBeClosedWhileItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultStall})
		response, err := w.try(t, http.MethodPost, messages, "", message("order-1"))
		require.NoError(t, err)
		time.AfterFunc(time.Hour, func() { response.Body.Close() })
		_, err = io.ReadAll(response.Body)
		assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	})
}

func TestCauseOfACancellationIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://graph.facebook.com/v25.0/1", nil)
		require.NoError(t, err)
		_, err = api.RoundTrip(request)
		assert.ErrorIs(t, err, cause)
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
