//go:build unix

package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/examples/queue/queuetest"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

func TestMain(m *testing.M) { queuetest.Main(m, work) }

// work is a worker process.
func work(ctx context.Context, process queuetest.Process) error {
	if !isPostgres(process.Server) {
		db, err := openSQLite(process.Server)
		if err != nil {
			return err
		}
		defer db.Close()
		return workOn(ctx, process, riversqlite.New(db))
	}
	pool, err := pgxpool.New(ctx, process.Server)
	if err != nil {
		return err
	}
	defer pool.Close()
	return workOn(ctx, process, riverpgxv5.New(pool))
}

func workOn[Tx any](ctx context.Context, process queuetest.Process, driver riverdriver.Driver[Tx]) error {
	sender, err := whatsapp.NewSender(http.DefaultTransport, process.BaseURL, "token", process.Options()...)
	if err != nil {
		return err
	}
	config := config(&Worker[Tx]{sender: sender})
	config.JobTimeout, config.RescueStuckJobsAfter = 10*time.Second, 20*time.Second
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	client, err := river.NewClient(driver, config)
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-client.Stopped()
	return nil
}

func TestWorldOnPostgres(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			server := queuetest.Postgres(t)
			pool, err := pgxpool.New(t.Context(), server)
			require.NoError(t, err)
			defer pool.Close()
			queue := queueOn(t, riverpgxv5.New(pool), server)
			queue.Expire = func(ctx context.Context) error {
				_, err := pool.Exec(ctx, "UPDATE river_job SET attempted_at = attempted_at - interval '1 hour' WHERE state = 'running'")
				return err
			}
			queuetest.Run(t, queue, signal)
		})
	}
}

func TestFakeRunOnPostgres(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	var out queuetest.Output
	require.NoError(t, command(t.Context(), []string{"-fake", "-down", "1s", "-database", queuetest.Postgres(t)}, &out))
	assert.Contains(t, out.String(), "0 wait, 20 sent, 0 failed, 0 parked")
}

func TestWorldOnSQLite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "messages.db")
	db, err := openSQLite(file)
	require.NoError(t, err)
	defer db.Close()
	queue := queueOn(t, riversqlite.New(db), file)
	queue.Expire = func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "UPDATE river_job SET attempted_at = datetime(attempted_at, '-1 hour') WHERE state = 'running'")
		return err
	}
	queuetest.Run(t, queue, syscall.SIGKILL)
}

// queueOn returns River's tables in a database as a queue.
func queueOn[Tx any](t *testing.T, driver riverdriver.Driver[Tx], server string) queuetest.Queue {
	migrator, err := rivermigrate.New(driver, nil)
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	client, err := river.NewClient(driver, &river.Config{})
	require.NoError(t, err)
	return queuetest.Queue{
		Server: server,
		Enqueue: func(ctx context.Context, texts []string) error {
			var params []river.InsertManyParams
			for _, text := range texts {
				params = append(params, river.InsertManyParams{Args: Message{"106540352242922", "15550001111", text}})
			}
			_, err := client.InsertMany(ctx, params)
			return err
		},
		Jobs: func(ctx context.Context) ([]queuetest.Job, error) {
			rows, err := list(ctx, client)
			var jobs []queuetest.Job
			for _, row := range rows {
				states := map[string]queuetest.State{
					"waiting": queuetest.StateWaiting, "sent": queuetest.StateSent, "failed": queuetest.StateFailed, "parked": queuetest.StateParked,
				}
				jobs = append(jobs, queuetest.Job{Text: textOf(row.EncodedArgs), State: states[state(row)], Cause: cause(row)})
			}
			return jobs, err
		},
	}
}

func textOf(args []byte) string {
	var message Message
	if err := json.Unmarshal(args, &message); err != nil {
		return err.Error()
	}
	return message.Text
}
