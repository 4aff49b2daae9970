package outbox_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

func TestManyMessagesAreEnqueuedAtOnceEachOnce(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6))
	b.enqueue("7", "300")
	var messages []outbox.Message
	for i := range 600 {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: phoneNumberID, Payload: payload("x")})
	}
	messages = append(messages, messages[3], messages[599])
	require.NoError(t, b.EnqueueAll(t.Context(), messages))
	require.NoError(t, b.EnqueueAll(t.Context(), messages), "repeating it is safe")
	require.NoError(t, b.EnqueueAll(t.Context(), nil))
	run(t, b.Outbox)
	require.Eventually(t, func() bool { return b.api.Totals().Accepted == 600 }, patience, time.Millisecond)
	b.queueIsEmpty()
	assert.Empty(t, b.api.Duplicates())
	assert.Equal(t, 600, b.api.Totals().Calls)
}

func TestOneBadMessageOfManyKeepsAllOut(t *testing.T) {
	b := newHarness(t)
	err := b.EnqueueAll(t.Context(), []outbox.Message{
		{ID: "good", PhoneNumberID: phoneNumberID, Payload: payload("x")},
		{ID: "bad number", PhoneNumberID: "+1 650", Payload: payload("x")},
		{ID: "bad payload", PhoneNumberID: phoneNumberID, Payload: []byte("[]")},
	})
	assert.ErrorContains(t, err, `"bad number"`)
	assert.ErrorContains(t, err, `"bad payload"`)
	assert.NotContains(t, err.Error(), "nevertheless")
	_, err = b.Status(t.Context(), "good")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}

func TestTwoWhoEnqueueTheSameBatchMakeItOnce(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6))
	var messages []outbox.Message
	for i := range 100 {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: phoneNumberID, Payload: payload("x")})
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { assert.NoError(t, b.EnqueueAll(context.Background(), messages)) })
		slices.Reverse(messages)
	}
	all.Wait()
	counts, err := outbox.Subjects(b.Outbox)
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"record": 100, "payload": 100, "queue": 100}, counts)
}

