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
	// asks reports whether a person is at in, who can be asked.
	asks bool
	// size returns the size of the terminal that out is, 0 and 0 if it is none.
	size func() (columns, lines int)
	// resized gets a value when that size has changed; nil if nothing tells.
	resized <-chan os.Signal
}

// command is a call of the program.
type command struct {
	*outbox.Outbox
	streams
	place  place
	db     string
	name   string
	asJSON bool
}

// action is what a verb does once the database is open.
type action func(context.Context) error

// verb is what the program can do.
type verb struct {
	name string
	// arguments are those after the flags, and least and most how many there must be; many
	// stands for any number.
	arguments   string
	least, most int
	// short says in a sentence what it does, and about what else there is to know.
	short, about string
	// offline has it need no database.
	offline bool
	// define defines the flags. What it returns takes the arguments, and returns what to do.
	define func(*command, *flag.FlagSet) func(args []string) (action, error)
}

const many = -1

// print prints lines, or with -json a document in their place.
func (c *command) print(document any, lines ...string) error {
	if c.asJSON {
		return c.encode(document)
	}
	_, err := fmt.Fprintln(c.out, strings.Join(lines, "\n"))
	return err
}

// encode prints a document on a line.
func (c *command) encode(document any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}
