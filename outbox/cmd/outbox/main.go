// Command outbox shows what is in an outbox, and carries out what a person decides.
//
//	outbox {-postgres URL | -sqlite FILE} [-name NAME] [-json] stats
//	outbox ... top     [-every D] [-n N]
//	outbox ... list    [-state S,S] [-number N] [-label L] [-code C] [-older D] [-changed-after T] [-after ID] [-limit N]
//	outbox ... show    ID
//	outbox ... resend  [-yes] ID..., or the flags of list
//	outbox ... drop    [-yes] ID..., or the flags of list
//	outbox ... park    [-yes] ID..., or the flags of list
//	outbox ... delete  [-yes] ID..., or the flags of list
//	outbox ... pause   [NUMBER]
//	outbox ... resume  [NUMBER]
//	outbox ... health
//	outbox ... serve   [-addr ADDRESS] [-payloads]
//	outbox ... enqueue [-urgent] [-label L] [-not-before T] [-expires-at T] ID NUMBER <payload.json
//	outbox schema [-dialect postgres|sqlite] [-name NAME]
//
// The flags before the verb:
//
//	-postgres URL  the database, as in postgres://user@host/name or "host=/run/postgresql";
//	               PGHOST, PGPASSWORD and the other variables of libpq are heeded. Without it
//	               and without -sqlite it is $DATABASE_URL.
//	-sqlite FILE   the file of the database.
//	-name NAME     the outbox, as WithName sets it: graphretry by default.
//	-json          print an object a line, with the names of the fields that the Go types
//	               have.
//
// The verbs:
//
//   - stats counts the messages of each phone number and of each label, and shows the Runs
//     of all machines.
//   - top prints that again and again, with the messages a second that were sent since
//     the look before, and beneath it the 20 messages that have last become failed or
//     unknown, if there are no more than 1,000 of these. On a terminal it draws in place;
//     elsewhere each look is a block of lines, or with -json an object. -every is the time
//     between two looks (1s). -n ends it after so many; without it an interrupt does.
//   - list prints the messages that fit all its flags, in the order in which they were enqueued.
//     -state has states with commas between them: queued, sending, sent, failed, unknown.
//     -number is a phone number ID. -label is that of a campaign. -code is a code or a subcode of what Meta said last.
//     -older is how long ago it was enqueued at least, as in 10m. -changed-after is a time as
//     in 2026-11-27T09:00:00Z: it fits what has changed after that, and what waits in the
//     queue and is due, of which an older copy cannot know. -after is the ID
//     that an earlier list ended with. -limit is how many it prints at most.
//   - show prints all that is known of one message.
//   - resend puts messages that are unknown or failed back into the queue. Those that
//     were sent after all are received twice.
//   - drop gives up messages that are unknown or queued: they become failed.
//   - park has queued messages not be sent, as they may have been: they become unknown. After
//     a restore, or when a replica that lagged has taken over, "park -changed-after T" with
//     the time of which the database is, before any Run begins: then nothing is sent again
//     that had gone out since.
//   - delete takes messages out of the outbox with all that is known of them.
//   - pause has every machine send nothing more from a phone number, or from any, until
//     resume.
//   - health reports whether the database can be used, by its exit status.
//   - serve shows it all in a browser, and decides there, until an interrupt. It listens at
//     -addr (127.0.0.1:8080), which must be a loopback address, since it has no login: for
//     others, mount package page behind yours. -payloads has it show the payloads. What is
//     decided is logged on standard error with the name of the user of this process.
//   - enqueue puts a message into the queue, the payload on its standard input being the
//     body of Meta's POST /messages. The times are as in 2026-11-27T09:00:00Z.
//   - schema prints the SQL that makes the tables, for migrations of your own. It needs no
//     database.
//
// Flags stand before the arguments; -- stands before an ID that begins with a dash.
//
// Before resend, drop, park and delete touch more than one message they say how many and ask;
// -yes answers for the person, and where nobody answers nothing is done. resend touches only
// the messages that were counted; the others touch all that fit by then. One that cannot be touched, as it is being sent, is
// named on standard error, and the others are done all the same.
//
// The exit status is 0 if all was done, 1 if something failed or was refused, and 2 if
// the command line is wrong.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/store"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		size: func() (columns, lines int) { return terminalSize(os.Stdout) },
	})
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "outbox:", strings.TrimPrefix(err.Error(), "outbox: "))
		os.Exit(1)
	}
}

// errUsage is in the chain of the error of a wrong command line.
var errUsage = errors.New("see go doc github.com/graphretry/graphretry/outbox/cmd/outbox")

// wrongUsage returns an error that says what is wrong with the command line and what
// would be right.
func wrongUsage(format string, args ...any) error {
	return fmt.Errorf("outbox: %s; %w", fmt.Sprintf(format, args...), errUsage)
}

// streams are what the program reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// size returns the size of the terminal that out is, 0 and 0 if it is none.
	size func() (columns, lines int)
}

