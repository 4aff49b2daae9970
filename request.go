package graphretry

import (
	"net/http"
	"strings"
)

// What a request says of itself.

// idempotent reports whether a method may be carried out twice (RFC 9110, section
// 9.2.2). TRACE is missing, which Graph does not have.
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// idempotencyKey reports whether net/http takes a request for one that may be sent again
// although it was sent.
func idempotencyKey(header http.Header) bool {
	return header["Idempotency-Key"] != nil || header["X-Idempotency-Key"] != nil
}

// asksCache reports whether a request is one that a cache answers with 504 if it has
// no answer (RFC 9111, section 5.2.1.7). Other methods go through a cache.
func asksCache(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead:
		for _, value := range req.Header.Values("Cache-Control") {
			for directive := range strings.SplitSeq(value, ",") {
				if strings.EqualFold(strings.TrimSpace(directive), "only-if-cached") {
					return true
				}
			}
		}
	}
	return false
}

// canceled returns the channel that is closed when the caller ends the call in
// the way that came before contexts.
func canceled(req *http.Request) <-chan struct{} {
	//lint:ignore SA1019 http.Client.Timeout still uses it for every RoundTripper but net/http's own.
	return req.Cancel
}
