package graphretry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// attemptTimeoutError is the error of an attempt that took too long, and the
// cause of the end of its context. It is no [context.DeadlineExceeded], which
// would say that the caller's own deadline was over.
type attemptTimeoutError struct{ timeout time.Duration }

func (e *attemptTimeoutError) Error() string {
	return fmt.Sprintf("graphretry: attempt timed out after %v", e.timeout)
}

func (e *attemptTimeoutError) Timeout() bool   { return true }
func (e *attemptTimeoutError) Temporary() bool { return true }

// attemptContext bounds one attempt.
type attemptContext struct {
	caller   context.Context
	context  context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	timedOut *attemptTimeoutError
}

// sendWithTimeout sends one attempt that may take no longer than timeout to its
// headers and, if it failed, to the end of its body.
func sendWithTimeout(next http.RoundTripper, req *http.Request, timeout time.Duration) (*http.Response, error) {
	attempt := &attemptContext{caller: req.Context(), timedOut: &attemptTimeoutError{timeout}}
	attempt.context, attempt.cancel = context.WithCancelCause(req.Context())
	attempt.timer = time.AfterFunc(timeout, attempt.timeOut)

	resp, err := roundTrip(next, req.WithContext(attempt.context))
	switch {
	case err != nil || resp == nil:
		err = attempt.explain(err)
		attempt.release()
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// Its body is the connection, which outlives the attempt, and must stay
		// an io.ReadWriteCloser.
		attempt.timer.Stop()
	case resp.Body == nil || resp.Body == http.NoBody:
		attempt.release()
	case resp.StatusCode < http.StatusBadRequest && !attempt.timer.Stop():
		// The headers came as the time ran out: the body can no longer be read. The
		// timer's own goroutine may not have come to it yet.
		attempt.timeOut()
		if resp.Body != nil {
			resp.Body.Close()
		}
		return nil, attempt.explain(context.Cause(attempt.context))
	default:
		resp.Body = &attemptBody{resp.Body, attempt}
	}
	return resp, err
}

// timeOut ends the attempt.
func (a *attemptContext) timeOut() { a.cancel(a.timedOut) }

// release frees what the attempt holds.
func (a *attemptContext) release() {
	a.timer.Stop()
	a.cancel(nil)
}

// explain gives the attempt's timeout in place of the error it led to, or how the
// caller has ended the call, if both came in the same moment.
func (a *attemptContext) explain(err error) error {
	switch {
	case err == nil || context.Cause(a.context) != error(a.timedOut):
		return err
	case a.caller.Err() != nil:
		return context.Cause(a.caller)
	default:
		return a.timedOut
	}
}

// attemptBody is the body of a response to an attempt that has a timeout. It
// releases the attempt when it ends or is closed.
type attemptBody struct {
	io.ReadCloser
	attempt *attemptContext
}

func (b *attemptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err != io.EOF {
			err = b.attempt.explain(err)
		}
		b.attempt.release()
	}
	return n, err
}

func (b *attemptBody) Close() error {
	// First the body: net/http takes a context that is done as a reason to
	// close the connection.
	err := b.ReadCloser.Close()
	b.attempt.release()
	return err
}
