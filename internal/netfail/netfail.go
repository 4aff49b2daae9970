// Package netfail says what is certain about a failure of the network: that
// nothing was sent, or that it would happen again.
package netfail

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// NeverSent reports whether a request provably was not sent: no connection could
// be made, directly or to a proxy. Where several errors are joined, as those of a
// RoundTripper that tries more than once, each of them must say so.
func NeverSent(err error) bool {
	if op, ok := err.(*net.OpError); ok && op.Op == "dial" {
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs := joined.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !NeverSent(err) })
	}
	inner := errors.Unwrap(err)
	return inner != nil && NeverSent(inner)
}

// failedIn reports whether err, or what it comes from, is of one of these
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

// Permanent reports whether a request would fail in the same way again: net/http
// cannot send it, or there is something wrong with a certificate, ours or the
// server's.
func Permanent(req *http.Request, err error) bool {
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

// validHeader reports whether net/http would send these fields (RFC 9110, section
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
