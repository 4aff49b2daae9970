package graphretry

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/graphretry/graphretry/internal/netfail"
	"github.com/graphretry/graphretry/internal/redact"
)

// Policy decides what becomes of a failure: whether it is retried, and after how long.
// It is the part of a [Transport] that decides, for code that retries elsewhere: a worker
// of a job queue, a handler of webhooks. For a Graph error the two decide alike. A Policy
// is immutable and safe for concurrent use.
type Policy struct {
	settings
}

// NewPolicy returns a Policy with the options that a Transport takes. Options that
// are not about codes, waits or the number of retries have no effect. Invalid
// options are reported together in one error.
func NewPolicy(opts ...Option) (*Policy, error) {
	s, err := defaultSettings().with(opts)
	if err != nil {
		return nil, err
	}
	return &Policy{s}, nil
}

// History is what became of a piece of work so far. A queue stores it with the job, as
// JSON; the zero History is that of a new job. Negative counts are 0.
type History struct {
	// Retries counts the retries by code, as a [Transport] does.
	Retries map[Code]int `json:"retries,omitempty"`
	// Network counts the retries of failures without a Graph error.
	Network int `json:"network,omitempty"`
	// Held counts the waits that were no retry.
	Held int `json:"held,omitempty"`
}

// retries returns how many retries there were in all.
func (h History) retries() int {
	sum := max(0, h.Network)
	for _, n := range h.Retries {
		// A job's record can have any number, and a sum that wraps around is small.
		sum = min(sum, math.MaxInt-max(0, n)) + max(0, n)
	}
	return sum
}

// retried returns h with one more retry. The map of h stays as it is.
func (h History) retried(code Code, isGraph bool) History {
	if !isGraph {
		h.Network = oneMore(h.Network)
		return h
	}
	h.Retries = maps.Clone(h.Retries)
	if h.Retries == nil {
		h.Retries = make(map[Code]int)
	}
	h.Retries[code] = oneMore(h.Retries[code])
	return h
}

// oneMore returns a count plus 1.
func oneMore(n int) int { return min(max(0, n), math.MaxInt-1) + 1 }

// Outcome is what a worker does with its job.
type Outcome int

const (
	// OutcomeSent: the job was carried out. It is done.
	OutcomeSent Outcome = iota + 1
	// OutcomeRetry: it was not carried out, for a reason that passes. Try it again after
	// Wait. That counts as a retry.
	OutcomeRetry
	// OutcomeHeld: it was not carried out, and nothing is wrong with the job: the sender
	// cannot send now, or nothing could be sent. Try it again after Wait. That does not
	// count as a retry, so the queue must end the job by its age.
	OutcomeHeld
	// OutcomeFailed: it was not carried out, and would fail again.
	OutcomeFailed
	// OutcomeUnknown: it may have been carried out. Park the job: do not try it again
	// until a webhook or a person says what became of it.
	OutcomeUnknown
)

var outcomeTexts = [...]string{
	OutcomeSent:    "sent",
	OutcomeRetry:   "retry",
	OutcomeHeld:    "held",
	OutcomeFailed:  "failed",
	OutcomeUnknown: "unknown",
}

// String returns the outcome in a word.
func (o Outcome) String() string { return enumText("Outcome", outcomeTexts[:], o) }

// MarshalText returns the word of [Outcome.String], and none for 0. It fails for a number
// that is no Outcome.
func (o Outcome) MarshalText() ([]byte, error) { return marshalEnum("Outcome", outcomeTexts[:], o) }

// UnmarshalText reads what [Outcome.MarshalText] has written. It fails for any other text.
func (o *Outcome) UnmarshalText(text []byte) error {
	return unmarshalEnum("Outcome", outcomeTexts[:], o, text)
}

