package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestMessageIsSentOnceWithItsID(t *testing.T) {
	b := newHarness(t)
	const id = "order 7/ä.*>"
	b.enqueue(id, id)
	queued := b.becomes(id, outbox.StateQueued)
	assert.Equal(t, phoneNumberID, queued.PhoneNumberID)
	assert.WithinDuration(t, time.Now(), queued.Enqueued, time.Minute)

	run(t, b.Outbox)
	status := b.becomes(id, outbox.StateSent)
	accepted := b.api.Accepted()
	require.Len(t, accepted, 1)
	assert.Equal(t, id, accepted[0].CallbackData)
	assert.Equal(t, accepted[0].ID, status.MessageID)
	assert.Equal(t, phoneNumberID, accepted[0].PhoneNumberID)
	assert.Equal(t, id, status.ID)
	assert.Zero(t, status.Retries)
	assert.Empty(t, b.log.String())
}

func TestTemporaryFailureIsTriedAgain(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(3, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateSent)
	assert.Equal(t, 3, status.Retries)
	assert.Nil(t, status.Graph, "what was overcome is not reported")
	assert.Equal(t, []string{"a"}, b.api.AcceptedKeys())
	calls := b.api.Calls()
	require.Len(t, calls, 4)
	for i, atLeast := range []time.Duration{20, 40, 80} {
		assert.GreaterOrEqual(t, calls[i+1].Time.Sub(calls[i].Time), atLeast*time.Millisecond, "the wait before retry %d", i+1)
	}
}

func TestNeverCodeFailsForGood(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeUserExperiment, Details: "No."})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateFailed)
	require.NotNil(t, status.Graph)
	assert.Equal(t, graphretry.CodeUserExperiment, status.Graph.Code)
	assert.Equal(t, "No.", status.Graph.Details)
	assert.NotEmpty(t, status.Graph.TraceID)
	assert.Nil(t, status.Graph.Raw, "it could hold a token")
	assert.Equal(t, graphretry.ReasonNever.String(), status.Reason)

	b.queueIsEmpty()
	assert.Contains(t, b.log.String(), "130472")
	assert.Len(t, b.api.Calls(), 1)
}

func TestSomethingWentWrongIsRetriedOnceEvenAfterOtherFailures(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateFailed)
	assert.Equal(t, graphretry.CodeSomethingWentWrong, status.Graph.Code)
	assert.Equal(t, 3, status.Retries)
	assert.Len(t, b.api.Calls(), 4)
}

func TestMaxRetriesCountsEveryCode(t *testing.T) {
	b := newHarness(t, outbox.WithTransportOptions(graphretry.WithMaxRetries(2)))
	b.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})
	b.api.AnswerNext(9, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateFailed)
	assert.Contains(t, status.Reason, graphretry.ReasonRetriesExhausted.String())
	assert.Len(t, b.api.Calls(), 3)
}

func TestRetryAfterIsHeeded(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, RetryAfter: "1"})
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	calls := b.api.Calls()
	require.Len(t, calls, 2)
	assert.GreaterOrEqual(t, calls[1].Time.Sub(calls[0].Time), time.Second)
}

// Each of these leaves open whether the message was accepted.
func TestAmbiguousEndIsParkedAndNotSentAgain(t *testing.T) {
	beside(t)
	for name, answer := range map[string]graphtest.Answer{
		"connection breaks, message taken":     {Fault: graphtest.FaultBreak, Accept: true},
		"connection breaks, message not taken": {Fault: graphtest.FaultBreak},
		"gateway gives up waiting":             {Status: http.StatusGatewayTimeout, Accept: true},
		"success that is cut off":              {Fault: graphtest.FaultTruncate},
		"error that is cut off":                {Code: graphretry.CodeAPIService, Fault: graphtest.FaultTruncate},
		"success that is no answer of Meta's":  {Body: []byte("<html>captive portal</html>")},
		"no answer":                            {Fault: graphtest.FaultHang},
		"answer that never ends":               {Fault: graphtest.FaultStall},
		"answer that is too long":              {Status: http.StatusBadGateway, Body: make([]byte, 2<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			b := newHarness(t)
			b.api.AnswerNext(1, answer)
			b.enqueue("a")
			run(t, b.Outbox)
			parked := b.becomes("a", outbox.StateUnknown)
			b.enqueue("b")
			b.becomes("b", outbox.StateSent)
			assert.NotEmpty(t, parked.Reason)
			b.queueIsEmpty()
			assert.Len(t, b.api.Calls(), 2, "one for each message")
			parked = b.becomes("a", outbox.StateUnknown)

			unknown, err := b.Unknown(t.Context())
			require.NoError(t, err)
			assert.Equal(t, []outbox.Status{parked}, unknown)
			assert.Contains(t, b.log.String(), "parked as unknown")
		})
	}
}

