package outbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// Without the order a retry would let another message overtake.
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

func TestResentMessageGoesToTheEndOfItsRecipient(t *testing.T) {
	b := newHarness(t, outbox.WithRecipientOrder())
	messages := threeMessages()
	require.NoError(t, b.EnqueueAll(t.Context(), messages[:1]))
	require.NoError(t, b.Drop(t.Context(), "1"))
	require.NoError(t, b.EnqueueAll(t.Context(), messages[1:]))
	require.NoError(t, b.Resend(t.Context(), "1"))
	run(t, b.Outbox)
	b.becomes("1", outbox.StateSent)
	assert.Equal(t, []string{"2", "3", "1"}, b.api.AcceptedKeys())
}

// threeMessages are messages to one recipient.
func threeMessages() []outbox.Message {
	var messages []outbox.Message
	for _, id := range []string{"1", "2", "3"} {
		messages = append(messages, outbox.Message{ID: id, PhoneNumberID: phoneNumberID, Payload: payload(id)})
	}
	return messages
}