// Decision says what becomes of a piece of work. It can be written as JSON and read back:
// Wait is in nanoseconds, Outcome and Reason are texts.
type Decision struct {
	// Outcome is what to do with the work.
	Outcome Outcome
	// Retry reports whether Outcome is [OutcomeRetry].
	Retry bool
	// Wait is how long to wait before the next attempt, for [OutcomeRetry] and
	// [OutcomeHeld]; it is above 0 then, and otherwise 0. It is the schedule's interval
	// with its jitter, or what the answer's headers asked for if that is longer. An
	// OutcomeRetry has the interval after all retries so far, an OutcomeHeld the one
	// after all waits that were no retry. In an outage it is the time to the next probe
	// and a random part of that interval.
	Wait time.Duration
	// Reason says why. It is 0 for [OutcomeSent].
	Reason Reason
	// Graph is what Meta said, nil if it said nothing. In its texts the secrets are
	// blanked, as in an [Event].
	Graph *Error
	// Cause says why in one line, for the queue's own record. It has no secret in it. It is
	// empty for [OutcomeSent].
	Cause string
	// History is to be stored with the work, for the next decision. The one that was
	// given is not changed.
	History History
}

// Decide returns what becomes of work that failed with e, which was in an answer or in a
// webhook. h is what became of the work so far.
//
//   - What the policy retries is an [OutcomeRetry], as long as retries are left:
//     [WithMaxRetries] bounds the sum of all in h. Without any left it is an
//     [OutcomeFailed] with [ReasonRetriesExhausted].
//   - What [WithoutRetryOn] names is an OutcomeFailed.
//   - What is about the sender ([Error.AboutSender]), and what is of [ClassThrottle] or
//     [ClassTransient], is an [OutcomeHeld]: it passes, or somebody mends it. A block
//     that lasts (368, 131048, 131064, 133007, 133016, 136024) waits for the maximum
//     interval from the first time on.
//   - The rest is an OutcomeFailed, and so is a nil Error, with [ReasonNoGraphError].
//
// [WithMaxElapsedTime] has no effect, since a Policy does not know how old the work is;
// the queue does. The zero Policy and a nil one fail everything.
func (p *Policy) Decide(e *Error, h History) Decision {
	switch {
	case e == nil:
		return failed(ReasonNoGraphError, "", h)
	case p.isZero():
		return failed(ReasonNotRetried, zeroPolicy, h)
	}
	said := *e
	return p.decide(said.redacted(redact.Of()), h)
}

// decide is [Policy.Decide] for an error whose texts are blanked.
func (p *Policy) decide(e *Error, h History) Decision {
	d := Decision{Graph: e, History: h}
	code, rule := p.rules.of(e, p.transientFlag)
	var waits schedule
	d.Wait, d.Reason, d.Retry = p.retry(code, rule, h, e.RetryAfter, &waits)
	switch {
	case d.Retry:
		d.Outcome, d.Wait, d.History = OutcomeRetry, max(1, d.Wait), h.retried(code, true)
	case rule.retries == 0 && passes(e):
		var least time.Duration
		if lasts(e) {
			least = p.maxInterval
		}
		d.hold(p.interval(code, h, least), e.RetryAfter)
	default:
		d.Outcome = OutcomeFailed
	}
	d.Cause = e.text(e.title())
	if d.Outcome != OutcomeHeld {
		d.Cause = d.Reason.String() + ": " + d.Cause
	}
	return d
}

// retry returns whether a failure is retried, after how long, and why it is or is not.
// It is the one place that decides: for a call, and for [Policy.Decide] and
// [Policy.Next]. code is the one that decides, of a failure without a Graph error 0, and
// rule what applies to it. waits are those of the work, made at its first retry.
func (s *settings) retry(code Code, rule rule, h History, retryAfter time.Duration, waits *schedule) (time.Duration, Reason, bool) {
	had, all := max(0, h.Retries[code]), h.retries()
	switch {
	case rule.retries <= 0:
		return 0, rule.reason, false
	case had >= rule.retries || all >= s.maxRetries:
		return 0, ReasonRetriesExhausted, false
	}
	if waits.backOff == nil {
		*waits = newSchedule(s)
		waits.skip(all)
	}
	wait, ok := waits.next(code, had, retryAfter)
	if !ok {
		return 0, ReasonRetriesExhausted, false
	}
	return wait, rule.reason, true
}

