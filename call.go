package graphretry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/graphretry/graphretry/internal/netfail"
	"github.com/graphretry/graphretry/internal/outage"
	"github.com/graphretry/graphretry/internal/redact"
)

// call is one RoundTrip: its attempts and the waits between them. Its methods
// stand in the order in which they happen.
type call struct {
	next   http.RoundTripper
	policy *Policy
	host   *outage.Host  // nil: there is no gate
	req    *http.Request // the caller's, never written to

	permit   outage.Permit
	held     outage.Held    // the outages that have counted the call
	outage   *outage.Outage // that ended it; nil: none
	body     requestBody
	attempts int
	sent     *http.Request // the last one, as it left: a RoundTripper below may have set a token

	connection *netfail.Connection // of the last attempt; nil: nobody asks

	started  time.Time // the first failure, or when the call joined the queue
	schedule schedule
	history  History
	last     *failure // nil before the first failure, so that a success need not clear it
}

// do makes attempts until one succeeds, or until the policy, the time or the
// caller ends the call.
func (c *call) do() (*http.Response, error) {
	for {
		if err := c.enter(); err != nil {
			return c.endInQueue(err)
		}
		req, err := c.request()
		if err != nil {
			return c.endWithoutBody(err)
		}
		resp, err := c.send(req)
		if err == nil && resp.StatusCode < http.StatusBadRequest {
			return c.succeed(resp), nil
		}
		c.examine(resp, err)
		wait, retry := c.decide()
		if !retry {
			return c.last.resp, c.last.err
		}
		if err := c.sleep(wait); err != nil {
			return nil, c.waitError(err)
		}
	}
}

// enter passes the outage gates of the path and of the host, before each attempt. It
// returns [ErrOutage] if the call cannot wait for the API, and the reason if the caller
// ends the call meanwhile.
func (c *call) enter() error {
	if c.host == nil {
		return nil
	}
	permit, ok := c.host.Pass(c.req.URL.Path)
	if ok {
		c.permit = permit
		return nil
	}
	w, err := c.join()
	if err == nil {
		err = c.wait(w)
	}
	if err == nil {
		c.permit, err = w.Permit()
	}
	if refused, ok := err.(*outage.Outage); ok {
		c.outage = refused
		if w != nil && c.deadlineIn(outage.EarlyRefusal) {
			return context.DeadlineExceeded
		}
		return ErrOutage
	}
	return err
}

// join has the call wait for its turn, or asks for it once if the call does not wait.
func (c *call) join() (*outage.Waiter, error) {
	if c.policy.withoutWaiting {
		return c.host.Try(c.req.URL.Path)
	}
	c.start()
	return c.host.Join(c.req.URL.Path, c.deadline(), c.held)
}

// wait waits for the call's turn. It returns the reason if the caller ends the call
// meanwhile.
func (c *call) wait(w *outage.Waiter) error {
	select {
	case <-w.Released():
	case <-c.req.Context().Done():
	case <-canceled(c.req):
	}
	if err := c.ended(); err != nil {
		var changes []outage.Change
		c.outage, changes = c.host.Leave(w)
		c.observeChanges(changes)
		return err
	}
	c.held = w.Held()
	c.observeChanges(w.Changes())
	return nil
}

// request returns the request of the next attempt. The first is the caller's
// own, unless its body is wrapped. Each retry is a request of its own, so that a
// RoundTripper that still has the last one is not disturbed.
func (c *call) request() (*http.Request, error) {
	if c.attempts == 0 {
		return c.body.first(c.req), nil
	}
	return c.body.again(c.req)
}

// send sends one attempt. The caller's own request stands in the response, as
// it would without us.
func (c *call) send(req *http.Request) (*http.Response, error) {
	if c.attempts > 0 {
		c.discard()
	}
	c.attempts++
	if c.policy.watchesConnection {
		c.connection = new(netfail.Connection)
		req = req.WithContext(c.connection.Watch(req.Context()))
	}
	var resp *http.Response
	var err error
	if c.policy.attemptTimeout > 0 {
		resp, err = sendWithin(c.policy.attemptTimeout, c.next, req)
	} else {
		resp, err = send(c.next, req)
	}
	if resp != nil {
		c.sent = resp.Request
		if req != c.req || c.policy.attemptTimeout > 0 {
			resp.Request = c.req
		}
	}
	if err != nil {
		err = c.explain(err)
	}
	return resp, err
}

