package netfail

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// Connection watches whether a request got a connection. One that asked for a
// connection and got none was never sent: a dial failed, a proxy refused its
// CONNECT, or a TLS handshake broke. The zero Connection is ready to use, for one
// request.
type Connection struct {
	asked, got atomic.Bool
	trace      httptrace.ClientTrace
}

// Watch returns a context for the request. A trace that ctx has already goes on.
func (c *Connection) Watch(ctx context.Context) context.Context {
	c.trace = httptrace.ClientTrace{
		GetConn: func(string) { c.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { c.got.Store(true) },
		// A RoundTripper that stands for another protocol (http.Transport.TLSNextProto) has
		// the connection from here on, and need not call GotConn.
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil && state.NegotiatedProtocol != "" && state.NegotiatedProtocol != "http/1.1" {
				c.got.Store(true)
			}
		},
	}
	return httptrace.WithClientTrace(ctx, &c.trace)
}

// Refused reports whether the request asked for a connection and got none. It is
// false for a RoundTripper that does not call the hooks of a trace.
func (c *Connection) Refused() bool { return c != nil && c.asked.Load() && !c.got.Load() }

// Explain returns the error of the request, so that [NeverSent] is true of it if the
// request asked for a connection and got none. Its text, its chain and whether it is a
// timeout stay as they are.
func (c *Connection) Explain(err error) error {
	if err == nil || !c.Refused() || NeverSent(err) {
		return err
	}
	unsent := unsentError{err}
	if network, ok := err.(net.Error); ok {
		return &unsentNetError{unsent, network}
	}
	return &unsent
}
