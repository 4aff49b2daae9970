package outbox

import (
	"context"
	"time"
)

const (
	// callTimeout bounds the calls of an Outbox whose context has no deadline.
	callTimeout = 15 * time.Second
	// listTimeout is the same for a call whose work grows with what it finds.
	listTimeout = 5 * time.Minute
	// userTimeout bounds a function of the user's, and grace is how long it may take to heed
	// the end of its context.
	userTimeout = 15 * time.Second
	grace       = time.Second
)

// withTimeout bounds a context that has no deadline of its own.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// life is how a Run shows that it is alive, and when another takes it for dead: when its
// heartbeat, a counter in its row, has not moved for some time of the one who watches. Times
// of different machines are never compared.
type life struct {
	beat time.Duration // between two heartbeats
	dead time.Duration // without one
	// linger is how long Run, once it is to stop, goes on trying to write down how an
	// attempt has ended.
	linger time.Duration
	// marking is how long a mark may take. After that a Run may have been taken for dead,
	// and somebody may be about to decide that the message was not sent.
	marking time.Duration
}

var defaultLife = life{beat: 5 * time.Second, dead: 30 * time.Second, linger: 30 * time.Second, marking: 15 * time.Second}

// telling is when outcomes are told.
type telling struct {
	every       time.Duration // how often a Run looks for what others owe
	first, most time.Duration // how long to wait after an error, at first and at most
	timeout     time.Duration // of a call
	lease       time.Duration // for how long one Run has a message to itself
}

var defaultTelling = telling{every: time.Second, first: 5 * time.Second, most: time.Minute, timeout: userTimeout, lease: time.Minute}