// command is a call of the program.
type command struct {
	*outbox.Outbox
	streams
	name   string
	asJSON bool
}

var verbs = map[string]func(*command, context.Context, []string) error{
	"stats": (*command).stats, "top": (*command).top, "list": (*command).list, "show": (*command).show,
	"resend": (*command).resend, "drop": (*command).drop, "park": (*command).park, "delete": (*command).delete,
	"health": (*command).health,
	"pause":  (*command).pause, "resume": (*command).resume, "serve": (*command).serve, "enqueue": (*command).enqueue,
}

func run(ctx context.Context, args []string, s streams) error {
	if len(args) > 0 && args[0] == "schema" {
		return schema(args[1:], s)
	}
	flags := newFlags("outbox", s)
	// The default is not the flag's own, since -h prints that and a password may be in it.
	postgres := flags.String("postgres", "", "`URL` of a PostgreSQL database; without it and -sqlite $DATABASE_URL")
	file := flags.String("sqlite", "", "`file` of a SQLite database")
	name := flags.String("name", "graphretry", "name of the outbox in the database")
	asJSON := flags.Bool("json", false, "print an object a line")
	if err := parse(flags, args); err != nil {
		return err
	}
	verb, ok := verbs[flags.Arg(0)]
	if !ok {
		return wrongUsage("want one of %s, schema", strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
	}
	db, database, err := connect(*postgres, *file)
	if err != nil {
		return err
	}
	defer db.Close()
	// Open would make one that is not there.
	o, err := outbox.Open(ctx, database, nil, outbox.WithName(*name), outbox.WithoutMigration())
	if err != nil {
		return err
	}
	defer o.Close()
	return verb(&command{o, s, *name, *asJSON}, ctx, flags.Args()[1:])
}

// connect opens the database. Its errors do not tell what a URL has.
func connect(postgres, file string) (*sql.DB, outbox.Database, error) {
	switch {
	case postgres != "" && file != "":
		return nil, outbox.Database{}, wrongUsage("want -postgres or -sqlite, not both")
	case file != "":
		if _, err := os.Stat(file); err != nil {
			return nil, outbox.Database{}, fmt.Errorf("there is no database: %w", err)
		}
		db, err := sqlite.Open(file)
		return db, outbox.SQLite(db), err
	}
	source := "-postgres"
	if postgres == "" {
		source, postgres = "DATABASE_URL", os.Getenv("DATABASE_URL")
	}
	if postgres == "" {
		return nil, outbox.Database{}, wrongUsage("want -postgres URL, -sqlite FILE, or DATABASE_URL")
	}
	config, err := pgx.ParseConfig(postgres)
	if err != nil {
		// Not what is wrong with it, in which a part of a password may stand.
		return nil, outbox.Database{}, wrongUsage("%s: want a URL such as postgres://user@host/name", source)
	}
	db := stdlib.OpenDB(*config)
	return db, outbox.Postgres(db), nil
}

// schema prints the SQL that makes the tables.
func schema(args []string, s streams) error {
	flags := newFlags("schema", s)
	dialect := flags.String("dialect", "postgres", "postgres or sqlite")
	name := flags.String("name", "graphretry", "name of the outbox in the database")
	if err := parseArguments(flags, args, 0, 0, "flags alone"); err != nil {
		return err
	}
	kind := store.Kind(*dialect)
	switch {
	case kind != store.Postgres && kind != store.SQLite:
		return wrongUsage("there is no dialect %q: want postgres or sqlite", *dialect)
	case !store.IsName(*name):
		return wrongUsage("-name is %q: want 1 to 40 lower-case letters, digits or underscores", *name)
	}
	_, err := io.WriteString(s.out, store.Schema(kind, *name))
	return err
}

// newFlags returns the flags of a verb, or of the program, which print on standard error
// what they are if they are asked.
func newFlags(name string, s streams) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is printed once, by main
	flags.Usage = func() {
		flags.SetOutput(s.err)
		fmt.Fprintf(s.err, "The flags of %s; %v\n", name, errUsage)
		flags.PrintDefaults()
	}
	return flags
}

// parse parses flags. What is wrong with them is an errUsage.
func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return wrongUsage("%v", err)
	}
	return err
}

// parseArguments parses flags, after which there must be so many arguments. One that
// looks like a flag is refused, since flags after an argument would be taken for more
// arguments.
func parseArguments(flags *flag.FlagSet, args []string, least, most int, want string) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	rest := flags.Args()
	if len(rest) < least || len(rest) > most {
		return wrongUsage("%s wants %s", flags.Name(), want)
	}
	dashes := len(args) > len(rest) && args[len(args)-len(rest)-1] == "--"
	for _, argument := range rest {
		if strings.HasPrefix(argument, "-") && !dashes {
			return wrongUsage("%s has %q after an argument: want flags before it, and -- before an ID that begins with a dash", flags.Name(), argument)
		}
	}
	return nil
}
