package graphretry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// sendWithin has next send req, in no more than timeout up to its headers and, if
// it failed, to the end of its body.
func sendWithin(timeout time.Duration, next http.RoundTripper, req *http.Request) (*http.Response, error) {
	bound := &attemptContext{caller: req.Context(), timedOut: &attemptTimeoutError{timeout}}
	bound.context, bound.cancel = context.WithCancelCause(req.Context())
	bound.timer = time.AfterFunc(timeout, bound.timeOut)

	resp, err := send(next, req.WithContext(bound.context))
	switch {
	case err != nil:
		err = bound.explain(err)
		bound.release()
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// Its body is the connection, which outlives the attempt, and must stay
		// an io.ReadWriteCloser.
		bound.timer.Stop()
	case resp.Body == nil || resp.Body == http.NoBody:
		bound.release()
	case resp.StatusCode < http.StatusBadRequest && !bound.timer.Stop():
		// The headers came as the time ran out: the body can no longer be read. The
		// timer's own goroutine may not have come to it yet.
		bound.timeOut()
		resp.Body.Close()
		return nil, bound.explain(context.Cause(bound.context))
	default:
		resp.Body = &attemptBody{resp.Body, bound}
	}
	return resp, err
}

// send has next send req, cuts its upload off when its context ends, and makes
// sure that either a response or an error comes back.
func send(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	var resp *http.Response
	var err error
	if body, ok := req.Body.(*upload); ok {
		ctx := req.Context()
		stop := context.AfterFunc(ctx, body.cutOff)
		resp, err = next.RoundTrip(req)
		if !stop() && err != nil && !errors.Is(err, ctx.Err()) {
			// It may be about the upload that was cut off.
			err = context.Cause(ctx)
		}
	} else {
		resp, err = next.RoundTrip(req)
	}
	switch {
	case err != nil && resp != nil:
		// Against the contract; net/http ignores the response, too.
		if resp.Body != nil {
			resp.Body.Close()
		}
		resp = nil
	case err == nil && resp == nil:
		err = errors.New("graphretry: the next RoundTripper returned neither a response nor an error")
	}
	return resp, err
}

// attemptContext bounds one attempt.
type attemptContext struct {
	caller   context.Context
	context  context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	timedOut *attemptTimeoutError
}

// timeOut ends the attempt.
func (a *attemptContext) timeOut() { a.cancel(a.timedOut) }

// release frees what the attempt has.
func (a *attemptContext) release() {
	a.timer.Stop()
	a.cancel(nil)
}

// explain returns the attempt's timeout in place of the error it led to, or how
// the caller has ended the call, if both came in the same moment.
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

// attemptTimeoutError is the error of an attempt that took too long, and the
// cause of the end of its context. It is no [context.DeadlineExceeded], which
// would say that the caller's own deadline was over.
type attemptTimeoutError struct{ timeout time.Duration }

func (e *attemptTimeoutError) Error() string {
	return fmt.Sprintf("graphretry: attempt timed out after %v", e.timeout)
}

func (e *attemptTimeoutError) Timeout() bool   { return true }
func (e *attemptTimeoutError) Temporary() bool { return true }

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
