package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

// states are the states that a message can have.
var states = []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}

// filterFlags are the flags of list, resend, drop, park and delete. The function that it
// returns is for after they were parsed.
func filterFlags(flags *flag.FlagSet) func() (outbox.Filter, error) {
	stateList := flags.String("state", "", "`states`, with commas between them")
	number := flags.String("number", "", "phone number `ID`")
	label := flags.String("label", "", "`label` of a campaign")
	changed := flags.String("changed-after", "", "changed after this `time`, or may have")
	code := flags.Int("code", 0, "`code` or subcode of what Meta said last")
	older := flags.Duration("older", 0, "enqueued at least so long ago")
	after := flags.String("after", "", "`ID` that the last page ended with")
	limit := flags.Int("limit", 0, "how many at most; 0: all")
	return func() (outbox.Filter, error) {
		filter := outbox.Filter{PhoneNumberID: *number, Label: *label, Code: graphretry.Code(*code), OlderThan: *older, After: *after, Limit: *limit}
		for name := range strings.SplitSeq(*stateList, ",") {
			filter.States = append(filter.States, outbox.State(name))
		}
		given := make(map[string]bool)
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["state"] {
			filter.States = nil
		}
		for _, state := range filter.States {
			if !slices.Contains(states, state) {
				return filter, wrongUsage("-state has %q: want some of %v, with commas between them", state, states)
			}
		}
		// A flag that is given means something: a variable of a script that is empty
		// must not mean all messages.
		switch {
		case given["number"] && *number == "":
			return filter, wrongUsage("-number is empty: want a phone number ID")
		case given["label"] && *label == "":
			return filter, wrongUsage("-label is empty: want a label")
		case given["after"] && *after == "":
			return filter, wrongUsage("-after is empty: want an ID")
		case given["code"] && *code <= 0:
			return filter, wrongUsage("-code is %d: want a code above 0", *code)
		case *older < 0:
			return filter, wrongUsage("-older is %v: want a time that is not negative", *older)
		case *limit < 0:
			return filter, wrongUsage("-limit is %d: want a number that is not negative", *limit)
		}
		if given["changed-after"] {
			at, err := time.Parse(time.RFC3339, *changed)
			if err != nil {
				return filter, wrongUsage("-changed-after is %q: want a time such as 2026-11-27T09:00:00Z", *changed)
			}
			filter.ChangedAfter = at
		}
		return filter, nil
	}
}

// pageSize is how many messages are asked for at once.
const pageSize = 1000

// pages lists the messages that a filter means a page at a time, so that they are not all
// held at once.
func (c *command) pages(ctx context.Context, filter outbox.Filter) iter.Seq2[[]outbox.Status, error] {
	return func(yield func([]outbox.Status, error) bool) {
		left := filter.Limit
		for {
			filter.Limit = pageSize
			if left > 0 {
				filter.Limit = min(left, pageSize)
			}
			found, err := c.List(ctx, filter)
			if !yield(found, err) || err != nil || len(found) < filter.Limit {
				return
			}
			if left -= len(found); left == 0 {
				return
			}
			filter.After = found[len(found)-1].ID
		}
	}
}

func (c *command) stats(ctx context.Context, args []string) error {
	if err := parseArguments(newFlags("stats", c.streams), args, 0, 0, "no arguments"); err != nil {
		return err
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	if c.asJSON {
		return json.NewEncoder(c.out).Encode(stats)
	}
	lines := aligned(countRows(stats, nil))
	if !stats.OldestQueued.IsZero() {
		lines = append(lines, "oldest queued: "+stats.OldestQueued.Format(time.RFC3339))
	}
	if len(stats.Labels) > 0 {
		lines = append(lines, "")
		lines = append(lines, aligned(labelRows(stats))...)
	}
	if len(stats.Runs) > 0 {
		rows := []string{"run\tbegan\tmessages\tlast sign of life\t"}
		for _, run := range stats.Runs {
			dead := ""
			if run.Dead {
				dead = "dead"
			}
			rows = append(rows, fmt.Sprintf("%d\t%s\t%d\t%v ago\t%s", run.ID, run.Began.Format(time.RFC3339), run.Messages, run.Silent.Round(time.Second), dead))
		}
		lines = append(lines, "")
		lines = append(lines, aligned(rows)...)
	}
	return c.print(lines)
}

// labelRows returns the counts of the labels as rows for a table.
func labelRows(stats outbox.Stats) []string {
	heading := "label"
	for _, state := range counted {
		heading += "\t" + string(state)
	}
	rows := []string{heading}
	for _, label := range slices.Sorted(maps.Keys(stats.Labels)) {
		row := oneLine(label)
		for _, state := range counted {
			row += fmt.Sprintf("\t%d", stats.Labels[label][state])
		}
		rows = append(rows, row)
	}
	return rows
}

// print prints lines.
func (c *command) print(lines []string) error {
	_, err := fmt.Fprintln(c.out, strings.Join(lines, "\n"))
	return err
}

// aligned returns rows whose cells are divided by tabs as lines in which they stand
// beneath each other.
func aligned(rows []string) []string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(rows, "\n"))
	table.Flush() // a strings.Builder takes all
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return lines
}

