package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

var listVerb = verb{
	name:  "list",
	short: "Lists the messages that match all flags, each with its reason.",
	about: "They come in the order of enqueueing: the state, since when, the ID, and why, Meta's title first. " +
		"A queued message has the time since it was enqueued, any other the time since its last change. " +
		"Nothing is shortened if the output is no terminal.",
	define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) {
		filterOf := defineFilter(flags)
		return func([]string) (action, error) {
			filter, err := filterOf()
			return func(ctx context.Context) error { return c.list(ctx, filter) }, err
		}
	},
}

// pageSize is how many messages are read at once.
const pageSize = 1000

// pages lists the messages that match a filter a page at a time, so that they are not all in
// memory at once.
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

func (c *command) list(ctx context.Context, filter outbox.Filter) error {
	stats, err := c.Stats(ctx) // they show why numbers wait
	if err != nil {
		return err
	}
	columns, _ := c.size()
	none := true
	for found, err := range c.pages(ctx, filter) {
		if err != nil {
			return err
		}
		now := c.Now()
		none = none && len(found) == 0
		if c.asJSON {
			for _, s := range found {
				if err := c.encode(documentOf(s, why(s, stats, now))); err != nil {
					return err
				}
			}
		} else if len(found) > 0 {
			if err := c.print(nil, messageTable(found, stats, now, columns, false)...); err != nil {
				return err
			}
		}
	}
	if none && !c.asJSON {
		_, err = fmt.Fprintln(c.err, "no message matches")
	}
	return err
}

const (
	// wideColumns is the width from which a table of messages has their phone numbers.
	wideColumns = 110
	// shortID is the width to which an ID is shortened at most, and leastReason is the least
	// width of the reason.
	shortID, leastReason = 24, 36
)

// messageTable returns messages as lines of at most that many columns, 0 for no limit. If there
// is a limit the reasons are shortened, and with shortens the IDs too.
func messageTable(messages []outbox.Status, stats outbox.Stats, now time.Time, columns int, shortens bool) []string {
	rows := make([][]string, 0, len(messages))
	for _, s := range messages {
		since := s.Changed
		if s.State == outbox.StateQueued {
			since = s.Enqueued
		}
		row := []string{string(s.State), words.Away(since, now)}
		if columns == 0 || columns >= wideColumns {
			row = append(row, s.PhoneNumberID)
		}
		rows = append(rows, row)
	}
	lines := aligned(rows, 3)
	width, longest := 0, 0
	for i, line := range lines {
		width = max(width, len(line))
		longest = max(longest, utf8.RuneCountInString(messages[i].ID))
	}
	room := columns - width - len(gap) - len(gap)
	idColumns := longest
	if shortens && columns > 0 {
		idColumns = min(longest, max(shortID, room-leastReason))
	}
	for i, line := range lines {
		id := shortened(words.Line(messages[i].ID), idColumns)
		text := why(messages[i], stats, now)
		if columns > 0 {
			text = cut(text, max(shortID, room-idColumns))
		}
		line += strings.Repeat(" ", width-len(line)) + gap + id
		if text != "" {
			line += strings.Repeat(" ", idColumns-utf8.RuneCountInString(id)) + gap + text
		}
		lines[i] = line
	}
	return lines
}
