package outbox

import (
	"errors"
	"sync"
	"time"
)

// ErrFull is in the chain of the error of [Outbox.Enqueue] while the outbox has as many
// messages queued or being sent as [WithMaxQueued] allows.
var ErrFull = errors.New("outbox: the outbox is full: want a higher WithMaxQueued, or fewer messages in the queue")

// countEvery is how old the count of the queue may be.
const countEvery = time.Second

// room is the count of the queue, as far as this process knows.
type room struct {
	mu      sync.Mutex
	counted time.Time // when the queue was last counted
	queued  int       // the messages then, and those that this process has enqueued since
}

// take returns ErrFull if the queue has most messages already, and otherwise counts n more.
// count counts the messages in the database.
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
