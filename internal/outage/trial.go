package outage

import (
	"math"
	"time"
)

// trial compares what becomes of calls that are sent in turns of the clock: with as many
// as before in one, and fewer in the next. All processes have the same clock, and so all
// that are on trial send fewer at the same time: what one of many does alone, the host
// would not notice. An answer belongs to the turn in which its call was sent, however long
// it has taken.
type trial struct {
	began time.Time // zero: there is none
	turns [longestTrial/turn + 2]sent
}

const longestTrial = 2 * again

// sent is the calls that were sent in a turn, and what is known of them.
type sent struct {
	calls float64
	heard float64 // how many of them are not out any more
	arm
}

// arm is the answers to one side of a trial.
type arm struct {
	answers, good float64
	turns         int // that they are of
}

func (a *arm) take(good bool) {
	a.answers++
	if good {
		a.good++
	}
}

// turnOf returns the turn of the clock that a moment is in, and how long it has lasted.
func turnOf(moment time.Time) (number int64, age time.Duration) {
	at := moment.UnixNano()
	return at / int64(turn), time.Duration(at % int64(turn))
}

// hasLess reports whether fewer calls are sent in a turn, by those on trial.
func hasLess(number int64) bool { return number%2 != 0 }

func (t *trial) isOn() bool { return !t.began.IsZero() }

// part returns which part of the rate is sent now.
func (t *trial) part(now time.Time) float64 {
	if number, _ := turnOf(now); t.isOn() && hasLess(number) {
		return trialRate
	}
	return 1
}

// at returns the turn in which something was sent, nil if it does not count: it was not
// sent in the trial, or so near to another turn that the clock of another process, or the
// host, may have been there.
func (t *trial) at(moment time.Time) *sent {
	if !t.isOn() || moment.Before(t.began) {
		return nil
	}
	first, _ := turnOf(t.began)
	number, age := turnOf(moment)
	if i := number - first; 0 <= i && i < int64(len(t.turns)) && settles <= age && age < turn-settles {
		return &t.turns[i]
	}
	return nil
}

// sends takes in that a call is sent, and hears that one which was is not out any more.
func (t *trial) sends(moment time.Time) {
	if s := t.at(moment); s != nil {
		s.calls++
	}
}

func (t *trial) hears(moment time.Time) {
	if s := t.at(moment); s != nil {
		s.heard++
	}
}

// answered takes in the answer to a call that was sent at a moment.
func (t *trial) answered(moment time.Time, good bool) {
	if s := t.at(moment); s != nil {
		s.take(good)
	}
}

// arms returns the answers to what was sent with as much load as before, and with less. A
// turn counts once most of what was sent in it has an answer, since errors may take longer
// than successes; so the first second of one does not.
func (t *trial) arms(now time.Time) (before, less arm) {
	first, _ := turnOf(t.began)
	current, age := turnOf(now)
	for i, s := range t.turns {
		number := first + int64(i)
		if s.heard < most*s.calls || number == current && age < 2*settles {
			continue
		}
		of := &before
		if hasLess(number) {
			of = &less
		}
		if s.answers >= few {
			of.turns++
		}
		of.answers += s.answers
		of.good += s.good
	}
	return before, less
}

// likelier returns how much likelier the answers are if less load has made the share of
// good ones at least as much better as the load was less, than if it has changed nothing:
// the logarithm of the ratio, with the shares that suit each best.
func likelier(before, less arm) float64 {
	same, better := math.Inf(-1), math.Inf(-1)
	for share := 0.005; share < 1; share *= 1.15 {
		same = max(same, before.likelihood(share)+less.likelihood(share))
		helped := min(0.95, max(share/trialRate, less.good/less.answers)) // something always fails
		if helped > share {
			better = max(better, before.likelihood(share)+less.likelihood(helped))
		}
	}
	return better - same
}

// likelihood returns that of the answers if so large a share is good, as a logarithm.
func (a arm) likelihood(share float64) float64 {
	return a.good*math.Log(share) + (a.answers-a.good)*math.Log(1-share)
}

// share returns the share of good answers, and its standard error. The latter is of a
// share that is a little nearer to a half, since one that is 0 or 1 is not without doubt.
func (a arm) share() (share, chance float64) {
	smoothed := (a.good + 2) / (a.answers + 4)
	return a.good / a.answers, math.Sqrt(smoothed * (1 - smoothed) / a.answers)
}
