// Package graphretry is an [net/http.RoundTripper] that retries calls to Meta's
// Graph API where Meta says that the failure is temporary, and nowhere else.
package graphretry
