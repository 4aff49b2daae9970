package netfail

import (
	"errors"
	"net"
	"reflect"
	"slices"
)

// each reports whether is holds for err or for an error that it wraps; where it
// wraps several, for each of them.
func each(err error, is func(error) bool) bool {
	switch {
	case err == nil:
		return false
	case is(err):
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs := joined.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !each(err, is) })
	}
	return each(errors.Unwrap(err), is)
}

// plainText returns the text of an error made by [errors.New], "" for any other:
// a type of its own is none of the errors that net/http makes so.
func plainText(err error) string {
	if reflect.TypeOf(err) != reflect.TypeOf(errors.New("")) {
		return ""
	}
	return err.Error()
}

// unsentError is the error of a request that got no connection. net/http returns a dial
// that was cut off by a deadline, or a proxy that refused a CONNECT, as errors that do not
// tell.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// Timeout reports what the error itself does.
func (e *unsentError) Timeout() bool {
	timeout, ok := e.err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// unsentNetError is one that is a [net.Error]: net/http's callers look for that. The other
// must not have its methods, since not every error of a connection is one.
type unsentNetError struct {
	unsentError
	network net.Error
}

// Timeout reports what the error itself does.
func (e *unsentNetError) Timeout() bool { return e.network.Timeout() }

// Temporary reports what the error itself does.
func (e *unsentNetError) Temporary() bool {
	//lint:ignore SA1019 net.Error has it.
	return e.network.Temporary()
}
