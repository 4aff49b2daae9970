package outage

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTestGate is a gate with the intervals of the defaults and no jitter.
func newTestGate(threshold int) *onePath {
	return newOnePath(Config{Threshold: threshold, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
}

// downGate is a gate without jitter whose host three answers have just brought down.
func downGate(t *testing.T) *onePath {
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
func joins(t *testing.T, g *onePath, deadline time.Time) *Waiter {
	t.Helper()
	w, _, ok := g.Join(deadline)
	require.True(t, ok)
	require.NotNil(t, w)
	return w
}

// recoveringGate is a gate whose host has just come back, those who wait there, none
// of whom has a deadline, and the permit of the probe.
func recoveringGate(t *testing.T, callers int) (*onePath, []*Waiter, Permit) {
	t.Helper()
	g := downGate(t)
	var waiters []*Waiter
	for range callers {
		waiters = append(waiters, joins(t, g, time.Time{}))
	}
	probe := joins(t, g, time.Time{})
	<-probe.released
	g.Answered(probe.permit(), ResultUp, nil)
	return g, waiters, probe.permit()
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

func TestProbesAreSentTwiceAsOftenAfterManyInVain(t *testing.T) {
	config := Config{InitialInterval: 5 * time.Second, MaxInterval: 20 * time.Second}
	for sent, want := range map[int]time.Duration{0: 5, 1: 10, 2: 20, manyProbes - 1: 20, manyProbes: 10, 100: 10} {
		assert.Equal(t, want*time.Second, (&probes{sent: sent}).interval(config), "%d", sent)
	}
	partial := probes{partial: true, sent: manyProbes}
	assert.InDelta(t, 3.1, partial.interval(config).Seconds(), 0.1, "these are short already")
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
			g.Answered(w.permit(), ResultDown, nil)
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
		g.Answered(w.permit(), ResultDown, nil)
		<-joins(t, g, time.Time{}).released
		assert.InDelta(t, 2.1, time.Since(began).Seconds(), 1e-6)
	})
}

func TestNothingOfWhatWasNormalIsForgottenWhileTheHostIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		g.runs.worst, g.runs.worstAt = 2, time.Now()
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit(), ResultDown, nil)
		time.Sleep(10 * time.Minute) // many half-lives
		second := joins(t, g, time.Time{})
		g.Answered(second.permit(), ResultUp, nil)
		assert.Equal(t, 2.0, g.runs.worstOfLate(time.Now()), "as it was when it fell")
	})
}

func TestWorstRunHalvesInAMinute(t *testing.T) {
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
		assert.InDelta(t, 8.0, g.runs.worstOfLate(time.Now()), 1e-9)
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
		assert.Equal(t, 1, second.probe(), "the first probe, since none was sent")
	})
}

func TestReleaseOfAWaiterWhoLeavesAsItIsReleasedIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		first, second, third := joins(t, g, time.Time{}), joins(t, g, time.Time{}), joins(t, g, time.Time{})
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit(), ResultUp, nil)
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
		g.GiveBack(probe.permit())
		assert.True(t, isReleased(next))
	})
}

func TestAbandonedProbeIsPassedOnOnceAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		third, second, first := joins(t, g, time.Time{}), joins(t, g, time.Time{}), joins(t, g, time.Time{})
		<-first.released
		g.Answered(first.permit(), ResultAbandoned, nil)
		require.True(t, isReleased(second), "at once")
		g.Answered(second.permit(), ResultAbandoned, nil)
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
		g.Answered(next.permit(), ResultUp, nil)
		_, up := g.Pass()
		require.True(t, up)

		time.Sleep(time.Hour)
		g.Answered(hung.permit(), ResultDown, nil) // one answer, no more
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
		g.Answered(probe.permit(), ResultNone, nil)
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
		permit, _ := g.Pass()
		g.Answered(permit, ResultDown, nil)
		g.Answered(early, ResultUp, nil)
		permit, _ = g.Pass()
		g.Answered(permit, ResultDown, nil)
		permit, _ = g.Pass()
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
					require.False(t, w.isRefused())
					order = append(order, name)
					delete(names, w)
					g.Answered(w.permit(), ResultUp, nil)
				}
			}
		}
		assert.Equal(t, []string{"endless 2", "half", "minute 1", "minute 2", "hour", "endless 1"}, order)
	})
}

func TestCallThatCannotWaitForTheNextProbeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		early := time.Now().Add(2450 * time.Millisecond) // as somebody is about to give up
		_, _, ok := g.Join(early.Add(EarlyRefusal))
		assert.False(t, ok)
		w, _, ok := g.Join(early.Add(EarlyRefusal + 1))
		assert.True(t, ok)
		<-w.released
		assert.False(t, w.isRefused())
		assert.Equal(t, early, time.Now())
	})
}

func TestWaiterIsRefusedSoBeforeItsDeadlineThatItsCallerHearsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		first := joins(t, g, began.Add(7*time.Second))
		probe := joins(t, g, began.Add(9*time.Second))
		<-probe.released
		assert.False(t, probe.isRefused())
		<-first.released
		assert.True(t, first.isRefused())
		assert.Equal(t, 6950*time.Millisecond, time.Since(began))
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
			g.Answered(w.permit(), ResultUp, nil)
		}
		assert.InDelta(t, 200*(math.E-1), perSecond[0], 30, "200 a second and 1 more for each success")
		assert.InDelta(t, 500, perSecond[1], 30)
		assert.InDelta(t, 500, g.rate.ceiling, 1, "200 a second joined; 2.5 times 1000 in 5 s")
		_, up := g.Pass()
		assert.True(t, up, "the release that empties the queue ends the outage")
	})
}

func TestCeilingIsAboveThoseWhoComeAndLessSoWhereAnswersAreBad(t *testing.T) {
	now := time.Now()
	r := rate{counted: now, ceiling: 10, floor: 10, share: 1, current: 200}
	r.adjust(now.Add(time.Second), ResultUp, 100)
	assert.Equal(t, (1+reserve)*100, r.ceiling)
	r.adjust(now.Add(2*time.Second), ResultUp, 100+sure-1)
	assert.Equal(t, (1+reserve)*100, r.ceiling, "so few tell no rate")
	for range 200 {
		r.failed()
	}
	r.adjust(now.Add(3*time.Second), ResultUp, 300)
	assert.InDelta(t, 200/2, r.ceiling, 3, "200 in two seconds: no retry makes room for another")
	assert.Equal(t, r.ceiling, r.current)
	r.adjust(now.Add(4*time.Second), ResultUp, 305)
	assert.Equal(t, 10.0, r.ceiling, "never lower than it began")
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
		assert.Equal(t, (1+reserve)*100, g.rate.ceiling, "so many came in the last second")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

// Where nothing fails, calls take no lock.
func TestNothingIsToBeDoneOnceAShareOfGoodAnswersIsFine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		permit, _ := g.Pass()
		g.Answered(permit, ResultDown, nil)
		for range 3 * fewestAnswers {
			permit, _ = g.Pass()
			g.Answered(permit, ResultUp, nil)
		}
		time.Sleep(time.Second)
		assert.NotZero(t, g.host.published.Load()&watched, "a share is taken")
		g.Answered(permit, ResultUp, nil)
		assert.Zero(t, g.host.published.Load()&(watched|notUp))
	})
}

// A release that a busy machine makes some milliseconds late does not put off the
// next; one that had nobody to release for a second saves no more than one up.
func TestLateReleaseIsMadeUpForByOneReleaseAtMost(t *testing.T) {
	r := rate{current: 10}
	now := time.Now()
	for late, next := range map[time.Duration]time.Duration{0: 100, 4: 96, 50: 50, 100: 0, 1000: 0} {
		due := r.next(now.Add(-late*time.Millisecond), now, 1)
		assert.Equal(t, next*time.Millisecond, due.Sub(now), "%d ms late", late)
	}
}

