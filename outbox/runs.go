package outbox

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A Run looks for what others have enqueued, paused or held so often, but spends no more than
// a fifth of its time on that, up to a wait of lookAtLeast.
const (
	lookEvery   = 250 * time.Millisecond
	lookAtLeast = 5 * time.Second
)

// runs are the Runs of an Outbox in this process, as others reach them.
type runs struct {
	mu  sync.Mutex
	all map[*signals]bool
}

// signals is what others tell a Run, and what it shows of itself.
type signals struct {
	wake chan struct{} // has one when the loop is to go round once more
	owed chan struct{} // has one when there are outcomes to tell

	mu     sync.Mutex      // guards all below
	alive  time.Time       // when the heartbeat was written last; monotonic
	turned time.Time       // when the loop has gone round last; monotonic
	rung   map[string]bool // numbers that have something due, with whether it is urgent
	isDue  bool            // look at once
	check  bool            // compare the claims with the database
}

func newSignals() *signals {
	return &signals{wake: make(chan struct{}, 1), owed: make(chan struct{}, 1), rung: make(map[string]bool)}
}

// add has a Run that begins be reached, until remove is called.
func (r *runs) add(s *signals) (remove func()) {
	s.alive, s.turned = time.Now(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[*signals]bool)
	}
	r.all[s] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.all, s)
	}
}

// list returns the signals of all Runs.
func (r *runs) list() []*signals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}

// ring lets the Runs know of numbers that have something due.
func (r *runs) ring(numbers map[string]bool) {
	for _, s := range r.list() {
		s.set(func() {
			for number, urgent := range numbers {
				s.rung[number] = s.rung[number] || urgent
			}
		})
	}
}

// look has the Runs look at the tables.
func (r *runs) look() {
	for _, s := range r.list() {
		s.set(func() { s.isDue = true })
	}
}

// tell has the Runs tell of outcomes.
func (r *runs) tell() {
	for _, s := range r.list() {
		select {
		case s.owed <- struct{}{}:
		default:
		}
	}
}

// set changes something under the lock, and has the loop see it.
func (s *signals) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.stir()
}

// take returns what the loop was told since it was asked last: numbers that have something
// due, to look at the tables, and to compare the claims with them.
func (s *signals) take() (rung map[string]bool, look, check bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rung, look, check = s.rung, s.isDue, s.check
	s.rung, s.isDue, s.check = make(map[string]bool), false, false
	return rung, look, check
}

// beaten takes in that the heartbeat was written.
func (s *signals) beaten() {
	s.set(func() { s.check, s.alive = true, time.Now() })
}

// turnedRound takes in that the loop has gone round.
func (s *signals) turnedRound() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned = time.Now()
}

// stir has the loop go round once more.
func (s *signals) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// silent returns for how long the heartbeat was not written, and the loop has not gone round.
func (s *signals) silent() (heartbeat, loop time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.alive), time.Since(s.turned)
}
