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
	calls   float64
	heard   float64                   // how many of them are not out any more
	seconds [turn / time.Second]tally // the answers to those sent in each second
}

// tally is how many answers there were to some calls, and how many of them were good.
type tally struct{ answers, good float64 }

func (t *tally) take(good bool) {
	t.answers++
	if good {
		t.good++
	}
}

// arm is the answers to one side of a trial.
type arm struct {
	tally
	turns   int     // that they are of
	seconds int     // that they are of
	squares float64 // the sum of good*good/answers of each second
}

// add takes in the answers of a second.
func (a *arm) add(of tally) {
	a.answers += of.answers
	a.good += of.good
	a.seconds++
	a.squares += of.good * of.good / of.answers
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
// sent in the trial, or so near to another turn or to the time before that the clock of
// another process, or the host, may have been there.
func (t *trial) at(moment time.Time) *sent {
	if !t.isOn() || moment.Sub(t.began) < settles {
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
		_, age := turnOf(moment)
		s.seconds[age/time.Second].take(good)
	}
}

// arms returns the answers to what was sent with as much load as before, and with less. A
// turn counts once nearly all that was sent in it has an answer, since errors may take
// longer than successes; so the first second of one does not.
func (t *trial) arms(now time.Time) (before, less arm) {
	first, _ := turnOf(t.began)
	current, age := turnOf(now)
	for i := range t.turns {
		s, number := &t.turns[i], first+int64(i)
		if s.heard < nearly*s.calls || number == current && age < 2*settles {
			continue
		}
		of := &before
		if hasLess(number) {
			of = &less
		}
		had := of.answers
		for _, second := range s.seconds {
			if second.answers > 0 {
				of.add(second)
			}
		}
		if of.answers-had >= sure {
			of.turns++
		}
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
	return (better - same) / dispersion(before, less)
}

// dispersion returns how much more the shares of good answers differ from second to second
// than by chance, 1 at least: Pearson's chi-squared over its degrees of freedom. A host that
// comes and goes gives all calls of a second the same answer, and so many tell as little as
// one.
func dispersion(arms ...arm) float64 {
	differ, freedom := 0.0, 0.0
	for _, a := range arms {
		if share := a.good / a.answers; 0 < share && share < 1 {
			differ += (a.squares - a.answers*share*share) / (share * (1 - share))
			freedom += float64(a.seconds - 1)
		}
	}
	if freedom == 0 {
		return 1
	}
	return max(1, differ/freedom)
}

// likelihood returns that of the answers if so large a share is good, as a logarithm.
func (t tally) likelihood(share float64) float64 {
	return t.good*math.Log(share) + (t.answers-t.good)*math.Log(1-share)
}

// share returns the share of good answers, and its standard error. The latter is of a
// share that is a little nearer to a half, since one that is 0 or 1 is not without doubt.
func (t tally) share() (share, chance float64) {
	smoothed := (t.good + 2) / (t.answers + 4)
	return t.good / t.answers, math.Sqrt(smoothed * (1 - smoothed) / t.answers)
}
