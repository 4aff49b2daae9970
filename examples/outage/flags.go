package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/graphretry/graphretry"
)

// settings is what the flags and the environment say.
type settings struct {
	rate     int // messages a second
	one      bool
	outage   time.Duration
	interval time.Duration
	code     graphretry.Code
	to       string

	// For the real API; "" for the fake one.
	token, phoneNumberID string
	// realButForTo is set if all is there to use the real API but -to.
	realButForTo bool
}

// defaultInterval is the initial interval of graphretry. The demo's own is
// shorter, so that nobody has to watch for minutes.
const defaultInterval = 5 * time.Second

var (
	phoneNumber = regexp.MustCompile(`^\+?[0-9]{5,15}$`)
	digits      = regexp.MustCompile(`^[0-9]+$`)
)

// parse reads the flags and the environment. All that is wrong is told at once.
func parse(args []string, stdout io.Writer, getenv func(string) string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("outage", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&s.rate, "rate", 20, "how `many` messages are sent a second")
	flags.BoolVar(&s.one, "one", false, "send one message, and show what happens to each attempt")
	flags.DurationVar(&s.outage, "outage", 7*time.Second, "how `long` the API is down")
	flags.DurationVar(&s.interval, "interval", time.Second, "how `long` the first wait is, before a retry and between probes; each further wait is twice as long; graphretry's default is 5s")
	flags.IntVar((*int)(&s.code), "code", int(graphretry.CodeAPIService), "the Graph error `code` that the API answers with while it is down")
	flags.StringVar(&s.to, "to", "16505551234", "the phone `number` to send to, with its country code")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: make demo ARGS=\"[flags]\"   or   go run ./examples/outage [flags]")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		fmt.Fprintln(stdout, "With WHATSAPP_TOKEN, WHATSAPP_PHONE_NUMBER_ID and -to it sends one message through the real API.")
		fmt.Fprintln(stdout, "With NO_COLOR or TERM=dumb, or in a small window, it prints a line a second and no picture.")
		return s, err
	} else if err != nil {
		return s, fmt.Errorf("%w (-h lists the flags)", err)
	}

	var faults []error
	fault := func(is bool, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(flags.NArg() > 0, "%q: want flags only", flags.Args())
	fault(s.rate < 1 || s.rate > 1000, "-rate %d: want 1 to 1000", s.rate)
	fault(s.outage < 0 || s.outage > 24*time.Hour, "-outage %v: want 0s to 24h", s.outage)
	fault(s.interval < 10*time.Millisecond || s.interval > time.Minute, "-interval %v: want 10ms to 1m", s.interval)
	fault(s.code < 1, "-code %d: want a Graph error code, such as 2, 131000, 131009, 131016 or 130472", s.code)
	fault(!phoneNumber.MatchString(s.to), "-to %q: want a phone number with its country code, such as 16505551234", s.to)

	token, id := getenv("WHATSAPP_TOKEN"), getenv("WHATSAPP_PHONE_NUMBER_ID")
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fault(s.one && given["rate"], "-one and -rate are both given: want one of them")
	switch {
	case token == "" && id == "":
	case !given["to"]:
		s.realButForTo = token != "" && id != ""
	case token == "" || id == "":
		fault(true, "-to is given, and only one of WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is set: set both for the real API, or none for the fake one")
	default:
		s.token, s.phoneNumberID = token, id
		s.interval = defaultInterval
		fault(!digits.MatchString(id), "WHATSAPP_PHONE_NUMBER_ID=%q: want an id of digits, such as 106540352242922", id)
		for _, name := range []string{"rate", "outage", "interval", "code"} {
			fault(given[name], "-%s: this is for the fake API, and -to with WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is for the real one", name)
		}
	}
	return s, errors.Join(faults...)
}
