package graphretry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// networkRule is what holds for a failure that is no Graph error.
func (c *call) networkRule() rule {
	again := rule{unlimited, ReasonNetwork}
	switch {
	case c.last.resp != nil && c.last.resp.StatusCode < http.StatusInternalServerError:
		return rule{0, ReasonNoGraphError}
	case c.last.resp != nil:
		if c.policy.networkRetries && idempotent(c.req.Method) && gatewayFailed(c.last.resp.StatusCode) {
			return again
		}
		return rule{0, ReasonAmbiguous}
	case c.ended() != nil:
		return rule{0, ReasonCanceled}
	case hopeless(c.req, c.last.err):
		return rule{0, ReasonNotRetried}
	case neverLeft(c.last.err):
		if c.policy.networkRetries {
			return again
		}
		return rule{0, ReasonNotRetried}
	case c.policy.networkRetries && idempotent(c.req.Method):
		return again
	default:
		return rule{0, ReasonAmbiguous}
	}
}

// idempotent tells whether a method may be carried out twice (RFC 9110, section
// 9.2.2). TRACE is missing, which Graph does not have.
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// gatewayFailed tells whether a status comes from what stands before the API.
func gatewayFailed(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// neverLeft tells whether a request provably was not sent: no connection could
// be made, directly or to a proxy. Where several errors are joined, as those of a
// RoundTripper that tries more than once, each of them must say so.
func neverLeft(err error) bool {
	if op, ok := err.(*net.OpError); ok && op.Op == "dial" {
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs := joined.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !neverLeft(err) })
	}
	inner := errors.Unwrap(err)
	return inner != nil && neverLeft(inner)
}

// failedIn tells whether err, or what it comes from, is of one of these
// operations of a connection.
func failedIn(err error, operations ...string) bool {
	var op *net.OpError
	for errors.As(err, &op) {
		if slices.Contains(operations, op.Op) {
			return true
		}
		err = op.Err
	}
	return false
}

// hopeless tells whether a request would fail in the same way again: net/http
// cannot send it, or there is something wrong with a certificate, ours or the
// server's.
func hopeless(req *http.Request, err error) bool {
	var (
		verification *tls.CertificateVerificationError
		alert        tls.AlertError
		noTLS        tls.RecordHeaderError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.Header == nil || !validHeader(req.Header) ||
		errors.As(err, &verification) || errors.As(err, &alert) || errors.As(err, &noTLS) ||
		errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid) ||
		errors.Is(err, http.ErrSchemeMismatch) ||
		// crypto/tls names its alerts so: the server wants another certificate of
		// ours, or another version. Their own type is not exported.
		failedIn(err, "remote error", "local error")
}

// validHeader tells whether net/http would send these fields (RFC 9110, section
// 5.5 and 5.6.2). If not, it says so in an error that looks like any other.
func validHeader(header http.Header) bool {
	for name, values := range header {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
		}) {
			return false
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return false
			}
		}
	}
	return true
}
