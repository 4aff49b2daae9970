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

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	// The two clocks are one, but for the time that asking for it takes.
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
	assert.ElementsMatch(t, []string{"/v23.0/111/messages Bearer token-of-111", "/v23.0/222/messages Bearer token-of-222"}, []string{<-seen, <-seen})
	assert.Contains(t, b.log.String(), "the vault is sealed")
	assert.NotContains(t, b.log.String(), "token-of")
}

// Somebody may purge the stream.
func TestMessageThatWasPurgedIsSentWhenItIsEnqueuedAgain(t *testing.T) {
	for name, again := range map[string]func(*bench) error{
		"Enqueue": func(b *bench) error { return b.Enqueue(b.t.Context(), "a", phoneNumberID, payload("a")) },
		"Resend":  func(b *bench) error { return b.Resend(b.t.Context(), "a") },
	} {
		b := newHarness(t)
		b.enqueue("a")
		require.NoError(t, outbox.ClearEntry(b.Outbox, "a", phoneNumberID))
		require.NoError(t, again(b), name)
		run(t, b.Outbox)
		b.becomes("a", outbox.StateSent)
		assert.Equal(t, []string{"a"}, b.api.AcceptedKeys(), name)
	}
}

func TestConsumerThatWasDeletedIsMadeAgain(t *testing.T) {
	b := newHarness(t)
	b.enqueue("before")
	run(t, b.Outbox)
	b.becomes("before", outbox.StateSent)
	for _, name := range []string{phoneNumberID, phoneNumberID + "-urgent"} {
		require.NoError(t, b.server.JetStream().DeleteConsumer(t.Context(), "graphretry-outbox", name))
	}
	b.enqueue("a")
	b.becomes("a", outbox.StateSent)
}

// A cluster that loses its leader can forget that a message was given back.
func TestEntryThatItsConsumerTakesForDoneIsPutThereAnew(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a", "b")
	require.NoError(t, outbox.Rescue(b.Outbox, phoneNumberID)) // which makes the consumer
	consumer, err := b.server.JetStream().Consumer(t.Context(), "graphretry-outbox", phoneNumberID)
	require.NoError(t, err)
	msg, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, msg.DoubleAck(t.Context()))
	run(t, b.Outbox)
	b.becomes("b", outbox.StateSent)
	b.becomes("a", outbox.StateSent) // Run looks when it begins, and once a minute
	assert.Equal(t, 2, b.api.Totals().Calls)
}

func TestRunEndsWhenItsConnectionIsClosedForGood(t *testing.T) {
	b := newHarness(t)
	server, err := outbox.Embedded(t.TempDir(), outbox.WithListen("127.0.0.1:0"))
	require.NoError(t, err)
	defer server.Close()
	connection, err := nats.Connect(server.URL())
	require.NoError(t, err)
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	o, err := outbox.Open(t.Context(), js, nil, append(fast(), outbox.WithBaseURL(b.url))...)
	require.NoError(t, err)
	defer o.Close()
	ended := make(chan error, 1)
	go func() { ended <- o.Run(t.Context()) }()
	connection.Close()
	assert.ErrorIs(t, <-ended, nats.ErrConnectionClosed)
}

func TestPayloadThatIsTooLongIsNotSaidToBeInTheQueue(t *testing.T) {
	b := newHarness(t)
	err := b.Enqueue(t.Context(), "a", phoneNumberID, payload(strings.Repeat("x", 2<<20)))
	require.ErrorContains(t, err, "want a shorter payload")
	assert.NotContains(t, err.Error(), "nevertheless")
}

func TestFullServerIsToldAtOnce(t *testing.T) {
	full, err := server.NewServer(&server.Options{JetStream: true, JetStreamMaxStore: 1 << 16, StoreDir: t.TempDir(), DontListen: true, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	full.Start()
	defer full.Shutdown()
	connection, err := nats.Connect("", nats.InProcessServer(full))
	require.NoError(t, err)
	defer connection.Close()
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	o, err := outbox.Open(t.Context(), js, nil)
	require.NoError(t, err)
	defer o.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for i := 0; err == nil; i++ {
		require.Less(t, i, 100)
		err = o.Enqueue(ctx, fmt.Sprint(i), phoneNumberID, payload(strings.Repeat("x", 10_000)))
	}
	assert.ErrorContains(t, err, "resource")
}

func TestOutboxThatIsFullTakesNoMoreAndSendsWhatItHas(t *testing.T) {
	b := newHarness(t, outbox.WithMaxBytes(1<<20))
	ids, err := []string{}, error(nil)
	for i := 0; err == nil; i++ {
		require.Less(t, i, 100)
		id := fmt.Sprint(i)
		if err = b.Enqueue(t.Context(), id, phoneNumberID, payload(strings.Repeat("x", 300_000))); err == nil {
			ids = append(ids, id)
		}
	}
	assert.ErrorIs(t, err, outbox.ErrFull)
	run(t, b.Outbox)
	assert.Equal(t, len(ids), b.settled(ids)[outbox.StateSent])
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

func TestWebhookOfARecordThatCannotBeReadIsTaken(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	require.NoError(t, outbox.WriteRecord(b.Outbox, "a", "no JSON"))
	assert.NoError(t, b.HandleWebhook(t.Context(), graphtest.StatusWebhook(graphtest.Message{ID: "wamid.1", CallbackData: "a"}, "delivered")))
	assert.Contains(t, b.log.String(), "cannot be read")
}

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

// A machine whose clock is a day ahead learns that from the server when it opens the
// outbox. Here the server is a day behind.
func TestWaitsAndAgesAreToldByTheServersClock(t *testing.T) {
	b := newHarness(t)
	assert.InDelta(t, 0, b.Skew().Seconds(), 5, "the two clocks are one")
	b.SetSkew(-23 * time.Hour)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	status, err := b.Status(t.Context(), "a")
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(-23*time.Hour), status.Enqueued, time.Minute)
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

// It may fetch its token over a graphretry client of its own.
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

// The first of two tries may have been carried out.
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
