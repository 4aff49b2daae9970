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
		sent := load(g, 100, 60, func(second, call int) Result {
			if second != last {
				inSecond, last = 0, second
			}
			if inSecond++; second >= 5 && inSecond > 40 {
				return oneOf(3, call)
			}
			return ResultUp
		})
		assert.Equal(t, 100, sent[4])
		var late int
		for _, n := range sent[20:] {
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
		sent := load(g, 100, 50, func(_, call int) Result { return oneOf(2, call) })
		var trial, all int
		for _, n := range sent[2:4] {
			trial += n
		}
		for _, n := range sent {
			all += n
		}
		assert.Less(t, trial, 150, "less was tried")
		assert.Equal(t, 5000, all, "and then made up for")
		assert.Equal(t, Up, g.Status().State)
		assert.InDelta(t, 0.5, g.brake.best, 0.05, "that is what is normal")
		assert.False(t, g.brake.tried.IsZero())
	})
}

func TestTrialIsMadeAgainAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		began := time.Now()
		load(g, 100, 55, func(_, call int) Result { return oneOf(2, call) })
		first := g.brake.tried
		assert.Less(t, first.Sub(began), 10*time.Second)
		load(g, 100, 20, func(_, call int) Result { return oneOf(2, call) })
		assert.Greater(t, g.brake.tried.Sub(first), time.Minute)
	})
}

// Nobody is overloaded by a call a second.
func TestNoTrialIsMadeOfFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		sent := load(g, 1, 300, func(_, call int) Result { return oneOf(2, call) })
		assert.True(t, g.brake.tried.IsZero())
		for _, n := range sent {
			require.Equal(t, 1, n)
		}
	})
}

func TestTrialWithTooFewAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(2, call) })
		require.True(t, g.brake.onTrial)
		sent := load(g, 1, 30, func(_, call int) Result { return oneOf(2, call) })
		assert.False(t, g.brake.onTrial)
		assert.Equal(t, Up, g.Status().State)
		assert.Equal(t, 1, sent[29])
	})
}

func TestOutageInATrialIsAnOutageFromThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		load(g, 100, 3, func(_, call int) Result { return oneOf(2, call) })
		require.True(t, g.brake.onTrial)
		tried := time.Now()
		load(g, 100, 4, func(int, int) Result { return ResultDown })
		status := g.Status()
		assert.Equal(t, Down, status.State)
		assert.GreaterOrEqual(t, status.Since.Sub(tried), time.Duration(0))
		assert.Equal(t, status.Since, g.outage.began)
		assert.False(t, g.brake.onTrial)
	})
}

// It makes no summary, so nobody is told that an outage ended that never began.
func TestEndOfATrialIsNoEndOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(20)
		var ends int
		load(g, 100, 3, func(_, call int) Result { return oneOf(2, call) })
		require.True(t, g.brake.onTrial)
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
	now := time.Now()
	w.open(now, 0)
	for range 100 {
		w.take(now, 0, false)
	}
	assert.EqualValues(t, longestChance, w.answers)
	w.take(now, 0, true)
	w.take(now, 0, false)
	assert.EqualValues(t, longestChance+2, w.answers)
}

func TestAnswersFromBeforeAWindowDoNotCount(t *testing.T) {
	var w window
	now := time.Now()
	assert.False(t, w.take(now, 5, true), "none is open")
	w.open(now.Add(time.Second), 5)
	assert.False(t, w.take(now, 5, true), "it is not open yet")
	assert.False(t, w.take(now.Add(time.Second), 4, true), "it was sent before")
	assert.True(t, w.take(now.Add(time.Second), 5, true))
}

func TestShareHasItsStandardError(t *testing.T) {
	share, chance := (&window{answers: 96, good: 48}).share()
	assert.Equal(t, 0.5, share)
	assert.InDelta(t, 0.051, chance, 0.0005)
	share, chance = (&window{answers: 96, good: 96}).share()
	assert.Equal(t, 1.0, share)
	assert.Positive(t, chance, "nothing is without doubt")
}

func TestBestShareLeavesOutWhatMayBeChance(t *testing.T) {
	now := time.Now()
	var b brake
	b.window.open(now, 0)
	judge := func(good bool) verdict { return b.judge(now.Add(time.Second), Recovering, 0, good) }
	for range fewestAnswers {
		require.Equal(t, undecided, judge(true))
	}
	assert.InDelta(t, 0.95, b.best, 0.005, "fifty good ones can be luck")

	b = brake{onTrial: true, share: 0.4, best: 0.1}
	b.window.open(now, 0)
	for i := range fewestAnswers - 1 {
		require.Equal(t, undecided, judge(i%25 > 0))
	}
	assert.Equal(t, lessHelps, judge(true))
	assert.InDelta(t, 0.96-2*0.037, b.best, 0.001)
	assert.False(t, b.onTrial)
	assert.Equal(t, now.Add(time.Second), b.tried)
}

func TestTrialIsDecidedHalfwayInDoubt(t *testing.T) {
	now := time.Now()
	for good, want := range map[int]verdict{119: lessDoesNotHelp, 121: lessHelps} {
		b := brake{onTrial: true, share: 0.4} // 0.8 if load is all that is wrong
		b.window.open(now, 0)
		var got verdict
		for i := range mostAnswers {
			require.Equal(t, undecided, got)
			// As even as can be.
			got = b.judge(now.Add(time.Second), Recovering, 0, (i+1)*good/mostAnswers > i*good/mostAnswers)
		}
		assert.Equal(t, want, got, "%d of %d", good, mostAnswers)
	}
}
