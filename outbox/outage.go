package outbox

import (
	"context"
	"sync/atomic"

	"github.com/graphretry/graphretry"
)

// outage is what the transport's gate has said last: whether the API is down.
// While it is, one message of each Run goes on, so that the gate has a call to
// probe the API with, and the others stay in the queue.
type outage struct {
	down  atomic.Bool
	ended func() // is called when an outage has ended
}

// hear is the transport's observer.
func (o *outage) hear(_ context.Context, event graphretry.Event) {
	switch event.Kind {
	case graphretry.EventOutageBegan:
		o.down.Store(true)
	case graphretry.EventOutageEnded:
		o.end()
	}
}

func (o *outage) end() {
	if o.down.Swap(false) {
		o.ended()
	}
}
