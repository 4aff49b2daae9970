package graphretry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTestGate is a gate with the intervals of the defaults and no jitter.
func newTestGate(threshold int) *gate {
	return newGate(&settings{initialInterval: defaultInitialInterval, maxInterval: defaultMaxInterval, outageThreshold: threshold})
}

// shutGate is a gate without jitter that three outage answers have just shut.
func shutGate(t *testing.T) *gate {
	t.Helper()
	g := newTestGate(3)
	turn, open := g.pass()
	require.True(t, open)
	for range 2 {
		began, _ := g.answered(turn, answerOutage, nil)
		require.False(t, began)
	}
	began, _ := g.answered(turn, answerOutage, &Error{Code: CodeAPIService})
	require.True(t, began)
	_, open = g.pass()
	require.False(t, open)
	return g
}

// joined is a call that stands in line.
func joined(t *testing.T, g *gate, patience time.Time) *waiter {
	t.Helper()
	w, _, ok := g.join(patience)
	require.True(t, ok)
	require.NotNil(t, w)
	return w
}

// lettingGo is a gate that has just begun to let its line go, those who wait in
// it, none of whom is ever out of patience, and the turn of the probe.
func lettingGo(t *testing.T, callers int) (*gate, []*waiter, turn) {
	t.Helper()
	g := shutGate(t)
	var waiters []*waiter
	for range callers {
		waiters = append(waiters, joined(t, g, time.Time{}))
	}
	probe := joined(t, g, time.Time{})
	<-probe.let
	g.answered(probe.turn, answerUp, nil)
	return g, waiters, probe.turn
}

// isLet tells whether a call has been let go.
func isLet(w *waiter) bool {
	synctest.Wait()
	select {
	case <-w.let:
		return true
	default:
		return false
	}
}

func TestProbesLeaveAfterGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		began := time.Now()
		var seconds []float64
		for range 6 {
			w := joined(t, g, time.Time{})
			<-w.let
			seconds = append(seconds, time.Since(began).Seconds())
			g.answered(w.turn, answerOutage, nil)
		}
		assert.Equal(t, []float64{5, 15, 35, 55, 75, 95}, seconds)
	})
}

func TestPatchyAPIIsProbedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		for _, a := range []answer{answerOutage, answerOutage, answerUp} { // a run of 2 that ended
			turn, _ := g.pass()
			g.answered(turn, a, nil)
		}
		for range 6 { // three times the worst run
			turn, open := g.pass()
			require.True(t, open)
			g.answered(turn, answerOutage, nil)
		}
		began := time.Now()
		w := joined(t, g, time.Time{})
		<-w.let
		assert.Equal(t, time.Second, time.Since(began))
		g.answered(w.turn, answerOutage, nil)
		<-joined(t, g, time.Time{}).let
		assert.InDelta(t, 2.1, time.Since(began).Seconds(), 1e-6)
	})
}

func TestShutGateForgetsNothingOfWhatWasNormal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		probe := joined(t, g, time.Time{})
		<-probe.let
		g.answered(probe.turn, answerOutage, nil)
		time.Sleep(10 * time.Minute) // many half-lives
		second := joined(t, g, time.Time{})
		g.answered(second.turn, answerUp, nil)
		assert.Equal(t, 4.0, g.worst(time.Now()), "the run of three answers and a probe")
	})
}

func TestWorstRunHalvesInThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		for range 16 {
			turn, _ := g.pass()
			g.answered(turn, answerOutage, nil)
		}
		turn, _ := g.pass()
		g.answered(turn, answerUp, nil)
		assert.Equal(t, 16.0, g.worst(time.Now()))
		time.Sleep(time.Minute)
		assert.InDelta(t, 4.0, g.worst(time.Now()), 1e-9)
	})
}

func TestTurnOfACallThatLeavesAsItIsLetGoIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		second, first := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		time.Sleep(5 * time.Second)
		require.True(t, isLet(first))
		require.False(t, isLet(second))
		g.leave(first) // its context ended at the same moment
		require.True(t, isLet(second))
		assert.Equal(t, 1, second.turn.probe, "the first probe, since none was sent")
	})
}

func TestReleaseOfACallThatLeavesAsItIsLetGoIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		first, second, third := joined(t, g, time.Time{}), joined(t, g, time.Time{}), joined(t, g, time.Time{})
		probe := joined(t, g, time.Time{})
		<-probe.let
		g.answered(probe.turn, answerUp, nil)
		require.True(t, isLet(first))
		require.False(t, isLet(second))
		g.leave(first)
		require.True(t, isLet(second))
		require.False(t, isLet(third), "a turn is passed on once")
	})
}

func TestCallThatCannotBeRepeatedPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		next, probe := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-probe.let
		g.giveBack(probe.turn)
		assert.True(t, isLet(next))
	})
}

func TestCanceledProbePassesItsTurnOnOnceAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		third, second, first := joined(t, g, time.Time{}), joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-first.let
		g.answered(first.turn, answerLeft, nil)
		require.True(t, isLet(second), "at once")
		g.answered(second.turn, answerLeft, nil)
		require.False(t, isLet(third), "callers who all leave must not hammer the API")
		<-third.let
	})
}

func TestProbeThatHangsForAnHourCostsOneInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		next, hung := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-hung.let
		departed := time.Now()
		<-next.let
		assert.Equal(t, 10*time.Second, time.Since(departed))
		g.answered(next.turn, answerUp, nil)
		_, open := g.pass()
		require.True(t, open)

		time.Sleep(time.Hour)
		g.answered(hung.turn, answerOutage, nil) // one answer, no more
		_, open = g.pass()
		assert.True(t, open)
	})
}

func TestBrokenProbeSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		next, probe := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-probe.let
		departed := time.Now()
		g.answered(probe.turn, answerNone, nil)
		<-next.let
		assert.Equal(t, 10*time.Second, time.Since(departed))
	})
}

func TestAnswersFromBeforeTheShutAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		early, _ := g.pass()
		for range 3 {
			turn, _ := g.pass()
			g.answered(turn, answerOutage, nil)
		}
		g.answered(early, answerUp, nil)
		_, open := g.pass()
		assert.False(t, open, "a slow success from before the outage does not end it")
	})
}

func TestSlowSuccessFromBeforeARunDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		early, _ := g.pass()
		for range 2 {
			turn, _ := g.pass()
			g.answered(turn, answerOutage, nil)
			g.answered(early, answerUp, nil)
		}
		turn, _ := g.pass()
		began, _ := g.answered(turn, answerOutage, nil)
		assert.True(t, began)
	})
}

func TestAnswerThatIsNoOutageEndsARun(t *testing.T) {
	for name, a := range map[string]answer{"success or 400": answerUp, "throttled": answerThrottled} {
		t.Run(name, func(t *testing.T) {
			g := newTestGate(3)
			for i := range 30 {
				turn, open := g.pass()
				require.True(t, open)
				answer := answerOutage
				if i%3 == 2 {
					answer = a
				}
				began, _ := g.answered(turn, answer, nil)
				require.False(t, began)
			}
		})
	}
}

func TestNetworkErrorsNeitherCountNorEndARun(t *testing.T) {
	g := newTestGate(3)
	for i := range 3 {
		for range 10 {
			turn, _ := g.pass()
			g.answered(turn, answerNone, nil)
		}
		turn, open := g.pass()
		require.True(t, open)
		began, _ := g.answered(turn, answerOutage, nil)
		assert.Equal(t, i == 2, began)
	}
}

func TestProbeHasTheMostTimeAndTheLineIsServedByPatienceThenByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		now := time.Now()
		var order []string
		names := map[*waiter]string{}
		for _, c := range []struct {
			name     string
			patience time.Duration // 0: no end
		}{{"endless 1", 0}, {"hour", time.Hour}, {"endless 2", 0}, {"minute 1", time.Minute}, {"minute 2", time.Minute}, {"half", 30 * time.Second}} {
			var patience time.Time
			if c.patience > 0 {
				patience = now.Add(c.patience)
			}
			names[joined(t, g, patience)] = c.name
		}
		for len(names) > 0 {
			time.Sleep(time.Millisecond)
			for w, name := range names {
				if isLet(w) {
					require.False(t, w.refused)
					order = append(order, name)
					delete(names, w)
					g.answered(w.turn, answerUp, nil)
				}
			}
		}
		assert.Equal(t, []string{"endless 2", "half", "minute 1", "minute 2", "hour", "endless 1"}, order)
	})
}

func TestCallThatCannotWaitForTheNextProbeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		_, _, ok := g.join(time.Now().Add(5 * time.Second))
		assert.False(t, ok)
		w, _, ok := g.join(time.Now().Add(5*time.Second + 1))
		assert.True(t, ok)
		<-w.let
		assert.False(t, w.refused)
	})
}

