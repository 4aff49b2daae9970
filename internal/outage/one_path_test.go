package outage

import "time"

// onePath is a host whose calls have one path, and which so is what its gate is.
type onePath struct {
	*gate
	host *Host
}

func newOnePath(config Config) *onePath {
	h := New(config)
	return &onePath{h.gate, h}
}

const thePath = "/v25.0/106540352242922/messages"

func (g *onePath) Pass() (Permit, bool) { return g.host.Pass(thePath) }

// Join returns no waiter and a permit if the call can go at once, and reports false if it
// cannot wait.
func (g *onePath) Join(deadline time.Time) (*Waiter, Permit, bool) {
	w, err := g.host.Join(thePath, deadline, Held{})
	if err != nil {
		return nil, Permit{}, false
	}
	select {
	case <-w.released:
		if w.exit == nil {
			permit, _ := w.Permit()
			return nil, permit, true
		}
	default:
	}
	return w, Permit{}, true
}

func (g *onePath) Try() (Permit, time.Duration, bool) {
	w, err := g.host.Try(thePath)
	if err != nil {
		return Permit{}, err.(*Outage).UntilNext, false
	}
	return w.permit(), 0, true
}

func (g *onePath) Leave(w *Waiter) *Summary {
	_, changes := g.host.Leave(w)
	return endedOf(changes)
}

func (g *onePath) GiveBack(p Permit) { g.host.GiveBack(p) }

func (g *onePath) Answered(p Permit, result Result, cause error) (began bool, ended *Summary) {
	changes := g.host.Answered(thePath, p, result, cause)
	for _, change := range changes {
		began = began || change.Ended == nil
	}
	return began, endedOf(changes)
}

func (g *onePath) Status() Status { return g.host.Status().Status }

func endedOf(changes []Change) *Summary {
	for _, change := range changes {
		if change.Ended != nil {
			return change.Ended
		}
	}
	return nil
}

// probe returns which probe the call is or was, from 1, and 0 if it is none.
func (w *Waiter) probe() int {
	if w.exit == nil {
		return 0
	}
	return w.exit.passed[0].probe
}

// ended returns the outage that the release of the call has ended, or nil.
func (w *Waiter) ended() *Summary { return endedOf(w.Changes()) }

func (w *Waiter) isRefused() bool { return w.refused != nil }

// permitOf returns the permit of a call, and reports whether it has one.
func permitOf(w *Waiter) (Permit, bool) {
	permit, err := w.Permit()
	return permit, err == nil
}

// probeOf returns which probe a permit is, 0 for none.
func probeOf(p Permit) int {
	if p.waiter == nil {
		return 0
	}
	return p.waiter.probe()
}
