package graphretry_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// messageServer answers each path by its script, over real HTTP/1.1.
type messageServer struct {
	*httptest.Server
	mu      sync.Mutex
	scripts map[string][]func(http.ResponseWriter, *http.Request)
	got     []string // method, path and body
}

func newMessageServer(t *testing.T, scripts map[string][]func(http.ResponseWriter, *http.Request)) *messageServer {
	s := &messageServer{scripts: scripts}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		s.mu.Lock()
		s.got = append(s.got, r.Method+" "+r.URL.Path+" "+string(body))
		answers := s.scripts[r.URL.Path]
		answer := answers[0]
		if len(answers) > 1 {
			s.scripts[r.URL.Path] = answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func answers(r reply) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range r.header {
			w.Header()[name] = values
		}
		w.WriteHeader(r.status)
		io.WriteString(w, r.body)
	}
}

func (s *messageServer) client(t *testing.T, opts ...graphretry.Option) *http.Client {
	t.Helper()
	client, err := graphretry.WrapClient(s.Client(), append([]graphretry.Option{
		graphretry.WithHosts("127.0.0.1"), graphretry.WithInitialInterval(time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestRedirectsAreLeftToTheClient(t *testing.T) {
	redirect := func(status int) func(http.ResponseWriter, *http.Request) {
		return answers(reply{status: status, header: http.Header{"Location": {"/new"}}})
	}
	for status, want := range map[int][]string{
		http.StatusTemporaryRedirect: {"POST /old hello", "POST /old hello", "POST /new hello", "POST /new hello"},
		http.StatusPermanentRedirect: {"POST /old hello", "POST /old hello", "POST /new hello", "POST /new hello"},
		http.StatusFound:             {"POST /old hello", "POST /old hello", "GET /new ", "GET /new "},
	} {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/old": {answers(down), redirect(status)},
			"/new": {answers(down), answers(success)},
		})
		resp, err := s.client(t).Post(s.URL+"/old", "text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, "/new", resp.Request.URL.Path)
		assert.Equal(t, want, s.got)
	}
	t.Run("a body that the client cannot send again", func(t *testing.T) {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/old": {answers(down), redirect(http.StatusTemporaryRedirect)},
		})
		resp, err := s.client(t).Post(s.URL+"/old", "text/plain", io.LimitReader(strings.NewReader("hello"), 5))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode, "as without us")
		assert.Equal(t, []string{"POST /old hello", "POST /old hello"}, s.got)
	})
}

func TestCookiesAreLeftToTheClient(t *testing.T) {
	var sent []string
	cookies := func(r reply, set string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, req *http.Request) {
			sent = append(sent, req.Header.Get("Cookie"))
			w.Header().Set("Set-Cookie", set)
			answers(r)(w, req)
		}
	}
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
		"/": {cookies(success, "a=1"), cookies(down, "b=2"), cookies(success, "c=3"), cookies(refused, "d=4"), cookies(success, "e=5")},
	})
	client := s.client(t)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client.Jar = jar
	for range 4 {
		resp, err := client.Get(s.URL + "/")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	assert.Equal(t, []string{"", "a=1", "a=1", "a=1; c=3", "a=1; c=3; d=4"}, sent)
}

func TestCredentialsAreLeftToTheClient(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
		"/": {func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			assert.Equal(t, "user password", user+" "+password)
			answers(down)(w, r)
		}},
	})
	resp, err := s.client(t, graphretry.WithMaxRetries(2)).Get(strings.Replace(s.URL, "http://", "http://user:password@", 1) + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Len(t, s.got, 3)
}

func TestTraceHooksFireForEveryAttempt(t *testing.T) {
	for _, kind := range []bodyKind{withGetBody, plainReader} {
		for _, timeout := range []bool{false, true} {
			s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
			var gotConn, reused, wroteHeaders, wroteRequest, firstByte atomic.Int32
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) {
					gotConn.Add(1)
					if info.Reused {
						reused.Add(1)
					}
				},
				WroteHeaders:         func() { wroteHeaders.Add(1) },
				WroteRequest:         func(httptrace.WroteRequestInfo) { wroteRequest.Add(1) },
				GotFirstResponseByte: func() { firstByte.Add(1) },
			})
			var body io.Reader = strings.NewReader(messageBody)
			if kind == plainReader {
				body = io.LimitReader(body, 1<<20)
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/", body)
			require.NoError(t, err)
			var options []graphretry.Option
			if timeout {
				options = append(options, graphretry.WithAttemptTimeout(time.Minute))
			}
			resp, err := s.client(t, options...).Do(req)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			for name, hook := range map[string]*atomic.Int32{"GotConn": &gotConn, "WroteHeaders": &wroteHeaders, "WroteRequest": &wroteRequest, "GotFirstResponseByte": &firstByte} {
				assert.Equal(t, int32(3), hook.Load(), name)
			}
			assert.Equal(t, int32(2), reused.Load(), "connections used again")
		}
	}
}

