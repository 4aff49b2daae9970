package main

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertest"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/queuetest"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/graphtest"
)

// bench is a client of River's that works, on a database of its own.
type bench struct {
	*river.Client[*sql.Tx]
	db     *sql.DB
	api    *graphtest.API
	events <-chan *river.Event
	worker *Worker[*sql.Tx]
}

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := openSQLite(filepath.Join(t.TempDir(), "messages.db"))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	driver := riversqlite.New(db)
	migrator, err := rivermigrate.New(driver, nil)
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	b := &bench{db: db, api: graphtest.New()}
	sender, err := whatsapp.NewSender(b.api, whatsapp.BaseURL, "token", graphretry.WithInitialInterval(time.Millisecond), graphretry.WithMaxInterval(4*time.Millisecond))
	require.NoError(t, err)
	b.worker = &Worker[*sql.Tx]{sender: sender}
	config := config(b.worker)
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	config.FetchPollInterval, config.FetchCooldown = 10*time.Millisecond, 10*time.Millisecond
	b.Client, err = river.NewClient(driver, config)
	require.NoError(t, err)
	events, cancel := b.Subscribe(river.EventKindJobCompleted, river.EventKindJobCancelled, river.EventKindJobSnoozed, river.EventKindJobFailed)
	t.Cleanup(cancel)
	b.events = events
	require.NoError(t, b.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() { assert.NoError(t, b.Stop(context.Background())) })
	return b
}

// insert puts a message into the queue.
func (b *bench) insert(t *testing.T) { b.insertAt(t, time.Now()) }

// insertForLater puts a message into the queue that is not sent before JobRetry.
func (b *bench) insertForLater(t *testing.T) *rivertype.JobRow {
	return b.insertAt(t, time.Now().Add(time.Hour))
}

func (b *bench) insertAt(t *testing.T, at time.Time) *rivertype.JobRow {
	t.Helper()
	inserted, err := b.Insert(t.Context(), Message{"106540352242922", "15550001111", "Your table is booked."}, &river.InsertOpts{ScheduledAt: at})
	require.NoError(t, err)
	return inserted.Job
}

// next returns the next job that an attempt has ended, and what it has left.
func (b *bench) next(t *testing.T) (*rivertype.JobRow, State) {
	t.Helper()
	select {
	case event := <-b.events:
		last, err := stateOf(event.Job)
		require.NoError(t, err)
		return event.Job, last
	case <-time.After(time.Minute):
		require.Fail(t, "no attempt ends")
		return nil, State{}
	}
}

func TestSnoozeIsCountedByTheHistoryAlone(t *testing.T) {
	b := newBench(t)
	b.api.AnswerNext(2, graphtest.Answer{Code: 131000})
	b.insert(t)
	job, last := b.next(t)
	assert.Equal(t, graphretry.OutcomeRetry, last.Outcome)
	assert.Contains(t, last.Cause, "131000")
	assert.Zero(t, job.Attempt, "River counts no snooze")
	job, last = b.next(t)
	assert.Equal(t, rivertype.JobStateCancelled, job.State)
	assert.Equal(t, graphretry.OutcomeFailed, last.Outcome)
	assert.Equal(t, 131000, int(last.Graph.Code), "the Graph error is in the job's own record")
	assert.Contains(t, job.Errors[0].Error, "131000")
	assert.Equal(t, "failed", state(job))
	assert.Len(t, b.api.Calls(), 2)
}

func TestJobThatFindsItsOwnMarkIsParked(t *testing.T) {
	b := newBench(t)
	job := b.insertForLater(t)
	// As a killed worker leaves it.
	_, err := b.JobUpdate(t.Context(), job.ID, &river.JobUpdateParams{Output: State{Decision: graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: "a worker ended while it was sending"}}})
	require.NoError(t, err)
	settle := Settle(b.Client, b.worker.sender.Policy)
	delivered := webhook.Report{CallbackData: strconv.FormatInt(job.ID, 10)}
	require.Error(t, settle(t.Context(), delivered), "Meta is to send the webhook again")
	_, err = b.JobRetry(t.Context(), job.ID)
	require.NoError(t, err)
	job, _ = b.next(t)
	assert.Equal(t, rivertype.JobStateCancelled, job.State)
	assert.Equal(t, "parked", state(job))
	assert.Contains(t, cause(job), "a worker ended while it was sending")
	require.NoError(t, settle(t.Context(), delivered))
	job, err = b.JobGet(t.Context(), job.ID)
	require.NoError(t, err)
	assert.Equal(t, "sent", state(job))
	assert.Empty(t, b.api.Calls())
}

