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

// idsOf lists the messages that a filter means.
func (b *bench) idsOf(filter outbox.Filter) []string {
	b.t.Helper()
	found, err := b.List(b.t.Context(), filter)
	require.NoError(b.t, err)
	ids := []string{}
	for _, status := range found {
		ids = append(ids, status.ID)
	}
	return ids
}

func TestMessagesAreListedByFilterAndPage(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(1))
	b.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeParameterInvalid})
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	b.enqueue("failed", "unknown", "sent")
	stop := run(t, b.Outbox)
	b.becomes("failed", outbox.StateFailed)
	b.becomes("unknown", outbox.StateUnknown)
	b.becomes("sent", outbox.StateSent)
	stop()
	require.NoError(t, b.Enqueue(t.Context(), "queued", "222", payload("queued")))

	for _, test := range []struct {
		filter outbox.Filter
		ids    []string
	}{
		{outbox.Filter{}, []string{"failed", "unknown", "sent", "queued"}},
		{outbox.Filter{Limit: 2}, []string{"failed", "unknown"}},
		{outbox.Filter{Limit: 2, After: "unknown"}, []string{"sent", "queued"}},
		{outbox.Filter{States: []outbox.State{outbox.StateSent, outbox.StateFailed}}, []string{"failed", "sent"}},
		{outbox.Filter{States: []outbox.State{outbox.StateUnknown, outbox.StateFailed}}, []string{"failed", "unknown"}},
		{outbox.Filter{PhoneNumberID: "222"}, []string{"queued"}},
		{outbox.Filter{Code: graphretry.CodeParameterInvalid}, []string{"failed"}},
		{outbox.Filter{Code: graphretry.CodeParameterInvalid, States: []outbox.State{outbox.StateFailed}, PhoneNumberID: phoneNumberID}, []string{"failed"}},
		{outbox.Filter{Code: graphretry.CodeParameterInvalid, States: []outbox.State{outbox.StateQueued}}, []string{}},
		{outbox.Filter{OlderThan: time.Hour}, []string{}},
		{outbox.Filter{EnqueuedBefore: b.Now().Add(time.Minute), PhoneNumberID: "222"}, []string{"queued"}},
		{outbox.Filter{EnqueuedBefore: b.Now().Add(-time.Minute)}, []string{}},
		{outbox.Filter{OlderThan: time.Nanosecond, States: []outbox.State{outbox.StateUnknown}}, []string{"unknown"}},
	} {
		assert.Equal(t, test.ids, b.idsOf(test.filter), "%+v", test.filter)
		n, err := b.Count(t.Context(), test.filter)
		require.NoError(t, err)
		assert.Equal(t, len(test.ids), n, "%+v", test.filter)
	}
	_, err := b.Count(t.Context(), outbox.Filter{After: "gone"})
	assert.ErrorIs(t, err, outbox.ErrNotFound)
	_, err = b.Count(t.Context(), outbox.Filter{Limit: -1})
	assert.ErrorIs(t, err, outbox.ErrInvalid)
	kept, err := b.Payload(t.Context(), "queued")
	require.NoError(t, err)
	assert.Contains(t, string(kept), `"body":"queued"`)
	_, err = b.Payload(t.Context(), "gone")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
	_, err = b.Payload(t.Context(), "")
	assert.ErrorIs(t, err, outbox.ErrInvalid)

	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateFailed: 1, outbox.StateUnknown: 1, outbox.StateSent: 1, outbox.StateQueued: 1}, stats.States)
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 1}, stats.Numbers["222"].States)
	queued, err := b.Status(t.Context(), "queued")
	require.NoError(t, err)
	assert.True(t, queued.Enqueued.Equal(stats.OldestQueued))
	assert.False(t, stats.APIDown)
}

func TestPersonDecidesForAllMessagesThatAreMeant(t *testing.T) {
	b := newHarness(t, outbox.WithWorkers(1))
	b.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeParameterInvalid})
	b.enqueue("a", "b")
	stop := run(t, b.Outbox)
	b.becomes("a", outbox.StateFailed)
	b.becomes("b", outbox.StateFailed)
	stop()
	b.enqueue("c")

	n, err := b.ResendAll(t.Context(), outbox.Filter{Code: graphretry.CodeParameterInvalid})
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.ElementsMatch(t, []string{"a", "b", "c"}, b.idsOf(outbox.Filter{States: []outbox.State{outbox.StateQueued}}))

	n, err = b.DropAll(t.Context(), outbox.Filter{After: "a", Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	b.becomes("c", outbox.StateSent)
	assert.ElementsMatch(t, []string{"b"}, b.idsOf(outbox.Filter{States: []outbox.State{outbox.StateFailed}}))

	_, err = b.DropAll(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateSent}})
	assert.ErrorContains(t, err, "want some of [unknown queued]")
}

func TestStatsSayWhyANumberIsHeld(t *testing.T) {
	b := newHarness(t, outbox.WithTransportOptions(graphretry.WithInitialInterval(time.Minute), graphretry.WithMaxInterval(time.Minute)))
	other := b.open(nil) // a machine that sends nothing itself
	b.api.DownAfter(0, time.Hour, graphtest.Answer{Status: http.StatusProxyAuthRequired})
	b.enqueueMany("111", 10)
	run(t, b.Outbox)
	deadline := time.Now().Add(patience)
	for {
		stats, err := other.Stats(t.Context())
		require.NoError(t, err)
		if number := stats.Numbers["111"]; number.HeldFor != "" {
			assert.Contains(t, number.HeldFor, "407")
			assert.False(t, number.NextProbe.IsZero())
			assert.Equal(t, 10, stats.States[outbox.StateQueued]+stats.States[outbox.StateSending])
			return
		}
		require.False(t, time.Now().After(deadline))
		time.Sleep(time.Millisecond)
	}
}
