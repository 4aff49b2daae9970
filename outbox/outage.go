package outbox

import (
	"context"
	"sync"

	"github.com/graphretry/graphretry"
)

// outage is what the transport's gate has said last: whether the API is down.
// While it is, one worker of each Run goes on, so that the gate has a call to
// probe the API with, and the others take no more messages out of the queue.
type outage struct {
	mu   sync.Mutex
	over chan struct{} // closed when the outage is over; nil: there is none
}

// hear is the transport's observer.
func (o *outage) hear(_ context.Context, event graphretry.Event) {
	switch event.Kind {
	case graphretry.EventOutageBegan:
		o.begin()
	case graphretry.EventOutageEnded:
		o.end()
	}
}

func (o *outage) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over == nil {
		o.over = make(chan struct{})
	}
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over != nil {
		close(o.over)
		o.over = nil
	}
}

// lasts returns what is closed when the outage is over, nil if there is none.
func (o *outage) lasts() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over
}

// wait returns when there is no outage, or when ctx ends.
func (o *outage) wait(ctx context.Context) {
	over := o.lasts()
	if over == nil {
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
}
