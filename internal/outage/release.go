package outage

import "time"

// batch is how many waiters are released or refused before others have the lock.
const batch = 50

// advance releases the waiters who may go by now, refuses those who wait in vain, and
// sets the timer for the next. Every change of the queue or the state ends here. It goes
// over a batch of waiters at most, since others want the lock.
func (g *gate) advance(now time.Time) {
	var refusal *Outage // the same for all
	for range batch {
		if g.state == Up || g.queue.len() == 0 {
			break
		}
		head := g.queue.at(earliest)
		g.hurry(now, head)
		mayGo := !g.due.After(now)
		if !mayGo && !g.waitsInVain(now, head) {
			break
		}
		w, isRefused := head, false
		switch {
		case !mayGo, !head.hasUntil(now), g.state == Recovering && !head.hasUntil(now.Add(g.leavers.headroom)) && g.queue.len() > 1:
			isRefused = true
		case g.state == Down, g.leavers.early >= sure:
			w = g.queue.at(latest)
		}
		if isRefused {
			if refusal == nil {
				refusal = g.refusal(now)
			}
			g.queue.remove(w)
			g.keeper.refuses(w, refusal, now)
			continue
		}
		if g.keeper.moves(g, w, now) {
			continue
		}
		g.release(now, w)
	}
	g.setTimer(now)
}

// waitsInVain reports whether a waiter who may not go now is to be refused: no call will be
// released before its deadline, or too shortly before it. Who is refused at that very moment
// would be told too late: net/http replaces an error that comes after its own timeout.
func (g *gate) waitsInVain(now time.Time, w *Waiter) bool {
	return !w.hasUntil(g.inVain) || !w.hasUntil(now.Add(EarlyRefusal))
}

// release releases a waiter.
func (g *gate) release(now time.Time, w *Waiter) {
	passed := pass{queue: &g.queue, sequence: *g.clock}
	if g.state == Down {
		passed.probe = g.probes.send()
		g.scheduleProbe(now)
	} else {
		g.due = g.rate.next(g.due, now, g.brake.trial.part(now))
		g.brake.trial.sends(now)
	}
	g.queue.remove(w)
	w.pass(passed)
	g.out++
	if g.state == Recovering && g.isOver() {
		if ended := g.up(now); ended != nil {
			w.exit.changes = append(w.exit.changes, Change{Path: g.path, Ended: ended})
		}
	}
	g.keeper.passes(g, w, now)
}

// hurry has the next probe sent before the head of the queue gives up.
func (g *gate) hurry(now time.Time, head *Waiter) {
	if g.state != Down || head.deadline.IsZero() {
		return
	}
	notice := head.deadline.Add(-times(earlyProbe, g.config.InitialInterval))
	if early := later(now, later(g.early, notice)); early.Before(g.due) {
		g.due = early
	}
}

// setTimer has advance called when the next waiter may or must go. No timer runs when
// nobody waits.
func (g *gate) setTimer(now time.Time) {
	if g.state == Up || g.queue.len() == 0 {
		if g.timer != nil {
			g.timer.Stop()
			g.timer = nil
		}
		return
	}
	fires := g.due
	if head := g.queue.at(earliest); g.waitsInVain(now, head) {
		fires = now
	} else if !head.hasUntil(g.due.Add(EarlyRefusal)) {
		fires = head.deadline.Add(-EarlyRefusal)
	}
	if g.timer != nil {
		if fires.Equal(g.timerFires) {
			return
		}
		g.timer.Stop()
	}
	g.timerFires = fires
	g.timers++
	number := g.timers
	g.timer = time.AfterFunc(fires.Sub(now), func() { g.keeper.wakes(g, number) })
}
