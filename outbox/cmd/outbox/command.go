package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// text returns what an error says, on one line.
func text(err error) string { return words.Line(strings.ReplaceAll(err.Error(), "outbox: ", "")) }

// streams are what the program reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// asks reports whether in is a terminal, so that a person can be asked.
	asks bool
	// size returns the size of the terminal that out is, or 0 and 0 if out is not a terminal.
	size func() (columns, lines int)
	// resized gets a value when the size has changed, and is nil if the system does not report
	// that.
	resized <-chan os.Signal
}

// command is one call of the program.
type command struct {
	*outbox.Outbox
	streams
	place  place
	db     string
	name   string
	asJSON bool
}

// action is what a verb does when the database is open.
type action func(context.Context) error

// verb is one thing that the program can do.
type verb struct {
	name string
	// arguments are the arguments after the flags. least and most are how many there must be;
	// many means any number.
	arguments   string
	least, most int
	// short says in one sentence what the verb does. about says what else there is to know.
	short, about string
	// offline reports whether the verb needs no database.
	offline bool
	// define defines the flags. It returns a function that takes the arguments, and returns the
	// action.
	define func(*command, *flag.FlagSet) func(args []string) (action, error)
}

const many = -1

// print prints lines, or with -json a document instead.
func (c *command) print(document any, lines ...string) error {
	if c.asJSON {
		return c.encode(document)
	}
	_, err := fmt.Fprintln(c.out, strings.Join(lines, "\n"))
	return err
}

// encode prints a document on one line.
func (c *command) encode(document any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}
