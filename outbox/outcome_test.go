package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

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
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == 1
	}, patience, time.Millisecond)
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
