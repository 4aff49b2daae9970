package outbox_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// holding opens an outbox whose attempts wait to be released after the API has
// answered them.
func (b *bench) holding(opts ...outbox.Option) (o *outbox.Outbox, held, release chan struct{}) {
	held, release = make(chan struct{}, 10), make(chan struct{})
	o = b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := b.api.RoundTrip(req)
		held <- struct{}{}
		<-release
		return resp, err
	}), append([]outbox.Option{outbox.WithAttemptTimeout(time.Minute)}, opts...)...)
	return o, held, release
}

// webhook delivers a status of a message.
func (b *bench) webhook(m graphtest.Message, status string, codes ...graphretry.Code) {
	b.t.Helper()
	require.NoError(b.t, b.HandleWebhook(b.t.Context(), graphtest.StatusWebhook(m, status, codes...)))
}

// parked returns a message that the API has accepted and whose answer was lost.
func parked(t *testing.T, opts ...outbox.Option) (*bench, graphtest.Message) {
	t.Helper()
	b := newHarness(t, opts...)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateUnknown)
	b.queueIsEmpty()
	return b, b.api.Accepted()[0]
}

func TestStatusWebhookSettlesAnUnknownMessage(t *testing.T) {
	beside(t)
	for _, kind := range []string{"sent", "delivered", "read"} {
		t.Run(kind, func(t *testing.T) {
			b, message := parked(t)
			b.webhook(message, kind)
			b.webhook(message, kind)
			status := b.becomes("a", outbox.StateSent)
			assert.Equal(t, message.ID, status.MessageID)
			assert.Empty(t, status.Reason)
			unknown, err := b.Unknown(t.Context())
			require.NoError(t, err)
			assert.Empty(t, unknown)
			assert.Equal(t, 1, b.api.Totals().Accepted)
		})
	}
}

func TestFailureWebhookThatIsRetriedSendsOnceMore(t *testing.T) {
	b, first := parked(t)
	b.webhook(first, "failed", graphretry.CodeSomethingWentWrong)
	b.webhook(first, "failed", graphretry.CodeSomethingWentWrong) // Meta repeats itself
	b.webhook(first, "sent")                                      // and its webhooks come in any order
	status := b.becomes("a", outbox.StateSent)
	assert.Equal(t, 1, status.Retries)
	accepted := b.api.Accepted()
	require.Len(t, accepted, 2)
	assert.Equal(t, accepted[1].ID, status.MessageID)

	b.webhook(accepted[1], "failed", graphretry.CodeSomethingWentWrong)
	status = b.becomes("a", outbox.StateFailed)
	assert.Equal(t, graphretry.CodeSomethingWentWrong, status.Graph.Code)
	b.queueIsEmpty()
	assert.Equal(t, 2, b.api.Totals().Accepted, "once more, and no more")
}

func TestFailureWebhookThatIsNotRetriedFails(t *testing.T) {
	b, message := parked(t)
	b.webhook(message, "failed", 131026)
	status := b.becomes("a", outbox.StateFailed)
	assert.Equal(t, graphretry.Code(131026), status.Graph.Code)
	b.webhook(message, "sent")
	b.becomes("a", outbox.StateFailed)
}

func TestFailureWebhookWithoutAnErrorFails(t *testing.T) {
	b, message := parked(t)
	b.webhook(message, "failed")
	assert.Contains(t, b.becomes("a", outbox.StateFailed).Reason, "does not say why")
}

func TestFailureWebhookOfASentMessageIsPutToThePolicy(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	b.queueIsEmpty()
	first := b.api.Accepted()[0]
	b.webhook(first, "failed", graphretry.CodeSomethingWentWrong)
	b.until("a", "sent anew", func(s outbox.Status) bool {
		return s.State == outbox.StateSent && s.MessageID != first.ID
	})
	assert.Equal(t, 2, b.api.Totals().Accepted)

	b.webhook(graphtest.Message{ID: "wamid.of another attempt", CallbackData: "a"}, "failed", 131026)
	b.becomes("a", outbox.StateSent)
}

// Webhooks come over another connection than the answer, and may be faster.
func TestWebhookOvertakesTheAnswer(t *testing.T) {
	held, release := make(chan graphtest.Message), make(chan struct{})
	b := newHarness(t)
	var api *graphtest.API = b.api
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := api.RoundTrip(req)
		accepted := api.Accepted()
		held <- accepted[len(accepted)-1]
		<-release
		return resp, err
	}))
	run(t, o)

	t.Run("with success", func(t *testing.T) {
		b.enqueue("good")
		message := <-held
		b.webhook(message, "delivered")
		assert.Equal(t, outbox.StateSent, b.becomes("good", outbox.StateSent).State)
		release <- struct{}{}
		b.queueIsEmpty()
		assert.Equal(t, message.ID, b.becomes("good", outbox.StateSent).MessageID)
	})
	t.Run("with a failure", func(t *testing.T) {
		b.enqueue("bad")
		message := <-held
		b.webhook(message, "failed", graphretry.CodeSomethingWentWrong)
		b.becomes("bad", outbox.StateSending)
		release <- struct{}{}
		second := <-held
		release <- struct{}{}
		b.until("bad", "sent anew", func(s outbox.Status) bool { return s.MessageID == second.ID })
		b.queueIsEmpty()
		assert.Len(t, b.api.Accepted(), 3)
	})
}