// passes reports whether an error that is not retried is held: it says nothing of the
// work itself, and is over some time.
func passes(e *Error) bool {
	class := e.Class()
	return e.AboutSender() || class == ClassThrottle || class == ClassTransient
}

// lasts reports whether what an error is about is not over soon, so that asking every few
// seconds would only count against the sender.
func lasts(e *Error) bool {
	return slices.Contains(lastingBlocks, e.specificCode()) || slices.Contains(lastingBlocks, e.Code)
}

// lastingBlocks are the blocks of a sender that Meta lifts after hours or days.
var lastingBlocks = []Code{368, 131048, 131064, 133007, 133016, 136024}

// interval returns the schedule's interval, with its jitter, of work that is held once
// more, and at least that long.
func (s *settings) interval(code Code, h History, least time.Duration) time.Duration {
	waits := newSchedule(s)
	waits.skip(max(0, h.Held))
	interval, ok := waits.interval(code, max(0, h.Held))
	if !ok {
		interval = s.maxInterval
	}
	return jittered(max(interval, least), waits.jitter)
}

// hold makes d an [OutcomeHeld], for the longer of two waits.
func (d *Decision) hold(wait, retryAfter time.Duration) {
	d.Outcome = OutcomeHeld
	d.Wait = max(1, wait, retryAfter)
	d.History.Held = oneMore(d.History.Held)
}

// failed returns the decision on work that would fail again.
func failed(reason Reason, cause string, h History) Decision {
	if cause == "" {
		cause = reason.String()
	}
	return Decision{Outcome: OutcomeFailed, Reason: reason, Cause: cause, History: h}
}

// isZero reports whether p was not made by [NewPolicy].
func (p *Policy) isZero() bool { return p == nil || p.maxInterval == 0 }

const zeroPolicy = "zero Policy: want one made by NewPolicy"

// Next returns what becomes of a job after an attempt, from what [http.Client.Do]
// returned. h is what became of the job so far. The client must make one attempt, since
// Next counts what passes through it: give its Transport [WithoutWaiting]. resp stays
// readable; the caller closes its body, as ever.
//
//   - 2xx is an [OutcomeSent]. Its body is not read. But after a 301, 302 or 303 it is the
//     answer of another place, and an [OutcomeFailed].
//   - A Graph error becomes what [Policy.Decide] says.
//   - Without a Graph error, 401, 403, 407, 408 and 429 are an [OutcomeHeld], and so is a
//     4xx whose body broke off. Another 4xx, a 3xx, and a response that comes with an
//     error (of CheckRedirect) are an OutcomeFailed. Any other status is an
//     [OutcomeUnknown].
//   - A [*WaitError] of a call that was never sent is an OutcomeHeld. It waits until the
//     next probe may be sent and for a random part of the schedule's interval beyond it
//     (none with WithJitter(0)), so that not all jobs come back in that moment. One of a
//     call that had a Graph error becomes what Decide says of that. Any other is an
//     OutcomeUnknown.
//   - An error that proves that nothing was sent ([NeverSent]) is an OutcomeHeld.
//   - Any other error, a timeout and a cancellation included, and neither a response nor
//     an error, is an OutcomeUnknown.
//
// Next takes the job for a POST, which may not be sent twice, with [WithNetworkRetries]
// too. It must see the response before its body is read. Bound the attempt by a context or
// by [WithAttemptTimeout]: [http.Client.Timeout] replaces the error, and with it what is
// known of whether anything was sent. The zero Policy and a nil one fail everything but a
// 2xx.
func (p *Policy) Next(resp *http.Response, err error, h History) Decision {
	switch {
	case resp != nil && err == nil && redirected(resp):
		return failed(ReasonNoGraphError, "redirected to where nothing is sent: want a client whose CheckRedirect returns http.ErrUseLastResponse", h)
	case resp != nil && err == nil && resp.StatusCode/100 == 2:
		return Decision{Outcome: OutcomeSent, History: h}
	case p.isZero():
		return failed(ReasonNotRetried, zeroPolicy, h)
	case resp != nil && err != nil:
		return failed(ReasonNoGraphError, oneLine(redact.Of(resp.Request).Err(err)), h)
	case resp != nil:
		return p.nextAfterAnswer(resp, h)
	case err != nil:
		return p.nextAfterError(err, h)
	default:
		return unknown("neither a response nor an error", h)
	}
}

