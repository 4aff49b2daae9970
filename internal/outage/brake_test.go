package outage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// load sends so many calls a second past the gate for a while, and answers each as the
// host does, after it was released if it has to wait. It returns how many were sent in
// each second. The host is told how many there are a second.
func load(g *onePath, perSecond int, seconds int, host func(second, call int) Result) []int {
	sent := make([]int, seconds)
	var waiting []*Waiter
	began := time.Now()
	calls := 0
	send := func(p Permit) {
		second := int(time.Since(began) / time.Second)
		if second >= seconds {
			return
		}
		sent[second]++
		calls++
		g.Answered(p, host(second, calls), nil)
	}
	for range perSecond * seconds {
		if p, ok := g.Pass(); ok {
			send(p)
		} else if w, p, ok := g.Join(time.Time{}); w != nil {
			waiting = append(waiting, w)
		} else if ok {
			send(p)
		}
		time.Sleep(time.Second / time.Duration(perSecond))
		synctest.Wait()
		var left []*Waiter
		for _, w := range waiting {
			select {
			case <-w.Released():
				send(w.permit())
			default:
				left = append(left, w)
			}
		}
		waiting = left
	}
	for _, w := range waiting {
		g.Leave(w)
	}
	return sent
}

// oneOf answers every n-th call with success.
func oneOf(n, call int) Result {
	if call%n == 0 {
		return ResultUp
	}
	return ResultDown
}

func TestHostThatFailsOfLoadIsAskedForLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		inSecond, last := 0, -1
		sent := load(g, 100, 120, func(second, call int) Result {
			if second != last {
				inSecond, last = 0, second
			}
			if inSecond++; second >= 5 && inSecond > 40 {
				return oneOf(10, call)
			}
			return ResultUp
		})
		assert.Equal(t, 100, sent[4])
		var late int
		for _, n := range sent[80:] {
			late += n
		}
		assert.InDelta(t, 45, late/40, 10, "calls a second, of which it can do 40")
		assert.Equal(t, Recovering, g.Status().State)
		assert.False(t, g.outage.isDown, "and no outage")
	})
}

func TestHostThatFailsByChanceIsAskedForAsMuchAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		sent := load(g, 100, 50, func(_, call int) Result { return oneOf(3, call) })
		var trial, all int
		for _, n := range sent[10:12] { // the beginning of the first turn with less
			trial += n
		}
		for _, n := range sent {
			all += n
		}
		assert.Less(t, trial, 150, "less was tried")
		assert.Equal(t, 5000, all, "and then made up for")
		assert.Equal(t, Up, g.Status().State)
		assert.InDelta(t, 0.33, g.brake.normal, 0.05, "that is what is normal")
		assert.Equal(t, 1, g.brake.noes)
	})
}

func TestTrialIsMadeAgainInTheNextMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		began := time.Now() // a minute begins
		load(g, 100, 55, func(_, call int) Result { return oneOf(3, call) })
		assert.Equal(t, 1, g.brake.noes)
		assert.Equal(t, began.Add(time.Minute), g.brake.next)
		load(g, 100, 40, func(_, call int) Result { return oneOf(3, call) })
		assert.Equal(t, 2, g.brake.noes)
	})
}

// Nobody is overloaded by a call in three seconds.
func TestNoTrialIsMadeOfFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		sent := load(g, 1, 300, func(second, call int) Result {
			if second%3 > 0 {
				return ResultNone
			}
			return oneOf(4, call)
		})
		assert.True(t, g.brake.next.IsZero())
		for _, n := range sent {
			require.Equal(t, 1, n)
		}
	})
}

func TestTrialWithTooFewAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		sent := load(g, 1, 160, func(second, call int) Result {
			if second%30 > 0 {
				return ResultNone
			}
			return oneOf(3, call)
		})
		assert.False(t, g.brake.trial.isOn())
		assert.Equal(t, 1, g.brake.noes)
		assert.Zero(t, g.brake.normal, "nothing was learned")
		assert.Equal(t, Up, g.Status().State)
		assert.Equal(t, 1, sent[159])
	})
}

func TestOutageInATrialIsAnOutageFromThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		tried := time.Now()
		load(g, 100, 4, func(int, int) Result { return ResultDown })
		status := g.Status()
		assert.Equal(t, Down, status.State)
		assert.GreaterOrEqual(t, status.Since.Sub(tried), time.Duration(0))
		assert.Equal(t, status.Since, g.outage.began)
		assert.False(t, g.brake.trial.isOn())
	})
}

// It makes no summary, so nobody is told that an outage ended that never began.
func TestEndOfATrialIsNoEndOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		var ends int
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		require.Equal(t, Recovering, g.Status().State)
		for g.Status().State != Up {
			p, ok := g.Pass()
			if !ok {
				w, _, ok := g.Join(time.Time{})
				require.True(t, ok)
				<-w.Released()
				p, _ = w.Permit()
				if p.waiter != nil && p.waiter.ended() != nil {
					ends++
				}
			}
			if _, ended := g.Answered(p, ResultUp, nil); ended != nil {
				ends++
			}
		}
		assert.Zero(t, ends)
	})
}

func TestLongRunCountsAsAnOutageAndNoShare(t *testing.T) {
	var w window
	counted := 0
	answer := func(good bool) {
		if w.counts(good, 20) {
			counted++
		}
	}
	for range 100 {
		answer(false)
	}
	assert.Equal(t, 20, counted)
	answer(true)
	answer(false)
	assert.Equal(t, 22, counted)
}

func TestShareHasItsStandardError(t *testing.T) {
	share, chance := tally{answers: 96, good: 48}.share()
	assert.Equal(t, 0.5, share)
	assert.InDelta(t, 0.051, chance, 0.0005)
	share, chance = tally{answers: 96, good: 96}.share()
	assert.Equal(t, 1.0, share)
	assert.Positive(t, chance, "nothing is without doubt")
}

// watch has a brake hear so many answers a second after its window has opened, the bad ones first.
func (b *brake) watch(now time.Time, state State, answers, good int) (v verdict) {
	for i := range answers {
		if v = b.judge(now, state, time.Time{}, i >= answers-good, 1000); v != undecided {
			return v
		}
	}
	return v
}

func TestTrialIsMadeOfAShareThatIsBadBeyondChance(t *testing.T) {
	now := epoch
	for _, c := range []struct {
		answers, good int
		want          verdict
	}{
		{fewestAnswers - 1, 0, undecided}, {fewestAnswers, 0, lessMustBeTried},
	} {
		var b brake
		b.window.open(now)
		assert.Equal(t, undecided, b.watch(now.Add(settles-1), Up, 0, 0))
		assert.Equal(t, c.want, b.watch(now.Add(settles), Up, c.answers, c.good), "%d of %d", c.good, c.answers)
	}
}

// What was bad an hour ago says nothing of now.
func TestShareIsOfAMinuteAtMost(t *testing.T) {
	var b brake
	b.window.open(epoch)
	require.Equal(t, undecided, b.watch(epoch, Up, 100, 0))
	assert.Equal(t, undecided, b.watch(epoch.Add(again), Up, 1, 0))
	assert.False(t, b.window.isOpen)

	b = brake{}
	b.window.open(epoch)
	require.Equal(t, undecided, b.watch(epoch, Up, 100, 0))
	assert.Equal(t, lessMustBeTried, b.watch(epoch.Add(again-1), Up, 1, 0))
}

// After a trial a share is bad that is worse than what is normal; from the next time on
// one that is bad, too.
func TestShareIsBadComparedWithWhatIsNormal(t *testing.T) {
	for _, c := range []struct {
		best    float64
		isAgain bool
		good    int // of 200
		want    verdict
	}{
		{0.5, false, 80, undecided}, {0.5, false, 60, lessMustBeTried},
		{0.5, true, 80, lessMustBeTried}, {0.5, true, 170, undecided},
		{1, false, 170, lessMustBeTried}, {1, true, 170, lessMustBeTried}, {1, false, 190, undecided},
	} {
		b := brake{normal: c.best, next: epoch.Add(time.Hour)}
		if c.isAgain {
			b.next = epoch
		}
		b.window.open(epoch)
		b.watch(epoch, Recovering, 199, c.good)
		assert.Equal(t, c.want, b.watch(epoch.Add(settles), Recovering, 1, 0), "%+v", c)
	}
}

