// Command river sends WhatsApp messages from a River queue: see README.md.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/graphtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := command(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

// invocation is one call of the program.
type invocation struct {
	out            io.Writer
	database       string
	count          int
	from, to, text string
	fake           bool
	down           time.Duration
	listen         string
}

func command(ctx context.Context, args []string, out io.Writer) error {
	in := invocation{out: out}
	flags := flag.NewFlagSet("river", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&in.database, "database", "messages.db", "the `URL` of a PostgreSQL database, as in postgres://localhost/messages, or a file of SQLite's")
	flags.IntVar(&in.count, "n", 20, "how many messages to put into the queue")
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
		return fmt.Errorf("river takes flags alone, not %q", flags.Arg(0))
	case in.count < 0:
		return fmt.Errorf("-n %d: want 0 or more", in.count)
	case !in.fake && os.Getenv("WHATSAPP_TOKEN") == "":
		return errors.New("set WHATSAPP_TOKEN to send to Meta, or give -fake to send to a fake API")
	case in.listen != "" && os.Getenv("APP_SECRET") == "":
		return errors.New("set APP_SECRET, with which Meta signs webhooks, or leave out -listen")
	}
	if isPostgres(in.database) {
		pool, err := pgxpool.New(ctx, in.database)
		if err != nil {
			return err
		}
		defer pool.Close()
		return run(ctx, in, riverpgxv5.New(pool))
	}
	db, err := openSQLite(in.database)
	if err != nil {
		return err
	}
	defer db.Close()
	return run(ctx, in, riversqlite.New(db))
}

// isPostgres reports whether a database is one of PostgreSQL's, by its URL or its keywords.
func isPostgres(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") || strings.HasPrefix(database, "host=")
}

// openSQLite opens a file. Other processes may have it open too.
func openSQLite(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(30000)&_txlock=immediate")
	if err == nil {
		db.SetMaxOpenConns(1) // SQLite has one writer, and River asks for no more
	}
	return db, err
}

// config is River's, with what matters for messages.
func config[Tx any](worker *Worker[Tx]) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	return &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 20}},
		Workers: workers,
		// The jobs of a killed worker come back after this time, by default an hour. It must be
		// above JobTimeout, by default a minute, and that above the timeout of an attempt.
		RescueStuckJobsAfter: 5 * time.Minute,
		// A parked job is a cancelled one, which River deletes after 24 hours by default. Meta
		// sends a webhook again for up to 7 days.
		CancelledJobRetentionPeriod: 30 * 24 * time.Hour,
	}
}

// run enqueues messages, and works until ctx is done or no job waits.
func run[Tx any](ctx context.Context, in invocation, driver riverdriver.Driver[Tx]) error {
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
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
	client, err := river.NewClient(driver, config(&Worker[Tx]{sender: sender}))
	if err != nil {
		return err
	}
	for i := range in.count {
		if _, err := client.Insert(ctx, Message{in.from, in.to, fmt.Sprintf("%s (%d)", in.text, i+1)}, nil); err != nil {
			return err
		}
	}
	if in.listen != "" {
		server := &http.Server{Addr: in.listen, Handler: webhook.Handler([]byte(os.Getenv("APP_SECRET")), Settle(client, sender.Policy))}
		go func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintln(in.out, "webhooks are not taken:", err)
			}
		}()
		defer server.Close()
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	watch(ctx, client, in)
	// Start's context stops it softly: what is being sent is sent.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return client.Stop(stopping)
}

// watch prints what has become of the jobs, until ctx is done or none waits.
func watch[Tx any](ctx context.Context, client *river.Client[Tx], in invocation) {
	last := ""
	for {
		jobs, err := list(ctx, client)
		if err == nil {
			counts := map[string]int{}
			for _, job := range jobs {
				counts[state(job)]++
			}
			waiting := counts["waiting"] > 0
			if text := fmt.Sprintf("%d wait, %d sent, %d failed, %d parked", counts["waiting"], counts["sent"], counts["failed"], counts["parked"]); text != last {
				fmt.Fprintln(in.out, text)
				last = text
			}
			if !waiting && in.listen == "" {
				for _, job := range jobs {
					if state(job) == "parked" {
						fmt.Fprintf(in.out, "job %d is parked: %s\n", job.ID, cause(job))
					}
				}
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// list returns all jobs that are messages.
func list[Tx any](ctx context.Context, client *river.Client[Tx]) ([]*rivertype.JobRow, error) {
	var jobs []*rivertype.JobRow
	params := river.NewJobListParams().Kinds(Message{}.Kind()).First(1000).OrderBy(river.JobListOrderByID, river.SortOrderAsc)
	for {
		page, err := client.JobList(ctx, params)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, page.Jobs...)
		if len(page.Jobs) < 1000 {
			return jobs, nil
		}
		params = params.After(page.LastCursor)
	}
}

// state says what has become of a job.
func state(job *rivertype.JobRow) string {
	last, err := stateOf(job)
	switch {
	case job.FinalizedAt == nil:
		return "waiting"
	case job.State == rivertype.JobStateCompleted, err == nil && last.Outcome == graphretry.OutcomeSent:
		return "sent"
	case err == nil && last.Outcome == graphretry.OutcomeUnknown:
		return "parked"
	}
	return "failed"
}

// cause says why, as it stands in the job's own record.
func cause(job *rivertype.JobRow) string {
	if len(job.Errors) > 0 {
		return job.Errors[len(job.Errors)-1].Error
	}
	last, _ := stateOf(job)
	return last.Cause
}
