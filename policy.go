package graphretry

import "time"

// Policy decides whether a failure is retried and after how long. It is the part
// of a [Transport] that decides, for code that retries elsewhere: a worker of a
// job queue, a handler of webhooks. It is immutable and safe for concurrent use.
type Policy struct {
	settings
}

// NewPolicy returns a Policy with the options that a Transport takes. Those that
// are not about codes, waits or the number of retries have no part in it. Invalid
// options are reported together in one error.
func NewPolicy(opts ...Option) (*Policy, error) {
	s, err := defaultSettings().with(opts)
	if err != nil {
		return nil, err
	}
	return &Policy{s}, nil
}

// Decision is what becomes of a failure.
type Decision struct {
	// Retry reports whether to try again.
	Retry bool
	// Wait is how long to wait before that: the schedule's interval with its
	// jitter, or what the answer's headers asked for if that is longer. It is 0
	// if Retry is false.
	Wait time.Duration
	// Reason is why.
	Reason Reason
}

// Reason is why a failure is, or is not, retried.
type Reason int

const (
	// ReasonNotRetried: neither the code nor the failure of the network is one that
	// is retried. A request that was never sent is retried by [WithNetworkRetries]; a
	// bad certificate, for one, never is.
	ReasonNotRetried Reason = iota + 1
	// ReasonNever: the code, or a WhatsApp code in the subcode, is of
	// [ClassParameter] or [ClassExperiment], and no option can have it retried.
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
	// ReasonNoGraphError: the answer failed, with a status from 400 to 499, which
	// leaves no doubt about that, and has no Graph error in it. Also what Decide
	// says of a nil Error.
	ReasonNoGraphError
	// ReasonRetriesExhausted: it would be retried, but has had its retries.
	ReasonRetriesExhausted
	// ReasonNoTime: it would be retried, but the wait does not fit into the
	// call's deadline or its maximum elapsed time.
	ReasonNoTime
	// ReasonBody: it would be retried, but the request's body cannot be sent
	// again. Set its GetBody, or raise [WithMaxBufferedBody].
	ReasonBody
	// ReasonCanceled: the caller ended the call during an attempt, or its deadline
	// did.
	ReasonCanceled
	// ReasonOutage: the API is down and the call cannot wait for it.
	ReasonOutage
)

var reasonTexts = [...]string{
	ReasonNotRetried:       "not among what is retried",
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

// Decide returns what becomes of work that failed with e. retries is how often
// this work was retried already, for whatever code: 0 for its first failure. So
// a 2 and then a 131000 is refused here where a Transport, which counts by code,
// retries it once.
//
// The wait is that of the schedule after so many retries. The time that the work
// has taken is not known here, so [WithMaxElapsedTime] has no part in it; a queue
// knows how old its work is. Negative retries count as 0. A nil Error is not
// retried, for [ReasonNoGraphError], and nothing is by a Policy that [NewPolicy]
// did not make.
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