func TestCallWhoseTimeRunsOutInLineIsRefusedThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		began := time.Now()
		first := joined(t, g, began.Add(8*time.Second))
		probe := joined(t, g, began.Add(9*time.Second))
		<-probe.let
		assert.False(t, probe.refused)
		<-first.let
		assert.True(t, first.refused)
		assert.Equal(t, 8*time.Second, time.Since(began))
		assert.Nil(t, g.timer)
	})
}

func TestPaceRisesWithSuccessUpToItsCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := lettingGo(t, 1000) // in 5 s: 200 a second
		began := time.Now()
		perSecond := map[int]int{}
		for _, w := range waiters {
			<-w.let
			perSecond[int(time.Since(began).Seconds())]++
			g.answered(w.turn, answerUp, nil)
		}
		assert.InDelta(t, 17, perSecond[0], 2, "10 a second and 1 more for each success")
		assert.InDelta(t, 45, perSecond[1], 10)
		assert.InDelta(t, 500, g.ceiling, 1, "200 a second joined; 1.5 times 1000 in 5 s")
		_, open := g.pass()
		assert.True(t, open, "the release that empties the line opens the gate")
	})
}

func TestCeilingFollowsThoseWhoJoinOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, turn := lettingGo(t, 49) // in 5 s, with the probe: 10 a second
		ceiling := g.ceiling
		for range 100 {
			waiters = append(waiters, joined(t, g, time.Time{}))
		}
		time.Sleep(time.Second - 1)
		g.answered(turn, answerUp, nil)
		assert.Equal(t, ceiling, g.ceiling)
		time.Sleep(time.Nanosecond)
		g.answered(turn, answerUp, nil)
		assert.Equal(t, 150.0, g.ceiling, "one and a half times those of the last second")
		for _, w := range waiters {
			g.leave(w)
		}
	})
}

// Where nothing fails, calls take no lock.
func TestOpenGateHasNothingToDoOnceARunHasEnded(t *testing.T) {
	g := newTestGate(3)
	turn, _ := g.pass()
	g.answered(turn, answerOutage, nil)
	assert.NotZero(t, g.word.Load()&wordRunning)
	turn, _ = g.pass()
	g.answered(turn, answerUp, nil)
	assert.Zero(t, g.word.Load()&(wordRunning|wordBusy))
}

// A release that a busy machine makes some milliseconds late does not put off the
// next; one that had nobody to let go for a second saves nothing up.
func TestLateReleaseIsMadeUpForByTenMillisecondsAtMost(t *testing.T) {
	g := newTestGate(3)
	g.state, g.pace = gateLettingGo, 10
	now := time.Now()
	for late, next := range map[time.Duration]time.Duration{0: 100, 4: 96, 10: 90, 1000: 90} {
		g.due = now.Add(-late * time.Millisecond)
		g.next(now)
		assert.Equal(t, next*time.Millisecond, g.due.Sub(now), "%d ms late", late)
	}
}

func TestThrottlingLowersThePaceOnceASecondAndHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, turn := lettingGo(t, 3000)
		g.pace, g.ceiling, g.joinRate = 100, 200, 20

		throttle := func() {
			for range 3 {
				g.answered(turn, answerThrottled, nil)
			}
		}
		for range 2 {
			g.answered(turn, answerThrottled, nil)
			assert.Equal(t, 100.0, g.pace, "one or two are not the line's limit")
		}
		g.answered(turn, answerThrottled, nil)
		assert.Equal(t, 80.0, g.pace)
		throttle()
		assert.Equal(t, 80.0, g.pace, "not twice in a second")
		time.Sleep(time.Second)
		throttle()
		assert.Equal(t, 64.0, g.pace)
		time.Sleep(9 * time.Second)
		g.answered(turn, answerUp, nil)
		assert.Equal(t, 64.0, g.pace, "held for 10 s")
		time.Sleep(time.Second)
		g.answered(turn, answerUp, nil)
		assert.Equal(t, 64.0+1.0/64, g.pace, "then by 1 a second")
		for range 20 {
			time.Sleep(time.Second)
			throttle()
		}
		assert.Equal(t, 20.0, g.pace, "never below the rate at which calls come")
		for _, w := range waiters {
			g.leave(w)
		}
	})
}

func TestFewThrottlingAnswersAmongManyOthersDoNotLowerThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, turn := lettingGo(t, 2)
		g.pace, g.ceiling = 100, 100
		for range 50 {
			g.answered(turn, answerThrottled, nil)
			for range 30 {
				g.answered(turn, answerUp, nil)
			}
		}
		assert.Equal(t, 100.0, g.pace)
		for _, w := range waiters {
			g.leave(w)
		}
	})
}

