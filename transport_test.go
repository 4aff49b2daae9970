package graphretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// sendMessage sends a message that gets these replies, without jitter. It gives
// how the call ended and the times between its attempts.
func sendMessage(t *testing.T, replies []reply, opts ...graphretry.Option) (end ending, waits []time.Duration) {
	t.Helper()
	w := &witness{next: script(replies...)}
	transport := newTransport(t, w, append([]graphretry.Option{graphretry.WithJitter(0)}, opts...)...)
	end = callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
	return end, w.waits()
}

// seconds are so many waits.
func seconds(n ...float64) []time.Duration {
	var waits []time.Duration
	for _, n := range n {
		waits = append(waits, time.Duration(n*float64(time.Second)))
	}
	return waits
}

func TestSuccessAndRedirectAreReturnedUntouched(t *testing.T) {
	for _, status := range []int{200, 201, 202, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 399} {
		for _, kind := range []bodyKind{noBody, withGetBody, plainReader} {
			body := &watchedBody{from: io.NopCloser(strings.NewReader(down.body))}
			want := &http.Response{StatusCode: status, Body: body, ContentLength: -1, Header: http.Header{}}
			attempts := 0
			next := roundTripper(func(*http.Request) (*http.Response, error) {
				attempts++
				return want, nil
			})
			got, err := newTransport(t, next, allOptIns...).RoundTrip(newWatchedRequest(t, t.Context(), http.MethodPost, kind).Request)
			require.NoError(t, err)
			assert.Same(t, want, got)
			assert.Same(t, body, got.Body, "not wrapped")
			assert.Empty(t, body.text(), "not read")
			assert.Zero(t, body.closed())
			assert.Equal(t, 1, attempts)
		}
	}
}

func TestCallWithoutRetriesPassesThroughUntouched(t *testing.T) {
	off := graphretry.WithMaxRetries(0)
	for name, test := range map[string]struct {
		ctx     context.Context
		options []graphretry.Option
	}{
		"bypass":                     {ctx: graphretry.ContextBypass(t.Context())},
		"retries off":                {ctx: t.Context(), options: []graphretry.Option{off}},
		"retries off in the context": {ctx: graphretry.ContextWithOptions(t.Context(), off)},
	} {
		t.Run(name, func(t *testing.T) {
			body := &watchedBody{from: io.NopCloser(strings.NewReader(down.body))}
			want := &http.Response{StatusCode: http.StatusServiceUnavailable, Body: body, ContentLength: -1, Header: http.Header{}}
			var sent *http.Request
			next := roundTripper(func(req *http.Request) (*http.Response, error) {
				sent = req
				return want, nil
			})
			observer := graphretry.WithObserver(func(context.Context, graphretry.Event) { t.Error("there is nothing to tell") })
			options := append(test.options, observer, graphretry.WithAttemptTimeout(time.Minute))
			req := newWatchedRequest(t, test.ctx, http.MethodPost, plainReader)
			got, err := newTransport(t, next, options...).RoundTrip(req.Request)
			require.NoError(t, err)
			assert.True(t, sent == req.Request)
			assert.Same(t, want, got)
			assert.Same(t, body, got.Body)
			assert.Empty(t, body.text())
			assert.Zero(t, body.closed())
		})
	}
}

// http.Client.

