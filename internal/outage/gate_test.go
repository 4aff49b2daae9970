package outage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTestGate is a gate with the intervals of the defaults and no jitter.
func newTestGate(threshold int) *Gate {
	return New(Config{Threshold: threshold, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
}

// downGate is a gate without jitter whose host three answers have just brought down.
func downGate(t *testing.T) *Gate {
	t.Helper()
	g := newTestGate(3)
	permit, up := g.Pass()
	require.True(t, up)
	for range 2 {
		began, _ := g.Answered(permit, ResultDown, nil)
		require.False(t, began)
	}
	began, _ := g.Answered(permit, ResultDown, errors.New("the host is down"))
	require.True(t, began)
	_, up = g.Pass()
	require.False(t, up)
	return g
}

// joins is a call that joins the queue.
func joins(t *testing.T, g *Gate, deadline time.Time) *Waiter {
	t.Helper()
	w, _, ok := g.Join(deadline)
	require.True(t, ok)
	require.NotNil(t, w)
	return w
}

// recoveringGate is a gate whose host has just come back, those who wait there, none
// of whom has a deadline, and the permit of the probe.
func recoveringGate(t *testing.T, callers int) (*Gate, []*Waiter, Permit) {
	t.Helper()
	g := downGate(t)
	var waiters []*Waiter
	for range callers {
		waiters = append(waiters, joins(t, g, time.Time{}))
	}
	probe := joins(t, g, time.Time{})
	<-probe.released
	g.Answered(probe.permit, ResultUp, nil)
	return g, waiters, probe.permit
}

// isReleased reports whether a waiter has been released.
func isReleased(w *Waiter) bool {
	synctest.Wait()
	select {
	case <-w.released:
		return true
	default:
		return false
	}
}

func TestProbesLeaveAfterGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		var seconds []float64
		for range 6 {
			w := joins(t, g, time.Time{})
			<-w.released
			seconds = append(seconds, time.Since(began).Seconds())
			g.Answered(w.permit, ResultDown, nil)
		}
		assert.Equal(t, []float64{5, 15, 35, 55, 75, 95}, seconds)
	})
}

func TestHostThatFailsInPartIsProbedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		for _, result := range []Result{ResultDown, ResultDown, ResultUp} { // a run of 2 that ended
			permit, _ := g.Pass()
			g.Answered(permit, result, nil)
		}
		for range 6 { // three times the worst run
			permit, up := g.Pass()
			require.True(t, up)
			g.Answered(permit, ResultDown, nil)
		}
		began := time.Now()
		w := joins(t, g, time.Time{})
		<-w.released
		assert.Equal(t, time.Second, time.Since(began))
		g.Answered(w.permit, ResultDown, nil)
		<-joins(t, g, time.Time{}).released
		assert.InDelta(t, 2.1, time.Since(began).Seconds(), 1e-6)
	})
}

func TestNothingOfWhatWasNormalIsForgottenWhileTheHostIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit, ResultDown, nil)
		time.Sleep(10 * time.Minute) // many half-lives
		second := joins(t, g, time.Time{})
		g.Answered(second.permit, ResultUp, nil)
		assert.Equal(t, 4.0, g.runs.worstOfLate(time.Now()), "the run of three answers and a probe")
	})
}

func TestWorstRunHalvesInThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		for range 16 {
			permit, _ := g.Pass()
			g.Answered(permit, ResultDown, nil)
		}
		permit, _ := g.Pass()
		g.Answered(permit, ResultUp, nil)
		assert.Equal(t, 16.0, g.runs.worstOfLate(time.Now()))
		time.Sleep(time.Minute)
		assert.InDelta(t, 4.0, g.runs.worstOfLate(time.Now()), 1e-9)
	})
}

func TestProbeOfAWaiterWhoLeavesAsItIsReleasedIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		second, first := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		time.Sleep(5 * time.Second)
		require.True(t, isReleased(first))
		require.False(t, isReleased(second))
		g.Leave(first) // its context ended at the same moment
		require.True(t, isReleased(second))
		assert.Equal(t, 1, second.permit.probe, "the first probe, since none was sent")
	})
}

func TestReleaseOfAWaiterWhoLeavesAsItIsReleasedIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		first, second, third := joins(t, g, time.Time{}), joins(t, g, time.Time{}), joins(t, g, time.Time{})
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit, ResultUp, nil)
		require.True(t, isReleased(first))
		require.False(t, isReleased(second))
		g.Leave(first)
		require.True(t, isReleased(second))
		require.False(t, isReleased(third), "a permit is passed on once")
	})
}

func TestPermitThatIsGivenBackIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		next, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-probe.released
		g.GiveBack(probe.permit)
		assert.True(t, isReleased(next))
	})
}

