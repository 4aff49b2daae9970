package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// decision is a decision that a person can make about messages.
type decision struct {
	name string
	// short says what it is for, done what has become of the messages, effect what becomes of
	// one, and use when it is useful.
	short, done, effect, use string
	// states are the states of the messages that it applies to.
	states []outbox.State
	one    func(*outbox.Outbox, context.Context, string) error
	// all carries it out for all messages that match a filter by then, and listed for those that
	// were counted and have not changed since. One of them is nil.
	all    func(*outbox.Outbox, context.Context, outbox.Filter) (int, error)
	listed func(*outbox.Outbox, context.Context, []outbox.Status) (int, error)
}

var decisions = []decision{
	{"resend", "Puts unknown or failed messages back into the queue.", "put back into the queue",
		"A message that is resent is queued as if it were new. One that was sent after all is received twice.", "",
		// Not ResendAll, which would also resend messages that become unknown after a person
		// was asked.
		[]outbox.State{outbox.StateUnknown, outbox.StateFailed}, (*outbox.Outbox).Resend, nil, (*outbox.Outbox).ResendListed},
	{"drop", "Gives up unknown or queued messages.", "dropped",
		"A message that is dropped becomes failed and is not sent. \"resend\" takes that back.", "",
		[]outbox.State{outbox.StateUnknown, outbox.StateQueued}, (*outbox.Outbox).Drop, (*outbox.Outbox).DropAll, nil},
	{"park", "Stops queued messages, since they may have been sent.", "parked",
		"A message that is parked becomes unknown and is not sent until a webhook or a person settles it.",
		" After a restore, or after a replica that lagged has taken over, use \"park -changed-after T\" before any Run begins. " +
			"T is the time that the database's data is from. So what was sent since then is not sent again.",
		[]outbox.State{outbox.StateQueued}, (*outbox.Outbox).Park, (*outbox.Outbox).ParkAll, nil},
	{"delete", "Deletes messages and everything about them.", "deleted",
		"A message that is deleted is not sent, and everything about it is deleted. Nothing takes that back.", "",
		[]outbox.State{outbox.StateQueued, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}, (*outbox.Outbox).Delete, (*outbox.Outbox).DeleteAll, nil},
}

func decisionVerbs() []verb {
	var verbs []verb
	for _, d := range decisions {
		verbs = append(verbs, verb{
			name: d.name, arguments: "[ID...]", most: many, short: d.short,
			about: d.effect + d.use + " \"" + d.name + "\" applies to the messages with these IDs, or to those that match all flags. For more than one ID, " +
				"and whenever flags choose the messages, it prints how many there are and asks. Messages that are being sent are left alone.",
			define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) { return c.decide(d, flags) },
		})
	}
	return verbs
}

// deciding is a decision about certain messages.
type deciding struct {
	decision
	filter outbox.Filter
	ids    []string
	// found are the messages that match, if the decision needs them.
	found []outbox.Status
	// named reports whether a person has given the IDs of the messages.
	named, yes, dryRun bool
}

func (c *command) decide(d decision, flags *flag.FlagSet) func([]string) (action, error) {
	filterOf := defineFilter(flags)
	yes := flags.Bool("yes", false, "do not ask, as in a script")
	dryRun := flags.Bool("dry-run", false, "say how many messages there are, and do nothing")
	return func(ids []string) (action, error) {
		named := len(ids) > 0
		if named == isGiven(flags, filterFlags...) {
			return nil, wrongUsage(d.name, "%s: want IDs, or flags that choose messages, such as -label", d.name)
		}
		filter, err := filterOf()
		if err != nil {
			return nil, err
		}
		for _, state := range filter.States {
			if !slices.Contains(d.states, state) {
				return nil, wrongUsage(d.name, "%s has -state %s: want some of %s", d.name, state, listed(d.states))
			}
		}
		if len(filter.States) == 0 {
			filter.States = d.states
		}
		this := deciding{decision: d, filter: filter, ids: distinct(ids), named: named, yes: *yes, dryRun: *dryRun}
		return func(ctx context.Context) error { return c.carryOut(ctx, this) }, nil
	}
}

// decisionDocument is the result of a decision, as -json prints it.
type decisionDocument struct {
	Decision string `json:"decision"`
	// Meant is how many messages there were, and Sending is how many more are being sent.
	Meant   int  `json:"meant"`
	Sending int  `json:"sending"`
	Done    int  `json:"done"`
	DryRun  bool `json:"dry_run,omitempty"`
}

