package outage

import (
	"math"
	"time"
)

// brake tells a host that fails of too much load from one that fails by chance. It
// watches the share of good answers. Where that is bad beyond what chance explains, a
// [trial] begins. Where less load helps, the share is then much better, and the rate stays
// lower. Where it does not, that share is what is normal, and the rate is what it was. Such
// a trial costs little, so it is made again after a while.
type brake struct {
	window window
	normal float64   // the share when all is well, as trials have found it; 0: there was none
	next   time.Time // from then on a trial is made of a bad share, however bad it was before
	noes   int       // how many trials in a row have not helped
	kept   float64   // the part of the rate that is kept after one that has
	trial  trial
}

// verdict is what the brake makes of an answer.
type verdict int

const (
	undecided       verdict = iota
	lessMustBeTried         // a trial begins
	lessHelps               // the trial is over
	lessDoesNotHelp         // the trial is over
)

// judge takes in an answer to a call that was sent at a moment, or zero if it has not
// waited; longest is the longest run of bad ones that counts in full.
func (b *brake) judge(now time.Time, state State, sent time.Time, good bool, longest int) verdict {
	counts := b.window.counts(good, longest)
	if b.trial.isOn() {
		if counts {
			b.trial.answered(sent, good)
		}
		return b.decide(now)
	}
	w := &b.window
	if !counts || !w.isOpen {
		return undecided
	}
	age := now.Sub(w.opened)
	if age >= again || age >= 2*turn && w.answers < fewestAnswers {
		b.look(now, state)
		return undecided
	}
	w.take(good)
	if age < settles {
		return undecided
	}
	bar := b.bar(now, state)
	share, chance := w.share()
	// Where less load has not helped, the share of a host that comes and goes is often worse
	// than it was. With a trial of each of these the rate would not rise.
	mayTry := b.noes == 0 || !now.Before(b.next)
	switch {
	case mayTry && w.isBelow(bar):
		b.trial = trial{began: now}
		return lessMustBeTried
	case w.answers < fewestAnswers, share-chance < bar && w.answers < 20*fewestAnswers:
		return undecided
	}
	if !b.next.IsZero() {
		b.normal = max(b.normal, share-sure*chance)
	}
	b.look(now, state)
	return undecided
}

// bar is the share of good answers below which less load is tried. A host that is recovering
// is asked for what has gathered besides what arrives, so it is more often load.
func (b *brake) bar(now time.Time, state State) float64 {
	bar := nearly * b.normal
	switch {
	case now.Before(b.next):
		return bar
	case state == Up:
		return max(bar, badIfUp)
	default:
		return max(bar, bad)
	}
}

// decide ends a trial once there is no doubt, or no more time.
func (b *brake) decide(now time.Time) verdict {
	before, less := b.trial.arms(now)
	// What happens at times, whatever is sent, can be worse in one turn and better in the
	// next. Seldom is it the same again in the one after that.
	isRepeated := min(before.turns, less.turns) > 0 && before.turns+less.turns > 2
	over := now.Sub(b.trial.began) >= longestTrial
	isKnown := min(before.answers, less.answers) >= fewestAnswers/2
	var ratio float64
	if isKnown {
		ratio = likelier(before, less)
	}
	switch {
	case !over && (math.Abs(ratio) < sure || ratio > 0 && !isRepeated):
		return undecided
	case ratio > 0:
		b.normal = 1
		// As much as was carried out of what was asked for is the square of what the host
		// can do, in parts of that, if it collapses.
		b.kept = min(lowered, math.Sqrt((before.good+0.5)/(before.answers+1)))
		b.noes = 0
		b.end(now, again)
		return lessHelps
	case isKnown:
		b.normal = (before.good + less.good) / (before.answers + less.answers)
	}
	b.end(now, again<<min(b.noes, 2))
	b.noes++
	return lessDoesNotHelp
}

// end ends a trial. The next one is made of a bad share after a while that all processes
// count from the same moment.
func (b *brake) end(now time.Time, every time.Duration) {
	b.trial, b.next = trial{}, now.Add(now.Truncate(every).Add(every).Sub(now)) // the clock may be set meanwhile
	b.window.open(now)
}

// look goes on to the next window, which opens with the next failure if the host is up.
func (b *brake) look(now time.Time, state State) {
	b.window.open(now)
	b.window.isOpen = state != Up
}

// forget forgets the run of a path that has now fallen: that was the path's. A trial which
// would not have begun without it is over. Where many paths fall, it would have: the host
// fails all of them.
func (b *brake) forget(now time.Time, state State, of runs) {
	rest := b.window
	rest.answers -= min(float64(of.fatal), rest.answers-rest.good)
	switch {
	case !b.trial.isOn():
		b.window = rest
	case !b.trial.began.Before(of.began) && !rest.isBelow(b.bar(now, state)):
		b.trial = trial{}
		b.look(now, state)
	}
}

// stop ends the watch, and a trial without a verdict.
func (b *brake) stop() { b.window.isOpen, b.trial = false, trial{} }

// window is the answers of a while.
type window struct {
	isOpen bool
	opened time.Time
	tally
	bad int // in a row
}

// isBelow reports whether the share of good answers is below a bar beyond what chance
// explains.
func (w *window) isBelow(bar float64) bool {
	share, chance := w.share()
	return w.answers >= fewestAnswers && share+sure*chance < bar
}

func (w *window) open(now time.Time) { *w = window{isOpen: true, opened: now, bad: w.bad} }

// counts reports whether an answer does. In a long run of bad ones those at its end do
// not: that is an outage, and no share.
func (w *window) counts(good bool, longest int) bool {
	if w.bad++; good {
		w.bad = 0
	}
	return w.bad <= longest
}