// redirected reports whether a response is that of another request than the job's: after a
// 301, 302 or 303 http.Client gets the target, without a body.
func redirected(resp *http.Response) bool {
	for req := resp.Request; req != nil && req.Response != nil; req = req.Response.Request {
		switch req.Response.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
			if sent := req.Response.Request; sent == nil || !idempotent(sent.Method) {
				return true
			}
		}
	}
	return false
}

// nextAfterAnswer is [Policy.Next] for an answer that is no success.
func (p *Policy) nextAfterAnswer(resp *http.Response, h History) Decision {
	if e, ok := ErrorFromResponse(resp); ok {
		return p.decide(e, h)
	}
	cause := fmt.Sprintf("HTTP status %d and no Graph error", resp.StatusCode)
	body, _ := resp.Body.(*peekedBody)
	switch status := resp.StatusCode; {
	case 400 <= status && status < 500 && body != nil && body.err != nil && body.err != io.EOF:
		// It was refused, and nobody knows why.
		d := Decision{Reason: ReasonNoGraphError, Cause: cause + " in the part of its body that came", History: h}
		d.hold(p.interval(0, h, 0), retryAfter(resp.Header))
		return d
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired,
		status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		d := Decision{Reason: ReasonNoGraphError, Cause: cause, History: h}
		d.hold(p.interval(0, h, 0), retryAfter(resp.Header))
		return d
	case 300 <= status && status < 500:
		return failed(ReasonNoGraphError, cause, h)
	default:
		return unknown(cause, h)
	}
}

// nextAfterError is [Policy.Next] for an attempt that had no answer.
func (p *Policy) nextAfterError(err error, h History) Decision {
	cause := oneLine(redact.Of().Err(err))
	wait, neverSent := waitErrorOf(err), NeverSent(err)
	switch {
	case netfail.IsAmbiguous(err):
		return unknown(cause, h)
	case neverSent && (wait != nil || errors.Is(err, ErrOutage)):
		d := Decision{Reason: ReasonOutage, Cause: cause, History: h}
		interval := p.interval(0, h, 0)
		if wait != nil {
			interval = p.afterProbe(wait.Wait, interval)
			if wait.Graph != nil {
				said := *wait.Graph
				d.Graph = said.redacted(redact.Of())
			}
		}
		d.hold(interval, 0)
		return d
	case neverSent:
		d := Decision{Reason: ReasonNetwork, Cause: ReasonNetwork.String() + ": " + cause, History: h}
		d.hold(p.interval(0, h, 0), 0)
		return d
	case wait != nil && wait.Graph != nil:
		return p.Decide(wait.Graph, h)
	default:
		return unknown(cause, h)
	}
}

// waitErrorOf returns the WaitError that err is or wraps, and nil for several errors that
// are joined: what one of them says is not all.
func waitErrorOf(err error) *WaitError {
	for ; err != nil; err = errors.Unwrap(err) {
		if wait, ok := err.(*WaitError); ok {
			return wait
		}
	}
	return nil
}

// afterProbe returns how long work waits that an outage has refused. Much else was refused
// with it, and must not all come back as the host does: it is spread over the longer of
// the schedule's interval and the time to the probe.
func (s *settings) afterProbe(untilProbe, interval time.Duration) time.Duration {
	if untilProbe <= 0 {
		return interval
	}
	if s.jitterOr(defaultJitter) == 0 {
		return untilProbe
	}
	spread := times(rand.Float64(), max(interval, untilProbe))
	return min(untilProbe, math.MaxInt64-spread) + spread
}

// unknown returns the decision on work that may have been carried out.
func unknown(cause string, h History) Decision {
	return Decision{Outcome: OutcomeUnknown, Reason: ReasonAmbiguous, Cause: ReasonAmbiguous.String() + ": " + cause, History: h}
}
