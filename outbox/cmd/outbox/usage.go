package main

import (
	"errors"
	"fmt"
)

// errUsage is in the chain of the error of a wrong command line.
var errUsage = errors.New("outbox: the command line is wrong")

// usageError says what is wrong with the command line, and which help says more.
type usageError struct{ verb, text string }

func (e usageError) Error() string {
	help := "outbox -h"
	if e.verb != "outbox" {
		help = "outbox " + e.verb + " -h"
	}
	return fmt.Sprintf("outbox: %s; see %s", e.text, help)
}

func (usageError) Unwrap() error { return errUsage }

// wrongUsage returns an error that says what is wrong with the command line and what would be
// right.
func wrongUsage(verb, format string, args ...any) error {
	return usageError{verb, fmt.Sprintf(format, args...)}
}