// carryOut says how many messages a decision is about, asks, and carries it out.
func (c *command) carryOut(ctx context.Context, d deciding) error {
	document := decisionDocument{Decision: d.name, Meant: len(d.ids), DryRun: d.dryRun}
	summary := ofMessages(document.Meant)
	if !d.named {
		// Messages that are enqueued from now on were not counted.
		now := c.Now()
		d.filter.EnqueuedBefore, d.filter.OlderThan = now.Add(-d.filter.OlderThan), 0
		var err error
		if summary, err = c.count(ctx, &d, &document); err != nil {
			return err
		}
	}
	if document.Meant == 0 || d.dryRun {
		return c.print(document, summary)
	}
	if (!d.named || document.Meant > 1) && !d.yes {
		question := fmt.Sprintf("%s%s %s?", strings.ToUpper(d.name[:1]), d.name[1:], ofMessages(document.Meant))
		if err := c.ask(ctx, summary, d.effect, question); err != nil {
			return err
		}
	}
	var err error
	switch {
	case d.named:
		document.Done, err = c.oneByOne(ctx, d)
	case d.listed != nil:
		document.Done, err = d.listed(c.Outbox, ctx, d.found)
	default:
		document.Done, err = d.all(c.Outbox, ctx, d.filter)
	}
	if left := document.Meant - document.Done; err == nil && left > 0 && !d.named {
		err = fmt.Errorf("%s of %s were left alone, since they have changed meanwhile", words.Count(left), ofMessages(document.Meant))
	}
	if len(d.ids) == 1 && err != nil {
		return err
	}
	return errors.Join(err, c.print(document, wasOf(document.Done)+" "+d.done))
}

// count counts the messages, and lists them if the decision needs that. It returns the count in
// words.
func (c *command) count(ctx context.Context, d *deciding, document *decisionDocument) (string, error) {
	var parts []string
	if d.listed != nil {
		counts := make(map[outbox.State]int)
		for found, err := range c.pages(ctx, d.filter) {
			if err != nil {
				return "", err
			}
			for _, s := range found {
				// There may be many: what is not needed is not kept.
				d.found = append(d.found, outbox.Status{ID: s.ID, Changed: s.Changed})
				counts[s.State]++
			}
		}
		document.Meant = len(d.found)
		for _, state := range states {
			parts = appendCount(parts, counts[state], state)
		}
	} else if d.filter.Limit > 0 {
		n, err := c.Count(ctx, d.filter)
		if err != nil {
			return "", err
		}
		document.Meant = n
	} else {
		for _, state := range states {
			if !slices.Contains(d.filter.States, state) {
				continue
			}
			this := d.filter
			this.States = []outbox.State{state}
			n, err := c.Count(ctx, this)
			if err != nil {
				return "", err
			}
			document.Meant += n
			parts = appendCount(parts, n, state)
		}
	}
	sending := d.filter
	sending.States, sending.Limit = []outbox.State{outbox.StateSending}, 0
	n, err := c.Count(ctx, sending)
	if err != nil {
		return "", err
	}
	document.Sending = n
	text := ofMessages(document.Meant)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	switch {
	case n == 1:
		text += "; 1 more is being sent, and is left alone"
	case n > 1:
		text += "; " + words.Count(n) + " more are being sent, and are left alone"
	}
	return text, nil
}

func appendCount(parts []string, n int, state outbox.State) []string {
	if n > 0 {
		parts = append(parts, words.Count(n)+" "+string(state))
	}
	return parts
}

// ofMessages returns a number of messages in words.
func ofMessages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return words.Count(n) + " messages"
}

// wasOf returns the same with the verb after it.
func wasOf(n int) string {
	if n == 1 {
		return "1 message was"
	}
	return ofMessages(n) + " were"
}

// ask says what a decision does, and asks whether to carry it out. The error says why nothing
// is done.
func (c *command) ask(ctx context.Context, summary, effect, question string) error {
	if !c.asks {
		fmt.Fprintln(c.err, summary)
		return errors.New("nothing was done: standard input is no terminal, so there is no answer: want -yes")
	}
	columns, _ := c.size()
	for _, text := range []string{summary, effect} {
		fmt.Fprintln(c.err, strings.Join(wrapped("", text, columns), "\n"))
	}
	fmt.Fprint(c.err, question+" [y/N] ")
	// A read from a terminal cannot be cancelled. After an interrupt it stays behind, and ends
	// with the process.
	answered := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(c.in).ReadString('\n')
		answered <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case answer := <-answered:
		if answer == "y" || answer == "yes" {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(c.err)
	}
	return errors.New("nothing was done")
}

// oneByOne carries out a decision for each message, and returns for how many it has. It prints
// a message that is refused, and goes on. It ends if the database fails.
func (c *command) oneByOne(ctx context.Context, d deciding) (int, error) {
	refused := 0
	said := time.Now()
	for i, id := range d.ids {
		if c.asks && time.Since(said) >= time.Second {
			said = time.Now()
			fmt.Fprintf(c.err, "%s of %s\n", words.Count(i), ofMessages(len(d.ids)))
		}
		err := d.one(c.Outbox, ctx, id)
		switch {
		case err == nil:
			continue
		case len(d.ids) == 1 || !errors.Is(err, outbox.ErrRefused) && !errors.Is(err, outbox.ErrNotFound) && !errors.Is(err, outbox.ErrInvalid):
			return i - refused, err
		}
		refused++
		fmt.Fprintln(c.err, text(err))
	}
	if refused > 0 {
		return len(d.ids) - refused, fmt.Errorf("%s of %s were refused", words.Count(refused), ofMessages(len(d.ids)))
	}
	return len(d.ids), nil
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
