package graphretry

import "math"

// rule is how often a code is retried, and why.
type rule struct {
	retries int // 0 or less: not at all
	reason  Reason
}

// unlimited is the number of retries that only time limits.
const unlimited = math.MaxInt

// forbidden is the number of retries of a code that [WithoutRetryOn] names: somebody has
// decided that twice is worse than never.
const forbidden = -1

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

// rules are those that codes have by default or by an option.
type rules map[Code]rule

// of returns what applies to e, and for which of its codes: its subcode, where an
// option names that or it is a lasting block, and else its code.
func (r rules) of(e *Error, transientFlag bool) (Code, rule) {
	code, subcode := e.Code, e.subcode()
	if neverRetried(code) != "" || neverRetried(subcode) != "" {
		return code, rule{0, ReasonNever}
	}
	if rule, ok := r[subcode]; ok && rule.byOption() {
		return subcode, rule
	}
	if lasting(subcode) && r[code].retries != forbidden {
		code = subcode
	}
	if rule, ok := r[code]; ok {
		return code, rule
	}
	if transientFlag && e.Transient && !punished(e.Code) && !punished(subcode) {
		return code, rule{unlimited, ReasonTransientFlag}
	}
	return code, rule{0, ReasonNotRetried}
}

// byOption reports whether the rule is that of [WithRetryOn] or [WithoutRetryOn].
func (r rule) byOption() bool { return r.retries == forbidden || r.reason == ReasonRetryOn }

// lasting reports whether a code is that of a block which time alone does not
// lift. As a subcode it overrules a code that may pass.
func lasting(code Code) bool { return code.Class() == ClassPermission || punished(code) }

// punished reports whether trying again does harm: Meta counts it against the
// sender, or the person does not want the message.
func punished(code Code) bool {
	class := code.Class()
	return class == ClassPolicy || class == ClassRecipient
}
