// Package netfail says what is certain about a failure of the network: that
// nothing was sent, and whether it may pass.
package netfail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// NeverSent reports whether err proves that a request was not carried out. Either it
// was not sent: no connection could be made, directly or to a proxy, the server's
// certificate was refused before anything was written to it, or the connection that
// it was to be sent on could not be used any more. Or the server has said that it
// did not process it: REFUSED_STREAM or a GOAWAY below its stream over HTTP/2 (RFC
// 9113, section 8.7), H3_REQUEST_REJECTED or refused 0-RTT over HTTP/3 (RFC 9114,
// section 4.1.1).
//
// A [Connection] knows more. Where several errors are joined, as those of a
// RoundTripper that tries more than once, each of them must say so. net/http, which
// also tries more than once, returns the last error alone; what it takes for unprocessed
// then is, but for a request with an Idempotency-Key: see [Ambiguous].
//
// What more proves it of an error by itself does so too.
func NeverSent(err error, more ...func(error) bool) bool {
	return !IsAmbiguous(err) && each(err, func(err error) bool {
		if slices.ContainsFunc(more, func(proves func(error) bool) bool { return proves(err) }) {
			return true
		}
		switch err := err.(type) {
		case *tls.CertificateVerificationError:
			return true
		case tls.RecordHeaderError:
			return err.Conn != nil // it was the first record, and no TLS
		}
		return noConnection(err) || http2NotProcessed(err) || http3NotProcessed(err)
	})
}

// NoConnection reports whether err proves that no connection could be made, directly or
// to a proxy. [Connection.Explain] has it known of more errors.
func NoConnection(err error) bool { return !IsAmbiguous(err) && each(err, noConnection) }

// noConnection reports whether err itself proves it, of errors that are not ambiguous.
func noConnection(err error) bool {
	switch err := err.(type) {
	case *explained, *explainedNetError:
		return true
	case *net.OpError:
		return err.Op == "dial" || err.Op == "proxyconnect"
	}
	return false
}

// Temporary reports whether err is a failure of the network that may pass. It
// knows those that are, and every other error is none: that of a RoundTripper
// which sends nothing, or of a request that cannot be sent, would come again.
// Where several errors are joined, each of them must be one.
func Temporary(err error) bool {
	return each(err, network) && !permanent(err)
}

// ProxyUnavailable reports whether err is that of a proxy which has answered a
// CONNECT with 502, 503 or 504. It is true only of a request that got no
// connection: net/http keeps nothing of such an answer but its reason phrase.
// Every other answer of a proxy, such as 403 and 407, comes again.
func ProxyUnavailable(err error) bool {
	return each(err, func(err error) bool {
		switch plainText(err) {
		case http.StatusText(http.StatusBadGateway), http.StatusText(http.StatusServiceUnavailable), http.StatusText(http.StatusGatewayTimeout),
			"Service Temporarily Unavailable", "Gateway Time-out": // nginx and HAProxy
			return true
		}
		return false
	})
}

// proxyRefused reports whether err is that of a proxy which has answered a CONNECT with any
// status from 400 to 599, in the words of net/http or of a proxy that is known.
func proxyRefused(err error) bool {
	text := plainText(err)
	for status := 400; status < 600 && text != ""; status++ {
		if http.StatusText(status) == text {
			return true
		}
	}
	return ProxyUnavailable(err)
}

// network reports whether err itself is a failure of the network.
func network(err error) bool {
	switch err {
	case io.EOF, io.ErrUnexpectedEOF:
		return true
	case context.Canceled:
		// With the caller's context alive, this is net/http's for the first request
		// on an HTTP/1 connection when a second one that shares it is canceled.
		return true
	}
	switch err := err.(type) {
	case *url.Error, *explainedNetError, syscall.Errno:
		// They have the methods of a net.Error, and say nothing of the network by
		// themselves: what the first two wrap does, and the third can be a file's.
		return false
	case *net.OpError:
		// A SOCKS proxy that refuses is in one, too: what it wraps tells.
		return !strings.HasPrefix(err.Op, "socks ")
	case net.Error:
		return true
	}
	return http2Failure(err) || http3Failure(err) || connectionClosed(err) || unreachableBySOCKS(err)
}

// connectionClosed reports whether err is what net/http returns for an HTTP/1
// connection that was closed under a request. These errors have no type of their own
// and their variables are not exported, so their texts must do.
func connectionClosed(err error) bool {
	switch plainText(err) {
	case "http: server closed idle connection",
		// For the first request on an HTTP/1 connection that is given back, and taken
		// or closed, before its answer was handed on.
		"net/http: request canceled",
		"http: CloseIdleConnections called",
		"http: idle connection timeout",
		"http: putIdleConn: too many idle connections",
		"net/http: cannot rewind body after connection loss":
		return true
	}
	return false
}

// unreachableBySOCKS reports whether err is that of a SOCKS proxy which cannot
// reach the host for now (RFC 1928, section 6). It refuses a login, or what its
// rules forbid, in other words.
func unreachableBySOCKS(err error) bool {
	switch plainText(err) {
	case "unknown error general SOCKS server failure",
		"unknown error network unreachable",
		"unknown error host unreachable",
		"unknown error connection refused",
		"unknown error TTL expired":
		return true
	}
	return false
}

// permanent reports whether a failure of the network would come again: there is
// something wrong with a certificate, ours or the server's, or the other side
// speaks no TLS.
func permanent(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		alert        tls.AlertError
		noTLS        tls.RecordHeaderError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &alert) || errors.As(err, &noTLS) ||
		errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid) ||
		// crypto/tls names its alerts so: the server wants another certificate of
		// ours, or another version. Their own type is not exported.
		failedIn(err, "remote error", "local error")
}

// failedIn reports whether err, or what it wraps, is of one of these operations
// of a connection.
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
