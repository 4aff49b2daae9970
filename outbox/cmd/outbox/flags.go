package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// newFlags returns the flags of the program, or of a verb. The flags that all verbs have keep
// their values.
func (c *command) newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error, once
	flags.StringVar(&c.db, "db", c.db, "postgres://user@host/name, or the `file` of a SQLite database;\nwithout it $OUTBOX_DB")
	flags.StringVar(&c.name, "name", c.name, "`name` of the outbox in the database (default graphretry)")
	flags.BoolVar(&c.asJSON, "json", c.asJSON, "print JSON, an object a line")
	// -h prints defaults, and a password may be in one.
	flags.Lookup("db").DefValue, flags.Lookup("name").DefValue, flags.Lookup("json").DefValue = "", "", "false"
	return flags
}

// parse parses flags, and prints the help if they ask for it.
func (c *command) parse(flags *flag.FlagSet, args []string, help func() string) error {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, printing := io.WriteString(c.out, help()); printing != nil {
			return printing
		}
		return err
	case err != nil:
		return wrongUsage(flags.Name(), "%v", err)
	case c.name == "":
		return wrongUsage(flags.Name(), "-name is empty: want the name of an outbox")
	case isGiven(flags, "db") && c.db == "":
		// It can be an empty variable of a script. Then $OUTBOX_DB does not apply.
		return wrongUsage(flags.Name(), "-db is empty: want postgres://user@host/name, or a file")
	}
	return nil
}

// isGiven reports whether one of these flags is on the command line.
func isGiven(flags *flag.FlagSet, names ...string) bool {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || slices.Contains(names, f.Name) })
	return given
}

// check checks the arguments after the flags. It refuses an argument that looks like a flag,
// since flags after an argument would be taken for more arguments.
func (v *verb) check(flags *flag.FlagSet, args []string) error {
	rest := flags.Args()
	if len(rest) < v.least || v.most != many && len(rest) > v.most {
		want := v.arguments
		if want == "" {
			want = "none"
		}
		return wrongUsage(v.name, "%s has %d arguments: want %s", v.name, len(rest), want)
	}
	dashes := len(args) > len(rest) && args[len(args)-len(rest)-1] == "--"
	for _, argument := range rest {
		if strings.HasPrefix(argument, "-") && !dashes {
			return wrongUsage(v.name, "%s has %q after an argument: want flags before it, and -- before an ID that begins with a dash", v.name, argument)
		}
	}
	return nil
}

func names(all []verb) string {
	var names []string
	for _, v := range all {
		names = append(names, v.name)
	}
	return strings.Join(names, ", ")
}

// usage returns the help of the program.
func usage(flags *flag.FlagSet, all []verb) string {
	var text strings.Builder
	text.WriteString("usage: outbox VERB [flags] [arguments]\n\nIt shows what is in an outbox, and carries out what a person decides.\n\n")
	for _, v := range all {
		fmt.Fprintf(&text, "  %-8s %s\n", v.name, strings.TrimSuffix(v.short, "."))
	}
	text.WriteString("\n\"outbox VERB -h\" says more. Flags of every verb, also before it:\n\n" + defaults(flags))
	text.WriteString("\nThe exit status is 0 if all was done, 1 if something failed or was refused,\nand 2 if the command line is wrong.\n")
	return text.String()
}

// helpColumns is how wide the text of the help is at most.
const helpColumns = 79

// usage returns the help of a verb.
func (v *verb) usage(flags *flag.FlagSet) string {
	arguments := v.arguments
	if arguments != "" {
		arguments = " " + arguments
	}
	about := strings.Join(wrapped("", v.short+" "+v.about, helpColumns), "\n")
	return fmt.Sprintf("usage: outbox %s [flags]%s\n\n%s\n\n%s", v.name, arguments, about, defaults(flags))
}

// defaults returns the help of the flags.
func defaults(flags *flag.FlagSet) string {
	var text strings.Builder
	flags.SetOutput(&text)
	flags.PrintDefaults()
	return strings.ReplaceAll(text.String(), "\t", "    ")
}
