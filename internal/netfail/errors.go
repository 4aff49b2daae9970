package netfail

import (
	"errors"
	"net"
	"reflect"
	"slices"
)

// each reports whether is is true of err or of an error that it wraps; where it
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

// Ambiguous returns an error of a request that may have been sent, so that [NeverSent] is
// false of it whatever it says. Its text, its chain and whether it is a timeout stay as
// they are.
func Ambiguous(err error) error { return explain(err, false) }

// IsAmbiguous reports whether [Ambiguous] has returned err or an error that it wraps.
func IsAmbiguous(err error) bool {
	var plain *explained
	var network *explainedNetError
	return errors.As(err, &plain) && !plain.neverSent || errors.As(err, &network) && !network.neverSent
}

// explained is an error of which more is known than it tells.
type explained struct {
	err       error
	neverSent bool
}

// explain returns err with what is known of it.
func explain(err error, neverSent bool) error {
	known := explained{err, neverSent}
	if network, ok := err.(net.Error); ok {
		return &explainedNetError{known, network}
	}
	return &known
}

func (e *explained) Error() string { return e.err.Error() }
func (e *explained) Unwrap() error { return e.err }

// Timeout reports what the error itself does.
func (e *explained) Timeout() bool {
	timeout, ok := e.err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// explainedNetError is one that is a [net.Error]: net/http's callers look for that. The
// other must not have its methods, since not every error of a connection is one.
type explainedNetError struct {
	explained
	network net.Error
}

// Timeout reports what the error itself does.
func (e *explainedNetError) Timeout() bool { return e.network.Timeout() }

// Temporary reports what the error itself does.
func (e *explainedNetError) Temporary() bool {
	//lint:ignore SA1019 net.Error has it.
	return e.network.Temporary()
}
