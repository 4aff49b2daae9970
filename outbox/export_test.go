package outbox

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// SetLife sets the time between two heartbeats of an outbox, and the time after which a Run is
// taken for dead. A Run that is to stop goes on for the second time at most, and a mark may
// take half of it.
func SetLife(o *Outbox, beat, dead time.Duration) { o.life = life{beat, dead, dead, dead / 2} }

// SetReporting sets after which time an outbox reports an outcome again after an error, and how
// long a Run has a message to itself.
func SetReporting(o *Outbox, first, lease time.Duration) {
	o.reporting = reporting{every: 50 * time.Millisecond, first: first, most: 8 * first, timeout: lease / 4, lease: lease + 2*grace}
}

// ErrDead is the error of a process that is dead.
var ErrDead = errors.New("the process is dead")

// DieAt kills the process of an outbox before its n-th write about messages: from then on it
// writes nothing. dead reports whether that has happened.
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

// ErrConflict is the store's.
var ErrConflict = store.ErrConflict

// Abandon makes a message unknown that is being sent, as when its Run is taken for dead.
func Abandon(o *Outbox, id string) error {
	current, err := o.store.Load(o.closing, id)
	if err == nil {
		_, err = o.apply(o.closing, "abandoned", current, message.Event{Kind: message.Abandoned, Token: current.Token})
	}
	return err
}

// Bury removes all Runs, as if they were dead.
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

// Skew returns how far the database's clock is ahead of this machine's.
func Skew(o *Outbox) time.Duration { return time.Until(o.now()) }

// Look and Take run the statements of the loop, to be measured.
func Look(o *Outbox) error {
	_, err := o.store.Look(o.closing)
	return err
}

// Share returns the share of the rate of a number.
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

// TimeClaim returns how long it takes to claim messages of a number. It gives them back.
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

// SetClock sets how far the database's clock of an outbox on SQLite is ahead.
func SetClock(o *Outbox, ahead time.Duration) {
	o.store.Clock = func() time.Time { return time.Now().Add(ahead) }
	o.clock.set(o.store.Clock(), time.Now())
}

// LoseAnswers has a function decide whether the answer to a write is lost.
func LoseAnswers(o *Outbox, lost func(name string) error) { o.store.Lost = lost }

// GoRound returns when the loop of each Run of an outbox has seen what was done before, and has
// claimed what it could.
func GoRound(o *Outbox) {
	for _, s := range o.runs.list() {
		// The first round may have begun before.
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

// TakeRoom returns the function that counts the queue for WithMaxQueued.
func TakeRoom() func(ctx context.Context, n, most int, count func() (int, error)) error {
	r := newRoom()
	return r.take
}
