package message

import "errors"

// ErrInvalid is in the chain of the error of an invalid argument.
var ErrInvalid = errors.New("outbox: it is invalid")

// AsInvalid returns an error with the same text that has ErrInvalid in its chain, and nil for
// nil.
func AsInvalid(err error) error {
	if err == nil {
		return nil
	}
	return invalid{err}
}

type invalid struct{ error }

func (e invalid) Unwrap() []error { return []error{e.error, ErrInvalid} }
