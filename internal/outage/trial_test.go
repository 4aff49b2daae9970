package outage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// epoch begins a turn with as much load as before.
var epoch = time.Unix(0, 0)

// inTurn is a moment in the middle of a turn.
func inTurn(number int) time.Time { return epoch.Add(time.Duration(number)*turn + turn/2) }

// answer has so many calls of a turn sent and answered, the first ones with success.
func (t *trial) answer(number, calls, good int) {
	for i := range calls {
		t.sends(inTurn(number))
		t.hears(inTurn(number))
		t.answered(inTurn(number), i < good)
	}
}

func TestTurnsAreThoseOfTheClockInAllProcesses(t *testing.T) {
	one, other := trial{began: epoch}, trial{began: epoch.Add(12345 * time.Millisecond)}
	for second := 13; second < 60; second++ {
		now := epoch.Add(time.Duration(second) * time.Second)
		want := 1.0
		if second/10%2 == 1 {
			want = trialRate
		}
		assert.Equal(t, want, one.part(now), "%d s", second)
		assert.Equal(t, want, other.part(now), "%d s", second)
	}
	assert.EqualValues(t, 1, (&trial{}).part(inTurn(1)), "there is no trial")
}

func TestAnswerBelongsToTheTurnInWhichItsCallWasSent(t *testing.T) {
	trial := trial{began: epoch}
	for turn := range 2 {
		trial.sends(inTurn(turn))
	}
	trial.hears(inTurn(1))
	trial.answered(inTurn(1), true)
	trial.hears(inTurn(0)) // after the next turn's
	trial.answered(inTurn(0), false)
	before, less := trial.arms(inTurn(5))
	assert.Equal(t, tally{answers: 1}, before.tally)
	assert.Equal(t, tally{answers: 1, good: 1}, less.tally)
}

func TestTurnCountsOnceNearlyAllOfWhatWasSentInItHasAnAnswer(t *testing.T) {
	trial := trial{began: epoch}
	trial.answer(0, 18, 18)
	for range 2 { // errors take longer
		trial.sends(inTurn(0))
	}
	before, _ := trial.arms(inTurn(2))
	assert.Zero(t, before, "18 of 20")
	trial.hears(inTurn(0))
	trial.answered(inTurn(0), false)
	before, _ = trial.arms(inTurn(2))
	assert.Equal(t, tally{answers: 19, good: 18}, before.tally)
	assert.Equal(t, 1, before.turns)
	trial.hears(inTurn(0)) // it was abandoned
	before, _ = trial.arms(inTurn(2))
	assert.Equal(t, tally{answers: 19, good: 18}, before.tally)
	assert.Equal(t, 1, before.turns)
}

func TestTurnThatHasJustBegunDoesNotCount(t *testing.T) {
	trial := trial{began: epoch}
	sent := epoch.Add(turn + settles)
	trial.sends(sent)
	trial.hears(sent)
	trial.answered(sent, true)
	_, less := trial.arms(epoch.Add(turn + 2*settles - 1))
	assert.Zero(t, less.answers)
	_, less = trial.arms(epoch.Add(turn + 2*settles))
	assert.EqualValues(t, 1, less.answers)
}

func TestEndsOfATurnCountForNeither(t *testing.T) {
	trial := trial{began: epoch.Add(turn / 2)}
	for _, ms := range []int{0, 4999, 5999, 9000, 9999, 10000, 10999, 19000} {
		assert.Nil(t, trial.at(epoch.Add(time.Duration(ms)*time.Millisecond)), "%d ms", ms)
	}
	for ms, turn := range map[int]int{6000: 0, 8999: 0, 11000: 1, 18999: 1, 21000: 2} {
		assert.Same(t, &trial.turns[turn], trial.at(epoch.Add(time.Duration(ms)*time.Millisecond)), "%d ms", ms)
	}
	assert.Nil(t, trial.at(time.Time{}), "it has not waited")
	assert.Nil(t, trial.at(inTurn(len(trial.turns))), "it hangs")
}

// tried is a brake whose trial has had so many answers, of them so many good, with as much
// load as before and with less, in four turns.
func tried(before, good, less, goodOfLess int) *brake {
	b := &brake{trial: trial{began: epoch}}
	b.trial.answer(0, before/2, good/2)
	b.trial.answer(1, less/2, goodOfLess/2)
	b.trial.answer(2, before-before/2, good-good/2)
	b.trial.answer(3, less-less/2, goodOfLess-goodOfLess/2)
	return b
}

func TestVerdictIsHowMuchLikelierItIsThatLessHelps(t *testing.T) {
	for _, c := range []struct {
		before, good, less, goodOfLess int
		want                           verdict
	}{
		{20, 8, 10, 9, lessHelps},
		{20, 8, 10, 4, undecided},
		{60, 24, 30, 12, lessDoesNotHelp},
		{20, 0, 10, 5, lessHelps},
		{20, 14, 10, 7, lessDoesNotHelp},
		{200, 10, 100, 10, undecided},
		{6, 0, 6, 6, lessHelps},
		{3, 0, 10, 10, undecided},
		{10, 0, 3, 3, undecided},
		{0, 0, 200, 200, undecided},
		{200, 20, 2, 2, undecided},
	} {
		b := tried(c.before, c.good, c.less, c.goodOfLess)
		assert.Equal(t, c.want, b.decide(inTurn(4)), "%+v", c)
		assert.Equal(t, c.want == undecided, b.trial.isOn())
	}
}