func TestTransportCanTakeThePlaceOfTheDefaultOne(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
	before := http.DefaultTransport
	t.Cleanup(func() {
		http.DefaultTransport = before
		http.DefaultClient.CloseIdleConnections()
	})
	http.DefaultTransport = newTransport(t, nil, graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond))
	resp, err := http.Post(s.URL+"/", "text/plain", strings.NewReader("hello"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Len(t, s.got, 3)
}

type idleCloser struct {
	http.RoundTripper
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

func TestCloseIdleConnectionsIsPassedOn(t *testing.T) {
	next := &idleCloser{}
	client, err := graphretry.WrapClient(&http.Client{Transport: next})
	require.NoError(t, err)
	client.CloseIdleConnections()
	assert.Equal(t, 1, next.closed)

	assert.NotPanics(t, func() {
		newTransport(t, script(success)).CloseIdleConnections()
		new(graphretry.Transport).CloseIdleConnections()
		(*graphretry.Transport)(nil).CloseIdleConnections()
	})
}

func TestZeroTransportRefusesEveryCall(t *testing.T) {
	for _, transport := range []*graphretry.Transport{nil, new(graphretry.Transport)} {
		req := newWatchedRequest(t, t.Context(), http.MethodPost, plainReader)
		resp, err := transport.RoundTrip(req.Request)
		assert.Nil(t, resp)
		assert.ErrorContains(t, err, "graphretry: zero Transport: want one made by NewTransport or WrapClient")
		assert.Equal(t, 1, req.bodies[0].closed())
	}
}

func TestNilRequestSaysSo(t *testing.T) {
	resp, err := newTransport(t, script(success)).RoundTrip(nil)
	assert.Nil(t, resp)
	assert.ErrorContains(t, err, "graphretry: nil request: want one made by http.NewRequestWithContext")
}

func TestRequestWithoutAURLIsForTheNextRoundTripper(t *testing.T) {
	for _, req := range []*http.Request{{}, {Body: io.NopCloser(strings.NewReader(""))}} {
		_, without := http.DefaultTransport.RoundTrip(req)
		_, err := newTransport(t, http.DefaultTransport).RoundTrip(req)
		require.Error(t, err)
		assert.Equal(t, without, err)
	}
}

func TestManyCallsAtOnceAreEachDeliveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 300
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		api.AnswerShare(0.4, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		transport := newTransport(t, api)
		var keys []string
		var sending sync.WaitGroup
		for i := range calls {
			key := fmt.Sprint("message ", i)
			keys = append(keys, key)
			content := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"1","biz_opaque_callback_data":%q}`, key)
			sending.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				var body io.Reader = strings.NewReader(content)
				if i%2 == 0 {
					body = io.LimitReader(body, 1<<20)
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, body)
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := transport.RoundTrip(req)
				if assert.NoError(t, err) {
					assert.Equal(t, http.StatusOK, resp.StatusCode)
					assert.NoError(t, resp.Body.Close())
				}
			})
		}
		sending.Wait()
		assert.Empty(t, api.Lost(keys...))
		assert.Empty(t, api.Duplicates())
		assert.Greater(t, api.Totals().Calls, calls*3/2)
		assert.Zero(t, api.Totals().OpenBodies)
	})
}

func TestManyCallsAtOnceAreEachDeliveredOnceOverRealConnections(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			api := graphtest.New()
			server := protocol.serve(t, api)
			api.AnswerShare(0.4, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong, Status: 500})
			transport := server.transport(t, server.next, graphretry.WithRetryOn(graphretry.CodeSomethingWentWrong, 50), graphretry.WithMaxInterval(2*time.Millisecond))
			var keys []string
			var sending sync.WaitGroup
			for sender := range 16 {
				for i := range 10 {
					keys = append(keys, fmt.Sprint(sender, ".", i))
				}
				sending.Go(func() {
					for i := range 10 {
						key := fmt.Sprint(sender, ".", i)
						content := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"1","biz_opaque_callback_data":%q}`, key)
						resp, err := (&http.Client{Transport: transport}).Post(server.URL+"/v25.0/1/messages", "application/json", io.LimitReader(strings.NewReader(content), 1<<20))
						if assert.NoError(t, err) {
							assert.Equal(t, http.StatusOK, resp.StatusCode)
							assert.NoError(t, resp.Body.Close())
						}
					}
				})
			}
			sending.Wait()
			assert.Empty(t, api.Lost(keys...))
			assert.Empty(t, api.Duplicates())
		})
	}
}

// A RoundTripper that sends a clone, as golang.org/x/oauth2's does, says so in the
// response, and it is not for us to unsay it where the request went down as it was.
func TestResponseToTheRequestItselfIsNotTouched(t *testing.T) {
	for _, r := range []reply{success, fails(graphretry.CodeInvalidParameter)} {
		var clone *http.Request
		api := script(r)
		resp, err := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			clone = req.Clone(req.Context())
			return api.RoundTrip(clone)
		})).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Same(t, clone, resp.Request)
	}
}

// Against its contract, but better a call that fails as it did than one that says
// nothing.
func TestBodyThatARoundTripperBelowTakesAwayIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := script(down, success)
		w := &witness{next: roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := api.RoundTrip(req)
			req.Body = nil
			return resp, err
		})}
		resp, err := newTransport(t, w).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, []string{messageBody, messageBody}, w.bodies())
	})
}

func TestWrappedClientIsACopy(t *testing.T) {
	jar := new(cookieJar)
	redirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: failing(), Jar: jar, Timeout: time.Minute, CheckRedirect: redirect}
	wrapped, err := graphretry.WrapClient(client)
	require.NoError(t, err)
	assert.NotSame(t, client, wrapped)
	assert.IsType(t, roundTripper(nil), client.Transport, "the client itself stays as it was")
	assert.IsType(t, new(graphretry.Transport), wrapped.Transport)
	assert.Same(t, jar, wrapped.Jar)
	assert.Equal(t, time.Minute, wrapped.Timeout)
	assert.NotNil(t, wrapped.CheckRedirect)

	zero, err := graphretry.WrapClient(nil)
	require.NoError(t, err)
	assert.IsType(t, new(graphretry.Transport), zero.Transport)
	assert.Zero(t, zero.Timeout)
	assert.Nil(t, http.DefaultClient.Transport, "the default client stays as it was")
}

type cookieJar struct{ http.CookieJar }

func TestDefaultTransportIsTheOneOfTheConstruction(t *testing.T) {
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	var calls int
	http.DefaultTransport = roundTripper(func(req *http.Request) (*http.Response, error) {
		calls++
		return failing().RoundTrip(req)
	})
	transport, err := graphretry.NewTransport(nil)
	require.NoError(t, err)
	http.DefaultTransport = transport // else it would call itself without end

	resp, err := new(http.Client).Do(message(t, t.Context()))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 400, resp.StatusCode)
	assert.Equal(t, 1, calls)
}