// One that is up is not asked for what has gathered as well.
func TestHostThatIsUpMayFailMoreOften(t *testing.T) {
	for _, c := range []struct {
		state State
		good  int // of 200
		want  verdict
	}{
		{Up, 140, undecided}, {Up, 90, lessMustBeTried}, {Recovering, 150, undecided}, {Recovering, 130, lessMustBeTried},
	} {
		var b brake
		b.window.open(epoch)
		b.watch(epoch, c.state, 199, c.good)
		assert.Equal(t, c.want, b.watch(epoch.Add(settles), c.state, 1, 0), "%+v", c)
	}
}

// A path that has fallen explains its own run, and no more: where many fall, the host fails.
func TestRunOfAPathThatHasFallenIsForgotten(t *testing.T) {
	run := runs{fatal: 20, began: epoch}
	for _, c := range []struct {
		tried         bool
		answers, good float64
		left          tally
		isOn          bool
	}{
		{false, 30, 8, tally{10, 8}, false},
		{false, 15, 8, tally{8, 8}, false},
		{true, 30, 8, tally{}, false},
		{true, 70, 29, tally{70, 29}, true},
	} {
		b := brake{window: window{isOpen: true, opened: epoch, tally: tally{c.answers, c.good}}}
		if c.tried {
			b.trial.began = epoch
		}
		b.forget(epoch, Recovering, run)
		assert.Equal(t, c.left, b.window.tally, "%+v", c)
		assert.Equal(t, c.isOn, b.trial.isOn(), "%+v", c)
		assert.True(t, b.window.isOpen)
	}
}

func TestWindowStaysOpenUntilThereIsAShare(t *testing.T) {
	var b brake
	b.window.open(epoch)
	b.watch(epoch, Up, fewestAnswers-2, fewestAnswers-2)
	b.watch(epoch.Add(settles), Up, 1, 1)
	assert.True(t, b.window.isOpen)
	b.watch(epoch.Add(settles), Up, 1, 1)
	assert.False(t, b.window.isOpen)
}

// A trial keeps the rate as it is. That of a slow start would keep all waiting.
func TestNothingIsTriedInASlowStart(t *testing.T) {
	for _, ceiling := range []float64{40, 100} {
		synctest.Test(t, func(t *testing.T) {
			g, waiters, permit := recoveringGate(t, 200)
			g.host.mu.Lock()
			g.rate.current, g.rate.ceiling, g.config.Threshold = 40, ceiling, 20
			g.runs.worst, g.runs.worstAt = 1000, time.Now()
			g.host.mu.Unlock()
			time.Sleep(settles)
			for range fewestAnswers {
				g.Answered(permit, ResultDown, nil)
			}
			assert.Equal(t, ceiling == 40, g.brake.trial.isOn())
			for _, w := range waiters {
				g.Leave(w)
			}
		})
	}
}

// What has gathered in a trial waits for the end of the outage, too.
func TestOutageInATrialHasWhatHasGatheredInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		g.outage.arrived = 1000
		since := g.outage.since
		load(g, 100, 4, func(int, int) Result { return ResultDown })
		require.Equal(t, Down, g.Status().State)
		assert.GreaterOrEqual(t, g.outage.arrived, 1000)
		assert.Equal(t, since, g.outage.since)
		assert.True(t, g.outage.began.After(since))
	})
}

// Errors that take twenty seconds tell of the turn in which their calls were sent.
func TestSlowAnswerCountsForTheTurnInWhichItsCallWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		time.Sleep(12 * time.Second) // the next turn
		w, permit, ok := g.Join(time.Time{})
		require.True(t, ok)
		if w != nil {
			<-w.Released()
			permit, _ = w.Permit()
		}
		time.Sleep(20 * time.Second)
		was := g.brake.trial.turns
		g.Answered(permit, ResultDown, nil)
		now := g.brake.trial.turns
		assert.NotEqual(t, was[1].seconds, now[1].seconds)
		assert.Equal(t, was[1].heard+1, now[1].heard)
		assert.Equal(t, was[3], now[3])
	})
}

