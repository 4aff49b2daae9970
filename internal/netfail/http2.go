package netfail

import (
	"reflect"
	"strings"
)

// What is known of HTTP/2 errors, those of net/http and of golang.org/x/net/http2.

// streamError has the fields of the HTTP/2 stream errors.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error implements error, as the target of an As must.
func (streamError) Error() string { return "stream error" }

// refusedStream is the code REFUSED_STREAM (RFC 9113, section 7).
const refusedStream = 0x7

// http2Failure reports whether err is an HTTP/2 error of a stream or of a
// connection. A stream error can be assigned to any struct with its fields. The
// other two types offer nothing of the kind, and net/http does not export its own,
// so they are known by their shape, and errors without a type by their texts.
func http2Failure(err error) bool {
	if _, ok := http2Stream(err); ok {
		return true
	}
	value := reflect.ValueOf(err)
	kind := value.Type()
	switch {
	case http2ConnectionFailure(plainText(err)):
		return true
	case !strings.Contains(strings.ToLower(kind.PkgPath()+"."+kind.Name()), "http2"):
		return false
	case kind.Kind() == reflect.Uint32:
		return strings.HasSuffix(kind.Name(), "ConnectionError")
	case kind.Kind() == reflect.Struct:
		return value.FieldByName("LastStreamID").IsValid() && value.FieldByName("ErrCode").IsValid() // GOAWAY
	}
	return false
}

// http2Stream returns err as a stream error, if it is one.
func http2Stream(err error) (stream streamError, ok bool) {
	converts, ok := err.(interface{ As(any) bool })
	return stream, ok && converts.As(&stream)
}

// http2ConnectionFailure reports whether a text is that of an error for a connection
// that was closed under a request, or that a request could not be sent on.
func http2ConnectionFailure(text string) bool {
	switch text {
	case "http2: client connection lost",
		"http2: client conn is closed",
		"http2: client connection force closed via ClientConn.Close":
		return true
	}
	return http2Unprocessed(text) || strings.HasPrefix(text, cannotRetry)
}

// cannotRetry is how the text begins of net/http's error for a request that it would
// send again by itself, but there is no GetBody, and it has used the body up.
const cannotRetry = "http2: Transport: cannot retry err ["

// http2NotProcessed reports whether err says that a request was not processed: the
// server has refused its stream, or sent a GOAWAY for streams below it, or it could
// not be sent on its connection.
//
// The shape of a GOAWAY alone does not: a stream that it is about is one that the
// server may have processed. net/http ends the others in words of their own.
func http2NotProcessed(err error) bool {
	if stream, ok := http2Stream(err); ok {
		return stream.Code == refusedStream
	}
	text := plainText(err)
	if cause, ok := strings.CutPrefix(text, cannotRetry); ok {
		// It also contains PROTOCOL_ERROR, which proves nothing.
		text, _, _ = strings.Cut(cause, "] after Request.Body was written")
		_, code, ok := strings.Cut(text, "; ")
		if code, _, _ = strings.Cut(code, "; "); ok && strings.HasPrefix(text, "stream error: stream ID ") {
			return code == "REFUSED_STREAM"
		}
	}
	return http2Unprocessed(text)
}

// http2Unprocessed reports whether a text is that of an error for a request whose
// stream is above the last one of a GOAWAY, or was never opened.
func http2Unprocessed(text string) bool {
	switch text {
	case "http2: Transport received Server's graceful shutdown GOAWAY",
		"http2: client conn not usable",
		"http2: client conn could not be established":
		return true
	}
	// For the first stream of a connection, after a GOAWAY with stream 0 and a code
	// that is an error.
	return strings.HasPrefix(text, "http2: Transport received GOAWAY from server ErrCode:")
}
