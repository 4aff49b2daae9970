package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/graphretry/graphretry/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	resized, ignore := notifyOfSize()
	defer ignore()
	err := run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, asks: isTerminal(os.Stdin),
		size: func() (columns, lines int) { return terminalSize(os.Stdout) }, resized: resized,
	})
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		columns, _ := terminalSize(os.Stderr)
		fmt.Fprintln(os.Stderr, strings.Join(wrapped("", "outbox: "+text(err), columns), "\n"))
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// verbs returns the verbs in the order of the help.
func verbs() []verb {
	return append([]verb{statsVerb, topVerb, listVerb, showVerb}, append(decisionVerbs(),
		pauseVerb, resumeVerb, healthVerb, serveVerb, enqueueVerb, schemaVerb)...)
}

func run(ctx context.Context, args []string, s streams) error {
	c := &command{streams: s, name: "graphretry"}
	flags := c.newFlags("outbox")
	if err := c.parse(flags, args, func() string { return usage(flags, verbs()) }); err != nil {
		return err
	}
	all := verbs()
	var v *verb
	for i := range all {
		if all[i].name == flags.Arg(0) {
			v = &all[i]
		}
	}
	if v == nil {
		return wrongUsage("outbox", "%s: want one of %s", what(flags), names(all))
	}
	args = flags.Args()[1:]
	flags = c.newFlags(v.name)
	prepare := v.define(c, flags)
	if err := c.parse(flags, args, func() string { return v.usage(flags) }); err != nil {
		return err
	}
	if err := v.check(flags, args); err != nil {
		return err
	}
	do, err := prepare(flags.Args())
	if err != nil || v.offline {
		if err == nil {
			err = do(ctx)
		}
		return err
	}
	if c.place, err = placeOf(c.db); err != nil {
		return err
	}
	closeIt, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer closeIt()
	return do(ctx)
}

// what says which verb was given.
func what(flags *flag.FlagSet) string {
	if flags.NArg() == 0 {
		return "nothing to do"
	}
	return fmt.Sprintf("there is no %q", flags.Arg(0))
}

// open opens the database and the outbox in it. It creates neither.
func (c *command) open(ctx context.Context) (closeIt func(), err error) {
	db, database, err := c.place.open(ctx)
	if err != nil {
		return nil, err
	}
	c.Outbox, err = outbox.Open(ctx, database, nil, outbox.WithName(c.name), outbox.WithoutMigration())
	if err != nil {
		db.Close()
		return nil, err
	}
	return func() {
		c.Outbox.Close()
		db.Close()
	}, nil
}
