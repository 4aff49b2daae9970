package outbox

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A Run looks this often for messages, pauses and holds of other processes. Where a look takes
// long the next one comes after four times as long, and after lookWithin at the latest.
const (
	lookEvery  = 250 * time.Millisecond
	lookWithin = 5 * time.Second
)

// runs are the Runs of an Outbox in this process.
type runs struct {
	mu  sync.Mutex
	all map[*signals]bool
}

// signals is what other goroutines signal to a Run, and when the Run was last seen alive.
type signals struct {
	wake       chan struct{} // has a value when the loop is to do another round
	unreported chan struct{} // has a value when there are outcomes to report

	mu     sync.Mutex      // guards the fields below
	alive  time.Time       // when the heartbeat was last written; monotonic
	turned time.Time       // when the loop has last completed a round; monotonic
	rung   map[string]bool // numbers that have something due, and whether it is urgent
	isDue  bool            // look at the tables at once
	check  bool            // compare the claims with the database
}

func newSignals() *signals {
	return &signals{wake: make(chan struct{}, 1), unreported: make(chan struct{}, 1), rung: make(map[string]bool)}
}

// add adds a Run, until remove is called.
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

// ring tells the Runs which numbers have something due.
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

// report has the Runs report outcomes.
func (r *runs) report() {
	for _, s := range r.list() {
		select {
		case s.unreported <- struct{}{}:
		default:
		}
	}
}

// set changes fields under the lock, and wakes the loop.
func (s *signals) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.stir()
}

// take returns the signals since the last call: numbers that have something due, whether to
// look at the tables, and whether to compare the claims with them.
func (s *signals) take() (rung map[string]bool, look, check bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rung, look, check = s.rung, s.isDue, s.check
	s.rung, s.isDue, s.check = make(map[string]bool), false, false
	return rung, look, check
}

// beaten records that the heartbeat was written.
func (s *signals) beaten() {
	s.set(func() { s.check, s.alive = true, time.Now() })
}

// turnedRound records that the loop has completed a round.
func (s *signals) turnedRound() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned = time.Now()
}

// stir wakes the loop.
func (s *signals) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// silent returns the time since the last heartbeat, and since the last round of the loop.
func (s *signals) silent() (heartbeat, loop time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.alive), time.Since(s.turned)
}
