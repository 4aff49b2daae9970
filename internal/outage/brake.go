package outage

import (
	"math"
	"time"
)

// brake tells a host that fails of too much load from one that fails by chance. It
// watches the share of good answers. When that is worse than it was, beyond what chance
// explains, a trial begins: half the rate for a short while. Where less load helps, the
// share is then much better, and the rate stays lower. Where it does not, that share is
// what is normal, and the rate is what it was. Such a trial costs little, so it is made
// again after a while.
type brake struct {
	window window
	best   float64   // the best share of late, less what may be chance; 0: not known
	tried  time.Time // when the last trial ended; zero: there was none

	suspected bool // the last window was worse, and another one is taken to be sure
	onTrial   bool
	share     float64 // before the trial
}

// verdict is what the brake makes of an answer.
type verdict int

const (
	undecided       verdict = iota
	lessMustBeTried         // a trial begins
	lessHelps               // the trial is over
	lessDoesNotHelp         // the trial is over
)

// judge takes in an answer to an attempt with that sequence number.
func (b *brake) judge(now time.Time, state State, sequence uint64, good bool) verdict {
	w := &b.window
	if !w.take(now, sequence, good) {
		return undecided
	}
	if age := now.Sub(w.opened); w.answers < fewestAnswers || age < shortestWindow {
		switch {
		case age < longestWindow:
			return undecided
		case b.onTrial: // so few answers tell nothing
			return b.end(now, lessDoesNotHelp, b.best)
		}
		return b.look(now, state)
	}
	share, chance := w.share()
	if b.onTrial {
		// Halfway between what it was and what it is where load is all that is wrong.
		middle := (b.share + min(1, b.share/trialRate)) / 2
		switch {
		case math.Abs(share-middle) < sureOfTrial*chance && w.answers < mostAnswers:
			return undecided
		case share > middle:
			return b.end(now, lessHelps, max(b.best, share-certain*chance))
		default:
			return b.end(now, lessDoesNotHelp, (share+b.share)/2)
		}
	}
	bar := worseShare * b.best
	if now.Sub(b.tried) > trialEvery && (state == Up || !b.tried.IsZero()) {
		bar = badShare
	}
	switch {
	case share+sureOfWorse*chance < bar && state == Up && !b.suspected:
		// A window that was chosen because its share is bad shows a worse share than there
		// is, and then whatever is tried seems to help. So another one is taken.
		b.suspected = true
		b.window.open(now, b.window.from)
		return undecided
	case share+sureOfWorse*chance < bar:
		b.onTrial, b.share = true, share
		return lessMustBeTried
	case share-chance < bar && w.answers < mostAnswers:
		return undecided
	}
	b.best = max(b.best, share-certain*chance)
	return b.look(now, state)
}

// end ends a trial.
func (b *brake) end(now time.Time, v verdict, best float64) verdict {
	b.suspected, b.onTrial, b.best, b.tried = false, false, best, now
	b.window.open(now, b.window.from)
	return v
}

// look goes on to the next window, which opens with the next failure if the host is up.
func (b *brake) look(now time.Time, state State) verdict {
	b.suspected = false
	b.window.open(now, b.window.from)
	b.window.isOpen = state != Up
	return undecided
}

// stop ends the watch, and a trial without a verdict.
func (b *brake) stop() { b.window.isOpen, b.suspected, b.onTrial = false, false, false }

// window is the answers of a while.
type window struct {
	isOpen  bool
	opened  time.Time // or when it will be
	from    uint64    // answers to attempts with a lower sequence number are stale
	answers float64
	good    float64
	bad     int // in a row
}

func (w *window) open(now time.Time, from uint64) {
	*w = window{isOpen: true, opened: now, from: from, bad: w.bad}
}

// take reports whether an answer counts. In a long run of bad ones those at its end do
// not: that is an outage, and no share.
func (w *window) take(now time.Time, sequence uint64, good bool) bool {
	if good {
		w.bad = 0
	} else {
		w.bad++
	}
	if !w.isOpen || now.Before(w.opened) || sequence < w.from || w.bad > longestChance {
		return false
	}
	w.answers++
	if good {
		w.good++
	}
	return true
}

// share returns the share of good answers, and its standard error. The latter is of a
// share that is a little nearer to a half, since one that is 0 or 1 is not without doubt.
func (w *window) share() (share, chance float64) {
	smoothed := (w.good + 2) / (w.answers + 4)
	return w.good / w.answers, math.Sqrt(smoothed * (1 - smoothed) / w.answers)
}
