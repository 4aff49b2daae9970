package graphretry

import (
	"net/http"
	"time"

	"github.com/graphretry/graphretry/internal/netfail"
	"github.com/graphretry/graphretry/internal/outage"
)

// failure is an attempt that failed, with a response or with an error.
type failure struct {
	resp       *http.Response
	err        error
	sent       *http.Request       // as it left, for its secrets; nil: not known
	connection *netfail.Connection // what the attempt was sent on; nil: not known

	body       *peekedBody   // resp's
	graph      Error         // what Meta said, without its texts
	isGraph    bool          // Meta said something
	described  *Error        // graph with its texts, once somebody asked
	retryAfter time.Duration // what resp's headers asked for
}

// newFailure reads how an attempt failed.
func newFailure(resp *http.Response, err error, sent *http.Request, connection *netfail.Connection) *failure {
	f := &failure{resp: resp, err: err, sent: sent, connection: connection}
	if resp != nil {
		f.body = peek(resp)
		f.body.sent = sent
		f.graph, f.isGraph = decodeAnswer(resp.StatusCode, resp.Header, f.body.decoded(resp))
		f.retryAfter = f.graph.RetryAfter
		if !f.isGraph {
			f.retryAfter = retryAfter(resp.Header)
		}
	}
	return f
}

// describe returns what Meta said, with its texts. The secrets of req, and of
// the request that was sent, are blanked in them.
func (f *failure) describe(req *http.Request) *Error {
	if f.described == nil {
		f.described = f.graph.described().redactedFor(req, f.sent)
	}
	return f.described
}

// result is what the failure says of the host. ended is how the caller has ended
// the call, nil if it has not; retriesNetwork is whether failures of the network are
// retried, so that a host without a connection has calls that wait for it.
func (f *failure) result(ended error, retriesNetwork bool) outage.Result {
	switch {
	case f.isGraph && (f.graph.Code == CodeAPIService || f.graph.Code == CodeServiceUnavailable):
		return outage.ResultDown
	case f.isGraph && f.graph.Code.Class() == ClassThrottle:
		return outage.ResultThrottled
	case f.isGraph && f.graph.Code == CodeSomethingWentWrong:
		return outage.ResultNone // the server has failed, and is there
	case f.isGraph:
		return outage.ResultUp
	case ended != nil:
		return outage.ResultAbandoned
	case retriesNetwork && f.noConnection():
		return outage.ResultUnreachable
	default:
		return outage.ResultNone
	}
}

// noConnection reports whether the attempt got no connection, and the next one may.
func (f *failure) noConnection() bool {
	return f.resp == nil && netfail.NoConnection(f.err) &&
		(netfail.Temporary(f.err) || f.connection.Refused() && netfail.ProxyUnavailable(f.err))
}

// rule returns what applies to the failure of req, and the code that decides, 0 for
// none. ended is how the caller has ended the call, nil if it has not.
func (f *failure) rule(p *Policy, req *http.Request, ended error) (Code, rule) {
	if f.isGraph {
		return p.rules.of(&f.graph, p.transientFlag)
	}
	return 0, f.networkRule(p, req, ended)
}

// networkRule returns what applies to a failure that is no Graph error. What is not
// known to be refused or never sent may have been carried out, also where no trace
// says that a request got a connection: not every RoundTripper calls its hooks.
func (f *failure) networkRule(p *Policy, req *http.Request, ended error) rule {
	switch {
	case f.resp != nil && (f.resp.StatusCode < http.StatusInternalServerError || f.resp.StatusCode == http.StatusGatewayTimeout && asksCache(req)):
		return rule{0, ReasonNoGraphError}
	case f.resp != nil:
		return p.retryIf(idempotent(req.Method) && gatewayFailed(f.resp.StatusCode), ReasonAmbiguous)
	case ended != nil:
		return rule{0, ReasonCanceled}
	}
	temporary := netfail.Temporary(f.err)
	switch {
	case f.connection.Refused():
		return p.retryIf(temporary || netfail.ProxyUnavailable(f.err), ReasonNotRetried)
	case netfail.NeverSent(f.err):
		return p.retryIf(temporary, ReasonNotRetried)
	default:
		return p.retryIf(temporary && idempotent(req.Method), ReasonAmbiguous)
	}
}

// retryIf returns the rule of a failure that [WithNetworkRetries] retries if that
// is safe, and that otherwise is not retried for a reason.
func (p *Policy) retryIf(safe bool, reason Reason) rule {
	if safe && p.networkRetries {
		return rule{unlimited, ReasonNetwork}
	}
	return rule{0, reason}
}

// gatewayFailed reports whether a status comes from what stands before the API.
func gatewayFailed(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
