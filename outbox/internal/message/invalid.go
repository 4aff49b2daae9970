package message

import "errors"

// ErrInvalid is in the chain of the error of what cannot be, whatever the database says.
var ErrInvalid = errors.New("outbox: it is invalid")

// AsInvalid returns an error with the same words that has ErrInvalid in its chain, nil for nil.
func AsInvalid(err error) error {
	if err == nil {
		return nil
	}
	return invalid{err}
}

type invalid struct{ error }

func (e invalid) Unwrap() []error { return []error{e.error, ErrInvalid} }
