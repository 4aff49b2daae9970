package outbox

import (
	"errors"
	"sync"
	"time"
)

// ErrFull is in the chain of the error of [Outbox.Enqueue] while the outbox has as many
// messages queued or being sent as [WithMaxQueued] lets it have.
var ErrFull = errors.New("outbox: it is full: want a higher WithMaxQueued, or fewer messages in the queue")

// countEvery is how old the count of the queue may be.
const countEvery = time.Second

// room is how full the queue is, as far as this process knows.
type room struct {
	mu      sync.Mutex
	counted time.Time // when the queue was counted last ...
	queued  int       // ... and what it had, with what was enqueued since
}

// take reports whether n messages more may be enqueued, if most may be queued. count counts
// them in the database.
func (r *room) take(n, most int, count func() (int, error)) error {
	r.mu.Lock()
	known := time.Since(r.counted) < countEvery
	r.mu.Unlock()
	if !known {
		queued, err := count()
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.counted, r.queued = time.Now(), queued
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queued >= most {
		return ErrFull
	}
	r.queued += n
	return nil
}