func TestDefiniteFailureWithoutGraphErrorFails(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Status: http.StatusNotFound})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateFailed)
	assert.Contains(t, status.Reason, "404")
	assert.Nil(t, status.Graph)
}

func TestConnectionThatCannotBeMadeIsTriedAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	b := newHarness(t)
	o := b.open(nil, outbox.WithBaseURL("http://"+address))
	b.enqueue("a")
	run(t, o)
	status := b.until("a", "an attempt", func(s outbox.Status) bool { return s.Reason != "" })
	b.until("a", "another attempt", func(s outbox.Status) bool { return s.Changed.After(status.Changed) })
	assert.Contains(t, status.Reason, "refused")
	assert.Zero(t, status.Retries, "it was not sent")

	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	web := &httptest.Server{Listener: listener, Config: &http.Server{Handler: b.api}}
	web.Start()
	defer web.Close()
	b.becomes("a", outbox.StateSent)
	assert.Equal(t, []string{"a"}, b.api.AcceptedKeys())
}

func TestServerWhoseCertificateIsRefusedHasNotGotTheMessage(t *testing.T) {
	b := newHarness(t)
	web := httptest.NewUnstartedServer(b.api)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	o := b.open(nil, outbox.WithBaseURL(web.URL), outbox.WithAttemptTimeout(time.Minute)) // enough for a handshake on a slow machine
	b.enqueue("a")
	run(t, o)
	status := b.until("a", "an attempt", func(s outbox.Status) bool { return s.Reason != "" })
	assert.Contains(t, status.Reason, "certificate")
}

// Meta advises to wait 4^n seconds. Only the schedule's maximum limits that.
func TestPairRateLimitHasItsOwnSchedule(t *testing.T) {
	b := newHarness(t, outbox.WithTransportOptions(graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(time.Minute)))
	b.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodePairRateLimitHit})
	b.enqueue("a")
	stop := run(t, b.Outbox)
	status := b.until("a", "two retries", func(s outbox.Status) bool { return s.Retries == 2 })
	stop()
	assert.InDelta(t, 5, status.NotBefore.Sub(status.Changed).Seconds(), 1.1, "4 s and up to half of it as jitter")
	calls := b.api.Calls()
	require.Len(t, calls, 2)
	assert.GreaterOrEqual(t, calls[1].Time.Sub(calls[0].Time), time.Second)
}

func TestLongTextsOfAnErrorAreShortened(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: 100, Message: strings.Repeat("é", 20_000)})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.becomes("a", outbox.StateFailed)
	assert.Equal(t, strings.Repeat("é", 512)+"...", status.Graph.Message)
}

func TestMessageThatIsTooOldFails(t *testing.T) {
	const age = 2 * time.Second // in which there is time for an attempt
	b := newHarness(t, outbox.WithMaxAge(age))
	b.api.DownAfter(0, time.Hour, graphtest.Answer{})
	b.enqueue("retried", "waited in the queue")
	b.enqueue("idle")
	stop := run(t, b.Outbox)
	status := b.becomes("retried", outbox.StateFailed)
	assert.Contains(t, status.Reason, "maximum age")
	assert.Equal(t, graphretry.CodeAPIService, status.Graph.Code)
	b.becomes("waited in the queue", outbox.StateFailed)
	b.becomes("idle", outbox.StateFailed)
	stop()

	b.enqueue("late")
	late, err := b.Status(t.Context(), "late")
	require.NoError(t, err)
	b.past(late.Enqueued.Add(age))
	before := len(b.api.Calls())
	run(t, b.Outbox)
	b.becomes("late", outbox.StateFailed)
	assert.Len(t, b.api.Calls(), before, "what is too old is not sent")
	b.queueIsEmpty()
}