// A host that comes and goes is up in one turn and down in the next.
func TestLessHelpsOnlyIfItDoesMoreThanOnce(t *testing.T) {
	b := brake{trial: trial{began: epoch}}
	b.trial.answer(0, 100, 10)
	b.trial.answer(1, 50, 50)
	require.Equal(t, undecided, b.decide(inTurn(1)))
	b.trial.answer(2, sure-1, 0)
	require.Equal(t, undecided, b.decide(inTurn(2)), "so few are no turn")
	b.trial.answer(2, 1, 0)
	require.Equal(t, lessHelps, b.decide(inTurn(2)))

	b = brake{trial: trial{began: epoch}}
	for turn := range 5 {
		b.trial.answer(turn, []int{100, sure - 1}[turn%2], []int{10, sure - 1}[turn%2])
	}
	require.Equal(t, undecided, b.decide(inTurn(5)), "no turn with less")

	b = brake{trial: trial{began: epoch}}
	b.trial.answer(0, 100, 50)
	b.trial.answer(1, 50, 25)
	require.Equal(t, lessDoesNotHelp, b.decide(inTurn(1)), "to go on as before is no loss")
}

// Where all calls of a second have the same answer, a hundred of them tell as little as one.
func TestManyAnswersAlikeInASecondTellAsLittleAsOne(t *testing.T) {
	// Two turns of seven seconds with ten answers each, of which so many are good.
	turns := func(seconds [2][7]int) *brake {
		b := &brake{trial: trial{began: epoch}}
		for number := range 4 {
			for second, good := range seconds[number%2] {
				sent := epoch.Add(time.Duration(number)*turn + time.Duration(second+2)*time.Second)
				for i := range 10 {
					b.trial.sends(sent)
					b.trial.hears(sent)
					b.trial.answered(sent, i < good)
				}
			}
		}
		return b
	}
	mixed := turns([2][7]int{{3, 3, 3, 3, 3, 3, 2}, {6, 6, 6, 6, 5, 6, 5}})
	alike := turns([2][7]int{{0, 0, 0, 10, 10, 0, 0}, {10, 10, 10, 10, 0, 0, 0}})
	before, less := mixed.trial.arms(inTurn(4))
	assert.Equal(t, tally{answers: 140, good: 40}, before.tally)
	assert.Equal(t, tally{answers: 140, good: 80}, less.tally)
	assert.EqualValues(t, 1, dispersion(before, less))
	assert.Equal(t, lessHelps, mixed.decide(inTurn(4)))
	assert.Equal(t, undecided, alike.decide(inTurn(4)), "as many are good")
	before, less = alike.trial.arms(inTurn(4))
	assert.Equal(t, tally{answers: 140, good: 40}, before.tally)
	assert.Equal(t, tally{answers: 140, good: 80}, less.tally)
	assert.InDelta(t, 140./13, dispersion(before, less), 1e-9)

	none := arm{tally: tally{answers: 10}, seconds: 5}
	assert.EqualValues(t, 1, dispersion(none, none), "of nothing but failures nothing is known")
}

func TestTrialThatTellsNothingIsOverAfterTwoMinutes(t *testing.T) {
	b := brake{trial: trial{began: epoch}, normal: 0.5}
	assert.Equal(t, undecided, b.decide(epoch.Add(longestTrial-1)))
	assert.Equal(t, lessDoesNotHelp, b.decide(epoch.Add(longestTrial)))
	assert.EqualValues(t, 0.5, b.normal, "nothing was learned")

	b = *tried(10, 4, 6, 4)
	assert.Equal(t, undecided, b.decide(epoch.Add(longestTrial-1)))
	assert.Equal(t, lessHelps, b.decide(epoch.Add(longestTrial)), "what is likelier")
}

func TestTrialsThatDoNotHelpAreMadeEverMoreRarely(t *testing.T) {
	now := epoch.Add(30 * time.Second)
	var b brake
	for i, minutes := range []int{1, 2, 4, 8, 12} {
		b.trial = trial{began: now.Add(-longestTrial)}
		require.Equal(t, lessDoesNotHelp, b.decide(now))
		now = epoch.Add(time.Duration(minutes) * time.Minute)
		require.True(t, now.Equal(b.next), "%d: %v", i, b.next)
	}
	b.trial = trial{began: now}
	from, _ := turnOf(now)
	for i := range 2 {
		b.trial.answer(int(from)+2*i, 10, 1)
		b.trial.answer(int(from)+2*i+1, 10, 9)
	}
	require.Equal(t, lessHelps, b.decide(now.Add(4*turn)))
	require.True(t, b.next.Equal(now.Add(time.Minute)))
	b.trial = trial{began: now.Add(-longestTrial)}
	require.Equal(t, lessDoesNotHelp, b.decide(now))
	require.True(t, b.next.Equal(now.Add(time.Minute)), "it begins anew")
}

func TestRateThatIsKeptIsTheRootOfTheShareThatWasCarriedOut(t *testing.T) {
	for good, kept := range map[int]float64{15: 0.394, 40: 0.64, 79: lowered} {
		b := tried(99, good, 50, 50)
		require.Equal(t, lessHelps, b.decide(inTurn(4)))
		assert.InDelta(t, kept, b.kept, 0.005, "%d of 99", good)
		assert.EqualValues(t, 1, b.normal)
	}

	b := tried(60, 30, 30, 12)
	require.Equal(t, lessDoesNotHelp, b.decide(inTurn(4)))
	assert.InDelta(t, 42./90, b.normal, 1e-9, "that is what is normal")
}
