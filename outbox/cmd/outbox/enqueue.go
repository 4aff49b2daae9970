package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

var enqueueVerb = verb{
	name: "enqueue", arguments: "ID NUMBER <payload.json", least: 2, most: 2,
	short: "Puts a message into the queue.",
	about: "The payload on standard input is the body of Meta's POST /messages. It prints the state of the message. " +
		"If the ID exists already, that message stays as it is.",
	define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) {
		urgent := flags.Bool("urgent", false, "overtake the messages that are not urgent")
		label := flags.String("label", "", "`label` of a campaign")
		var opts []outbox.EnqueueOption
		at := func(option func(time.Time) outbox.EnqueueOption) func(string) error {
			return func(text string) error {
				t, err := time.Parse(time.RFC3339, text)
				if err != nil {
					return errors.New("want a time such as 2026-11-27T09:00:00Z")
				}
				opts = append(opts, option(t))
				return nil
			}
		}
		flags.Func("not-before", "send it from this `time` on, as in 2026-11-27T09:00:00Z", at(outbox.NotBefore))
		flags.Func("expires-at", "fail it at this `time`", at(outbox.ExpiresAt))
		return func(args []string) (action, error) {
			if *urgent {
				opts = append(opts, outbox.Urgent())
			}
			switch {
			case *label != "":
				opts = append(opts, outbox.Label(*label))
			case isGiven(flags, "label"):
				return nil, wrongUsage("enqueue", "-label is empty: want a label, or leave it out")
			}
			return func(ctx context.Context) error { return c.enqueue(ctx, args[0], args[1], opts) }, nil
		}
	},
}

func (c *command) enqueue(ctx context.Context, id, number string, opts []outbox.EnqueueOption) error {
	payload, err := io.ReadAll(c.in)
	if err != nil {
		return fmt.Errorf("cannot read the payload on standard input: %w", err)
	}
	if err := c.Enqueue(ctx, id, number, payload, opts...); err != nil {
		return err
	}
	s, err := c.Status(ctx, id)
	if errors.Is(err, outbox.ErrNotFound) {
		return fmt.Errorf("message %q is not enqueued: one of this ID was deleted", id)
	}
	if err != nil {
		return err
	}
	return c.print(documentOf(s, whyMessage(s)), words.Line(s.ID)+" is "+string(s.State))
}
