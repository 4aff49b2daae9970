package netfail

import (
	"reflect"
	"strings"
)

// What is known of the errors of HTTP/3, those of quic-go and of what is made of it.
// They are known by their shape, so that nobody has to import them.

// requestRejected is the code H3_REQUEST_REJECTED (RFC 9114, section 8.1).
const requestRejected = 0x10b

// http3Failure reports whether err is an error of a stream or of a connection that
// may pass. Those of a connection that are not named here are a [net.Error], or wrap
// one.
func http3Failure(err error) bool {
	if _, ok := quicFailure(err, "StreamError"); ok {
		return true
	}
	if connection, ok := quicFailure(err, "TransportError"); ok {
		return connection.code>>8 != 1 // else TLS has ended it (RFC 9001, section 4.8)
	}
	switch plainText(err) {
	case zeroRTTRejected, "connection in graceful shutdown": // after a GOAWAY
		return true
	}
	return false
}

// zeroRTTRejected is the text of the error for a stream of a connection whose 0-RTT
// the server has refused, and so not processed (RFC 9001, section 4.6.2).
const zeroRTTRejected = "0-RTT rejected"

// http3NotProcessed reports whether err says that a request was not processed: the
// server has rejected it, or its stream could not be opened.
//
// A connection that is closed with the code of a rejection does not: RFC 9114 has
// that for requests only.
func http3NotProcessed(err error) bool {
	if stream, ok := quicFailure(err, "StreamError"); ok {
		return stream.remote && stream.code == requestRejected
	}
	_, unusable := named(err, "errConnUnusable")
	return unusable || plainText(err) == zeroRTTRejected
}

// quicError is what the errors of QUIC have.
type quicError struct {
	code   uint64
	remote bool
}

// quicFailure returns what an error of QUIC has, if err is the one of that name.
func quicFailure(err error, name string) (quicError, bool) {
	value, ok := named(err, name)
	if !ok {
		return quicError{}, false
	}
	code, remote := value.FieldByName("ErrorCode"), value.FieldByName("Remote")
	if !code.CanUint() || remote.Kind() != reflect.Bool {
		return quicError{}, false
	}
	return quicError{code.Uint(), remote.Bool()}, true
}

// named returns the struct that err points to, if its type is one of QUIC or HTTP/3
// and its name ends so: a prefix is what a bundled package has.
func named(err error, name string) (reflect.Value, bool) {
	value := reflect.ValueOf(err)
	if value.Kind() != reflect.Pointer || value.IsNil() || value.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	value = value.Elem()
	full := strings.ToLower(value.Type().PkgPath() + "." + value.Type().Name())
	return value, strings.HasSuffix(value.Type().Name(), name) && (strings.Contains(full, "quic") || strings.Contains(full, "http3"))
}
