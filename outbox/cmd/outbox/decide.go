package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/graphretry/graphretry/outbox"
)

func (c *command) resend(ctx context.Context, args []string) error {
	// Not ResendAll, which would resend what has become unknown since a person was asked.
	return c.decide(ctx, "resend", args, []outbox.State{outbox.StateUnknown, outbox.StateFailed}, c.Resend, nil)
}

func (c *command) drop(ctx context.Context, args []string) error {
	return c.decide(ctx, "drop", args, []outbox.State{outbox.StateUnknown, outbox.StateQueued}, c.Drop, c.DropAll)
}

func (c *command) park(ctx context.Context, args []string) error {
	return c.decide(ctx, "park", args, []outbox.State{outbox.StateQueued}, c.Park, c.ParkAll)
}

func (c *command) delete(ctx context.Context, args []string) error {
	return c.decide(ctx, "delete", args, states, c.Delete, c.DeleteAll)
}

// decision is what became of a decision, as -json prints it.
type decision struct {
	Verb        string
	Done, Meant int
}

// decide carries out a decision for the messages that are named or that the flags mean,
// if they are in one of these states. More than one have to be confirmed. all carries it out
// for those that the flags mean by then; without it do does, for those that were counted.
func (c *command) decide(ctx context.Context, verb string, args []string, allowed []outbox.State,
	do func(context.Context, string) error, all func(context.Context, outbox.Filter) (int, error)) error {
	flags := newFlags(verb, c.streams)
	yes := flags.Bool("yes", false, "do not ask")
	filterOf := filterFlags(flags)
	if err := parseArguments(flags, args, 0, math.MaxInt, ""); err != nil {
		return err
	}
	filtering := flags.NFlag()
	if *yes {
		filtering--
	}
	ids := flags.Args()
	if (len(ids) > 0) == (filtering > 0) {
		return wrongUsage("%s wants IDs, or flags that say which messages are meant", verb)
	}
	var filter outbox.Filter
	if filtering > 0 {
		var err error
		if filter, err = filterOf(); err != nil {
			return err
		}
		for _, state := range filter.States {
			if !slices.Contains(allowed, state) {
				return wrongUsage("%s has -state %s: want some of %v", verb, state, allowed)
			}
		}
		if len(filter.States) == 0 {
			filter.States = allowed
		}
		for found, err := range c.pages(ctx, filter) {
			if err != nil {
				return err
			}
			for _, status := range found {
				ids = append(ids, status.ID)
			}
		}
	}
	ids = distinct(ids) // one that changes meanwhile is listed twice
	if len(ids) > 1 && !*yes {
		fmt.Fprintf(c.err, "%s %d messages? [y/N] ", verb, len(ids))
		answer, _ := bufio.NewReader(c.in).ReadString('\n')
		if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
			return errors.New("nothing was done; -yes does it without a question")
		}
	}
	var done int
	var err error
	if filtering > 0 && all != nil {
		done, err = c.doMeant(ctx, verb, filter, len(ids), all)
	} else {
		done, err = c.doAll(ctx, ids, do)
	}
	if len(ids) == 1 && err != nil {
		return err
	}
	var printing error
	if c.asJSON {
		printing = json.NewEncoder(c.out).Encode(decision{verb, done, len(ids)})
	} else {
		_, printing = fmt.Fprintf(c.out, "%s: %d of %d done\n", verb, done, len(ids))
	}
	return errors.Join(err, printing)
}

// doMeant carries out a decision for all messages that a filter means, of which so many were
// counted, and returns for how many it could. Those that are being sent are named.
func (c *command) doMeant(ctx context.Context, verb string, filter outbox.Filter, counted int, all func(context.Context, outbox.Filter) (int, error)) (int, error) {
	done, err := all(ctx, filter)
	if err != nil {
		return done, err
	}
	filter.States, filter.Limit = []outbox.State{outbox.StateSending}, 0
	sending, err := c.List(ctx, filter)
	if err != nil {
		return done, err
	}
	for _, status := range sending {
		fmt.Fprintf(c.err, "cannot %s message %s: it is being sent\n", verb, oneLine(fmt.Sprintf("%q", status.ID)))
	}
	if refused := counted - done; refused > 0 {
		return done, fmt.Errorf("%d of %d messages were refused", refused, counted)
	}
	return done, nil
}

// doAll carries out a decision for each message, and returns for how many it could. One
// that is refused is named, and does not keep it from the others; trouble with the database
// does.
func (c *command) doAll(ctx context.Context, ids []string, do func(context.Context, string) error) (int, error) {
	refused := 0
	for i, id := range ids {
		err := do(ctx, id)
		switch {
		case err == nil:
			continue
		case len(ids) == 1 || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			return i - refused, err
		}
		refused++
		fmt.Fprintln(c.err, oneLine(err.Error()))
	}
	if refused > 0 {
		return len(ids) - refused, fmt.Errorf("%d of %d messages were refused", refused, len(ids))
	}
	return len(ids), nil
}

// distinct returns each of the ids once, in their order.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		was := seen[id]
		seen[id] = true
		return was
	})
}
