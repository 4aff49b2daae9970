package outbox

import (
	"context"
	"time"
)

const (
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 15 * time.Second
	// listTimeout is the same for a call whose work grows with the number of messages.
	listTimeout = 5 * time.Minute
	// userTimeout bounds a function of the user. grace is how long it may take to return after
	// its context has ended.
	userTimeout = 15 * time.Second
	grace       = time.Second
)

// withTimeout bounds a context that has no deadline.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// pause sleeps, and reports whether ctx has not ended.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// life is the timing of a Run's life. A Run is taken for dead when its heartbeat, a counter in
// its row, has not moved for some time by the clock of another Run. Times of different machines
// are never compared.
type life struct {
	beat time.Duration // between two heartbeats
	dead time.Duration // without a heartbeat
	// linger is how long a Run that is to stop goes on trying to write how an attempt has
	// ended.
	linger time.Duration
	// marking is how long a mark may take. After that the Run may have been taken for dead, and
	// a person may be about to decide that the message was not sent.
	marking time.Duration
}

var defaultLife = life{beat: 5 * time.Second, dead: 30 * time.Second, linger: 30 * time.Second, marking: 15 * time.Second}

// reporting is the timing of reports of outcomes.
type reporting struct {
	every       time.Duration // how often a Run looks for outcomes of other processes
	first, most time.Duration // the wait after an error, at first and at most
	timeout     time.Duration // for one call
	lease       time.Duration // how long one Run has a message to itself
}

var defaultReporting = reporting{every: time.Second, first: 5 * time.Second, most: time.Minute, timeout: userTimeout, lease: time.Minute}