func TestAgeRunsOutInTheQueueOfAnOutage(t *testing.T) {
	b := newHarness(t, outbox.WithMaxAge(2*time.Second), outbox.WithTransportOptions(
		graphretry.WithOutageThreshold(1), graphretry.WithInitialInterval(time.Minute), graphretry.WithMaxInterval(time.Minute)))
	b.api.DownAfter(0, time.Hour, graphtest.Answer{})
	run(t, b.Outbox)
	b.enqueue("brings the API down")
	b.until("brings the API down", "failed for want of time", func(s outbox.Status) bool { return s.State == outbox.StateFailed })
	b.enqueue("waits")
	status := b.becomes("waits", outbox.StateFailed)
	assert.Contains(t, status.Reason, "maximum age")
	require.NotNil(t, status.Graph, "the answer that began the outage")
	assert.Equal(t, graphretry.CodeAPIService, status.Graph.Code)
	assert.Len(t, b.api.Calls(), 1)
}

func TestPanicOfTheNextRoundTripperParksTheMessage(t *testing.T) {
	b := newHarness(t)
	var calls atomic.Int32
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		if calls.Add(1) == 1 {
			panic("out of cheese")
		}
		return http.DefaultTransport.RoundTrip(req)
	}))
	b.enqueue("a")
	run(t, o)
	assert.Contains(t, b.becomes("a", outbox.StateUnknown).Reason, "out of cheese")
	b.enqueue("b")
	b.becomes("b", outbox.StateSent)
	assert.Contains(t, b.log.String(), "run_test.go", "the stack is logged")
}

func TestAccessTokenIsSentAndNowhereElse(t *testing.T) {
	const token = "EAAsecretEAA"
	b := newHarness(t)
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		if got := req.Header.Get("Authorization"); got != "Bearer "+token {
			return nil, errors.New("wrong authorization")
		}
		return nil, fmt.Errorf("no route for %v", req.Header)
	}), outbox.WithAccessToken(token))
	b.enqueue("a")
	run(t, o)
	status := b.becomes("a", outbox.StateUnknown)
	assert.Contains(t, status.Reason, "no route for")
	assert.NotContains(t, status.Reason, token)
	assert.NotContains(t, b.log.String(), token)
}

func TestGraphErrorThatEchoesTheTokenIsBlanked(t *testing.T) {
	const token = "EAAsecretEAA"
	b := newHarness(t, outbox.WithAccessToken(token))
	b.api.AnswerNext(1000, graphtest.Answer{Code: 190, Message: "Malformed access token " + token})
	b.enqueue("a")
	run(t, b.Outbox)
	status := b.until("a", "refused", func(s outbox.Status) bool { return s.Graph != nil })
	assert.Contains(t, status.Graph.Message, "Malformed access token")
	assert.NotContains(t, fmt.Sprintf("%+v", status.Graph)+b.log.String(), token)
}

func TestStopBringsAnAttemptToItsEnd(t *testing.T) {
	b := newHarness(t)
	b.api.SetLatency(500 * time.Millisecond)
	b.enqueue("a")
	stop := run(t, b.Outbox)
	b.becomes("a", outbox.StateSending)
	began := time.Now()
	stop()
	assert.Less(t, time.Since(began), patience)
	status, err := b.Status(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, outbox.StateSent, status.State)
	assert.NotEmpty(t, status.MessageID)
}

func TestStopBoundsAnAttemptThatHangs(t *testing.T) {
	b := newHarness(t, outbox.WithAttemptTimeout(300*time.Millisecond))
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
	b.enqueue("a")
	stop := run(t, b.Outbox)
	b.becomes("a", outbox.StateSending)
	stop()
	status, err := b.Status(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, outbox.StateUnknown, status.State)
}