func TestRunWhileTheLineIsLetGoShutsTheGateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := lettingGo(t, 99)
		// The worst run is 3, so 9 in a row are needed now.
		for i, w := range waiters[:9] {
			<-w.let
			began, _ := g.answered(w.turn, answerOutage, nil)
			require.False(t, began, "the same outage")
			assert.Equal(t, i == 8, g.state == gateShut)
		}
		fell := time.Now()
		<-waiters[98].let
		assert.Equal(t, time.Second, time.Since(fell), "a patchy API is probed soon")
		for _, w := range waiters {
			g.leave(w)
		}
	})
}

// What the last letting go has learned does not hold for the next.
func TestEachLettingGoBeginsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		var waiters []*waiter
		for range 200 {
			waiters = append(waiters, joined(t, g, time.Time{}))
		}
		probe := waiters[199]
		<-probe.let
		g.pace, g.throttled, g.slowed, g.passedOn = 100, 2, time.Now(), 2
		g.answered(probe.turn, answerUp, nil)
		assert.Equal(t, 10.0, g.pace)
		assert.Zero(t, g.throttled)
		assert.Zero(t, g.slowed)

		g.pace = 100
		for i := 0; g.state == gateLettingGo; i++ {
			<-waiters[i].let
			g.answered(waiters[i].turn, answerOutage, nil)
		}
		assert.Zero(t, g.passedOn)
		probe = waiters[198]
		<-probe.let
		g.answered(probe.turn, answerUp, nil)
		assert.Equal(t, 50.0, g.pace, "half of that at which it fell again")
		for _, w := range waiters {
			g.leave(w)
		}
	})
}

func TestLastInLineWhoLeavesAsItIsLetGoEndsTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		last, probe := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-probe.let
		_, ended := g.answered(probe.turn, answerUp, nil)
		assert.Nil(t, ended, "somebody stands in line")
		require.True(t, isLet(last))
		assert.NotNil(t, g.leave(last))
	})
}

// The need settles a little above the time that answers take, and falls as soon
// as they come in time.
func TestNeedFollowsThoseWhoLeaveBeforeTheirAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		began := time.Now()
		short := joined(t, g, began.Add(5*time.Second+50*time.Millisecond))
		long := joined(t, g, began.Add(time.Minute))
		longer := joined(t, g, began.Add(2*time.Minute))
		probe := joined(t, g, time.Time{})
		<-probe.let
		g.answered(probe.turn, answerUp, nil)
		require.True(t, isLet(short), "nothing is known of what an answer needs")
		g.answered(short.turn, answerLeft, nil)
		assert.Equal(t, 10*time.Millisecond, g.need)
		g.answered(short.turn, answerLeft, nil)
		assert.Equal(t, 80*time.Millisecond, g.need)
		g.answered(short.turn, answerUp, nil)
		assert.Equal(t, 76*time.Millisecond, g.need)
		for range 20 {
			g.answered(short.turn, answerLeft, nil)
		}
		assert.Equal(t, 24*time.Hour, g.need)
		<-longer.let
		assert.False(t, isLet(long), "nobody has a day, so it is the one with the most time")
		g.need = 30 * time.Second
		next := joined(t, g, began.Add(30*time.Second))
		<-long.let
		assert.False(t, isLet(next), "it has less than it needs")
		<-next.let
		assert.False(t, next.refused, "but it is the one with the most time now")
	})
}

// Who left while the gate was shut, or before, says nothing of how long answers
// take now.
func TestNeedHeedsOnlyThoseWhoWereLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early := turn{}
		g := shutGate(t)
		next, probe := joined(t, g, time.Time{}), joined(t, g, time.Time{})
		<-probe.let
		g.answered(probe.turn, answerUp, nil)
		g.state = gateLettingGo // with nobody in line
		g.answered(early, answerLeft, nil)
		g.answered(probe.turn, answerLeft, nil)
		assert.Zero(t, g.need)
		require.True(t, isLet(next))
		g.answered(next.turn, answerLeft, nil)
		assert.Equal(t, firstNeed, g.need)
	})
}

func TestLateTimerDoesNotLetALineGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(t)
		for range 100 {
			joined(t, g, time.Time{})
		}
		g.mu.Lock()
		g.state, g.pace, g.ceiling = gateLettingGo, 100, 100
		g.due = time.Now().Add(-time.Hour)
		g.advance(time.Now())
		left := 100 - len(g.line)
		g.line = nil
		g.setTimer(time.Now())
		g.mu.Unlock()
		assert.LessOrEqual(t, left, 2)
	})
}