func TestThrottlingLowersTheRateOnceASecondAndHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, permit := recoveringGate(t, 3000)
		g.rate.current, g.rate.ceiling = 100, 200

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
		assert.Equal(t, 64.0+2.0/64, g.rate.current, "then by a hundredth of its ceiling a second")
		for range 40 {
			time.Sleep(time.Second)
			throttle()
		}
		assert.Equal(t, 0.1, g.rate.current, "never below 1 in 10 s")
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
		// The run that brought it down is not what is normal, so 3 in a row are enough.
		for i, w := range waiters[:3] {
			<-w.released
			began, _ := g.Answered(w.permit(), ResultDown, nil)
			require.False(t, began, "the same outage")
			assert.Equal(t, i == 2, g.state == Down)
		}
		fell := time.Now()
		assert.Equal(t, 3.0, g.runs.worstOfLate(fell), "that run is now, as it has failed in part")
		<-waiters[98].released
		assert.Equal(t, time.Second, time.Since(fell), "and is probed soon")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestRunThatBroughtTheHostDownIsNormalOnlyIfItFailsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 9)
		assert.Zero(t, g.runs.worstOfLate(time.Now()), "an outage is not what is normal")
		<-waiters[0].released
		g.Answered(waiters[0].permit(), ResultDown, nil)
		assert.Zero(t, g.runs.worstOfLate(time.Now()))
		<-waiters[1].released
		g.Answered(waiters[1].permit(), ResultUp, nil)
		assert.Equal(t, 3.0, g.runs.worstOfLate(time.Now()), "a host that fails in part")
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestProbeIsSentEarlyWhenACallerIsAboutToGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		var waiters []*Waiter
		for _, after := range []time.Duration{11 * time.Second, 12 * time.Second, 13 * time.Second} {
			waiters = append(waiters, joins(t, g, began.Add(after)))
		}
		waiters = append(waiters, joins(t, g, time.Time{}))
		at := func(w *Waiter) time.Duration { <-w.released; return time.Since(began) }
		assert.Equal(t, 5*time.Second, at(waiters[3]), "the first interval is over")
		assert.Equal(t, 8550*time.Millisecond, at(waiters[2]), "2.45 s before the first of them gives up, in place of 15 s")
		assert.Equal(t, 10950*time.Millisecond, at(waiters[0]))
		assert.True(t, waiters[0].isRefused(), "no sooner than 2.45 s after the last probe")
		assert.Equal(t, 11*time.Second, at(waiters[1]))
		assert.False(t, waiters[1].isRefused())
	})
}

// Before the next probe may be sent, nobody is, unless the one that is out succeeds.
func TestWaiterIsRefusedOnceAProbeHasFailedAndNoOtherCanComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		began := time.Now()
		short, long := joins(t, g, began.Add(7400*time.Millisecond)), joins(t, g, began.Add(7500*time.Millisecond))
		probe := joins(t, g, time.Time{})
		<-probe.released
		assert.Equal(t, 4950*time.Millisecond, time.Since(began))
		time.Sleep(time.Second)
		assert.False(t, isReleased(short), "the probe may yet succeed")
		g.Answered(probe.permit(), ResultDown, nil)
		assert.True(t, isReleased(short), "and it has not: the next one is sent after 7.4 s at the soonest")
		assert.True(t, short.isRefused())
		<-long.released
		assert.False(t, long.isRefused())
		assert.Equal(t, 7400*time.Millisecond, time.Since(began))
	})
}

func TestFewerAnswersBringTheHostDownOverALongerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		for i := range 5 {
			permit, up := g.Pass()
			require.True(t, up)
			began, _ := g.Answered(permit, ResultDown, nil)
			assert.Equal(t, i == 4, began)
			time.Sleep(1250 * time.Millisecond)
		}
	})
}

// Where one process of a hundred sends a call every other second, a hundred times ten
// a second would be more than the host had to carry before.
func TestRecoveringBeginsWithWhatThisProcessSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		for range 10 {
			joins(t, g, time.Time{})
		}
		time.Sleep(4999 * time.Millisecond)
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.outage.since = g.outage.since.Add(-time.Minute)
		g.Answered(probe.permit(), ResultUp, nil)
		assert.Equal(t, 1.0, g.rate.current, "and 1 a second at least")
		g.queue = queue{}
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
		g.Answered(probe.permit(), ResultUp, nil)
		assert.EqualValues(t, 200/5, g.rate.current)
		assert.Zero(t, g.rate.throttled)
		assert.Zero(t, g.rate.slowed)

		g.rate.current = 100
		for i := 0; g.state == Recovering; i++ {
			<-waiters[i].released
			g.Answered(waiters[i].permit(), ResultDown, nil)
		}
		assert.Zero(t, g.probes.passedOn)
		probe = waiters[198]
		<-probe.released
		g.Answered(probe.permit(), ResultUp, nil)
		assert.Equal(t, 200/time.Since(g.outage.since).Seconds(), g.rate.current, "so many have come a second since")
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
		_, ended := g.Answered(probe.permit(), ResultUp, nil)
		assert.Nil(t, ended, "somebody waits")
		require.True(t, isReleased(last))
		require.NotNil(t, g.Leave(last))
		assert.Same(t, g.Leave(last), last.ended())
		assert.Equal(t, 2, last.ended().Held)
		assert.Nil(t, probe.ended())
	})
}