// explain returns the error of an attempt with what is known of whether it was sent.
func (c *call) explain(err error) error {
	ended := c.req.Context().Err() != nil
	// What the error says can be about another request: about the one that the cause of
	// the context comes from, which net/http returns; about a later try of its own, which
	// it makes of a request with an idempotency key after it was sent; or about the target
	// of a redirect, whose request was answered before.
	aboutAnother := c.req.Response != nil || c.connection.Got() && (ended || idempotencyKey(c.req.Header))
	if aboutAnother && (NeverSent(err) || errors.As(err, new(*WaitError))) {
		return netfail.Ambiguous(err)
	}
	return c.connection.Explain(err, ended)
}

// succeed ends a call that succeeded.
func (c *call) succeed(resp *http.Response) *http.Response {
	c.body.release()
	c.report(outage.ResultUp)
	if c.attempts > 1 {
		c.observe(Event{Kind: EventRecovered})
	}
	return resp
}

// examine reads how a failed attempt ended, and tells the gate.
func (c *call) examine(resp *http.Response, err error) {
	c.start()
	if c.attempts == 1 {
		c.body.keep()
	}
	c.last = newFailure(resp, err, c.body.withBody(c.sent, c.req), c.connection)
	c.report(c.last.result(c.ended(), c.policy.networkRetries))
}

// report tells the gates how an attempt ended.
func (c *call) report(result outage.Result) {
	if c.host == nil {
		return
	}
	var cause error
	switch result {
	case outage.ResultDown:
		cause = c.describe()
	case outage.ResultUnreachable:
		cause = errNoConnection
	}
	c.observeChanges(c.host.Answered(c.req.URL.Path, c.permit, result, cause))
}

// decide asks the policy, and whether there is time. It returns the wait before
// the next attempt, and whether there is to be one.
func (c *call) decide() (wait time.Duration, retry bool) {
	code, rule := c.last.rule(c.policy, c.req, c.ended())
	wait, reason, retry := c.policy.retry(code, rule, c.history, c.last.retryAfter, &c.schedule)
	event := Event{Kind: EventGaveUp}
	switch {
	case rule.retries <= 0:
		event.Kind, event.Reason = EventNotRetried, reason
	case !retry:
		event.Reason = reason
	case c.policy.withoutWaiting:
		event.Reason = ReasonWithoutWaiting
	case !c.body.repeatable():
		event.Reason = ReasonBody
	case !c.fits(wait):
		event.Reason, event.needed, event.left = ReasonNoTime, wait, time.Until(c.deadline())
	default:
		event.Kind, event.Reason, event.Wait = EventRetrying, reason, wait
		c.history = c.history.retried(code, c.last.isGraph)
		if c.last.body != nil {
			c.last.body.release()
		}
	}
	c.observe(event)
	return event.Wait, event.Kind == EventRetrying
}

// sleep waits. It returns the reason if the caller ends the call meanwhile.
func (c *call) sleep(wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.req.Context().Done():
	case <-canceled(c.req):
	}
	return c.ended()
}

// discard closes the last response, which nobody will read.
func (c *call) discard() {
	if c.last != nil && c.last.body != nil {
		c.last.body.Close()
	}
}

// endInQueue ends a call in the queue of an outage. One that ran out of time
// there returns its last response or error, if it has one.
func (c *call) endInQueue(reason error) (*http.Response, error) {
	if reason == context.Canceled {
		return nil, c.waitError(reason)
	}
	if c.attempts > 0 {
		c.observe(Event{Kind: EventGaveUp, Reason: ReasonOutage})
		return c.last.resp, c.last.err
	}
	err := c.waitError(reason)
	event := Event{Kind: EventGaveUp, Reason: ReasonOutage, Graph: err.Graph, Err: err}
	if c.policy.withoutWaiting {
		event.Reason = ReasonWithoutWaiting
	}
	c.observe(event)
	return nil, err
}

// endWithoutBody ends a call whose GetBody failed: its permit goes to the next in
// the queue, and it returns its last response or error.
func (c *call) endWithoutBody(err error) (*http.Response, error) {
	if c.host != nil {
		c.host.GiveBack(c.permit)
	}
	c.observe(Event{Kind: EventGaveUp, Reason: ReasonBody, Err: err})
	return c.last.resp, c.last.err
}

