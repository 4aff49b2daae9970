package graphretry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// Where an error seems to prove that a job was not carried out, and is about something else.

// errgroup and others end a context with the error of another job as its cause, and net/http
// returns the cause for a request that was sent.
func TestCauseOfAContextSaysNothingOfItsRequest(t *testing.T) {
	for name, cause := range map[string]error{
		"a dial":    fmt.Errorf("job 1: %w", dialError(errors.New("connection refused"))),
		"an outage": &graphretry.WaitError{Err: graphretry.ErrOutage, Wait: time.Second},
		"a code":    &graphretry.WaitError{Err: context.Canceled, Attempts: 1, Graph: &graphretry.Error{Code: 2}},
	} {
		for option, opts := range map[string][]graphretry.Option{
			"without waiting": {graphretry.WithoutWaiting()}, "attempt timeout": {graphretry.WithAttemptTimeout(time.Hour)},
			"network retries": {graphretry.WithNetworkRetries()},
		} {
			t.Run(name+", "+option, func(t *testing.T) {
				arrived, answered := make(chan struct{}), make(chan struct{})
				server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					close(arrived)
					<-answered
				}))
				defer server.Close()
				defer close(answered)
				client := &http.Client{Transport: newTransport(t, server.Client().Transport, append(opts, graphretry.WithHosts("127.0.0.1"))...)}
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					<-arrived
					cancel(cause)
				}()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader(messageBody))
				require.NoError(t, err)
				resp, err := client.Do(req)
				assert.ErrorIs(t, err, cause)
				assert.False(t, graphretry.NeverSent(err))
				assert.Equal(t, graphretry.OutcomeUnknown, policyWith(t).Next(resp, err, graphretry.History{}).Outcome)
			})
		}
	}
}

// net/http sends a POST with an idempotency key once more after its connection has broken, and
// returns the last error alone.
func TestRequestThatNetHTTPSentTwiceIsNotKnownAsNeverSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		reader := bufio.NewReader(conn)
		for posts := 1; ; posts++ {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if posts == 2 {
				listener.Close()
				conn.Close()
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}()
	next := &http.Transport{}
	defer next.CloseIdleConnections()
	client := &http.Client{Transport: newTransport(t, next, graphretry.WithHosts("127.0.0.1"), graphretry.WithoutWaiting())}
	for _, want := range []graphretry.Outcome{graphretry.OutcomeSent, graphretry.OutcomeUnknown} {
		req, err := http.NewRequest(http.MethodPost, "http://"+listener.Addr().String(), strings.NewReader(messageBody))
		require.NoError(t, err)
		req.Header.Set("Idempotency-Key", "1")
		resp, err := client.Do(req)
		assert.Equal(t, want, policyWith(t).Next(resp, err, graphretry.History{}).Outcome, "%v", err)
		if err == nil {
			resp.Body.Close()
		}
	}
}

// A captive portal answers a POST with a redirect to a page of its own.
func TestRedirectedJobIsNotSent(t *testing.T) {
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in</html>") }))
	defer portal.Close()
	gone := dialError(errors.New("connection refused"))
	for _, test := range []struct {
		method  string
		status  int
		target  string
		outcome graphretry.Outcome
	}{
		{http.MethodPost, http.StatusFound, portal.URL, graphretry.OutcomeFailed},
		{http.MethodPost, http.StatusSeeOther, portal.URL, graphretry.OutcomeFailed},
		{http.MethodPost, http.StatusTemporaryRedirect, portal.URL, graphretry.OutcomeSent},
		{http.MethodGet, http.StatusFound, portal.URL, graphretry.OutcomeSent},
		{http.MethodPost, http.StatusSeeOther, "http://gone.invalid", graphretry.OutcomeUnknown},
	} {
		server := httptest.NewServer(http.RedirectHandler(test.target, test.status))
		next := roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "gone.invalid" {
				return nil, gone
			}
			return server.Client().Transport.RoundTrip(req)
		})
		client := &http.Client{Transport: newTransport(t, next, graphretry.WithHosts("127.0.0.1", "gone.invalid"), graphretry.WithoutWaiting())}
		req, err := http.NewRequest(test.method, server.URL, strings.NewReader(messageBody))
		require.NoError(t, err)
		resp, err := client.Do(req)
		assert.Equal(t, test.outcome, policyWith(t).Next(resp, err, graphretry.History{}).Outcome, "%s, %d to %s", test.method, test.status, test.target)
		if err == nil {
			resp.Body.Close()
		}
		server.Close()
	}
}