// The headroom settles a little above the time that answers take, and falls as soon
// as they come in time.
func TestHeadroomFollowsThoseWhoseDeadlineComesBeforeTheirAnswer(t *testing.T) {
	var l leavers
	now := time.Now()
	for _, step := range []struct{ after, want time.Duration }{
		{time.Millisecond, 2 * time.Millisecond}, // twice the time that it had
		{time.Second, 2 * time.Second},
		{time.Millisecond, 2 * time.Second}, // and never less than it was
	} {
		l.left(now, &Waiter{deadline: now, exit: &exit{at: now.Add(-step.after)}})
		assert.Equal(t, step.want, l.headroom)
	}
	l.stayed()
	assert.Equal(t, 1900*time.Millisecond, l.headroom)
	assert.Zero(t, l.early)
}

// Callers who cancel have no deadline that the gate knows of.
func TestLatestIsReleasedWhereThoseWhoHaveWaitedLongLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 20)
		g.host.mu.Lock()
		g.rate.current, g.rate.ceiling = 1, 1
		g.host.mu.Unlock()
		for _, w := range waiters[:3] {
			<-w.released
			g.Answered(w.permit(), ResultAbandoned, nil)
		}
		time.Sleep(time.Second)
		assert.True(t, isReleased(waiters[19]))
		assert.False(t, isReleased(waiters[3]))
		g.Answered(waiters[19].permit(), ResultUp, nil)
		time.Sleep(time.Second)
		assert.True(t, isReleased(waiters[3]), "one answer is enough for now")
		assert.Zero(t, g.leavers.headroom)
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestWaiterWithLessTimeThanAnAnswerTakesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		back := time.Now().Add(2450 * time.Millisecond) // the first probe
		gone, near, far := joins(t, g, back.Add(time.Second)), joins(t, g, back.Add(1100*time.Millisecond)), joins(t, g, back.Add(time.Minute))
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit(), ResultUp, nil)
		require.True(t, isReleased(gone))
		g.host.mu.Lock()
		g.due, g.leavers.headroom = back.Add(time.Second), 100*time.Millisecond
		g.setTimer(time.Now())
		g.host.mu.Unlock()
		time.Sleep(time.Second)
		require.True(t, isReleased(near))
		assert.True(t, near.isRefused())
		require.True(t, isReleased(far))
		assert.False(t, far.isRefused())
	})
}

func TestLastWaiterIsReleasedHoweverLittleTimeItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		short := joins(t, g, time.Now().Add(5*time.Second+50*time.Millisecond))
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.host.mu.Lock()
		g.leavers.headroom = time.Hour
		g.host.mu.Unlock()
		g.Answered(probe.permit(), ResultUp, nil)
		require.True(t, isReleased(short))
		assert.False(t, short.isRefused())
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
		g.Answered(probe.permit(), ResultUp, nil)
		g.state = Recovering // with nobody waiting
		g.Answered(early, ResultAbandoned, nil)
		g.Answered(probe.permit(), ResultAbandoned, nil)
		assert.Zero(t, g.leavers)
		require.True(t, isReleased(next))
		g.Answered(next.permit(), ResultAbandoned, nil)
		assert.Equal(t, leavers{early: 1}, g.leavers)
	})
}

func TestLateTimerDoesNotReleaseAQueueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		for range 100 {
			joins(t, g, time.Time{})
		}
		g.host.mu.Lock()
		g.state, g.rate.current, g.rate.ceiling = Recovering, 100, 100
		g.due = time.Now().Add(-time.Hour)
		g.host.touch(g.gate)
		g.host.settle(time.Now())
		left := 100 - g.queue.len()
		g.queue = queue{}
		g.setTimer(time.Now())
		g.host.mu.Unlock()
		assert.LessOrEqual(t, left, 2)
	})
}

func TestStatusTellsWhatTheGateIsAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assert.Equal(t, Status{}, newTestGate(3).Status())
		began := time.Now()
		g := downGate(t)
		cause := g.outage.cause
		require.Error(t, cause)
		down := Status{State: Down, Since: began, NextProbe: began.Add(5 * time.Second), Cause: cause}
		assert.Equal(t, down, g.Status())
		next, probe := joins(t, g, time.Time{}), joins(t, g, time.Time{})
		time.Sleep(time.Second)
		down.Waiting = 2
		assert.Equal(t, down, g.Status())

		<-probe.Released()
		permit, err := probe.Permit()
		assert.NoError(t, err)
		time.Sleep(time.Second)
		g.Answered(permit, ResultUp, nil)
		back := time.Now()
		// The last who waited was released at once.
		assert.Equal(t, Status{State: Up, Since: back}, g.Status())
		assert.True(t, isReleased(next))
		assert.Equal(t, cause, g.outage.cause, "for who was refused meanwhile")
	})
}

func TestRecoveringHostHasNoNextProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 20)
		assert.Equal(t, Status{State: Recovering, Since: time.Now(), Waiting: 19, Cause: g.outage.cause}, g.Status())
		for _, w := range waiters {
			g.Leave(w)
		}
	})
}

func TestLongestIntervalStaysThatWithJitter(t *testing.T) {
	longest := Config{InitialInterval: math.MaxInt64, MaxInterval: math.MaxInt64, Jitter: 1}
	for range 100 {
		assert.Equal(t, time.Duration(math.MaxInt64), longest.jittered(math.MaxInt64))
	}
}

func TestJitterOnlyLengthensAnInterval(t *testing.T) {
	config := Config{Jitter: 0.5, InitialInterval: 5 * time.Second}
	for interval, most := range map[time.Duration]time.Duration{2 * time.Second: time.Second, 5 * time.Second: 2500 * time.Millisecond, 20 * time.Second: 2500 * time.Millisecond} {
		shortest, longest := time.Hour, time.Duration(0)
		for range 1000 {
			jittered := config.jittered(interval)
			shortest, longest = min(shortest, jittered), max(longest, jittered)
		}
		assert.GreaterOrEqual(t, shortest, interval)
		assert.Less(t, shortest, interval+most/20)
		assert.LessOrEqual(t, longest, interval+most)
		assert.Greater(t, longest, interval+most-most/20)
	}
}

func TestCallThatDoesNotWaitIsTheProbeThatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(3)
		permit, untilNext, ok := g.Try()
		assert.True(t, ok, "the host is up")
		assert.Zero(t, untilNext)
		assert.Zero(t, permit.waiter.probe())

		g = downGate(t)
		for _, interval := range []time.Duration{5, 10, 20, 20} {
			_, untilNext, ok = g.Try()
			assert.False(t, ok)
			assert.Equal(t, interval*time.Second, untilNext)
			assert.Nil(t, g.timer, "nobody waits")
			time.Sleep(interval * time.Second)
			permit, _, ok = g.Try()
			assert.True(t, ok)
			assert.Positive(t, permit.waiter.probe())
			_, _, ok = g.Try()
			assert.False(t, ok, "one probe at a time")
			g.Answered(permit, ResultDown, nil)
		}
		time.Sleep(time.Minute)
		permit, _, ok = g.Try()
		require.True(t, ok)
		_, ended := g.Answered(permit, ResultUp, nil)
		require.NotNil(t, ended)
		assert.Zero(t, ended.Held)
		_, up := g.Pass()
		assert.True(t, up)
	})
}

func TestCallThatDoesNotWaitIsReleasedAtTheRateOfAHostThatIsRecovering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, waiters, _ := recoveringGate(t, 2)
		assert.True(t, isReleased(waiters[0]), "at once")
		_, untilNext, ok := g.Try()
		assert.False(t, ok, "it is the turn of one who waits")
		assert.Positive(t, untilNext)
		assert.False(t, isReleased(waiters[1]))
		<-waiters[1].released
		permit, _, ok := g.Try()
		assert.True(t, ok)
		assert.Zero(t, permit.waiter.probe())
	})
}

func TestPermitOfACallThatDoesNotWaitIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		time.Sleep(5 * time.Second)
		permit, _, ok := g.Try()
		require.True(t, ok)
		w := joins(t, g, time.Time{})
		assert.False(t, isReleased(w))
		g.GiveBack(permit)
		assert.True(t, isReleased(w))
	})
}

func TestCallThatHangsUntilItsDeadlineHasNoQueueRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := downGate(t)
		hangs := joins(t, g, time.Now().Add(40*time.Second))
		var waiters []*Waiter
		for range 200 {
			waiters = append(waiters, joins(t, g, time.Now().Add(100*time.Second)))
		}
		probe := joins(t, g, time.Time{})
		<-probe.released
		g.Answered(probe.permit(), ResultUp, nil)
		require.True(t, isReleased(hangs))
		g.host.mu.Lock()
		g.rate.current, g.rate.ceiling, g.rate.floor = 4, 4, 4
		g.host.mu.Unlock()
		hasLeft := false
		for _, w := range waiters {
			<-w.released
			require.False(t, w.isRefused())
			g.Answered(w.permit(), ResultUp, nil)
			if !hasLeft && !hangs.hasUntil(time.Now()) {
				g.Answered(hangs.permit(), ResultAbandoned, nil)
				hasLeft = true
			}
		}
		assert.True(t, hasLeft)
	})
}