// waitError is the error of a call that ended in a wait. Nobody will read its
// last response.
func (c *call) waitError(reason error) *WaitError {
	c.discard()
	if c.attempts == 0 && c.req.Body != nil {
		c.req.Body.Close()
	}
	err := &WaitError{Err: reason, Graph: c.describe(), Attempts: c.attempts}
	if reason == context.DeadlineExceeded && c.attempts == 0 {
		err.Err = fmt.Errorf("%w: %w", ErrOutage, reason)
	}
	if c.outage != nil {
		err.Wait, err.Path = c.outage.UntilNext, c.shownPath(c.outage.Path)
		if c.attempts == 0 {
			err.Graph = graphError(c.outage.Cause)
		}
		if c.outage.Cause == errNoConnection {
			err.Err = fmt.Errorf("%w: %w", err.Err, errNoConnection)
		}
	}
	if cause := context.Cause(c.req.Context()); cause != nil && cause != reason {
		err.Err = fmt.Errorf("%w: %w", err.Err, cause)
	}
	return err
}

// start begins the call's elapsed time. A call that succeeds at once never reads
// the clock.
func (c *call) start() {
	if c.started.IsZero() {
		c.started = time.Now()
	}
}

// deadline is when the call's time is over: its context's deadline or the
// maximum elapsed time, whichever comes first. It is zero if there is no limit.
func (c *call) deadline() time.Time {
	end, _ := c.req.Context().Deadline()
	if c.policy.maxElapsedTime > 0 {
		if elapsed := c.started.Add(c.policy.maxElapsedTime); end.IsZero() || elapsed.Before(end) {
			end = elapsed
		}
	}
	return end
}

// fits reports whether the call can wait that long and still be sent.
func (c *call) fits(wait time.Duration) bool {
	next := time.Now().Add(wait)
	if deadline, ok := c.req.Context().Deadline(); ok && !next.Before(deadline) {
		return false
	}
	return c.policy.maxElapsedTime == 0 || next.Sub(c.started) <= c.policy.maxElapsedTime
}

// ended returns how the caller has ended the call, nil if it has not. net/http
// closes Cancel at the end of [http.Client.Timeout], which is a deadline.
func (c *call) ended() error {
	if err := c.req.Context().Err(); err != nil {
		return err
	}
	select {
	case <-canceled(c.req):
		if c.deadlineIn(0) {
			return context.DeadlineExceeded
		}
		return context.Canceled
	default:
		return nil
	}
}

// deadlineIn reports whether the context's deadline is over in that time. It is so in 0
// also in the moment before its timer has ended the context.
func (c *call) deadlineIn(d time.Duration) bool {
	deadline, ok := c.req.Context().Deadline()
	return ok && !time.Now().Add(d).Before(deadline)
}

// describe returns the Graph error of the last failed attempt with its texts,
// nil if it had none.
func (c *call) describe() *Error {
	if c.last == nil || !c.last.isGraph {
		return nil
	}
	return c.last.describe(c.req)
}

// observe tells the observers, with what all events have in common.
func (c *call) observe(event Event) {
	if len(c.policy.observers) == 0 {
		return
	}
	event.Request, event.Attempt, event.Time = c.req, c.attempts, time.Now()
	if event.Graph == nil {
		event.Graph = c.describe()
	}
	if event.Err == nil && c.last != nil && event.Kind != EventOutageEnded {
		event.Err = c.last.err
	}
	if c.last != nil && c.last.resp != nil {
		event.status = c.last.resp.StatusCode
	}
	for _, observe := range c.policy.observers {
		observe(c.req.Context(), event)
	}
}

// observeChanges tells the observers of the outages that have begun or ended.
func (c *call) observeChanges(changes []outage.Change) {
	for _, change := range changes {
		event := Event{Kind: EventOutageBegan, Graph: graphError(change.Cause)}
		if ended := change.Ended; ended != nil {
			event = Event{Kind: EventOutageEnded, Graph: graphError(ended.Cause), Held: ended.Held, Lasted: ended.Lasted}
		}
		event.Path = c.shownPath(change.Path)
		c.observe(event)
	}
}

// shownPath returns the path of an outage without the secrets of the request, "" for that
// of the host.
func (c *call) shownPath(path string) string {
	if path == "" {
		return ""
	}
	return redact.Of(c.req).Text(path)
}

// errNoConnection is the cause of an outage in which nobody gets a connection.
var errNoConnection = errors.New("no connection")

// graphError is the cause of an outage, as the gate was given it, nil if that is no
// Graph error.
func graphError(cause error) *Error {
	graph, _ := cause.(*Error)
	return graph
}