func TestSwitchedProtocolIsAConnectionThatCanBeWritten(t *testing.T) {
	for _, options := range [][]graphretry.Option{nil, {graphretry.WithAttemptTimeout(10 * time.Second)}} {
		s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){
			"/": {answers(down), func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				rw.Flush()
				line, err := rw.ReadString('\n')
				assert.NoError(t, err)
				rw.WriteString(line)
				rw.Flush()
			}},
		})
		req, err := http.NewRequest(http.MethodGet, s.URL+"/", nil)
		require.NoError(t, err)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := s.client(t, options...).Transport.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		conn, ok := resp.Body.(io.ReadWriteCloser)
		require.True(t, ok)
		_, err = io.WriteString(conn, "hello\n")
		require.NoError(t, err)
		echo, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "hello\n", string(echo))
		require.NoError(t, conn.Close())
	}
}

func TestCallRidesOutAnOutageOverRealHTTP(t *testing.T) {
	s := newMessageServer(t, map[string][]func(http.ResponseWriter, *http.Request){"/": {answers(down), answers(down), answers(success)}})
	resp, err := s.client(t).Post(s.URL+"/", "application/json", strings.NewReader(`{"to":"1"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, success.body, string(body))
	assert.Equal(t, []string{`POST / {"to":"1"}`, `POST / {"to":"1"}`, `POST / {"to":"1"}`}, s.got)
}

func TestTimeoutOfTheClientBoundsTheWholeCall(t *testing.T) {
	for timeout, want := range map[time.Duration]struct {
		attempts int
		takes    time.Duration
	}{
		3 * time.Second:  {1, 0},
		5 * time.Second:  {1, 0},
		12 * time.Second: {2, 5 * time.Second},
		40 * time.Second: {4, 35 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &witness{next: script(down)}
			client, err := graphretry.WrapClient(&http.Client{Transport: w, Timeout: timeout}, graphretry.WithJitter(0))
			require.NoError(t, err)
			began := time.Now()
			resp, err := client.Post(messagesURL, "application/json", strings.NewReader(messageBody))
			require.NoError(t, err, "a call that has an answer gets it")
			assert.Equal(t, want.takes, time.Since(began))
			assert.Len(t, w.seen(), want.attempts)
			content, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, down.body, string(content))
			require.NoError(t, resp.Body.Close())
			synctest.Wait()
		})
	}
}

func TestTimeoutOfTheClientEndsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{next: script(down, success.with(func(r *reply) { r.delay = time.Hour }))}
		client, err := graphretry.WrapClient(&http.Client{Transport: w, Timeout: 10 * time.Second}, append(allOptIns, graphretry.WithJitter(0))...)
		require.NoError(t, err)
		began := time.Now()
		_, err = client.Get(messagesURL)
		assert.Equal(t, 10*time.Second, time.Since(began))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, w.seen(), 2)
	})
}

// net/http replaces an error that comes after its own timeout, so the call is refused
// before: once the last probe that could come in time has failed, or, while one is out,
// shortly before its time is over.
func TestCallerWithATimeoutOfTheClientHearsOfTheOutage(t *testing.T) {
	for _, answers := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			api.DownAfter(0, time.Hour, graphtest.Answer{})
			client, err := graphretry.WrapClient(&http.Client{Transport: api, Timeout: 7 * time.Second}, graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
			require.NoError(t, err)
			bringDown(t, client.Transport)
			api.SetLatency(answers)
			var other sync.WaitGroup
			other.Go(func() { sendAs(t, client.Transport, time.Minute, 2) })
			time.Sleep(100 * time.Millisecond)
			_, err = client.Post(messagesURL, "application/json", strings.NewReader(messageBody))
			other.Wait()
			assert.ErrorIs(t, err, graphretry.ErrOutage)
			assert.Equal(t, answers > 0, errors.Is(err, context.DeadlineExceeded), "its time was over")
			assert.ErrorContains(t, err, "never sent")
		})
	}
}

// announced is a context whose timer is late: its deadline is over, and it is
// not done yet.
type announced struct {
	context.Context
	deadline time.Time
}

func (c announced) Deadline() (time.Time, bool) { return c.deadline, true }

func TestCancelThatClosesAtTheDeadlineIsADeadline(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			transport := newTransport(t, script(down), graphretry.WithOutageThreshold(1), graphretry.WithJitter(0))
			bringDown(t, transport)
			var other sync.WaitGroup
			other.Go(func() { sendAs(t, transport, time.Minute, 2) })
			time.Sleep(time.Second)
			ctx := announced{t.Context(), time.Now().Add(6 * time.Second)}
			req := newWatchedRequest(t, ctx, http.MethodPost, withGetBody)
			closeCancelAfter(6 * time.Second)(req.Request)
			_, err := transport.RoundTrip(req.Request)
			other.Wait()
			require.ErrorIs(t, err, graphretry.ErrOutage)
			require.NotErrorIs(t, err, context.Canceled)
		})
	}
}
