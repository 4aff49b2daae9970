package graphretry

import "time"

// Policy decides whether a failure is retried and after how long. It is the part
// of a [Transport] that decides, for code that retries elsewhere: a worker of a
// job queue, a handler of webhooks. It is immutable and safe for concurrent use.
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

// Decision says whether a failure is retried, and when.
type Decision struct {
	// Retry reports whether to try again.
	Retry bool
	// Wait is how long to wait before that: the schedule's interval with its
	// jitter, or what the answer's headers asked for if that is longer. It is 0
	// if Retry is false.
	Wait time.Duration
	// Reason says why.
	Reason Reason
}

// Reason says why a failure is, or is not, retried.
type Reason int

const (
	// ReasonNotRetried: the policy does not retry this code, or this error of the
	// next RoundTripper. [WithNetworkRetries] retries a request that was never sent;
	// nothing retries a bad certificate.
	ReasonNotRetried Reason = iota + 1
	// ReasonNever: the code, or a WhatsApp code in the subcode, is of
	// [ClassParameter] or [ClassExperiment], and no option retries it.
	ReasonNever
	// ReasonTransient: temporary downtime or overload, codes 2 and 131016.
	ReasonTransient
	// ReasonRetryOnce: code 131000, which has one retry in the life of a call.
	ReasonRetryOnce
	// ReasonThrottle: a throttling code, retried by [WithThrottleRetries].
	ReasonThrottle
	// ReasonTransientFlag: Meta marked the error is_transient, and
	// [WithTransientFlag] is on.
	ReasonTransientFlag
	// ReasonRetryOn: the code is retried by [WithRetryOn].
	ReasonRetryOn
	// ReasonNetwork: a network failure that [WithNetworkRetries] retries.
	ReasonNetwork
	// ReasonAmbiguous: the request may have been carried out, as after a
	// timeout, a broken connection or an answer that is no Graph error.
	ReasonAmbiguous
	// ReasonNoGraphError: the answer has a status from 400 to 499, so the request
	// was refused, and no Graph error in its body. [Policy.Decide] also returns it
	// for a nil Error.
	ReasonNoGraphError
	// ReasonRetriesExhausted: the failure would be retried, but no retries are left.
	ReasonRetriesExhausted
	// ReasonNoTime: the failure would be retried, but the wait does not fit into the
	// call's deadline or its maximum elapsed time.
	ReasonNoTime
	// ReasonBody: the failure would be retried, but the request's body cannot be
	// sent again. Set its GetBody, or raise [WithMaxBufferedBody].
	ReasonBody
	// ReasonCanceled: the caller canceled the call during an attempt, or its
	// deadline passed.
	ReasonCanceled
	// ReasonOutage: the API is down and the call cannot wait until it is back.
	ReasonOutage
)

var reasonTexts = [...]string{
	ReasonNotRetried:       "this failure is not retried",
	ReasonNever:            "this code is never retried",
	ReasonTransient:        "temporary failure",
	ReasonRetryOnce:        "retried once",
	ReasonThrottle:         "throttled",
	ReasonTransientFlag:    "marked is_transient",
	ReasonRetryOn:          "retried by option",
	ReasonNetwork:          "network failure",
	ReasonAmbiguous:        "may have been carried out",
	ReasonNoGraphError:     "no Graph error in the answer",
	ReasonRetriesExhausted: "no retries left",
	ReasonNoTime:           "no time left",
	ReasonBody:             "body cannot be sent again: set GetBody or raise WithMaxBufferedBody",
	ReasonCanceled:         "canceled by the caller",
	ReasonOutage:           "API is down",
}

// String returns the reason in a few words.
func (r Reason) String() string { return enumText("Reason", reasonTexts[:], r) }

// rule is how often a code is retried, and why.
type rule struct {
	retries int
	reason  Reason
}

// neverRetried returns why no option can have a code retried, "" if one can.
func neverRetried(code Code) string {
	switch code.Class() {
	case ClassParameter:
		return "the same request would get the same answer"
	case ClassExperiment:
		return "Meta enforces against repeated sends"
	}
	return ""
}

// rule returns what holds for e, and for which of its codes: its subcode, where an
// option names that or it is a lasting block, and else its code.
func (s *settings) rule(e *Error) (Code, rule) {
	code, subcode := e.Code, e.subcode()
	if neverRetried(code) != "" || neverRetried(subcode) != "" {
		return code, rule{0, ReasonNever}
	}
	if rule, ok := s.rules[subcode]; ok && rule.byOption() {
		return subcode, rule
	}
	if lasting(subcode) {
		code = subcode
	}
	if rule, ok := s.rules[code]; ok {
		return code, rule
	}
	if s.transientFlag && e.Transient && !punished(e.Code) && !punished(subcode) {
		return code, rule{unlimited, ReasonTransientFlag}
	}
	return code, rule{0, ReasonNotRetried}
}

// byOption reports whether the rule is that of [WithRetryOn] or [WithoutRetryOn].
func (r rule) byOption() bool { return r.retries == 0 || r.reason == ReasonRetryOn }

// lasting reports whether a code is that of a block which time alone does not
// lift. As a subcode it overrules a code that may pass.
func lasting(code Code) bool { return code.Class() == ClassPermission || punished(code) }

// punished reports whether trying again does harm: Meta counts it against the
// sender, or the person does not want the message.
func punished(code Code) bool {
	class := code.Class()
	return class == ClassPolicy || class == ClassRecipient
}

// Decide returns whether to retry work that failed with e, and after how long.
// retries is how many times this work was retried before, whatever the codes were: 0
// for its first failure. A Transport counts by code, so it can decide otherwise: it
// retries a 131000 after a 2 once, and Decide does not.
//
// The wait is the one that the schedule has after that many retries.
// [WithMaxElapsedTime] has no effect, since a Policy does not know how old the work
// is; the queue does. Negative retries count as 0. A nil Error is not retried, with
// [ReasonNoGraphError]. The zero Policy and a nil one retry nothing.
func (p *Policy) Decide(e *Error, retries int) Decision {
	switch {
	case e == nil:
		return Decision{Reason: ReasonNoGraphError}
	case p == nil:
		return Decision{Reason: ReasonNotRetried}
	}
	retries = max(0, retries)
	code, rule := p.rule(e)
	if rule.retries == 0 {
		return Decision{Reason: rule.reason}
	}
	if retries >= min(rule.retries, p.maxRetries) {
		return Decision{Reason: ReasonRetriesExhausted}
	}
	schedule := newSchedule(&p.settings)
	schedule.skip(retries)
	wait, ok := schedule.next(code, retries, e.RetryAfter)
	if !ok {
		return Decision{Reason: ReasonRetriesExhausted}
	}
	return Decision{Retry: true, Wait: wait, Reason: rule.reason}
}