// Retries would let one message overtake another.
func TestRecipientGetsMessagesInTheirOrder(t *testing.T) {
	b := newHarness(t)
	order := []outbox.Option{outbox.WithRecipientOrder(), outbox.WithRate(1e6)}
	var outboxes []*outbox.Outbox
	for range 3 {
		outboxes = append(outboxes, b.open(nil, order...))
	}
	const recipients, each = 10, 8
	for range 40 {
		b.api.AnswerNext(1, graphtest.Answer{})
		b.api.AnswerNext(1, graphtest.Answer{Code: 2})
		b.api.AnswerNext(1, graphtest.Answer{Code: 100})
	}
	var messages []outbox.Message
	for i := range each {
		for r := range recipients {
			text := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"1555000%d","type":"text","text":{"body":"x"}}`, r)
			m := outbox.Message{ID: fmt.Sprintf("%d-%d", r, i), PhoneNumberID: phoneNumberID, Payload: []byte(text)}
			if i%3 == 1 {
				m.Options = []outbox.EnqueueOption{outbox.Urgent()}
			}
			messages = append(messages, m)
		}
	}
	require.NoError(t, outboxes[0].EnqueueAll(t.Context(), messages[:30]))
	for _, o := range outboxes {
		run(t, o)
	}
	for i, m := range messages[30:] {
		require.NoError(t, outboxes[i%3].Enqueue(t.Context(), m.ID, m.PhoneNumberID, m.Payload, m.Options...))
	}
	for _, m := range messages {
		b.until(m.ID, "at its end", func(s outbox.Status) bool {
			return s.State == outbox.StateSent || s.State == outbox.StateFailed
		})
	}
	last := make(map[string]string)
	for _, id := range b.api.AcceptedKeys() {
		recipient, i, _ := strings.Cut(id, "-")
		assert.Less(t, last[recipient], i, "recipient %s", recipient)
		last[recipient] = i
	}
	assert.Empty(t, b.api.Duplicates())
	counts, err := outbox.Subjects(b.Outbox)
	require.NoError(t, err)
	assert.Zero(t, counts["after"], "nobody waits for a turn any more")
}

func TestDroppedOrDeletedMessageGivesItsTurnToTheNext(t *testing.T) {
	b := newHarness(t, outbox.WithRecipientOrder())
	require.NoError(t, b.EnqueueAll(t.Context(), threeMessages()))
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3, stats.States[outbox.StateQueued], "who waits for a turn is queued")
	require.NoError(t, b.Delete(t.Context(), "2"))
	require.NoError(t, b.Drop(t.Context(), "1"))
	run(t, b.Outbox)
	b.becomes("3", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, []string{"3"}, b.api.AcceptedKeys())
}

func TestDeletedMessageLeavesNothingButTheHashOfItsID(t *testing.T) {
	b := newHarness(t)
	b.enqueue("customer 4711", "b")
	require.NoError(t, b.Delete(t.Context(), "customer 4711"))
	require.NoError(t, b.Delete(t.Context(), "customer 4711"), "repeating it is safe")
	text, err := outbox.Text(b.Outbox, "customer 4711")
	require.NoError(t, err)
	assert.NotContains(t, text, "4711")
	assert.NotContains(t, text, "15550001111")
	assert.Equal(t, 2, strings.Count(text, "\n"), text)

	_, err = b.Status(t.Context(), "customer 4711")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
	assert.ErrorIs(t, b.Delete(t.Context(), "never there"), outbox.ErrNotFound)
	require.NoError(t, b.Enqueue(t.Context(), "customer 4711", phoneNumberID, payload("x")), "it is still the same message")
	run(t, b.Outbox)
	b.becomes("b", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, []string{"b"}, b.api.AcceptedKeys())
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateSent: 1}, stats.States)
	require.NoError(t, b.Delete(t.Context(), "b"))
}

func TestMessageThatIsBeingSentIsNotDeleted(t *testing.T) {
	b := newHarness(t)
	o, held, release := b.holding()
	b.enqueue("a")
	run(t, o)
	<-held
	assert.ErrorContains(t, b.Delete(t.Context(), "a"), "it is being sent")
	close(release)
	b.becomes("a", outbox.StateSent)
}

func TestOutcomesAreTold(t *testing.T) {
	var mu sync.Mutex
	var told []string
	o := newHarness(t, outbox.WithWorkers(1), outbox.WithOutcome(func(_ context.Context, outcome outbox.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, outcome.Status.ID+" "+string(outcome.Kind)+" "+string(outcome.Status.State))
		panic("a bug in it sends nothing twice")
	}))
	o.api.AnswerNext(1, graphtest.Answer{Code: 2})
	o.api.AnswerNext(1, graphtest.Answer{})
	stop := run(t, o.Outbox)
	o.enqueue("good")
	o.becomes("good", outbox.StateSent)
	message := o.api.Accepted()[0]
	o.webhook(message, "sent")
	o.webhook(message, "delivered")
	o.webhook(message, "read")
	o.webhook(message, "read")
	o.api.AnswerNext(1, graphtest.Answer{Code: 100})
	o.enqueue("bad")
	o.becomes("bad", outbox.StateFailed)
	o.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	o.enqueue("lost")
	o.becomes("lost", outbox.StateUnknown)
	stop()
	assert.Equal(t, []string{
		"good sent sent", "good delivered sent", "good read sent", "bad failed failed", "lost unknown unknown",
	}, told)
	assert.Contains(t, o.log.String(), "a bug in it")
	assert.Len(t, o.api.Accepted(), 1)
}

func TestStatusKnowsWhenAMessageWasDeliveredAndRead(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	webhook := func(status, timestamp string) {
		body := fmt.Sprintf(`{"entry":[{"changes":[{"value":{"statuses":[{"id":%q,"status":%q,"timestamp":%q,"biz_opaque_callback_data":"a"}]}}]}]}`,
			b.api.Accepted()[0].ID, status, timestamp)
		require.NoError(t, b.HandleWebhook(t.Context(), []byte(body)))
	}
	webhook("delivered", "1764234000")
	webhook("read", "1764234060")
	status := b.becomes("a", outbox.StateSent)
	assert.Equal(t, int64(1764234000), status.Delivered.Unix())
	assert.Equal(t, int64(1764234060), status.Read.Unix())
	b.enqueue("b")
	assert.Zero(t, b.becomes("b", outbox.StateSent).Read)
}

func TestPayloadIsKeptForAsLongAsItIsOfUse(t *testing.T) {
	for keep, opts := range map[bool][]outbox.Option{false: nil, true: {outbox.WithKeepPayload()}} {
		b := newHarness(t, opts...)
		b.api.AnswerNext(1, graphtest.Answer{Code: 100})
		b.enqueue("a")
		run(t, b.Outbox)
		b.becomes("a", outbox.StateFailed)
		require.NoError(t, b.Resend(t.Context(), "a"))
		b.becomes("a", outbox.StateSent)
		b.webhook(b.api.Accepted()[0], "delivered")
		counts, err := outbox.Subjects(b.Outbox)
		require.NoError(t, err)
		assert.Equal(t, keep, counts["payload"] == 1)
		assert.Equal(t, 1, counts["record"])
	}
}

func TestRecordOfALaterVersionIsLeftAlone(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a", "b")
	const later = `{"v":99,"what":"this version cannot know"}`
	require.NoError(t, outbox.WriteRecord(b.Outbox, "a", later))
	run(t, b.Outbox)
	b.becomes("b", outbox.StateSent)
	message := graphtest.Message{ID: "wamid.1", CallbackData: "a"}
	assert.ErrorContains(t, b.HandleWebhook(t.Context(), graphtest.StatusWebhook(message, "sent")), "later version", "Meta repeats it")
	for _, err := range []error{b.Resend(t.Context(), "a"), b.Drop(t.Context(), "a"), b.Delete(t.Context(), "a")} {
		assert.ErrorContains(t, err, "later version")
	}
	text, err := outbox.Text(b.Outbox, "a")
	require.NoError(t, err)
	assert.Contains(t, text, later)
	assert.Contains(t, text, "queue", "its entry is still there")
	assert.Equal(t, []string{"b"}, b.api.AcceptedKeys())
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

func TestEncryptedDirectoryHoldsNoPlainText(t *testing.T) {
	for encrypted, opts := range map[bool][]outbox.EmbeddedOption{false: nil, true: {outbox.WithEncryptionKey(make([]byte, 32))}} {
		dir := t.TempDir()
		send := func(id string) {
			server, err := outbox.Embedded(dir, opts...)
			require.NoError(t, err)
			o, err := outbox.Open(t.Context(), server.JetStream(), nil)
			require.NoError(t, err)
			require.NoError(t, o.Enqueue(t.Context(), id, phoneNumberID, payload("my secret is 4711")))
			_, err = o.Status(t.Context(), "a")
			require.NoError(t, err)
			require.NoError(t, o.Close())
			require.NoError(t, server.Close())
		}
		send("a")
		send("b") // after a restart with the same key
		found := false
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			found = found || strings.Contains(string(data), "my secret is 4711")
			return err
		}))
		assert.Equal(t, !encrypted, found)
	}
	_, err := outbox.Embedded(t.TempDir(), outbox.WithEncryptionKey([]byte("short secret")))
	assert.ErrorContains(t, err, "want at least 32")
	assert.NotContains(t, err.Error(), "short secret")
}

// Another machine may give fewer seconds than one that is at work knows of.
func TestShorterAckWaitParksNoHealthyAttempt(t *testing.T) {
	b := newHarness(t, outbox.WithAckWait(30*time.Second))
	o, held, release := b.holding(outbox.WithAckWait(30 * time.Second))
	b.enqueue("a")
	run(t, o)
	<-held
	other := b.open(nil, outbox.WithAckWait(3*time.Second))
	run(t, other)
	time.Sleep(4 * time.Second) // one sign of life a second comes in that time
	assert.Equal(t, outbox.StateSending, b.becomes("a", outbox.StateSending).State)
	close(release)
	b.becomes("a", outbox.StateSent)
	assert.Len(t, b.api.Calls(), 1)
}

// Each number finds out for itself at first; then one probe serves all.
func TestGatewayThatIsDownHoldsTheHostAndNotEachNumber(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithWorkers(8),
		outbox.WithTransportOptions(graphretry.WithInitialInterval(50*time.Millisecond), graphretry.WithMaxInterval(50*time.Millisecond), graphretry.WithJitter(0)))
	b.api.DownAfter(0, time.Hour, graphtest.Answer{Status: http.StatusServiceUnavailable})
	const numbers = 6
	var ids []string
	for i := range numbers {
		ids = append(ids, b.enqueueMany(fmt.Sprint("10", i), 40)...)
	}
	run(t, b.Outbox)
	require.Eventually(t, func() bool { return strings.Count(b.log.String(), "a phone number is held") == numbers }, patience, time.Millisecond)
	held := b.api.Totals().Calls
	began := time.Now()
	b.calls(held + 10)
	// 10 probes of one host come after 500 ms; of each number they would come after 100.
	assert.Greater(t, time.Since(began), 350*time.Millisecond)
	b.api.Clear()
	counts := b.settled(ids)
	assert.Zero(t, counts[outbox.StateFailed])
	assert.LessOrEqual(t, counts[outbox.StateUnknown], 3*numbers+8+30)
	assert.Empty(t, b.api.Duplicates())
}

// What one machine sends counts for all.
func TestRateHoldsForAllMachinesTogether(t *testing.T) {
	b := newHarness(t)
	const perSecond, n = 100, 100
	ids := b.enqueueMany("111", n)
	for range 3 {
		run(t, b.open(nil, outbox.WithRate(perSecond)))
	}
	assert.Equal(t, n, b.settled(ids)[outbox.StateSent])
	calls := b.api.Calls()
	require.Len(t, calls, n)
	assert.GreaterOrEqual(t, calls[n-1].Time.Sub(calls[0].Time), 800*time.Millisecond, "100 a second, and not 300")
}

// The lane of a campaign must not keep the workers from the others.
func TestNumbersShareTheWorkers(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(2), outbox.WithRate(1e6))
	b.api.SetLatency(5 * time.Millisecond)
	var campaign []outbox.Message
	for i := range 1000 {
		campaign = append(campaign, outbox.Message{ID: fmt.Sprint("c", i), PhoneNumberID: "111", Payload: payload("x")})
	}
	require.NoError(t, b.EnqueueAll(t.Context(), campaign))
	run(t, b.Outbox)
	b.calls(10)
	others := b.enqueueMany("222", 20)
	b.settled(others)
	assert.Less(t, b.api.Totals().Accepted, 500, "20 of one number went out beside about 20 of the other")
}
