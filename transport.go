package graphretry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/graphretry/graphretry/internal/outage"
)

// Transport is an [http.RoundTripper] that retries calls to Meta's Graph API. It
// hands each attempt to the next RoundTripper, reads the Graph error in a failed
// answer, and sends the call again if its [Policy] says so. It is safe for
// concurrent use, and should be shared: the outage gate joins what calls through
// one Transport learn.
//
// It holds to the contract of http.RoundTripper, for retried calls too: the
// request is not modified, its body is closed, and a response, whatever its
// status, comes with a nil error.
//
// [NewTransport] and [WrapClient] make one. The zero Transport refuses every call.
type Transport struct {
	next   http.RoundTripper
	policy *Policy
	hosts  []guardedHost
}

// guardedHost is a host whose calls are ours, and its outage gate, nil for none.
type guardedHost struct {
	host
	gate *outage.Gate
}

// NewTransport gives a Transport around next; nil means [http.DefaultTransport]
// as it is now, so that the new Transport can take its place. All that is wrong
// with the options is told in one error.
func NewTransport(next http.RoundTripper, opts ...Option) (*Transport, error) {
	policy, err := NewPolicy(opts...)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = http.DefaultTransport
	}
	t := &Transport{next: next, policy: policy}
	for _, host := range policy.hosts {
		guarded := guardedHost{host: host}
		if policy.outageThreshold > 0 {
			guarded.gate = outage.New(outage.Config{
				Threshold:       policy.outageThreshold,
				InitialInterval: policy.initialInterval,
				MaxInterval:     policy.maxInterval,
				Jitter:          policy.jitterOr(defaultJitter),
			})
		}
		t.hosts = append(t.hosts, guarded)
	}
	return t, nil
}

// WrapClient gives a copy of client whose Transport is wrapped in a new
// [Transport]. A nil client is the zero [http.Client]. The client itself, its
// cookie jar, its Timeout and its redirects stay as they are; a Timeout bounds
// the whole call with all its retries. All that is wrong with the options is told
// in one error.
func WrapClient(client *http.Client, opts ...Option) (*http.Client, error) {
	var wrapped http.Client
	if client != nil {
		wrapped = *client
	}
	transport, err := NewTransport(wrapped.Transport, opts...)
	if err != nil {
		return nil, err
	}
	wrapped.Transport = transport
	return &wrapped, nil
}

// CloseIdleConnections has the next RoundTripper close its idle connections, if
// it has any. [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if t == nil {
		return
	}
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// RoundTrip sends req, and sends it again as long as it fails in a way that the
// policy retries and there is time. It returns the last response as it came,
// with a nil error, or the error of the next RoundTripper as it came.
//
// It returns an error of its own in these cases only: a [*WaitError] if the call
// was ended during a wait or could not wait for an outage to end; an attempt took
// longer than [WithAttemptTimeout]; the context ended while an attempt was under
// way, where the error can be [context.Cause] in place of the next
// RoundTripper's; an option in the context is bad; the request has no URL; the
// Transport is a zero one; or the next RoundTripper gave neither a response nor
// an error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req == nil || req.URL == nil:
		return refuse(req, errors.New("graphretry: the request has no URL: make it with http.NewRequestWithContext"))
	case t == nil || t.next == nil:
		return refuse(req, errors.New("graphretry: this Transport was not made by NewTransport or WrapClient"))
	}
	host := t.hostOf(req)
	if host == nil {
		return t.next.RoundTrip(req)
	}
	policy := t.policy
	if set := optionsOf(req.Context()); set != nil {
		if set.bypass {
			return t.next.RoundTrip(req)
		}
		settings, err := policy.withCallOptions(set)
		if err != nil {
			return refuse(req, err)
		}
		policy = &Policy{settings}
	}
	if policy.maxRetries == 0 {
		return t.next.RoundTrip(req)
	}
	c := call{next: t.next, policy: policy, gate: host.gate, req: req}
	return c.do()
}

// hostOf finds the host that req goes to among ours.
func (t *Transport) hostOf(req *http.Request) *guardedHost {
	for i := range t.hosts {
		if t.hosts[i].matches(req.URL) {
			return &t.hosts[i]
		}
	}
	return nil
}

// refuse fails a call before anything is sent.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req != nil && req.Body != nil {
		req.Body.Close()
	}
	return nil, err
}

