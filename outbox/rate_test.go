package outbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// Messages of one machine count for the rate of all.
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

func TestLimitOfTheAPIFailsNoMessage(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6))
	b.api.SetLimit(50, graphtest.Answer{})
	ids := b.enqueueMany(phoneNumberID, 150)
	run(t, b.Outbox)
	assert.Equal(t, map[outbox.State]int{outbox.StateSent: 150}, b.settled(ids))
}

func TestRateBoundsWhatANumberSends(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithRateFor("111", 50))
	ids := b.enqueueMany("111", 60)
	run(t, b.Outbox)
	b.settled(ids)
	calls := b.api.Calls()
	require.Len(t, calls, 60)
	// A burst of a tenth, then 50 a second.
	assert.GreaterOrEqual(t, calls[59].Time.Sub(calls[0].Time), time.Second)
}
