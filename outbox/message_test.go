package outbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
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

func TestMessageWaitsForItsTime(t *testing.T) {
	b := newHarness(t)
	at := time.Now().Add(500 * time.Millisecond)
	require.NoError(t, b.Enqueue(t.Context(), "later", phoneNumberID, payload("later"), outbox.NotBefore(at)))
	run(t, b.Outbox)
	b.becomes("later", outbox.StateSent)
	// The two clocks are the same, except for the time that reading one takes.
	assert.WithinRange(t, b.api.Calls()[0].Time, at.Add(-100*time.Millisecond), at.Add(patience))
}

func TestMessageThatHasExpiredIsNotSent(t *testing.T) {
	b := newHarness(t)
	require.NoError(t, b.Enqueue(t.Context(), "code", phoneNumberID, payload("4711"), outbox.ExpiresAt(time.Now().Add(-time.Second))))
	require.NoError(t, b.Enqueue(t.Context(), "other", phoneNumberID, payload("4712"), outbox.ExpiresAt(time.Now().Add(time.Hour))))
	run(t, b.Outbox)
	b.becomes("other", outbox.StateSent)
	status := b.becomes("code", outbox.StateFailed)
	assert.Contains(t, status.Reason, "older than")
	assert.Equal(t, []string{"other"}, b.api.AcceptedKeys())
}

// Nor is it retried beyond that time.
func TestMessageExpiresBetweenItsAttempts(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: 2, RetryAfter: "3600"})
	require.NoError(t, b.Enqueue(t.Context(), "code", phoneNumberID, payload("4711"), outbox.ExpiresAt(time.Now().Add(time.Minute))))
	run(t, b.Outbox)
	b.becomes("code", outbox.StateFailed)
	assert.Empty(t, b.api.Accepted())
}

func TestUrgentMessageOvertakesTheOthersOfItsNumber(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(2), outbox.WithRate(100))
	ids := b.enqueueMany(phoneNumberID, 300)
	run(t, b.Outbox)
	b.calls(20)
	require.NoError(t, b.Enqueue(t.Context(), "urgent", phoneNumberID, payload("4711"), outbox.Urgent()))
	b.becomes("urgent", outbox.StateSent)
	assert.Greater(t, b.states(ids)[outbox.StateQueued], 100)
}

func TestUrgentMessageIsRetriedAsOne(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(2, graphtest.Answer{Code: 2})
	require.NoError(t, b.Enqueue(t.Context(), "urgent", phoneNumberID, payload("4711"), outbox.Urgent()))
	run(t, b.Outbox)
	assert.Equal(t, 2, b.becomes("urgent", outbox.StateSent).Retries)
}

func TestBadOptionOfAMessageIsRefused(t *testing.T) {
	b := newHarness(t)
	now := time.Now()
	for _, opts := range [][]outbox.EnqueueOption{
		{outbox.NotBefore(time.Time{})},
		{outbox.ExpiresAt(time.Time{})},
		{outbox.NotBefore(now.Add(time.Hour)), outbox.ExpiresAt(now.Add(time.Minute))},
		{outbox.NotBefore(now.Add(25 * time.Hour))},
	} {
		err := b.Enqueue(t.Context(), "a", phoneNumberID, payload("a"), opts...)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "nevertheless")
		_, err = b.Status(t.Context(), "a")
		assert.ErrorIs(t, err, outbox.ErrNotFound)
	}
	assert.NoError(t, b.Enqueue(t.Context(), "a", phoneNumberID, payload("a"), outbox.EnqueueOption{}))
}

func TestEachNumberHasATokenOfItsOwn(t *testing.T) {
	b := newHarness(t)
	var refused atomic.Int32
	seen := make(chan string, 10)
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		seen <- req.URL.Path + " " + req.Header.Get("Authorization")
		return http.DefaultTransport.RoundTrip(req)
	})
	o := b.open(next, outbox.WithTokenSource(func(_ context.Context, number string) (string, error) {
		if number == "222" && refused.Add(1) == 1 {
			return "", errors.New("the vault is sealed")
		}
		return "token-of-" + number, nil
	}))
	for _, number := range []string{"111", "222"} {
		require.NoError(t, o.Enqueue(t.Context(), number, number, payload(number)))
	}
	run(t, o)
	b.becomes("111", outbox.StateSent)
	b.becomes("222", outbox.StateSent)
	assert.ElementsMatch(t, []string{"/v25.0/111/messages Bearer token-of-111", "/v25.0/222/messages Bearer token-of-222"}, []string{<-seen, <-seen})
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "the vault is sealed") }, patience, time.Millisecond)
	assert.NotContains(t, b.log.String(), "token-of")
}

