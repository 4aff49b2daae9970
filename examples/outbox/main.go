// Command outbox enqueues WhatsApp messages, sends them, and shows their states. It
// can be killed at any time: see README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

const usage = `usage: outbox enqueue [flags]       put messages into the queue
       outbox run [flags]           send them, until Ctrl-C
       outbox status [flags] [id]   show what has become of them
       outbox resend [flags] id     send an unknown or failed message (again)
       outbox drop [flags] id       give up an unknown or queued message

outbox COMMAND -h shows the flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := command(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}

// invocation is one call of the program.
type invocation struct {
	out io.Writer

	where     place
	prefix    string
	count     int
	from, to  string
	text      string
	fake      bool
	down      time.Duration
	untilDone bool
	ids       []string
}

func command(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(out, usage)
		return flag.ErrHelp
	}
	name, in := args[0], invocation{out: out}
	flags := flag.NewFlagSet("outbox "+name, flag.ContinueOnError)
	flags.StringVar(&in.where.dir, "dir", "outbox-data", "the `directory` with the SQLite file")
	flags.StringVar(&in.where.url, "postgres", "", "the `URL` of a PostgreSQL database, in place of the file")
	flags.StringVar(&in.prefix, "prefix", "reminder", "what the ids of the messages begin with")
	var do func(context.Context, *outbox.Outbox) error
	switch name {
	case "enqueue":
		flags.IntVar(&in.count, "n", 20, "how many messages: reminder-1, reminder-2 and on")
		flags.StringVar(&in.from, "from", "106540352242922", "the business's phone number ID")
		flags.StringVar(&in.to, "to", "15550001111", "the receiver's phone number")
		flags.StringVar(&in.text, "text", "Your table is booked.", "the text")
		do = in.enqueue
	case "run":
		flags.BoolVar(&in.fake, "fake", false, "send to a fake API in this process, in place of Meta's")
		flags.DurationVar(&in.down, "down", 0, "with -fake: how long the API is down from now on")
		flags.BoolVar(&in.untilDone, "until-done", false, "end when no message is queued any more")
		do = in.run
	case "status":
		do = in.status
	case "resend":
		do = in.each((*outbox.Outbox).Resend)
	case "drop":
		do = in.each((*outbox.Outbox).Drop)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(out, usage)
		return nil
	default:
		return fmt.Errorf("there is no command %q\n%s", name, usage)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	in.ids = flags.Args()
	switch {
	case in.down < 0:
		return fmt.Errorf("-down %v: want 0 or more", in.down)
	case name == "enqueue" && in.count < 1:
		return fmt.Errorf("-n %d: want 1 or more", in.count)
	case len(in.ids) > 0 && (name == "enqueue" || name == "run"):
		return fmt.Errorf("%s takes flags alone, not %q", name, in.ids[0])
	}

	database, leave, err := in.where.open()
	if err != nil {
		return err
	}
	defer leave()
	next, opts, err := in.sending(name == "run")
	if err != nil {
		return err
	}
	o, err := outbox.Open(ctx, database, next, opts...)
	if err != nil {
		return err
	}
	defer o.Close()
	return do(ctx, o)
}

// sending returns the RoundTripper that sends messages, and the options.
func (in *invocation) sending(wanted bool) (http.RoundTripper, []outbox.Option, error) {
	opts := []outbox.Option{outbox.WithLogger(slog.New(slog.NewTextHandler(in.out, nil)))}
	token := os.Getenv("WHATSAPP_TOKEN")
	switch {
	case !wanted:
		return nil, opts, nil
	case in.fake:
		// With these a short outage shows everything.
		opts = append(opts, outbox.WithTransportOptions(
			graphretry.WithInitialInterval(500*time.Millisecond), graphretry.WithMaxInterval(5*time.Second),
			graphretry.WithOutageThreshold(5)))
		return newFakeAPI(in.where.dir, in.down, in.out), opts, nil
	case token == "":
		return nil, nil, errors.New("run: set WHATSAPP_TOKEN to send to Meta, or give -fake to send to a fake API")
	}
	return nil, append(opts, outbox.WithAccessToken(token)), nil
}

func (in *invocation) enqueue(ctx context.Context, o *outbox.Outbox) error {
	for i := range in.count {
		id := in.id(i)
		payload := fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":%q,"type":"text","text":{"body":%q}}`, in.to, in.text)
		if err := o.Enqueue(ctx, id, in.from, payload); err != nil {
			return err
		}
	}
	fmt.Fprintf(in.out, "%s to %s are in the queue\n", in.id(0), in.id(in.count-1))
	return nil
}

func (in *invocation) id(i int) string { return fmt.Sprintf("%s-%d", in.prefix, i+1) }

func (in *invocation) run(ctx context.Context, o *outbox.Outbox) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fmt.Fprintf(in.out, "running; stop it with Ctrl-C, or try: kill -9 %d\n", os.Getpid())
	ran := make(chan error, 1)
	go func() { ran <- o.Run(ctx) }()
	webhooks := webhooks{dir: in.where.dir}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case err := <-ran:
			fmt.Fprintln(in.out, "stopped")
			return err
		case <-ticker.C:
		}
		if in.fake {
			if err := webhooks.deliver(ctx, o); err != nil && ctx.Err() == nil {
				return err
			}
		}
		counts, err := in.summary(ctx, o)
		if err != nil {
			continue // sending goes on
		}
		if text := counts.String(); text != last {
			fmt.Fprintln(in.out, text)
			last = text
		}
		if in.untilDone && counts[outbox.StateQueued]+counts[outbox.StateSending] == 0 {
			cancel()
		}
	}
}

// each returns a function that calls do with every id that was given.
func (in *invocation) each(do func(*outbox.Outbox, context.Context, string) error) func(context.Context, *outbox.Outbox) error {
	return func(ctx context.Context, o *outbox.Outbox) error {
		if len(in.ids) == 0 {
			return errors.New("want the ids of messages")
		}
		for _, id := range in.ids {
			if err := do(o, ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
}
