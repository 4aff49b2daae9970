package outbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

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
