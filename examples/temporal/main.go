// Command temporal sends WhatsApp messages with Temporal: see README.md.
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

	"go.temporal.io/sdk/client"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/examples/temporal/sending"
	"github.com/graphretry/graphretry/graphtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := command(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "temporal:", err)
		os.Exit(1)
	}
}

// invocation is one call of the program.
type invocation struct {
	out            io.Writer
	address        string
	count          int
	from, to, text string
	fake           bool
	down           time.Duration
	listen         string
}

func command(ctx context.Context, args []string, out io.Writer) error {
	in := invocation{out: out}
	flags := flag.NewFlagSet("temporal", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&in.address, "address", client.DefaultHostPort, "the `host:port` of the Temporal server")
	flags.IntVar(&in.count, "n", 20, "how many messages to send")
	flags.StringVar(&in.from, "from", "106540352242922", "the ID of the business's phone number")
	flags.StringVar(&in.to, "to", "15550001111", "the receiver's phone number")
	flags.StringVar(&in.text, "text", "Your table is booked.", "the text")
	flags.BoolVar(&in.fake, "fake", false, "send to a fake API in this process, in place of Meta's")
	flags.DurationVar(&in.down, "down", 3*time.Second, "with -fake: how long the API is down at first")
	flags.StringVar(&in.listen, "listen", "", "the `address` to take Meta's webhooks at, as in :8080")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("temporal takes flags alone, not %q", flags.Arg(0))
	case in.count < 0:
		return fmt.Errorf("-n %d: want 0 or more", in.count)
	case !in.fake && os.Getenv("WHATSAPP_TOKEN") == "":
		return errors.New("set WHATSAPP_TOKEN to send to Meta, or give -fake to send to a fake API")
	case in.listen != "" && os.Getenv("APP_SECRET") == "":
		return errors.New("set APP_SECRET, with which Meta signs webhooks, or leave out -listen")
	}
	return in.run(ctx)
}

// run starts a workflow for each message, and works until ctx is done or all are at rest.
func (in invocation) run(ctx context.Context) error {
	opts := []graphretry.Option{graphretry.WithLogger(slog.New(slog.NewTextHandler(in.out, nil)))}
	next := http.DefaultTransport
	if in.fake {
		api := graphtest.New()
		api.DownAfter(0, in.down, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		next = api
		// So that an outage of seconds is worth watching.
		opts = append(opts, graphretry.WithInitialInterval(500*time.Millisecond), graphretry.WithMaxInterval(2*time.Second))
	}
	sender, err := whatsapp.NewSender(next, whatsapp.BaseURL, os.Getenv("WHATSAPP_TOKEN"), opts...)
	if err != nil {
		return err
	}
	c, err := client.DialContext(ctx, client.Options{HostPort: in.address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("no Temporal server: %w", err)
	}
	defer c.Close()
	var ids []string
	for i := range in.count {
		id := fmt.Sprintf("message-%d-%d", time.Now().UnixNano(), i+1)
		message := whatsapp.Message{From: in.from, To: in.to, Text: fmt.Sprintf("%s (%d)", in.text, i+1)}
		if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: sending.TaskQueue}, sending.SendMessage, message); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if in.listen != "" {
		server := &http.Server{Addr: in.listen, Handler: webhook.Handler([]byte(os.Getenv("APP_SECRET")), sending.Settle(c))}
		go func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintln(in.out, "webhooks are not taken:", err)
			}
		}()
		defer server.Close()
	}
	w := sending.NewWorker(c, sender)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop() // what is being sent is sent
	last := ""
	for {
		counts := map[string]int{}
		for _, id := range ids {
			state, err := sending.StateOf(ctx, c, id)
			if err != nil && ctx.Err() == nil {
				return err
			}
			counts[state]++
		}
		if text := fmt.Sprintf("%d wait, %d sent, %d failed, %d parked", counts["waiting"], counts["sent"], counts["failed"], counts["parked"]); text != last && ctx.Err() == nil {
			fmt.Fprintln(in.out, text)
			last = text
		}
		if counts["waiting"] == 0 && in.listen == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(250 * time.Millisecond):
		}
	}
}
