package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

var statsVerb = verb{
	name:  "stats",
	short: "Counts the messages, and lists the Runs of all machines.",
	about: "It counts them by state, for each phone number and label. It says why a number is paused or held. " +
		"The longest wait begins when a message is enqueued, is resent or becomes due, whichever comes last. " +
		"Numbers that are held or paused come first, then those with the most messages in the queue.",
	define: func(c *command, _ *flag.FlagSet) func([]string) (action, error) {
		return func([]string) (action, error) { return c.stats, nil }
	},
}

func (c *command) stats(ctx context.Context) error {
	stats, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	now := c.Now()
	columns, _ := c.size()
	lines := []string{}
	if wait := longestWait(stats, now); wait != "" {
		lines = append(lines, fmt.Sprintf("%s (since %s)", wait, stats.WaitingSince.Format(time.RFC3339)), "")
	}
	for _, entry := range numberTable(stats, now, nil, columns) {
		lines = append(lines, entry...)
	}
	if len(stats.Labels) > 0 {
		lines = append(append(lines, ""), aligned(labelRows(stats), 1)...)
	}
	if len(stats.Runs) > 0 {
		lines = append(append(lines, ""), aligned(runRows(stats, now), 3)...)
	}
	return c.print(statsDocumentOf(stats, now), lines...)
}

// longestWait returns for how long the message that waits longest has waited, "" if none waits.
func longestWait(stats outbox.Stats, now time.Time) string {
	if stats.WaitingSince.IsZero() {
		return ""
	}
	return "longest wait: " + words.Span(max(0, now.Sub(stats.WaitingSince)))
}

// labelRows returns the counts of the labels as rows of a table.
func labelRows(stats outbox.Stats) [][]string {
	rows := [][]string{append([]string{"label"}, stateNames()...)}
	for _, label := range slices.SortedFunc(maps.Keys(stats.Labels), func(a, b string) int {
		return cmp.Or(cmp.Compare(stats.Labels[b][outbox.StateQueued], stats.Labels[a][outbox.StateQueued]), cmp.Compare(a, b))
	}) {
		rows = append(rows, append([]string{words.Line(label)}, cells(stats.Labels[label])...))
	}
	return rows
}

// runRows returns the Runs as rows of a table.
func runRows(stats outbox.Stats, now time.Time) [][]string {
	rows := [][]string{{"run", "began", "heartbeat", "messages"}}
	for _, run := range stats.Runs {
		sign := words.Span(run.Silent) + " ago"
		if run.Dead {
			sign += ", dead"
		}
		rows = append(rows, []string{fmt.Sprint(run.ID), words.Away(run.Began, now), sign, words.Count(run.Messages)})
	}
	return rows
}

func stateNames() []string {
	names := make([]string, 0, len(states))
	for _, state := range states {
		names = append(names, string(state))
	}
	return names
}

// cells returns how many messages there are in each state.
func cells(counts map[outbox.State]int) []string {
	cells := make([]string, 0, len(states))
	for _, state := range states {
		cells = append(cells, words.Count(counts[state]))
	}
	return cells
}

// leastWhy is the least width of a reason beside the counts. If there is less room, it goes
// beneath them.
const leastWhy = 40

// numberTable returns the counts of all numbers and of each, and why its messages wait: the
// heading, the line for all, and an entry of one or two lines for each number. rate, if it is
// not nil, returns the messages a second of a number, and of all for "". The lines have at most
// that many columns, 0 for no limit.
func numberTable(stats outbox.Stats, now time.Time, rate func(number string) string, columns int) [][]string {
	row := func(name, number string, counts map[outbox.State]int) []string {
		row := append([]string{name}, cells(counts)...)
		if rate != nil {
			row = append(row, rate(number))
		}
		return row
	}
	heading := append([]string{"phone number"}, stateNames()...)
	if rate != nil {
		heading = append(heading, "sent/s")
	}
	rows := [][]string{heading, row("all", "", stats.States)}
	whys := []string{"", whyAll(stats, now)}
	for _, number := range numbersOf(stats) {
		rows = append(rows, row(number, number, stats.Numbers[number].States))
		whys = append(whys, whyNumber(stats.Numbers[number], now))
	}
	lines := aligned(rows, 1)
	width, longest := 0, 0
	for i, line := range lines {
		width = max(width, utf8.RuneCountInString(line))
		longest = max(longest, utf8.RuneCountInString(whys[i]))
	}
	beside := columns - width - len(gap)
	entries := make([][]string, 0, len(lines))
	for i, line := range lines {
		entry := []string{line}
		switch why := whys[i]; {
		case why == "":
		case columns == 0:
			entry[0] += gap + why
		case beside >= min(longest, leastWhy):
			entry[0] += gap + cut(why, beside)
		default:
			entry = append(entry, gap+cut(why, columns-len(gap)))
		}
		entries = append(entries, entry)
	}
	return entries
}

// numbersOf returns the phone numbers: first those that are held or paused, then those with the
// most messages in the queue.
func numbersOf(stats outbox.Stats) []string {
	rank := func(n outbox.NumberStats) int {
		switch {
		case n.HeldFor != "":
			return 0
		case n.Paused:
			return 1
		}
		return 2
	}
	return slices.SortedFunc(maps.Keys(stats.Numbers), func(a, b string) int {
		x, y := stats.Numbers[a], stats.Numbers[b]
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(y.States[outbox.StateQueued], x.States[outbox.StateQueued]), strings.Compare(a, b))
	})
}