func TestPayloadThatIsTooLongIsNotSaidToBeInTheQueue(t *testing.T) {
	b := newHarness(t)
	err := b.Enqueue(t.Context(), "a", phoneNumberID, payload(strings.Repeat("x", 2<<20)))
	require.ErrorContains(t, err, "want a shorter payload")
	assert.NotContains(t, err.Error(), "nevertheless")
}

func TestPanicInTheBodyOfAnAnswerParksTheMessage(t *testing.T) {
	b := newHarness(t)
	o := b.open(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(panicking{})}, nil
	}))
	b.enqueue("a")
	run(t, o)
	assert.Contains(t, b.becomes("a", outbox.StateUnknown).Reason, "panicked")
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("not today") }

func TestManyWorkersMayWaitForMessages(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(600))
	run(t, b.Outbox)
	for i := range 20 {
		id := fmt.Sprint(i)
		b.enqueue(id)
		b.becomes(id, outbox.StateSent)
	}
	assert.Empty(t, b.log.String())
}

// Trimmed as ParseWebhook does.
func TestWebhookWithAByteOrderMarkOrNULSettles(t *testing.T) {
	b := newHarness(t)
	for id, around := range map[string]string{"a": "%s\x00", "b": "\ufeff%s"} {
		b.enqueue(id)
		body := `{"entry":[{"changes":[{"field":"messages","value":{"statuses":[{"id":"wamid.1","status":"sent","biz_opaque_callback_data":"` + id + `"}]}}]}]}`
		require.NoError(t, b.HandleWebhook(t.Context(), fmt.Appendf(nil, around, body)))
		b.becomes(id, outbox.StateSent)
	}
}

// The token source may use a graphretry client of its own.
func TestTokenSourceThatMeetsAnOutageFailsNoMessage(t *testing.T) {
	b := newHarness(t)
	var asked atomic.Int32
	o := b.open(nil, outbox.WithTokenSource(func(context.Context, string) (string, error) {
		if asked.Add(1) == 1 {
			return "", fmt.Errorf("cannot refresh: %w", graphretry.ErrOutage)
		}
		return "token", nil
	}))
	b.enqueue("a")
	run(t, o)
	b.becomes("a", outbox.StateSent)
}

// The first of two writes may have been carried out.
func TestJoinedErrorWithACertificateIsUnknown(t *testing.T) {
	for name, wrap := range map[string]func(error) error{
		"joined": func(err error) error { return err }, "wrapped": func(err error) error { return fmt.Errorf("after 2 tries: %w", err) },
	} {
		b := newHarness(t)
		var sent atomic.Int32
		o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
			sent.Add(1)
			_, _ = io.Copy(io.Discard, req.Body)
			return nil, wrap(errors.Join(io.ErrUnexpectedEOF, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}))
		}))
		b.enqueue("a")
		run(t, o)
		b.becomes("a", outbox.StateUnknown)
		assert.EqualValues(t, 1, sent.Load(), name)
	}
}

func TestTraceOfACallerTravelsWithItsMessage(t *testing.T) {
	type key struct{}
	const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b := newHarness(t)
	seen := make(chan any, 2)
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		seen <- req.Context().Value(key{})
		return b.api.RoundTrip(req)
	}), outbox.WithPropagation(
		func(ctx context.Context, h http.Header) { h.Set("traceparent", ctx.Value(key{}).(string)) },
		func(ctx context.Context, h http.Header) context.Context {
			return context.WithValue(ctx, key{}, h.Get("traceparent"))
		}))
	b.api.AnswerNext(1, graphtest.Answer{Code: 2})
	require.NoError(t, o.Enqueue(context.WithValue(t.Context(), key{}, header), "a", phoneNumberID, payload("a")))
	run(t, o)
	b.becomes("a", outbox.StateSent)
	assert.Equal(t, header, <-seen)
	assert.Equal(t, header, <-seen, "with each attempt")
}

func TestOutboxThatIsFullTakesNoMoreAndSendsWhatItHas(t *testing.T) {
	b := newHarness(t, outbox.WithMaxQueued(5))
	ids, err := []string{}, error(nil)
	for i := 0; err == nil; i++ {
		require.Less(t, i, 100)
		id := fmt.Sprint(i)
		if err = b.Enqueue(t.Context(), id, phoneNumberID, payload("x")); err == nil {
			ids = append(ids, id)
		}
	}
	assert.ErrorIs(t, err, outbox.ErrFull)
	assert.NotContains(t, err.Error(), "nevertheless")
	assert.Len(t, ids, 5)
	run(t, b.Outbox)
	assert.Equal(t, len(ids), b.settled(ids)[outbox.StateSent])
}
