package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

func (c *command) pause(ctx context.Context, args []string) error {
	return c.ofNumber(ctx, "pause", args, c.Pause)
}

func (c *command) resume(ctx context.Context, args []string) error {
	return c.ofNumber(ctx, "resume", args, c.Resume)
}

// ofNumber does something with a phone number, or without one with all.
func (c *command) ofNumber(ctx context.Context, verb string, args []string, do func(context.Context, string) error) error {
	flags := newFlags(verb, c.streams)
	if err := parseArguments(flags, args, 0, 1, "one phone number ID, or none for all"); err != nil {
		return err
	}
	// A variable of a script that is empty must not mean all numbers.
	if flags.NArg() == 1 && flags.Arg(0) == "" {
		return wrongUsage("%s has an empty phone number ID: leave it out for all", verb)
	}
	return do(ctx, flags.Arg(0))
}

func (c *command) enqueue(ctx context.Context, args []string) error {
	flags := newFlags("enqueue", c.streams)
	urgent := flags.Bool("urgent", false, "overtake the messages that are not")
	label := flags.String("label", "", "`label` of a campaign")
	var opts []outbox.EnqueueOption
	at := func(option func(time.Time) outbox.EnqueueOption) func(string) error {
		return func(text string) error {
			t, err := time.Parse(time.RFC3339, text)
			opts = append(opts, option(t))
			return err
		}
	}
	flags.Func("not-before", "send it from this `time` on, as in 2026-11-27T09:00:00Z", at(outbox.NotBefore))
	flags.Func("expires-at", "fail it at this `time`", at(outbox.ExpiresAt))
	if err := parseArguments(flags, args, 2, 2, "an ID and a phone number ID, and the payload on standard input"); err != nil {
		return err
	}
	if *urgent {
		opts = append(opts, outbox.Urgent())
	}
	if *label != "" {
		opts = append(opts, outbox.Label(*label))
	}
	payload, err := io.ReadAll(c.in)
	if err != nil {
		return fmt.Errorf("cannot read the payload on standard input: %w", err)
	}
	return c.Enqueue(ctx, flags.Arg(0), flags.Arg(1), payload, opts...)
}