func TestNothingIsSentForAJobThatAnotherWorkerHas(t *testing.T) {
	b := newBench(t)
	job := b.insertForLater(t)
	// As after a stall for longer than RescueStuckJobsAfter: the job is not running any more.
	began := time.Now()
	job.AttemptedAt = &began
	err := b.worker.Work(rivertest.WorkContext(t.Context(), b.Client), &river.Job[Message]{JobRow: job, Args: Message{"1", "2", "Hello"}})
	assert.ErrorContains(t, err, "nothing was sent")
	assert.Empty(t, b.api.Calls())
}

func TestParkedJobIsSettledByWebhook(t *testing.T) {
	b := newBench(t)
	settle := Settle(b.Client, b.worker.sender.Policy)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	b.insert(t)
	job, last := b.next(t)
	require.Equal(t, "parked", state(job))
	require.Equal(t, graphretry.OutcomeUnknown, last.Outcome)
	message := b.api.Accepted()[0]

	failed := webhook.Report{CallbackData: message.CallbackData, MessageID: message.ID, Graph: &graphretry.Error{Code: 131000}}
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	require.NoError(t, settle(t.Context(), failed))
	job, last = b.next(t)
	assert.Equal(t, "parked", state(job), "131000 is sent again, once")
	assert.Equal(t, graphretry.History{Retries: map[graphretry.Code]int{131000: 1}}, last.History)
	require.Len(t, b.api.Accepted(), 2)

	for _, other := range []webhook.Report{failed, {CallbackData: "999"}, {CallbackData: "order 7"}} {
		require.NoError(t, settle(t.Context(), other), "of an attempt before, or of no job of ours")
		job, err := b.JobGet(t.Context(), job.ID)
		require.NoError(t, err)
		assert.Equal(t, "parked", state(job))
	}

	failed.MessageID = b.api.Accepted()[1].ID
	require.NoError(t, settle(t.Context(), failed))
	job, err := b.JobGet(t.Context(), job.ID)
	require.NoError(t, err)
	assert.Equal(t, "failed", state(job), "131000 for the second time")
}

func TestHeldJobFailsAtItsAge(t *testing.T) {
	b := newBench(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: 190})
	job := b.insertForLater(t)
	_, err := b.db.ExecContext(t.Context(), "UPDATE river_job SET created_at = datetime('now', '-25 hours')")
	require.NoError(t, err)
	_, err = b.JobRetry(t.Context(), job.ID)
	require.NoError(t, err)
	job, _ = b.next(t)
	assert.Equal(t, "failed", state(job))

	b.api.AnswerNext(2, graphtest.Answer{Code: 190})
	b.insert(t)
	for _, want := range []string{"waiting", "waiting", "sent"} {
		job, _ = b.next(t)
		assert.Equal(t, want, state(job))
	}
}

func TestFakeRunNeedsNoAccountAndNoServer(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	var out queuetest.Output
	require.NoError(t, command(t.Context(), []string{"-fake", "-down", "1s", "-database", filepath.Join(t.TempDir(), "messages.db")}, &out))
	assert.Contains(t, out.String(), "0 wait, 20 sent, 0 failed, 0 parked")
}

func TestWrongUseIsExplained(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	t.Setenv("APP_SECRET", "")
	for want, args := range map[string][]string{
		"set WHATSAPP_TOKEN": nil,
		"takes flags alone":  {"-fake", "x"},
		"want 0 or more":     {"-fake", "-n", "-1"},
		"set APP_SECRET":     {"-fake", "-listen", ":0"},
	} {
		assert.ErrorContains(t, command(t.Context(), args, io.Discard), want)
	}
}