func TestAbandonedProbeIsPassedOnOnceAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		third, second, first := joins(t, g, time.Time{}), joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-first.released
		g.Answered(first.permit, ResultAbandoned, nil)
		require.True(t, isReleased(second), "at once")
		g.Answered(second.permit, ResultAbandoned, nil)
		require.False(t, isReleased(third), "callers who all leave must not hammer the host")
		<-third.released
	})
}

func TestProbeThatHangsForAnHourCostsOneInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		next, hung := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-hung.released
		departed := time.Now()
		<-next.released
		assert.Equal(t, 10*time.Second, time.Since(departed))
		g.Answered(next.permit, ResultUp, nil)
		_, up := g.Pass()
		require.True(t, up)

		time.Sleep(time.Hour)
		g.Answered(hung.permit, ResultDown, nil) // one answer, no more
		_, up = g.Pass()
		assert.True(t, up)
	})
}

func TestBrokenProbeSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		next, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-probe.released
		departed := time.Now()
		g.Answered(probe.permit, ResultNone, nil)
		<-next.released
		assert.Equal(t, 10*time.Second, time.Since(departed))
	})
}

func TestAnswersFromBeforeTheFallAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		early, _ := g.Pass()
		for range 3 {
			permit, _ := g.Pass()
			g.Answered(permit, ResultDown, nil)
		}
		g.Answered(early, ResultUp, nil)
		_, up := g.Pass()
		assert.False(t, up, "a slow success from before the outage does not end it")
	})
}

func TestSlowSuccessFromBeforeARunDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		early, _ := g.Pass()
		for range 2 {
			permit, _ := g.Pass()
			g.Answered(permit, ResultDown, nil)
			g.Answered(early, ResultUp, nil)
		}
		permit, _ := g.Pass()
		began, _ := g.Answered(permit, ResultDown, nil)
		assert.True(t, began)
	})
}

func TestAnswerOfAHostThatIsUpEndsARun(t *testing.T) {
	for name, result := range map[string]Result{"success or 400": ResultUp, "throttled": ResultThrottled} {
		t.Run(name, func(t *testing.T) {
			g := newTestGate(3)
			for i := range 30 {
				permit, up := g.Pass()
				require.True(t, up)
				said := ResultDown
				if i%3 == 2 {
					said = result
				}
				began, _ := g.Answered(permit, said, nil)
				require.False(t, began)
			}
		})
	}
}

func TestNoAnswerNeitherCountsNorEndsARun(t *testing.T) {
	g := newTestGate(3)
	for i := range 3 {
		for range 10 {
			permit, _ := g.Pass()
			g.Answered(permit, ResultNone, nil)
		}
		permit, up := g.Pass()
		require.True(t, up)
		began, _ := g.Answered(permit, ResultDown, nil)
		assert.Equal(t, i == 2, began)
	}
}

func TestProbeHasTheLatestDeadlineAndTheQueueIsServedByDeadlineThenByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		now := time.Now()
		var order []string
		names := map[*Waiter]string{}
		for _, c := range []struct {
			name     string
			deadline time.Duration // 0: no end
		}{{"endless 1", 0}, {"hour", time.Hour}, {"endless 2", 0}, {"minute 1", time.Minute}, {"minute 2", time.Minute}, {"half", 30 * time.Second}} {
			var deadline time.Time
			if c.deadline > 0 {
				deadline = now.Add(c.deadline)
			}
			names[joins(t, g, deadline)] = c.name
		}
		for len(names) > 0 {
			time.Sleep(time.Millisecond)
			for w, name := range names {
				if isReleased(w) {
					require.False(t, w.refused)
					order = append(order, name)
					delete(names, w)
					g.Answered(w.permit, ResultUp, nil)
				}
			}
		}
		assert.Equal(t, []string{"endless 2", "half", "minute 1", "minute 2", "hour", "endless 1"}, order)
	})
}

func TestCallThatCannotWaitForTheNextProbeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		_, _, ok := g.Join(time.Now().Add(5 * time.Second))
		assert.False(t, ok)
		w, _, ok := g.Join(time.Now().Add(5*time.Second + 1))
		assert.True(t, ok)
		<-w.released
		assert.False(t, w.refused)
	})
}

func TestWaiterIsRefusedAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		first := joins(t, g, began.Add(8*time.Second))
		probe := joins(t, g, began.Add(9*time.Second))
		<-probe.released
		assert.False(t, probe.refused)
		<-first.released
		assert.True(t, first.refused)
		assert.Equal(t, 8*time.Second, time.Since(began))
		assert.Nil(t, g.timer)
	})
}

func TestRateRisesWithSuccessUpToItsCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 1000) // in 5 s: 200 a second
		began := time.Now()
		perSecond := map[int]int{}
		for _, w := range waiters {
			<-w.released
			perSecond[int(time.Since(began).Seconds())]++
			g.Answered(w.permit, ResultUp, nil)
		}
		assert.InDelta(t, 17, perSecond[0], 2, "10 a second and 1 more for each success")
		assert.InDelta(t, 45, perSecond[1], 10)
		assert.InDelta(t, 500, g.rate.ceiling, 1, "200 a second joined; 1.5 times 1000 in 5 s")
		_, up := g.Pass()
		assert.True(t, up, "the release that empties the queue ends the outage")
	})
}

func TestCeilingFollowsTheArrivalsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, permit := recoveringGate(t, 49) // in 5 s, with the probe: 10 a second
		ceiling := g.rate.ceiling
		for range 100 {
			waiters = append(waiters, joins(t, g, time.Time{}))
		}
		time.Sleep(time.Second - 1)
		g.Answered(permit, ResultUp, nil)
		assert.Equal(t, ceiling, g.rate.ceiling)
		time.Sleep(time.Nanosecond)
		g.Answered(permit, ResultUp, nil)
		assert.Equal(t, 150.0, g.rate.ceiling, "one and a half times those of the last second")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

// Where nothing fails, calls take no lock.
func TestNothingIsToBeDoneOnceARunHasEnded(t *testing.T) {
	g := newTestGate(3)
	permit, _ := g.Pass()
	g.Answered(permit, ResultDown, nil)
	assert.NotZero(t, g.published.Load()&inRun)
	permit, _ = g.Pass()
	g.Answered(permit, ResultUp, nil)
	assert.Zero(t, g.published.Load()&(inRun|notUp))
}

// A release that a busy machine makes some milliseconds late does not put off the
// next; one that had nobody to release for a second saves nothing up.
func TestLateReleaseIsMadeUpForByTenMillisecondsAtMost(t *testing.T) {
	g := newTestGate(3)
	g.state, g.rate.current = Recovering, 10
	now := time.Now()
	for late, next := range map[time.Duration]time.Duration{0: 100, 4: 96, 10: 90, 1000: 90} {
		g.due = now.Add(-late * time.Millisecond)
		g.next(now)
		assert.Equal(t, next*time.Millisecond, g.due.Sub(now), "%d ms late", late)
	}
}

func TestThrottlingLowersTheRateOnceASecondAndHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, permit := recoveringGate(t, 3000)
		g.rate.current, g.rate.ceiling, g.rate.arrivals = 100, 200, 20

		throttle := func() {
			for range 3 {
				g.Answered(permit, ResultThrottled, nil)
			}
		}
		for range 2 {
			g.Answered(permit, ResultThrottled, nil)
			assert.Equal(t, 100.0, g.rate.current, "one or two are not the queue's limit")
		}
		g.Answered(permit, ResultThrottled, nil)
		assert.Equal(t, 80.0, g.rate.current)
		throttle()
		assert.Equal(t, 80.0, g.rate.current, "not twice in a second")
		time.Sleep(time.Second)
		throttle()
		assert.Equal(t, 64.0, g.rate.current)
		time.Sleep(9 * time.Second)
		g.Answered(permit, ResultUp, nil)
		assert.Equal(t, 64.0, g.rate.current, "held for 10 s")
		time.Sleep(time.Second)
		g.Answered(permit, ResultUp, nil)
		assert.Equal(t, 64.0+1.0/64, g.rate.current, "then by 1 a second")
		for range 20 {
			time.Sleep(time.Second)
			throttle()
		}
		assert.Equal(t, 20.0, g.rate.current, "never below the rate at which calls come")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestFewThrottlingAnswersAmongManyOthersDoNotLowerTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, permit := recoveringGate(t, 2)
		g.rate.current, g.rate.ceiling = 100, 100
		for range 50 {
			g.Answered(permit, ResultThrottled, nil)
			for range 30 {
				g.Answered(permit, ResultUp, nil)
			}
		}
		assert.Equal(t, 100.0, g.rate.current)
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestRunWhileRecoveringBringsTheHostDownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 99)
		// The worst run is 3, so 9 in a row are needed now.
		for i, w := range waiters[:9] {
			<-w.released
			began, _ := g.Answered(w.permit, ResultDown, nil)
			require.False(t, began, "the same outage")
			assert.Equal(t, i == 8, g.state == Down)
		}
		fell := time.Now()
		<-waiters[98].released
		assert.Equal(t, time.Second, time.Since(fell), "a host that fails in part is probed soon")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