// counted are the states that Stats counts.
var counted = []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}

// countRows returns the counts as rows for a table: a heading, the sum, and one of each
// phone number. rate, if it is not nil, returns the messages a second of each, and with ""
// of all.
func countRows(stats outbox.Stats, rate func(number string) string) []string {
	heading := "phone number"
	for _, state := range counted {
		heading += "\t" + string(state)
	}
	if rate != nil {
		heading += "\tsent/s"
	}
	row := func(name, number string, counts map[outbox.State]int, notes []string) string {
		text := name
		for _, state := range counted {
			text += fmt.Sprintf("\t%d", counts[state])
		}
		if rate != nil {
			text += "\t" + rate(number)
		}
		return text + "\t" + oneLine(strings.Join(notes, ", "))
	}
	var notes []string
	if stats.Paused {
		notes = append(notes, "paused")
	}
	if stats.HeldFor != "" {
		notes = append(notes, "held: "+stats.HeldFor)
	}
	if stats.APIDown {
		notes = append(notes, "the API is down")
	}
	rows := []string{heading + "\t", row("all", "", stats.States, notes)}
	for _, number := range slices.Sorted(maps.Keys(stats.Numbers)) {
		s, notes := stats.Numbers[number], []string(nil)
		if s.Paused {
			notes = append(notes, "paused")
		}
		if s.HeldFor != "" {
			notes = append(notes, "held: "+s.HeldFor)
		}
		rows = append(rows, row(number, number, s.States, notes))
	}
	return rows
}

func (c *command) list(ctx context.Context, args []string) error {
	flags := newFlags("list", c.streams)
	filterOf := filterFlags(flags)
	if err := parseArguments(flags, args, 0, 0, "flags alone"); err != nil {
		return err
	}
	filter, err := filterOf()
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.out)
	rows := []string{"id\tphone number\tstate\tretries\tenqueued\tcode\treason"}
	for found, err := range c.pages(ctx, filter) {
		if err != nil {
			return err
		}
		if c.asJSON {
			for _, status := range found {
				if err := encoder.Encode(status); err != nil {
					return err
				}
			}
			continue
		}
		for _, s := range found {
			rows = append(rows, messageRow(s, s.Enqueued))
		}
		if len(rows) > 0 {
			if err := c.print(aligned(rows)); err != nil {
				return err
			}
		}
		rows = nil // the heading stands above the first page alone
	}
	return nil
}

// messageRow returns a message as a row for a table, with one of its times.
func messageRow(s outbox.Status, at time.Time) string {
	code := "-"
	if s.Graph != nil {
		code = fmt.Sprint(int(s.Graph.Code))
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s\t%s", oneLine(s.ID), s.PhoneNumberID, s.State, s.Retries, at.Format(time.RFC3339), code, reason(s))
}

// reason returns why a message is in its state, with what Meta said of it.
func reason(s outbox.Status) string {
	text := s.Reason
	if s.Graph != nil && s.Graph.Message != "" {
		text += ": " + s.Graph.Message
	}
	return oneLine(strings.TrimPrefix(text, ": "))
}

// oneLine returns a text that cannot draw on a terminal, nor turn the direction of what
// it is printed with.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

func (c *command) show(ctx context.Context, args []string) error {
	flags := newFlags("show", c.streams)
	if err := parseArguments(flags, args, 1, 1, "one ID"); err != nil {
		return err
	}
	status, err := c.Status(ctx, flags.Arg(0))
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.out)
	if !c.asJSON {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(status)
}

func (c *command) health(ctx context.Context, args []string) error {
	if err := parseArguments(newFlags("health", c.streams), args, 0, 0, "no arguments"); err != nil {
		return err
	}
	return c.Health(ctx)
}
