package outbox

import (
	"context"
	"errors"
	"time"
)

// ErrFull is in the chain of the error of [Outbox.Enqueue] while the outbox has as many
// messages queued or being sent as [WithMaxQueued] allows.
var ErrFull = errors.New("outbox: the outbox is full: want a higher WithMaxQueued, or fewer messages in the queue")

// countEvery is how old the count of the queue may be.
const countEvery = time.Second

// room is the count of the queue, as far as this process knows.
type room struct {
	turn    chan struct{} // has a value while a caller uses the fields below
	counted time.Time     // when the queue was last counted
	queued  int           // the messages then, and those that this process has enqueued since
}

func newRoom() room { return room{turn: make(chan struct{}, 1)} }

// take returns ErrFull if the queue has most messages already, and otherwise counts n more.
// count counts the messages in the database. Callers that come meanwhile wait for that.
func (r *room) take(ctx context.Context, n, most int, count func() (int, error)) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if time.Since(r.counted) >= countEvery {
		queued, err := count()
		if err != nil {
			return err
		}
		r.counted, r.queued = time.Now(), queued
	}
	if r.queued >= most {
		return ErrFull
	}
	r.queued += n
	return nil
}
