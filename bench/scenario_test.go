package bench

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// runInBubble runs a scenario with seed 1.
func (s scenario) runInBubble(t *testing.T, subject subject) (r result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = s.run(subject, 1) })
	return r
}

// With nothing around it, every call has one attempt and every failure is a loss. So it is
// known before what a scenario must measure.
func TestScenarioMeasuresWhatHappens(t *testing.T) {
	s := scenario{rate: 10, send: 2 * time.Minute, down: 20 * time.Second}
	r := s.runInBubble(t, nextAlone)
	require.Equal(t, 1200, r.messages)
	require.Equal(t, 1200, r.calls)
	require.Equal(t, 200, r.whileDown)
	require.Equal(t, 200, r.lost())
	require.Equal(t, 10, r.busiest)
	require.Zero(t, r.lastOut, "nobody had to wait")
	require.Equal(t, answerTime, r.meanDelivery)
	require.Len(t, r.perSecond, 120)
}

func TestScenarioMeasuresWhoWasHeldUp(t *testing.T) {
	// The first call of the outage is tried again after 5 to 7.5, 15 to 22.5 and 35 to
	// 52.5 s. None is tried later than a wait of 30 s after an attempt that the
	// outage still met.
	s := scenario{rate: 10, send: 2 * time.Minute, down: 20 * time.Second}
	r := s.runInBubble(t, plain)
	require.Zero(t, r.lost())
	require.GreaterOrEqual(t, r.lastOut, 15*time.Second)
	require.LessOrEqual(t, r.lastOut, 30*time.Second+2*answerTime)
	require.Greater(t, r.busiest, 10)
	require.Greater(t, r.meanDelivery, time.Second)
}

func TestScenarioLimitsCallsPerSecond(t *testing.T) {
	s := scenario{rate: 50, send: time.Minute, limit: 20, over: graphretry.CodeRateLimitHit}
	require.InDelta(t, 20*60, s.runInBubble(t, nextAlone).delivered, 20)
}

func TestScenarioFailsItsShare(t *testing.T) {
	s := scenario{rate: 50, send: time.Minute, share: 0.3}
	require.InDelta(t, 0.3*3000, s.runInBubble(t, nextAlone).lost(), 100)
}

func TestScenarioGoesUpAndDown(t *testing.T) {
	s := scenario{rate: 10, send: 2 * time.Minute, upFor: 2 * time.Second, downFor: 10 * time.Second}
	require.Equal(t, 10*2*10, s.runInBubble(t, nextAlone).delivered)
}

func TestScenarioAnswersLate(t *testing.T) {
	s := scenario{rate: 50, send: 2 * time.Minute, lateShare: 0.02, lateUpTo: 8 * time.Second}
	r := s.runInBubble(t, nextAlone)
	require.Zero(t, r.lost())
	require.InDelta(t, 0.05+0.02*4, r.meanDelivery.Seconds(), 0.04)
}

func TestScenarioEndsEachCallAtItsDeadline(t *testing.T) {
	// No answer comes in time, and the API takes every message all the same.
	s := scenario{rate: 10, send: time.Minute, lateShare: 1, lateUpTo: time.Second, deadline: answerTime / 2}
	r := s.runInBubble(t, nextAlone)
	require.Zero(t, r.delivered)
	require.Equal(t, 600, r.inVain)

	s.deadline = 2 * time.Second
	r = s.runInBubble(t, nextAlone)
	require.Equal(t, 600, r.delivered)
	require.Zero(t, r.inVain)
}

func TestScenarioFailsWhatIsPoison(t *testing.T) {
	s := scenario{rate: 10, send: time.Minute, poison: true}
	r := s.runInBubble(t, nextAlone)
	require.Equal(t, 60, r.lost())
	require.Equal(t, 600, r.calls)
	require.Equal(t, 540, r.others.messages)
	require.Zero(t, r.others.lost())
}

func TestErrorsOfAnOverloadMayTakeLong(t *testing.T) {
	s := scenario{rate: 10, send: 2 * time.Minute, capacity: 5, brownout: time.Minute, slowErrors: 20 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.Positive(t, s.run(nextAlone, 1).lost())
		require.Greater(t, time.Since(start), s.send+s.slowErrors-time.Second, "the last ones")
	})
}