func TestWebhookOfOthersIsPassedOver(t *testing.T) {
	b := newHarness(t)
	for _, m := range []graphtest.Message{{ID: "wamid.1"}, {ID: "wamid.2", CallbackData: "not one of ours"}} {
		b.webhook(m, "sent")
		b.webhook(m, "failed", graphretry.CodeSomethingWentWrong)
	}
	for _, body := range []string{`{}`, `{"object":"whatsapp_business_account","entry":[]}`, `{"entry":[{"changes":[{"field":"account_update","value":{"event":"X"}}]}]}`} {
		require.NoError(t, b.HandleWebhook(t.Context(), []byte(body)), body)
	}
	for _, body := range []string{
		`{"entry":[{"changes":[{"value":{"statuses":[{"id":7,"status":"sent","biz_opaque_callback_data":"a"}]}}]}]}`,
		`{"entry":[{"changes":[{"value":{"statuses":"none"}}]}]}`,
	} {
		require.NoError(t, b.HandleWebhook(t.Context(), []byte(body)), body)
	}
	for _, body := range []string{"", "no JSON", "[]", `{"entry":`} {
		assert.ErrorContains(t, b.HandleWebhook(t.Context(), []byte(body)), "outbox: the webhook cannot be read", body)
	}
}

func TestResendIsAPersonsDecision(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	b.enqueue("a")
	stop := run(t, b.Outbox)
	b.becomes("a", outbox.StateUnknown)
	stop()
	require.NoError(t, b.Resend(t.Context(), "a"))
	require.NoError(t, b.Resend(t.Context(), "a"), "repeating it is safe")
	b.becomes("a", outbox.StateQueued)
	unknown, err := b.Unknown(t.Context())
	require.NoError(t, err)
	assert.Empty(t, unknown)

	run(t, b.open(nil))
	b.becomes("a", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, []string{"a"}, b.api.AcceptedKeys())
	assert.ErrorContains(t, b.Resend(t.Context(), "a"), `cannot resend message "a": it is sent`)
	assert.ErrorContains(t, b.Drop(t.Context(), "a"), `cannot drop message "a": it is sent`)
}

func TestResendSendsAFailedMessageAsIfItWereNew(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	b.enqueue("a")
	run(t, b.Outbox)
	assert.Equal(t, 1, b.becomes("a", outbox.StateFailed).Retries)
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	require.NoError(t, b.Resend(t.Context(), "a"))
	assert.Equal(t, 1, b.becomes("a", outbox.StateSent).Retries, "it has its retry again")
	assert.Equal(t, 1, b.api.Totals().Accepted)
}

func TestDropGivesUp(t *testing.T) {
	b, message := parked(t)
	require.NoError(t, b.Drop(t.Context(), "a"))
	require.NoError(t, b.Drop(t.Context(), "a"), "repeating it is safe")
	assert.Equal(t, "dropped", b.becomes("a", outbox.StateFailed).Reason)
	b.webhook(message, "delivered")
	b.becomes("a", outbox.StateSent)
}

func TestDroppedMessageInTheQueueIsNotSent(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a", "b")
	require.NoError(t, b.Drop(t.Context(), "a"))
	run(t, b.Outbox)
	b.becomes("b", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, []string{"b"}, b.api.AcceptedKeys())
	b.becomes("a", outbox.StateFailed)
}

// A person may say that an unknown message was not sent, and then Meta says that it failed.
// That must not send it a third time while the second attempt may be on its way.
func TestFailureOfAnAttemptThatWasDecidedUponProvesNothingOfTheNext(t *testing.T) {
	b, first := parked(t)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	require.NoError(t, b.Resend(t.Context(), "a"))
	b.accepts(2)
	b.becomes("a", outbox.StateUnknown)
	b.queueIsEmpty()
	second := b.api.Accepted()[1]

	b.webhook(first, "failed", graphretry.CodeSomethingWentWrong)
	b.becomes("a", outbox.StateUnknown)
	b.webhook(second, "failed", graphretry.CodeSomethingWentWrong)
	b.becomes("a", outbox.StateSent)
	assert.Equal(t, 3, b.api.Totals().Accepted, "now that both are known to have failed")
}

func TestAnswerThatComesLateCallsOffAResend(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	b := newHarness(t)
	var first = true
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := b.api.RoundTrip(req)
		if first {
			first = false
			held <- struct{}{}
			<-release
		}
		return resp, err
	}), outbox.WithWorkers(1), outbox.WithAttemptTimeout(time.Minute))
	b.enqueue("a")
	run(t, o)
	<-held
	// As when its Run is taken for dead.
	require.NoError(t, outbox.Abandon(b.Outbox, "a"))
	b.becomes("a", outbox.StateUnknown)
	require.NoError(t, b.Resend(t.Context(), "a"))
	close(release)
	b.becomes("a", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, 1, b.api.Totals().Accepted)
}

func TestFailureThatOvertakesTheAnswerToAResend(t *testing.T) {
	b := newHarness(t)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	o, held, release := b.holding()
	b.enqueue("a")
	run(t, o)
	<-held
	release <- struct{}{}
	b.becomes("a", outbox.StateUnknown)
	require.NoError(t, b.Resend(t.Context(), "a"))
	<-held
	b.webhook(b.api.Accepted()[0], "failed", graphretry.CodeSomethingWentWrong)
	b.becomes("a", outbox.StateSending)
	release <- struct{}{}
	<-held
	close(release)
	status := b.becomes("a", outbox.StateSent)
	require.Len(t, b.api.Accepted(), 2)
	assert.Equal(t, b.api.Accepted()[1].ID, status.MessageID)
	assert.Equal(t, 1, status.Retries)
}