// call is one call's life: its attempts and the waits between them.
type call struct {
	next   http.RoundTripper
	policy *Policy
	gate   *outage.Gate
	req    *http.Request // the caller's, never written to

	attempts int
	sent     *http.Request // the last, as it left: a RoundTripper below may have set a token
	permit   outage.Permit
	hasBody  bool                          // whether the request has one, asked before anybody below could change it
	upload   *upload                       // the last attempt's body, if it is kept or may be cut off
	getBody  func() (io.ReadCloser, error) // makes the body of a retry
	started  time.Time                     // the first failure, or when it joined the line
	schedule schedule
	retried  map[Code]int // how often, by code
	retries  int          // how often, in all
	last     *outcome     // nil before the first failure, so that a success need not clear it
}

// outcome is how an attempt that failed has ended: with a response or an error.
type outcome struct {
	resp *http.Response
	err  error

	body       *peekedBody   // resp's
	graph      Error         // what Meta said, without its texts
	isGraph    bool          // Meta said something
	described  *Error        // graph with its texts, once somebody asked
	retryAfter time.Duration // what resp's headers asked for
}

// do makes attempts until one succeeds, or the policy, the time or the caller
// says no.
func (c *call) do() (*http.Response, error) {
	for {
		if err := c.enter(); err != nil {
			return c.endInLine(err)
		}
		req, err := c.request()
		if err != nil {
			return c.cannotRepeat(err)
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

// request makes the request of the next attempt. The first is the caller's own,
// unless its body is kept for a retry or an attempt timeout may cut it off. Each
// retry is a request of its own, so that a RoundTripper that still holds the last
// one is not disturbed.
func (c *call) request() (*http.Request, error) {
	body, getBody := c.req.Body, c.req.GetBody
	limit := int64(-1) // nothing is kept
	switch {
	case c.attempts == 0:
		c.hasBody = body != nil && body != http.NoBody
		keep := getBody == nil && c.policy.maxBufferedBody > 0 && c.req.ContentLength <= c.policy.maxBufferedBody
		if !c.hasBody || !keep && c.policy.attemptTimeout == 0 {
			return c.req, nil
		}
		if keep {
			limit = c.policy.maxBufferedBody
		}
	case c.hasBody:
		var err error
		if body, err = c.getBody(); err != nil {
			return nil, err
		}
		if body == nil {
			// Else the call would be sent without what it says, or net/http's
			// error would stand in place of the last response.
			return nil, errors.New("graphretry: the request's GetBody returned no body: it must make the whole body afresh")
		}
		// net/http may use it for what never left, such as a request on a
		// connection that was closed as it was taken.
		getBody = c.getBody
	}
	if c.hasBody && (limit >= 0 || c.policy.attemptTimeout > 0) {
		c.upload = newUpload(body, c.req.ContentLength, limit)
		body = c.upload
	}
	clone := *c.req
	clone.Body, clone.GetBody = body, getBody
	return &clone, nil
}

// send sends one attempt.
func (c *call) send(req *http.Request) (*http.Response, error) {
	c.discard()
	c.attempts++
	var resp *http.Response
	var err error
	if c.policy.attemptTimeout > 0 {
		resp, err = sendWithTimeout(c.next, req, c.policy.attemptTimeout)
	} else {
		resp, err = roundTrip(c.next, req)
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
	case resp != nil:
		c.sent = resp.Request
		if req != c.req || c.policy.attemptTimeout > 0 {
			resp.Request = c.req
		}
	}
	return resp, err
}

// roundTrip has next send req, and cuts its upload off when its context ends.
func roundTrip(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	body, ok := req.Body.(*upload)
	if !ok {
		return next.RoundTrip(req)
	}
	ctx := req.Context()
	stop := context.AfterFunc(ctx, body.cutOff)
	resp, err := next.RoundTrip(req)
	if !stop() && err != nil && !errors.Is(err, ctx.Err()) {
		// It may be about the upload that we have cut off.
		err = context.Cause(ctx)
	}
	return resp, err
}

// discard closes the last response, which nobody will read.
func (c *call) discard() {
	if c.last != nil && c.last.body != nil {
		c.last.body.Close()
	}
}

// succeed is the end of a call that succeeded.
func (c *call) succeed(resp *http.Response) *http.Response {
	if c.upload != nil {
		c.upload.stop()
	}
	c.report(outage.ResultUp)
	if c.retries > 0 {
		c.observe(Event{Kind: EventRecovered})
	}
	return resp
}

// examine takes in how a failed attempt ended, and tells the gate.
func (c *call) examine(resp *http.Response, err error) {
	c.start()
	c.last = &outcome{resp: resp, err: err}
	if c.attempts == 1 {
		if c.getBody = c.req.GetBody; c.getBody == nil && c.upload != nil {
			c.getBody = c.upload.replay()
		}
	}
	if resp != nil {
		c.last.body = peek(resp)
		c.last.body.sent = c.sent
		c.last.graph, c.last.isGraph = decodeResponse(resp, c.last.body)
		c.last.retryAfter = c.last.graph.RetryAfter
		if !c.last.isGraph {
			c.last.retryAfter = retryAfter(resp.Header)
		}
	}
	c.report(c.result())
}

// result is what the failed attempt says of the API.
func (c *call) result() outage.Result {
	switch {
	case c.last.isGraph && (c.last.graph.Code == CodeAPIService || c.last.graph.Code == CodeServiceUnavailable):
		return outage.ResultDown
	case c.last.isGraph && c.last.graph.Code.Class() == ClassThrottle:
		return outage.ResultThrottled
	case c.last.isGraph:
		return outage.ResultUp
	case c.ended() != nil:
		return outage.ResultAbandoned
	default:
		return outage.ResultNone
	}
}

// decide asks the policy, and whether there is time. It gives the wait before
// the next attempt if there is to be one.
func (c *call) decide() (wait time.Duration, retry bool) {
	code := c.last.graph.Code
	var rule rule
	if c.last.isGraph {
		rule = c.policy.rule(&c.last.graph)
	} else {
		rule = c.networkRule()
	}
	reason := ReasonRetriesExhausted
	switch {
	case rule.retries == 0:
		c.observe(Event{Kind: EventNotRetried, Reason: rule.reason})
		return 0, false
	case c.retried[code] >= rule.retries || c.retries >= c.policy.maxRetries:
	case c.getBody == nil && c.hasBody:
		reason = ReasonBody
	default:
		if c.schedule.backOff == nil {
			c.schedule = newSchedule(&c.policy.settings)
		}
		if wait, retry = c.schedule.next(code, c.retried[code], c.last.retryAfter); retry && !c.fits(wait) {
			reason, retry = ReasonNoTime, false
		}
	}
	if !retry {
		c.observe(Event{Kind: EventGaveUp, Reason: reason})
		return 0, false
	}
	if c.retried == nil {
		c.retried = make(map[Code]int)
	}
	if c.last.isGraph {
		c.retried[code]++
	}
	c.retries++
	if c.last.body != nil {
		c.last.body.release()
	}
	c.observe(Event{Kind: EventRetrying, Reason: rule.reason, Wait: wait})
	return wait, true
}

// start begins the call's elapsed time. A call that succeeds at once never reads
// the clock.
func (c *call) start() {
	if c.started.IsZero() {
		c.started = time.Now()
	}
}

// deadline is when the call's time is over, zero if it has no limit.
func (c *call) deadline() time.Time {
	end, _ := c.req.Context().Deadline()
	if c.policy.maxElapsedTime > 0 {
		if elapsed := c.started.Add(c.policy.maxElapsedTime); end.IsZero() || elapsed.Before(end) {
			end = elapsed
		}
	}
	return end
}

// fits tells whether the call can wait so long and then still be sent.
func (c *call) fits(wait time.Duration) bool {
	next := time.Now().Add(wait)
	if deadline, ok := c.req.Context().Deadline(); ok && !next.Before(deadline) {
		return false
	}
	return c.policy.maxElapsedTime == 0 || next.Sub(c.started) <= c.policy.maxElapsedTime
}

// sleep waits. It gives the reason if the caller ends the call meanwhile.
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

// enter is where each attempt passes the outage gate. If the call cannot wait
// until the API is back it gives [ErrOutage]; if the caller ends the call
// meanwhile, the reason.
func (c *call) enter() error {
	if c.gate == nil {
		return nil
	}
	permit, ok := c.gate.Pass()
	if ok {
		c.permit = permit
		return nil
	}
	c.start()
	w, permit, ok := c.gate.Join(c.deadline())
	if !ok {
		return ErrOutage
	}
	if w != nil {
		select {
		case <-w.Released():
			if permit, ok = w.Permit(); !ok {
				if c.pastDeadline() {
					return context.DeadlineExceeded
				}
				return ErrOutage
			}
		case <-c.req.Context().Done():
		case <-canceled(c.req):
		}
		if err := c.ended(); err != nil {
			c.observeEnd(c.gate.Leave(w))
			return err
		}
	}
	c.permit = permit
	c.observeEnd(permit.Ended)
	return nil
}

// report is where each attempt's end passes the outage gate.
func (c *call) report(result outage.Result) {
	if c.gate == nil {
		return
	}
	var cause error
	if result == outage.ResultDown {
		cause = c.describe()
	}
	began, ended := c.gate.Answered(c.permit, result, cause)
	if began {
		c.observe(Event{Kind: EventOutageBegan})
	}
	c.observeEnd(ended)
}

// endInLine is the end of a call that stood in line. One that ran out of time
// there gets its last outcome, if it has one.
func (c *call) endInLine(reason error) (*http.Response, error) {
	if reason == context.Canceled {
		return nil, c.waitError(reason)
	}
	if c.attempts > 0 {
		c.observe(Event{Kind: EventGaveUp, Reason: ReasonOutage})
		return c.last.resp, c.last.err
	}
	err := c.waitError(reason)
	c.observe(Event{Kind: EventGaveUp, Reason: ReasonOutage, Graph: err.Graph, Err: err})
	return nil, err
}

// waitError is the error of a call that ends in a wait, whose last response
// nobody will read.
func (c *call) waitError(reason error) *WaitError {
	c.discard()
	if c.attempts == 0 && c.req.Body != nil {
		c.req.Body.Close()
	}
	err := &WaitError{Err: reason, Graph: c.describe(), Attempts: c.attempts}
	if reason == context.DeadlineExceeded && c.attempts == 0 {
		err.Err = fmt.Errorf("%w: %w", ErrOutage, reason)
	}
	if c.attempts == 0 && c.gate != nil {
		err.Graph = graphError(c.gate.Cause())
	}
	if cause := context.Cause(c.req.Context()); cause != nil && cause != reason {
		err.Err = fmt.Errorf("%w: %w", err.Err, cause)
	}
	return err
}

// cannotRepeat is the end of a call whose GetBody failed: its turn goes to the
// next in line, and it has its last outcome.
func (c *call) cannotRepeat(err error) (*http.Response, error) {
	if c.gate != nil {
		c.gate.GiveBack(c.permit)
	}
	c.observe(Event{Kind: EventGaveUp, Reason: ReasonBody, Err: err})
	return c.last.resp, c.last.err
}

// ended tells how the caller has ended the call, nil if it has not. net/http
// closes Cancel at the end of [http.Client.Timeout], which is a deadline.
func (c *call) ended() error {
	if err := c.req.Context().Err(); err != nil {
		return err
	}
	select {
	case <-canceled(c.req):
		if c.pastDeadline() {
			return context.DeadlineExceeded
		}
		return context.Canceled
	default:
		return nil
	}
}

// pastDeadline tells whether the deadline is over, also in the moment before its
// timer has ended the context.
func (c *call) pastDeadline() bool {
	deadline, ok := c.req.Context().Deadline()
	return ok && !time.Now().Before(deadline)
}

// canceled is closed when the caller ends the call in the way that came before
// contexts.
func canceled(req *http.Request) <-chan struct{} {
	//lint:ignore SA1019 http.Client.Timeout still uses it for every RoundTripper but net/http's own.
	return req.Cancel
}

// describe is the Graph error of the last failed attempt with its texts, nil if
// it had none.
func (c *call) describe() *Error {
	if c.last == nil || !c.last.isGraph {
		return nil
	}
	if c.last.described == nil {
		c.last.described = redacted(c.sent, redacted(c.req, c.last.graph.described()))
	}
	return c.last.described
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
	for _, observe := range c.policy.observers {
		observe(c.req.Context(), event)
	}
}

// observeEnd tells the observers of the end of an outage, if there is one.
func (c *call) observeEnd(ended *outage.Summary) {
	if ended != nil {
		c.observe(Event{Kind: EventOutageEnded, Graph: graphError(ended.Cause), Held: ended.Held, Lasted: ended.Lasted})
	}
}

// graphError is the cause of an outage, as the gate was given it.
func graphError(cause error) *Error {
	graph, _ := cause.(*Error)
	return graph
}
