// Command outbox shows what is in an outbox, and carries out what a person decides.
//
//	outbox [-nats URL] [-name NAME] [-json] stats
//	outbox ... list   [-state S,S] [-number N] [-code C] [-older D] [-after REVISION] [-limit N]
//	outbox ... show   ID
//	outbox ... resend [-yes] ID, or the flags of list
//	outbox ... drop   [-yes] ID, or the flags of list
//	outbox ... pause  [NUMBER]
//	outbox ... resume [NUMBER]
//	outbox ... enqueue [-urgent] [-not-before T] [-expires-at T] ID NUMBER <payload.json
//
// It prints plain lines, or with -json an object a line. Before it touches more than
// one message it asks, and without a terminal it wants -yes. Its exit status is 1 if
// something failed, and 2 if the command line is wrong.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("outbox: want stats, list, show, resend, drop, pause, resume or enqueue; see go doc github.com/graphretry/graphretry/outbox/cmd/outbox")

// command is a call of the program.
type command struct {
	*outbox.Outbox
	in     io.Reader
	out    io.Writer
	asJSON bool
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := newFlags("outbox")
	url := flags.String("nats", cmpEnv("NATS_URL", nats.DefaultURL), "`URL` of the NATS server")
	name := flags.String("name", "graphretry-outbox", "name of the outbox in JetStream")
	asJSON := flags.Bool("json", false, "print an object a line")
	if err := parse(flags, args); err != nil {
		return err
	}
	verb, rest := flags.Arg(0), flags.Args()
	do, ok := map[string]func(*command, context.Context, []string) error{
		"stats": (*command).stats, "list": (*command).list, "show": (*command).show,
		"resend": (*command).resend, "drop": (*command).drop, "enqueue": (*command).enqueue,
		"pause": (*command).pause, "resume": (*command).resume,
	}[verb]
	if !ok {
		return errUsage
	}
	connection, err := nats.Connect(*url, nats.Name("outbox command"))
	if err != nil {
		return fmt.Errorf("cannot reach the NATS server: %w", err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	if _, err := js.Stream(ctx, *name); err != nil {
		return fmt.Errorf("there is no outbox %q on this server: %w", *name, err)
	}
	o, err := outbox.Open(ctx, js, nil, outbox.WithName(*name))
	if err != nil {
		return err
	}
	defer o.Close()
	return do(&command{o, in, out, *asJSON}, ctx, rest[1:])
}

func cmpEnv(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

// parse parses flags. What is wrong with them is an errUsage.
func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return err
}

// filterFlags are the flags of list, resend and drop.
func filterFlags(flags *flag.FlagSet) func() outbox.Filter {
	states := flags.String("state", "", "`states`, with commas between them")
	number := flags.String("number", "", "phone number `ID`")
	code := flags.Int("code", 0, "code or subcode of what Meta said last")
	older := flags.Duration("older", 0, "enqueued at least so long ago")
	after := flags.Uint64("after", 0, "`revision` that the last page ended with")
	limit := flags.Int("limit", 0, "how many at most; 0: all")
	return func() outbox.Filter {
		filter := outbox.Filter{PhoneNumberID: *number, Code: graphretry.Code(*code), OlderThan: *older, After: *after, Limit: *limit}
		for state := range strings.FieldsFuncSeq(*states, func(r rune) bool { return r == ',' }) {
			filter.States = append(filter.States, outbox.State(state))
		}
		return filter
	}
}

func (c *command) stats(ctx context.Context, _ []string) error {
	stats, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	if c.asJSON {
		return json.NewEncoder(c.out).Encode(stats)
	}
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	states := []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}
	fmt.Fprint(table, "phone number")
	for _, state := range states {
		fmt.Fprint(table, "\t", state)
	}
	fmt.Fprintln(table)
	row := func(name string, counts map[outbox.State]int) {
		fmt.Fprint(table, name)
		for _, state := range states {
			fmt.Fprint(table, "\t", counts[state])
		}
		fmt.Fprintln(table)
	}
	for _, number := range sortedKeys(stats.Numbers) {
		row(number, stats.Numbers[number].States)
	}
	row("all", stats.States)
	if err := table.Flush(); err != nil {
		return err
	}
	if !stats.OldestQueued.IsZero() {
		fmt.Fprintln(c.out, "oldest queued:", stats.OldestQueued.Format(time.RFC3339))
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (c *command) list(ctx context.Context, args []string) error {
	flags := newFlags("list")
	filter := filterFlags(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	found, err := c.List(ctx, filter())
	if err != nil {
		return err
	}
	return c.print(found)
}

func (c *command) print(found []outbox.Status) error {
	if c.asJSON {
		encoder := json.NewEncoder(c.out)
		for _, status := range found {
			if err := encoder.Encode(status); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "id\tphone number\tstate\tretries\tenqueued\treason")
	for _, s := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", oneLine(s.ID), s.PhoneNumberID, s.State, s.Retries, s.Enqueued.Format(time.RFC3339), oneLine(s.Reason))
	}
	return table.Flush()
}

// oneLine returns a text that cannot draw on a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

func (c *command) show(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: show wants one ID", errUsage)
	}
	status, err := c.Status(ctx, args[0])
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.out)
	if !c.asJSON {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(status)
}

func (c *command) resend(ctx context.Context, args []string) error {
	return c.decide(ctx, "resend", args, []outbox.State{outbox.StateUnknown, outbox.StateFailed}, c.Resend, c.ResendAll)
}

func (c *command) drop(ctx context.Context, args []string) error {
	return c.decide(ctx, "drop", args, []outbox.State{outbox.StateUnknown, outbox.StateQueued}, c.Drop, c.DropAll)
}

// decide carries out a decision: for one message, or for all that are meant once that
// was confirmed.
func (c *command) decide(ctx context.Context, verb string, args []string, states []outbox.State,
	one func(context.Context, string) error, all func(context.Context, outbox.Filter) (int, error),
) error {
	flags := newFlags(verb)
	yes := flags.Bool("yes", false, "do not ask")
	filter := filterFlags(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() == 1 {
		return one(ctx, flags.Arg(0))
	}
	if flags.NArg() > 1 || flags.NFlag() == 0 || flags.NFlag() == 1 && *yes {
		return fmt.Errorf("%w: %s wants one ID, or flags that say which messages are meant", errUsage, verb)
	}
	meant := filter()
	if len(meant.States) == 0 {
		meant.States = states
	}
	found, err := c.List(ctx, meant)
	if err != nil {
		return err
	}
	if len(found) > 1 && !*yes {
		fmt.Fprintf(c.out, "%s %d messages? [y/N] ", verb, len(found))
		answer, _ := bufio.NewReader(c.in).ReadString('\n')
		if strings.TrimSpace(strings.ToLower(answer)) != "y" {
			return errors.New("nothing was done; -yes does it without a question")
		}
	}
	n, err := all(ctx, meant)
	fmt.Fprintf(c.out, "%d of %d: %s\n", n, len(found), verb)
	return err
}

func (c *command) pause(ctx context.Context, args []string) error {
	return c.ofNumber(ctx, args, c.Pause)
}

func (c *command) resume(ctx context.Context, args []string) error {
	return c.ofNumber(ctx, args, c.Resume)
}

// ofNumber does something with a phone number, or without one with all.
func (c *command) ofNumber(ctx context.Context, args []string, do func(context.Context, string) error) error {
	switch len(args) {
	case 0:
		return do(ctx, "")
	case 1:
		return do(ctx, args[0])
	}
	return fmt.Errorf("%w: want one phone number ID, or none for all", errUsage)
}

func (c *command) enqueue(ctx context.Context, args []string) error {
	flags := newFlags("enqueue")
	urgent := flags.Bool("urgent", false, "overtake the messages that are not")
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
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("%w: enqueue wants an ID and a phone number ID, and the payload on standard input", errUsage)
	}
	if *urgent {
		opts = append(opts, outbox.Urgent())
	}
	payload, err := io.ReadAll(c.in)
	if err != nil {
		return err
	}
	return c.Enqueue(ctx, flags.Arg(0), flags.Arg(1), payload, opts...)
}
