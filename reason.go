package graphretry

// Reason says why a failure is, or is not, retried.
type Reason int

const (
	// ReasonNotRetried: the policy does not retry this code, or this error of the
	// next RoundTripper, after which the request was certainly not carried out: it was
	// never sent, or the server said that it did not process it. [WithNetworkRetries]
	// retries those that may pass; nothing retries a bad certificate.
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
	// ReasonNetwork: a network failure that [WithNetworkRetries] retries. In a
	// [Decision] it is one that has sent nothing: see [NeverSent].
	ReasonNetwork
	// ReasonAmbiguous: the request may have been carried out, as after a
	// timeout, a broken connection or an answer that is no Graph error. It is the reason
	// for every error that does not prove the opposite, even if the next RoundTripper
	// has sent nothing, such as [golang.org/x/oauth2.Transport] without a token.
	ReasonAmbiguous
	// ReasonNoGraphError: the answer has a status from 300 to 499, so the request
	// was refused, and no Graph error in its body. So is the 504 of a cache that was
	// asked only for what it has (Cache-Control: only-if-cached). [Policy.Decide] also
	// returns it for a nil Error.
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
	// ReasonWithoutWaiting: the failure would be retried, or the API is down, and
	// [WithoutWaiting] leaves the next attempt to the caller.
	ReasonWithoutWaiting
)

var reasonTexts = [...]string{
	ReasonNotRetried:       "this failure is not retried",
	ReasonNever:            "this code is never retried",
	ReasonTransient:        "temporary failure",
	ReasonRetryOnce:        "retried at most once",
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
	ReasonWithoutWaiting:   "without waiting",
}

// String returns the reason in a few words.
func (r Reason) String() string { return enumText("Reason", reasonTexts[:], r) }

// MarshalText returns the text of [Reason.String], and none for 0. It fails for a number
// that is no Reason.
func (r Reason) MarshalText() ([]byte, error) { return marshalEnum("Reason", reasonTexts[:], r) }

// UnmarshalText reads what [Reason.MarshalText] has written. It fails for any other text.
func (r *Reason) UnmarshalText(text []byte) error {
	return unmarshalEnum("Reason", reasonTexts[:], r, text)
}