// A RoundTripper above that tries more than once joins its errors.
func TestOneOfSeveralErrorsDoesNotDecide(t *testing.T) {
	policy := policyWith(t)
	outage := &graphretry.WaitError{Err: graphretry.ErrOutage, Wait: time.Second}
	code := &graphretry.WaitError{Err: context.Canceled, Attempts: 1, Graph: &graphretry.Error{Code: 2}}
	for _, err := range []error{
		errors.Join(io.ErrUnexpectedEOF, graphretry.ErrOutage), errors.Join(io.ErrUnexpectedEOF, outage), errors.Join(io.ErrUnexpectedEOF, code),
		fmt.Errorf("%w after %w", outage, io.ErrUnexpectedEOF), fmt.Errorf("%w after %w", code, io.ErrUnexpectedEOF),
	} {
		assert.Equal(t, graphretry.OutcomeUnknown, policy.Next(nil, err, graphretry.History{}).Outcome, "%v", err)
	}
	assert.Equal(t, graphretry.OutcomeHeld, policy.Next(nil, errors.Join(outage, outage), graphretry.History{}).Outcome)
}

func TestAnswerThatBrokeOffIsHeldIfItRefused(t *testing.T) {
	policy := policyWith(t)
	for status, want := range map[int]graphretry.Outcome{400: graphretry.OutcomeHeld, 404: graphretry.OutcomeHeld, 500: graphretry.OutcomeUnknown} {
		resp := answer(status, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"error":{"code":130429`), errorReader{io.ErrUnexpectedEOF}))
		assert.Equal(t, want, policy.Next(resp, nil, graphretry.History{}).Outcome, "%d", status)
	}
	limited := answer(429, "slow down")
	limited.Header.Set("Retry-After", "60")
	assert.Equal(t, time.Minute, policy.Next(limited, nil, graphretry.History{}).Wait)
}

// What is said of the cause is blanked, also in a WaitError that somebody else has made, and
// the gate's own error is not handed out.
func TestGraphErrorOfAnOutageIsACopyWithoutSecrets(t *testing.T) {
	said := &graphretry.Error{Code: 2, Message: "Malformed access token EAAGsecretsecretsecret"}
	for _, attempts := range []int{0, 1} {
		err := &graphretry.WaitError{Err: graphretry.ErrOutage, Wait: time.Second, Graph: said, Attempts: attempts}
		decision := policyWith(t).Next(nil, err, graphretry.History{})
		assert.Equal(t, "Malformed access token [REDACTED]", decision.Graph.Message)
		assert.NotSame(t, said, decision.Graph)
	}
	assert.Equal(t, "Malformed access token EAAGsecretsecretsecret", said.Message)
}

// The end of an outage is told also where the probe is a call that does not wait.
func TestOutageThatACallWithoutWaitingEndsIsTold(t *testing.T) {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(1), graphretry.WithInitialInterval(time.Nanosecond), graphretry.WithoutWaiting())
	sentStatus(t, transport, t.Context())
	for {
		if _, err := statusOf(t.Context(), transport, messagesURL); err == nil {
			break
		}
	}
	last := events()[len(events())-1]
	assert.Equal(t, graphretry.EventOutageEnded, last.Kind)
	assert.NoError(t, last.Err)
	assert.Equal(t, graphretry.CodeAPIService, last.Graph.Code)
}
