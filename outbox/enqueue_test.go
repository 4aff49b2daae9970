package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	b.accepts(600)
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
		batch := slices.Clone(messages)
		all.Go(func() { assert.NoError(t, b.EnqueueAll(context.Background(), batch)) })
		slices.Reverse(messages)
	}
	all.Wait()
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 100}, stats.States)
}

// Callers that enqueue at the same time share batches, even if they enqueue the same messages.
func TestManyEnqueueAtOnce(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithRecipientOrder())
	const callers, each, shared = 12, 20, 5
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", caller, i)
				if i < shared {
					id = fmt.Sprint(i) // as the others do
				}
				text := fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":"1555000%d","type":"text","text":{"body":"x"}}`, i)
				assert.NoError(t, b.Enqueue(ctx, id, phoneNumberID, text))
			}
		})
	}
	all.Wait()
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateQueued: callers*(each-shared) + shared}, stats.States)
}

func TestQueueIsCountedOnceForAllWhoEnqueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		take := outbox.TakeRoom()
		counting, counted := make(chan bool), make(chan bool)
		first := make(chan error)
		go func() {
			first <- take(t.Context(), 1, 2, func() (int, error) { close(counting); <-counted; return 0, nil })
		}()
		<-counting
		never := func() (int, error) { return 0, errors.New("it was counted twice") }
		ended, end := context.WithCancel(t.Context())
		end()
		require.ErrorIs(t, take(ended, 1, 2, never), context.Canceled, "it does not wait for longer than it has time")
		second := make(chan error)
		go func() { second <- take(t.Context(), 1, 2, never) }()
		close(counted)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		require.ErrorIs(t, take(t.Context(), 1, 2, never), outbox.ErrFull)
	})
}
