package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"text/tabwriter"

	"github.com/graphretry/graphretry/outbox"
)

// counts is how many messages are in which state.
type counts map[outbox.State]int

func (c counts) String() string {
	var parts []string
	for _, state := range []outbox.State{
		outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown,
	} {
		parts = append(parts, fmt.Sprintf("%d %s", c[state], state))
	}
	return strings.Join(parts, ", ")
}

func (in *invocation) status(ctx context.Context, o *outbox.Outbox) error {
	table := tabwriter.NewWriter(in.out, 0, 0, 2, ' ', 0)
	seen := counts{}
	for status, err := range in.messages(ctx, o) {
		if err != nil {
			return err
		}
		seen[status.State]++
		about := status.MessageID
		if status.State != outbox.StateSent {
			about = status.Reason
			if status.Graph != nil {
				about += " (" + status.Graph.Error() + ")"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", status.ID, status.State, about)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(in.out, seen)
	if accepted, twice, err := acceptedBy(in.where.dir); err == nil {
		fmt.Fprintf(in.out, "the fake API has accepted %d, %d of them twice\n", accepted, twice)
	}
	return nil
}

func (in *invocation) summary(ctx context.Context, o *outbox.Outbox) (counts, error) {
	seen := counts{}
	for status, err := range in.messages(ctx, o) {
		if err != nil {
			return nil, err
		}
		seen[status.State]++
	}
	return seen, nil
}

// messages returns the messages whose ids were given, or else reminder-1, reminder-2
// and so on, as many as there are.
func (in *invocation) messages(ctx context.Context, o *outbox.Outbox) iter.Seq2[outbox.Status, error] {
	return func(yield func(outbox.Status, error) bool) {
		for i := 0; len(in.ids) == 0 || i < len(in.ids); i++ {
			id := in.id(i)
			if len(in.ids) > 0 {
				id = in.ids[i]
			}
			status, err := o.Status(ctx, id)
			if errors.Is(err, outbox.ErrNotFound) && len(in.ids) == 0 {
				return
			}
			if !yield(status, err) {
				return
			}
		}
	}
}
