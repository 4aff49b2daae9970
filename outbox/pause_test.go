package outbox_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

func TestPauseHoldsANumberOnEveryMachineUntilResume(t *testing.T) {
	b := newHarness(t)
	require.NoError(t, b.Pause(t.Context(), "111"))
	require.NoError(t, b.Pause(t.Context(), "111"), "repeating it is safe")
	paused := b.enqueueMany("111", 5)
	others := b.enqueueMany("222", 5)
	run(t, b.open(nil)) // another machine, which comes later
	run(t, b.Outbox)
	assert.Equal(t, 5, b.settled(others)[outbox.StateSent])
	assert.Equal(t, 5, b.states(paused)[outbox.StateQueued])
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.True(t, stats.Numbers["111"].Paused)
	assert.False(t, stats.Numbers["222"].Paused)

	require.NoError(t, b.Resume(t.Context(), "111"))
	assert.Equal(t, 5, b.settled(paused)[outbox.StateSent])
}

func TestPauseOfAllHoldsEveryNumber(t *testing.T) {
	b := newHarness(t)
	run(t, b.Outbox)
	require.NoError(t, b.Pause(t.Context(), ""))
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.True(t, stats.Paused)
	b.enqueue("a")
	outbox.GoRound(b.Outbox)
	assert.Zero(t, b.claimed())
	assert.Zero(t, b.api.Totals().Calls)
	require.NoError(t, b.Resume(t.Context(), ""))
	b.becomes("a", outbox.StateSent)
	assert.ErrorContains(t, b.Pause(t.Context(), "+1 650"), "want the digits")
}

// A number that is idle has been paused or held meanwhile.
func TestPauseOfAnIdleNumberIsHeeded(t *testing.T) {
	b := newHarness(t)
	run(t, b.Outbox)
	b.enqueue("before")
	b.becomes("before", outbox.StateSent)
	for i := range 20 {
		require.NoError(t, b.Pause(t.Context(), phoneNumberID))
		id := fmt.Sprint(i)
		b.enqueue(id)
		outbox.GoRound(b.Outbox)
		assert.Zero(t, b.claimed())
		assert.Equal(t, map[outbox.State]int{outbox.StateQueued: 1}, b.states([]string{id}))
		assert.Equal(t, 1+i, b.api.Totals().Calls)
		require.NoError(t, b.Resume(t.Context(), phoneNumberID))
		b.becomes(id, outbox.StateSent)
	}
}

// claimed returns how many messages Runs have.
func (b *bench) claimed() (n int) {
	b.t.Helper()
	stats, err := b.Stats(b.t.Context())
	require.NoError(b.t, err)
	for _, run := range stats.Runs {
		n += run.Messages
	}
	return n
}
