package outbox

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// SetLife has the Runs of an outbox show that they are alive so often, and take others for
// dead after so long; as long they go on once they are to
// stop, and half as long a mark may take.
func SetLife(o *Outbox, beat, dead time.Duration) { o.life = life{beat, dead, dead, dead / 2} }

// SetTelling has an outbox tell outcomes again so soon after an error, and others have a
// message to themselves no longer than that.
func SetTelling(o *Outbox, first, lease time.Duration) {
	o.telling = telling{every: 50 * time.Millisecond, first: first, most: 8 * first, timeout: lease / 4, lease: lease + 2*grace}
}

// ErrDead is what a process gets that has died.
var ErrDead = errors.New("the process is dead")

// DieAt has the process of an outbox die before its n-th write that is about messages: from
// then on it writes nothing. dead reports whether it has.
func DieAt(o *Outbox, n int) (dead func() bool) {
	var writes atomic.Int64
	o.store.Failpoint = func(name string) error {
		switch name {
		case "heartbeat", "retain", "lease", "begin", "end of a Run", "ripen":
		default:
			writes.Add(1)
		}
		if writes.Load() >= int64(n) {
			return ErrDead
		}
		return nil
	}
	return func() bool { return writes.Load() >= int64(n) }
}

// FailAt has a function decide about each write by its name.
func FailAt(o *Outbox, fail func(name string) error) { o.store.Failpoint = fail }

// ErrConflict is that of the store.
var ErrConflict = store.ErrConflict

// Abandon parks a message that is being sent, as when its Run is taken for dead.
func Abandon(o *Outbox, id string) error {
	current, err := o.store.Load(o.closing, id)
	if err == nil {
		_, err = o.apply(o.closing, "abandoned", current, message.Event{Kind: message.Abandoned, Token: current.Token})
	}
	return err
}

// Bury takes out all Runs, as if they were dead.
func Bury(o *Outbox) error {
	beats, err := o.store.Beat(o.closing, 0)
	for id := range beats {
		err = errors.Join(err, o.store.End(o.closing, id, -1))
	}
	return err
}

// Orphans returns how many claims have no Run.
func Orphans(o *Outbox) (int, error) {
	orphans, err := o.store.Orphans(o.closing)
	return len(orphans), err
}

// Skew returns what the database's clock is ahead of ours.
func Skew(o *Outbox) time.Duration { return time.Until(o.now()) }

// Look and Take are the statements of the loop, to be measured.
func Look(o *Outbox) error {
	_, err := o.store.Look(o.closing)
	return err
}

// Share returns what is left of the rate of a number.
func Share(o *Outbox, number string) (float64, error) {
	this, err := o.store.Number(o.closing, number)
	return this.Share, err
}

// TimeLook returns how long the look for due numbers takes.
func TimeLook(o *Outbox) (time.Duration, error) {
	began := time.Now()
	_, err := o.store.Look(o.closing)
	return time.Since(began), err
}

// TimeClaim returns how long it takes to claim messages of a number, which it gives back.
func TimeClaim(o *Outbox, number string, n int) (time.Duration, error) {
	const run = 1
	if err := o.store.Begin(o.closing, run); err != nil {
		return 0, err
	}
	began := time.Now()
	claims, err := o.store.Take(o.closing, run, map[string]int{number: n}, false, false)
	took := time.Since(began)
	for i := range claims {
		err = errors.Join(err, o.store.GiveBack(o.closing, &claims[i], "", claims[i].Due))
	}
	return took, errors.Join(err, o.store.End(o.closing, run, -1))
}

// SetClock has an outbox on SQLite believe that its database's clock is so far ahead.
func SetClock(o *Outbox, ahead time.Duration) {
	o.store.Clock = func() time.Time { return time.Now().Add(ahead) }
	o.clock.set(o.store.Clock(), time.Now())
}

// LoseAnswers has a function decide whether the answer to a write that was made is lost.
func LoseAnswers(o *Outbox, lost func(name string) error) { o.store.Lost = lost }

// GoRound returns once the loop of each Run of an outbox has seen what was done before, and
// has claimed what it would.
func GoRound(o *Outbox) {
	for _, s := range o.runs.list() {
		// The first time round may have begun before.
		for range 2 {
			began := time.Now()
			s.stir()
			for turned := began; !turned.After(began); time.Sleep(100 * time.Microsecond) {
				s.mu.Lock()
				turned = s.turned
				s.mu.Unlock()
			}
		}
	}
}