// An outage is what one Outbox sees. For another machine it may be over.
func TestOutboxThatSeesAnOutageLeavesTheMessagesInTheQueue(t *testing.T) {
	b := newHarness(t, outbox.WithTransportOptions(
		graphretry.WithOutageThreshold(1), graphretry.WithInitialInterval(time.Minute), graphretry.WithMaxInterval(time.Minute)))
	b.api.DownAfter(0, time.Hour, graphtest.Answer{})
	stop := run(t, b.Outbox)
	b.enqueue("brings the API down")
	b.until("brings the API down", "refused", func(s outbox.Status) bool { return s.Retries == 1 })
	ids := []string{"a", "b", "c", "d", "e", "f"}
	b.enqueue(ids...)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.True(t, stats.APIDown)

	b.api.Clear()
	run(t, b.open(nil))
	b.accepts(len(ids))
	assert.Len(t, b.api.Calls(), 1+len(ids), "to wait for the API is no attempt")
	began := time.Now()
	stop()
	assert.Less(t, time.Since(began), 5*time.Second)
	for _, id := range ids {
		assert.Zero(t, b.becomes(id, outbox.StateSent).Retries)
	}
}

func TestOutageStopsThePullingAndLosesNothing(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(4), outbox.WithTransportOptions(graphretry.WithOutageThreshold(4)))
	const n = 200
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("m%d", i)
	}
	b.enqueue(ids...)
	b.api.DownAfter(0, 2*time.Second, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	run(t, b.Outbox)
	for _, id := range ids {
		b.becomes(id, outbox.StateSent)
	}
	totals := b.api.Totals()
	assert.Equal(t, n, totals.Accepted)
	assert.Zero(t, totals.Duplicates)
	// 4 calls bring it down, some are under way then, and a probe comes every 80 ms or so.
	// Without the gate there would be hundreds.
	assert.LessOrEqual(t, totals.WhileDown, 50)
	t.Logf("%d calls while the API was down for 2 s, with %d messages in the queue", totals.WhileDown, n)
}

func TestSeveralOutboxesShareTheWork(t *testing.T) {
	b := newHarness(t)
	b.api.SetLatency(20 * time.Millisecond)
	var perOutbox [3]atomic.Int32
	const n = 60
	for i := range n {
		b.enqueue(fmt.Sprint(i))
	}
	for i := range perOutbox {
		run(t, b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
			perOutbox[i].Add(1)
			return http.DefaultTransport.RoundTrip(req)
		})))
	}
	for i := range n {
		b.becomes(fmt.Sprint(i), outbox.StateSent)
	}
	assert.Equal(t, n, b.api.Totals().Accepted)
	assert.Zero(t, b.api.Totals().Duplicates)
	for i := range perOutbox {
		assert.Positive(t, perOutbox[i].Load(), "outbox %d", i)
	}
}

func TestCloseEndsRunAndRefusesEveryCall(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	b.becomes("a", outbox.StateSent)
	require.NoError(t, b.Close())
	require.NoError(t, <-done)
	require.NoError(t, b.Close(), "closing again does nothing")

	ctx := t.Context()
	assert.ErrorIs(t, b.Run(ctx), outbox.ErrClosed)
	assert.ErrorIs(t, b.Enqueue(ctx, "b", phoneNumberID, payload("b")), outbox.ErrClosed)
	_, err := b.Status(ctx, "a")
	assert.ErrorIs(t, err, outbox.ErrClosed)
	_, err = b.Unknown(ctx)
	assert.ErrorIs(t, err, outbox.ErrClosed)
	assert.ErrorIs(t, b.Resend(ctx, "a"), outbox.ErrClosed)
	assert.ErrorIs(t, b.Drop(ctx, "a"), outbox.ErrClosed)
	assert.ErrorIs(t, b.HandleWebhook(ctx, graphtest.StatusWebhook(graphtest.Message{CallbackData: "a"}, "sent")), outbox.ErrClosed)
}