// What the last recovery has learned does not hold for the next.
func TestEachRecoveryBeginsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		var waiters []*Waiter
		for range 200 {
			waiters = append(waiters, joins(t, g, time.Time{}))
		}
		probe := waiters[199]
		<-probe.released
		g.rate.current, g.rate.throttled, g.rate.slowed, g.probes.passedOn = 100, 2, time.Now(), 2
		g.Answered(probe.permit, ResultUp, nil)
		assert.Equal(t, 10.0, g.rate.current)
		assert.Zero(t, g.rate.throttled)
		assert.Zero(t, g.rate.slowed)

		g.rate.current = 100
		for i := 0; g.state == Recovering; i++ {
			<-waiters[i].released
			g.Answered(waiters[i].permit, ResultDown, nil)
		}
		assert.Zero(t, g.probes.passedOn)
		probe = waiters[198]
		<-probe.released
		g.Answered(probe.permit, ResultUp, nil)
		assert.Equal(t, 50.0, g.rate.current, "half of that at which it fell again")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestLastWaiterWhoLeavesAsItIsReleasedEndsTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		last, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-probe.released
		_, ended := g.Answered(probe.permit, ResultUp, nil)
		assert.Nil(t, ended, "somebody waits")
		require.True(t, isReleased(last))
		assert.NotNil(t, g.Leave(last))
	})
}

// The headroom settles a little above the time that answers take, and falls as soon
// as they come in time.
func TestHeadroomFollowsThoseWhoLeaveBeforeTheirAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		short := joins(t, g, began.Add(5*time.Second+50*time.Millisecond))
		long := joins(t, g, began.Add(time.Minute))
		longer := joins(t, g, began.Add(2*time.Minute))
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit, ResultUp, nil)
		require.True(t, isReleased(short), "nothing is known of what an answer needs")
		g.Answered(short.permit, ResultAbandoned, nil)
		assert.Equal(t, 10*time.Millisecond, time.Duration(g.headroom))
		g.Answered(short.permit, ResultAbandoned, nil)
		assert.Equal(t, 80*time.Millisecond, time.Duration(g.headroom))
		g.Answered(short.permit, ResultUp, nil)
		assert.Equal(t, 76*time.Millisecond, time.Duration(g.headroom))
		for range 20 {
			g.Answered(short.permit, ResultAbandoned, nil)
		}
		assert.Equal(t, 24*time.Hour, time.Duration(g.headroom))
		<-longer.released
		assert.False(t, isReleased(long), "nobody has a day, so it is the one with the most time")
		g.headroom = headroom(30 * time.Second)
		next := joins(t, g, began.Add(30*time.Second))
		<-long.released
		assert.False(t, isReleased(next), "it has less than it needs")
		<-next.released
		assert.False(t, next.refused, "but it is the one with the most time now")
	})
}

// Who left while the host was down, or before, says nothing of how long answers
// take now.
func TestHeadroomHeedsOnlyThoseWhoWereReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early := Permit{}
		g := downGate(t)
		next, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit, ResultUp, nil)
		g.state = Recovering // with nobody waiting
		g.Answered(early, ResultAbandoned, nil)
		g.Answered(probe.permit, ResultAbandoned, nil)
		assert.Zero(t, time.Duration(g.headroom))
		require.True(t, isReleased(next))
		g.Answered(next.permit, ResultAbandoned, nil)
		assert.Equal(t, firstHeadroom, time.Duration(g.headroom))
	})
}

func TestLateTimerDoesNotReleaseAQueueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		for range 100 {
			joins(t, g, time.Time{})
		}
		g.mu.Lock()
		g.state, g.rate.current, g.rate.ceiling = Recovering, 100, 100
		g.due = time.Now().Add(-time.Hour)
		g.advance(time.Now())
		left := 100 - g.queue.Len()
		g.queue.waiters = nil
		g.setTimer(time.Now())
		g.mu.Unlock()
		assert.LessOrEqual(t, left, 2)
	})
}

func TestStatusTellsWhatTheGateIsAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assert.Equal(t, Status{}, newTestGate(3).Status())
		began := time.Now()
		g := downGate(t)
		cause := g.Cause()
		require.Error(t, cause)
		down := Status{State: Down, Since: began, NextProbe: began.Add(5 * time.Second), Cause: cause}
		assert.Equal(t, down, g.Status())
		next, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		time.Sleep(time.Second)
		down.Waiting = 2
		assert.Equal(t, down, g.Status())

		<-probe.Released()
		permit, ok := probe.Permit()
		assert.True(t, ok)
		time.Sleep(time.Second)
		g.Answered(permit, ResultUp, nil)
		back := time.Now()
		// The last who waited was released at once.
		assert.Equal(t, Status{State: Up, Since: back}, g.Status())
		assert.True(t, isReleased(next))
		assert.Equal(t, cause, g.Cause(), "for who was refused meanwhile")
	})
}

func TestRecoveringHostHasNoNextProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 20)
		assert.Equal(t, Status{State: Recovering, Since: time.Now(), Waiting: 19, Cause: g.Cause()}, g.Status())
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}
