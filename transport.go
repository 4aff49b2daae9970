package graphretry

import (
	"errors"
	"net/http"

	"github.com/graphretry/graphretry/internal/outage"
)

// Transport is an [http.RoundTripper] that retries calls to Meta's Graph API. It
// hands each attempt to the next RoundTripper, reads the Graph error in a failed
// answer, and sends the call again if its [Policy] says so. It is safe for
// concurrent use. Share one Transport: its outage gates learn from every call that
// goes through it.
//
// It keeps the contract of http.RoundTripper, for retried calls too: the request is
// not modified, its body is closed, and a response, whatever its status, comes with
// a nil error.
//
// [NewTransport] and [WrapClient] make one. The zero Transport refuses every call.
type Transport struct {
	next   http.RoundTripper
	policy *Policy
	hosts  []guardedHost
}

// guardedHost is a host whose calls are ours, and its outage gates, nil for none.
type guardedHost struct {
	host
	gates *outage.Host
}

// NewTransport returns a Transport around next. A nil next means
// [http.DefaultTransport] as it is now, so that the new Transport can take its
// place. Invalid options are reported together in one error.
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
			guarded.gates = outage.New(outage.Config{
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

// WrapClient returns a copy of client whose Transport is wrapped in a new
// [Transport]. A nil client is the zero [http.Client]. The client itself, its
// cookie jar, its Timeout and its redirects stay as they are; a Timeout bounds
// the whole call with all its retries. Invalid options are reported together in
// one error.
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

// CloseIdleConnections closes the idle connections of the next RoundTripper, if that
// has a method CloseIdleConnections. [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if t == nil {
		return
	}
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// RoundTrip sends req, and sends it again as long as it fails in a way that the
// policy retries and there is time. It returns the last response unchanged, with a
// nil error, or the error of the next RoundTripper. That is unchanged, but for an attempt
// that is known to have got no connection: there the error is wrapped so that [NeverSent]
// is true of it, with its text, its chain and its Timeout as they were.
//
// It returns an error of its own in these cases only: a [*WaitError] if the call was
// ended during a wait or could not wait for an outage to end; an attempt took longer
// than [WithAttemptTimeout]; the context ended while an attempt was under way, where
// the error can be [context.Cause] in place of the next RoundTripper's; an option in
// the context is bad; the request is nil; the Transport is the zero one; or the next
// RoundTripper returned neither a response nor an error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req == nil:
		return nil, errors.New("graphretry: nil request: want one made by http.NewRequestWithContext")
	case t == nil || t.next == nil:
		return refuse(req, errors.New("graphretry: zero Transport: want one made by NewTransport or WrapClient"))
	}
	host := t.hostOf(req)
	if host == nil { // or req has no URL, which the next RoundTripper will say
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
	c := call{next: t.next, policy: policy, host: host.gates, req: req}
	c.body.recordLimit, c.body.mayBeCutOff = policy.recordLimit, policy.attemptTimeout > 0
	return c.do()
}

// hostOf returns the host that req goes to, nil if it is none of ours.
func (t *Transport) hostOf(req *http.Request) *guardedHost {
	if req.URL == nil {
		return nil
	}
	for i := range t.hosts {
		if host := &t.hosts[i]; host.isPlainly(req.URL) || host.matches(req.URL) {
			return host
		}
	}
	return nil
}

// refuse fails a call before anything is sent.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, err
}