// A host that comes and goes has a share that is often worse than it was.
func TestNoTrialFollowsOneInVainBeforeItsTime(t *testing.T) {
	for _, c := range []struct {
		noes int
		next time.Time
		want verdict
	}{
		{0, epoch.Add(again), lessMustBeTried}, {1, epoch.Add(again), undecided}, {1, epoch, lessMustBeTried},
	} {
		b := brake{normal: 0.5, next: c.next, noes: c.noes}
		b.window.open(epoch)
		b.watch(epoch, Recovering, 199, 0)
		assert.Equal(t, c.want, b.watch(epoch.Add(settles), Recovering, 1, 0), "%+v", c)
	}
}

// A share that was good before anything was tried does not make a worse one bad: a host
// may fail by chance for a fifth of the calls at any time.
func TestWhatIsNormalIsLearnedOnceATrialWasMade(t *testing.T) {
	for next, want := range map[time.Time]float64{{}: 0, epoch: 0.9} {
		b := brake{next: next}
		b.window.open(epoch)
		b.watch(epoch, Recovering, 99, 99)
		require.Equal(t, undecided, b.watch(epoch.Add(settles), Recovering, 1, 1))
		assert.InDelta(t, want, b.normal, 0.1)
	}
}

// What has gathered while less was tried in vain are retries first. At a low rate they alone
// would be sent, and where they fail whenever they are, that would look like an outage.
func TestWhatHasGatheredInATrialIsDrainedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		waiter := joins(t, g, time.Time{})
		time.Sleep(longestTrial)
		g.outage.arrived = 1000
		g.Answered(waiter.permit(), ResultUp, nil)
		require.False(t, g.brake.trial.isOn())
		assert.Equal(t, Recovering, g.Status().State)
		assert.Equal(t, g.rate.ceiling, g.rate.current)
		assert.Greater(t, g.rate.current, 2*1000/longestTrial.Seconds())
	})
}

// Who waits for less load to help waits for the end of the outage, too.
func TestOutageInATrialHoldsThoseWhoWaitForTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(3, call) })
		require.True(t, g.brake.trial.isOn())
		for range 5 {
			joins(t, g, time.Time{})
		}
		for g.Status().State != Down {
			g.Answered(Permit{sequence: g.host.clock}, ResultDown, nil)
		}
		require.NotZero(t, g.Status().Waiting)
		assert.Equal(t, g.Status().Waiting, g.outage.held)
	})
}

// If it were a time of the wall clock, one that is set back by an hour would put the next trial
// off by an hour.
func TestClockThatIsSetPutsNoTrialOff(t *testing.T) {
	now := time.Now()
	var b brake
	b.end(now, again)
	assert.True(t, b.next.Equal(now.Truncate(again).Add(again)))
	assert.NotEqual(t, b.next.Round(0), b.next, "it has a monotonic clock reading")
}

func TestTrialHasTheCauseOfTheLastBadAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Threshold: 20, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
		for range 10 {
			answers(t, h, quiet, ResultDown, ResultDown, ResultDown, ResultUp)
		}
		time.Sleep(time.Second)
		permit, _ := h.Pass(quiet)
		h.Answered(quiet, permit, ResultUp, nil)
		require.Equal(t, Recovering, h.gate.state)
		assert.Equal(t, errPath, h.Status().Cause)
	})
}

func TestTrialLeavesTheShareOfLateAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, permit := recoveringGate(t, 200)
		g.rate.current = g.rate.ceiling
		g.rate.share = 0.7
		g.brake.trial.began = time.Now()
		for range 20 {
			g.Answered(permit, ResultDown, nil)
			g.Answered(permit, ResultUp, nil)
			g.Answered(permit, ResultUp, nil)
		}
		assert.InDelta(t, 0.7, g.rate.share, 0.05)
	})
}
