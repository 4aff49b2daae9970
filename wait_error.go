package graphretry

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ErrOutage is in the chain of the [WaitError] of a call that was never sent:
// the API is down, and the call's deadline or its maximum elapsed time ends
// before the next probe, or ended in line.
var ErrOutage = errors.New("graphretry: the API is down and the call cannot wait until it is back")

// WaitError is the error of a call that ended while it waited: for its next
// attempt, or in the line of an outage. A call that runs out of time gets its
// last response instead, if it was ever sent; a WaitError then means that the
// caller itself ended the call.
type WaitError struct {
	// Err is why the wait ended: [context.Canceled] or
	// [context.DeadlineExceeded], with [context.Cause] where that says more, or
	// [ErrOutage].
	Err error
	// Graph is what Meta said last to this call, or, if it was never sent, what
	// began the outage. It is nil if the last attempt had no Graph error.
	Graph *Error
	// Attempts is how often the call was sent.
	Attempts int
}

// Error says why the wait ended, how often the call was sent, and what Meta said.
func (e *WaitError) Error() string {
	sent := "never sent"
	switch {
	case e.Attempts == 1:
		sent = "sent once"
	case e.Attempts > 1:
		sent = fmt.Sprintf("sent %d times", e.Attempts)
	}
	text := fmt.Sprintf("graphretry: the wait for an attempt ended, %s: %v", sent, e.Err)
	if e.Graph != nil {
		text += "; last answer: " + e.Graph.Error()
	}
	return text
}

// Unwrap gives Err and Graph, so that [errors.Is] and [errors.As] find them.
func (e *WaitError) Unwrap() []error {
	if e.Graph == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Graph}
}

// Timeout tells whether a deadline ended the wait, as in [net.Error].
func (e *WaitError) Timeout() bool {
	var timeout net.Error
	return errors.Is(e.Err, context.DeadlineExceeded) || errors.As(e.Err, &timeout) && timeout.Timeout()
}
