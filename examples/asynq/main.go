// Command asynq sends WhatsApp messages from an Asynq queue: see README.md.
package main

import (
	"context"
	"encoding/json"
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

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

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
		fmt.Fprintln(os.Stderr, "asynq:", err)
		os.Exit(1)
	}
}

// queue is the only queue.
const queue = "default"

// invocation is one call of the program.
type invocation struct {
	out            io.Writer
	redis          string
	count          int
	from, to, text string
	fake           bool
	down           time.Duration
	listen         string
}

func command(ctx context.Context, args []string, out io.Writer) error {
	in := invocation{out: out}
	flags := flag.NewFlagSet("asynq", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&in.redis, "redis", "redis://localhost:6379", "the `URL` of the Redis server, as in redis://host:port/0 or unix:///path")
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
		return fmt.Errorf("asynq takes flags alone, not %q", flags.Arg(0))
	case in.count < 0:
		return fmt.Errorf("-n %d: want 0 or more", in.count)
	case !in.fake && os.Getenv("WHATSAPP_TOKEN") == "":
		return errors.New("set WHATSAPP_TOKEN to send to Meta, or give -fake to send to a fake API")
	case in.listen != "" && os.Getenv("APP_SECRET") == "":
		return errors.New("set APP_SECRET, with which Meta signs webhooks, or leave out -listen")
	}
	return in.run(ctx)
}

// config is Asynq's, with what matters for messages.
func config() asynq.Config {
	return asynq.Config{
		Concurrency:    20,
		RetryDelayFunc: RetryDelay,
		IsFailure:      IsFailure,
		// Longer than an attempt can take. By default Asynq waits 8 s at a stop, then gives the
		// task to another worker while its request is still out.
		ShutdownTimeout: whatsapp.AttemptTimeout + 5*time.Second,
	}
}

// newTask returns the task that sends a message.
func newTask(message whatsapp.Message) (*asynq.Task, error) {
	payload, err := json.Marshal(Message{message, time.Now()})
	// MaxRetry counts what is not Meta's doing: a killed worker, or Redis.
	return asynq.NewTask(TypeMessage, payload, asynq.Timeout(2*whatsapp.AttemptTimeout), asynq.MaxRetry(25)), err
}

// run enqueues messages, and works until ctx is done or no task waits.
func (in invocation) run(ctx context.Context) error {
	redisOptions, err := redis.ParseURL(in.redis)
	if err != nil {
		return err
	}
	client := redis.NewClient(redisOptions)
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no Redis server: %w", err)
	}
	opts := []graphretry.Option{graphretry.WithLogger(slog.New(slog.NewTextHandler(in.out, nil)))}
	next := http.DefaultTransport
	config := config()
	config.LogLevel = asynq.ErrorLevel
	if in.fake {
		api := graphtest.New()
		api.DownAfter(0, in.down, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		next = api
		// So that an outage of seconds is worth watching.
		opts = append(opts, graphretry.WithInitialInterval(500*time.Millisecond), graphretry.WithMaxInterval(2*time.Second))
		config.DelayedTaskCheckInterval = 500 * time.Millisecond
	}
	sender, err := whatsapp.NewSender(next, whatsapp.BaseURL, os.Getenv("WHATSAPP_TOKEN"), opts...)
	if err != nil {
		return err
	}
	tasks := asynq.NewClientFromRedisClient(client)
	for i := range in.count {
		task, err := newTask(whatsapp.Message{From: in.from, To: in.to, Text: fmt.Sprintf("%s (%d)", in.text, i+1)})
		if err != nil {
			return err
		}
		if _, err := tasks.EnqueueContext(ctx, task); err != nil {
			return err
		}
	}
	inspector := asynq.NewInspectorFromRedisClient(client)
	if in.listen != "" {
		server := &http.Server{Addr: in.listen, Handler: webhook.Handler([]byte(os.Getenv("APP_SECRET")), Settle(client, inspector, queue, sender.Policy))}
		go func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintln(in.out, "webhooks are not taken:", err)
			}
		}()
		defer server.Close()
	}
	mux := asynq.NewServeMux()
	mux.Handle(TypeMessage, &Worker{sender, client})
	server := asynq.NewServerFromRedisClient(client, config)
	if err := server.Start(mux); err != nil {
		return err
	}
	in.watch(ctx, client, inspector)
	server.Shutdown() // what is being sent is sent
	return nil
}

// watch prints what has become of the tasks, until ctx is done or none waits.
func (in invocation) watch(ctx context.Context, client redis.UniversalClient, inspector *asynq.Inspector) {
	last := ""
	for {
		waiting, parked, failed, err := list(ctx, client, inspector)
		if err == nil {
			if text := fmt.Sprintf("%d wait, %d failed, %d parked", len(waiting), len(failed), len(parked)); text != last {
				fmt.Fprintln(in.out, text)
				last = text
			}
			if len(waiting) == 0 && in.listen == "" {
				for _, task := range parked {
					fmt.Fprintf(in.out, "task %s is parked: %s\n", task.ID, task.LastErr)
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

// list returns the tasks that wait or are at work, those that are parked, and those that
// have failed. Asynq drops the others.
func list(ctx context.Context, client redis.UniversalClient, inspector *asynq.Inspector) (waiting, parked, failed []*asynq.TaskInfo, err error) {
	for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		// In the order in which a task gets from one to the next, so that none is missed.
		inspector.ListRetryTasks, inspector.ListScheduledTasks, inspector.ListPendingTasks, inspector.ListActiveTasks,
	} {
		tasks, err := list(queue, asynq.PageSize(10000))
		if err != nil {
			return nil, nil, nil, err
		}
		waiting = append(waiting, tasks...)
	}
	archived, err := inspector.ListArchivedTasks(queue, asynq.PageSize(10000))
	if err != nil {
		return nil, nil, nil, err
	}
	for _, task := range archived {
		state, _, err := load(ctx, client, task.ID)
		switch {
		case err != nil:
			return nil, nil, nil, err
		case state.Outcome == graphretry.OutcomeUnknown:
			parked = append(parked, task)
		default:
			failed = append(failed, task)
		}
	}
	return waiting, parked, failed, nil
}
