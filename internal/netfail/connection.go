package netfail

import (
	"context"
	"errors"
	"io"
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
	}
	return httptrace.WithClientTrace(ctx, &c.trace)
}

// Refused reports whether the request asked for a connection and got none. It is
// false for a RoundTripper that does not call the hooks of a trace. One that
// [net/http.Transport.TLSNextProto] makes must call GotConn, as that of
// golang.org/x/net/http2 does.
func (c *Connection) Refused() bool { return c != nil && c.asked.Load() && !c.got.Load() }

// Got reports whether the request got a connection, and may have been sent.
func (c *Connection) Got() bool { return c != nil && c.got.Load() }

// Explain returns the error of the request, so that [NeverSent] is true of it if the
// request asked for a connection and got none: net/http returns a dial that was cut off by
// a deadline, or a proxy that refused a CONNECT, as errors that do not tell. ended is
// whether the request's context has ended. The error's text, its chain and whether it is a
// timeout stay as they are.
func (c *Connection) Explain(err error, ended bool) error {
	if err == nil || !c.Refused() || NeverSent(err) || !ended && !ofConnecting(err) {
		return err
	}
	return explain(err, true)
}

// ofConnecting reports whether err can be that of a connection that could not be had.
func ofConnecting(err error) bool {
	var network net.Error
	return errors.As(err, &network) || err == io.EOF || permanent(err) || proxyRefused(err)
}
