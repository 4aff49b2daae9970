package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

var showVerb = verb{
	name: "show", arguments: "ID", least: 1, most: 1,
	short: "Shows everything about one message.",
	about: "That is its state and the reason, its history by the database's clock, and what Meta said of it. " +
		"Empty fields are left out.",
	define: func(c *command, _ *flag.FlagSet) func([]string) (action, error) {
		return func(args []string) (action, error) {
			return func(ctx context.Context) error { return c.show(ctx, args[0]) }, nil
		}
	},
}

func (c *command) show(ctx context.Context, id string) error {
	s, err := c.Status(ctx, id)
	if err != nil {
		return err
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	now := c.Now()
	columns, _ := c.size()
	return c.print(documentOf(s, why(s, stats, now)), messageLines(s, stats, now, columns)...)
}

// field is one line of show.
type field struct{ name, text string }

// messageLines returns everything about a message as lines of at most that many columns, 0 for
// no limit.
func messageLines(s outbox.Status, stats outbox.Stats, now time.Time, columns int) []string {
	lines := wrapped("", words.Line(s.ID)+" is "+string(s.State), columns)
	reason, text := s.Reason, why(s, stats, now)
	if text != "" {
		lines = append(lines, wrapped(gap, text, columns)...)
	}
	if strings.Contains(text, words.Clean(reason)) {
		reason = ""
	}
	section := func(heading string, fields ...field) {
		fields = slices.DeleteFunc(fields, func(f field) bool { return f.text == "" })
		if len(fields) == 0 {
			return
		}
		lines = append(lines, "")
		indent := ""
		if heading != "" {
			lines = append(lines, heading)
			indent = gap
		}
		width := 0
		for _, f := range fields {
			width = max(width, len(f.name))
		}
		for _, f := range fields {
			lines = append(lines, wrapped(indent+f.name+strings.Repeat(" ", width-len(f.name))+gap, words.Line(f.text), columns)...)
		}
	}
	section("",
		field{"phone number ID", s.PhoneNumberID}, field{"label", s.Label}, field{"Meta's ID", s.MessageID},
		field{"retries", positive(s.Retries)}, field{"reason", reason})
	section("history", historyOf(s, now)...)
	section("what Meta said", graphFields(s.Graph)...)
	if s.ParticipantFailures > 0 {
		section(fmt.Sprintf("what Meta said of the last of %s participants who did not get it", words.Count(s.ParticipantFailures)), graphFields(s.ParticipantGraph)...)
	}
	return lines
}

// positive returns a number as a text, "" for 0.
func positive(n int) string {
	if n == 0 {
		return ""
	}
	return words.Count(n)
}

// historyOf returns what has happened to a message and when, in that order.
func historyOf(s outbox.Status, now time.Time) []field {
	type event struct {
		at   time.Time
		what string
	}
	events := []event{{s.Enqueued, "enqueued"}, {s.Delivered, "delivered, by Meta's clock"}, {s.Read, "read, by Meta's clock"}, {s.NotBefore, "is due"}}
	if !s.Changed.Equal(s.Enqueued) {
		events = append(events, event{s.Changed, "last change"})
	}
	events = slices.DeleteFunc(events, func(e event) bool { return e.at.IsZero() })
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	fields := make([]field, 0, len(events))
	for _, e := range events {
		fields = append(fields, field{e.at.UTC().Format(time.RFC3339), words.Away(e.at, now) + ": " + e.what})
	}
	return fields
}

// graphFields returns the fields of Meta's error.
func graphFields(e *graphretry.Error) []field {
	if e == nil {
		return nil
	}
	code := fmt.Sprint(int(e.Code))
	if e.Subcode != 0 {
		code += fmt.Sprintf(", subcode %d", e.Subcode)
	}
	return []field{
		{"title", words.Title(e)}, {"code", code}, {"class", e.Class().String()}, {"HTTP status", positive(e.Status)},
		{"message", e.Message}, {"details", e.Details}, {"title for the user", e.UserTitle}, {"text for the user", e.UserMessage},
		{"fbtrace_id", e.TraceID}, {"what to do", words.Advice(e)},
	}
}
