//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/queuetest"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/graphtest"
)

// bench is a Redis server of the test's own, and a worker.
type bench struct {
	*redis.Client
	inspector *asynq.Inspector
	api       *graphtest.API
	worker    *Worker
	socket    string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	socket := queuetest.Redis(t)
	b := &bench{Client: redis.NewClient(&redis.Options{Network: "unix", Addr: socket}), api: graphtest.New(), socket: socket}
	t.Cleanup(func() { b.Close() })
	b.inspector = asynq.NewInspectorFromRedisClient(b.Client)
	sender, err := whatsapp.NewSender(b.api, whatsapp.BaseURL, "token", graphretry.WithInitialInterval(time.Millisecond), graphretry.WithMaxInterval(4*time.Millisecond))
	require.NoError(t, err)
	b.worker = &Worker{sender, b.Client}
	return b
}

// start starts the worker. It returns what the attempts that fail return.
func (b *bench) start(t *testing.T) <-chan error {
	t.Helper()
	failed := make(chan error, 100)
	config := config()
	config.LogLevel = asynq.FatalLevel
	config.DelayedTaskCheckInterval, config.TaskCheckInterval = 10*time.Millisecond, 10*time.Millisecond
	config.ErrorHandler = asynq.ErrorHandlerFunc(func(_ context.Context, _ *asynq.Task, err error) { failed <- err })
	server := asynq.NewServerFromRedisClient(b.Client, config)
	require.NoError(t, server.Start(b.worker))
	t.Cleanup(server.Shutdown)
	return failed
}

// enqueue puts a message into the queue, and returns the task's ID.
func (b *bench) enqueue(t *testing.T) string {
	t.Helper()
	task, err := newTask(message)
	require.NoError(t, err)
	info, err := asynq.NewClientFromRedisClient(b.Client).EnqueueContext(t.Context(), task)
	require.NoError(t, err)
	return info.ID
}

// becomes waits until a task's state has an outcome, and the task is at rest.
func (b *bench) becomes(t *testing.T, id string, want graphretry.Outcome, archived bool) State {
	t.Helper()
	var state State
	require.Eventually(t, func() bool {
		var err error
		state, _, err = load(t.Context(), b.Client, id)
		require.NoError(t, err)
		task, err := b.inspector.GetTaskInfo(queue, id)
		isArchived := err == nil && task.State == asynq.TaskStateArchived
		return state.Outcome == want && isArchived == archived
	}, time.Minute, time.Millisecond, "task %s never is %v", id, want)
	return state
}

var message = whatsapp.Message{From: "106540352242922", To: "15550001111", Text: "Your table is booked."}

func TestWaitsAreNoFailuresOfAsynqs(t *testing.T) {
	b := newBench(t)
	b.api.AnswerNext(30, graphtest.Answer{Code: 190}) // more than MaxRetry
	id := b.enqueue(t)
	b.start(t)
	state := b.becomes(t, id, graphretry.OutcomeSent, false)
	assert.Equal(t, 30, state.History.Held)
	assert.Len(t, b.api.Accepted(), 1)
	assert.Equal(t, id, b.api.Accepted()[0].CallbackData)
}

func TestFailedTaskHasTheGraphErrorInItsOwnRecord(t *testing.T) {
	b := newBench(t)
	b.api.AnswerNext(2, graphtest.Answer{Code: 131000})
	id := b.enqueue(t)
	failed := b.start(t)
	state := b.becomes(t, id, graphretry.OutcomeFailed, true)
	assert.Equal(t, graphretry.Code(131000), state.Graph.Code)
	task, err := b.inspector.GetTaskInfo(queue, id)
	require.NoError(t, err)
	assert.Contains(t, task.LastErr, "131000")
	assert.Zero(t, task.Retried)
	assert.Len(t, b.api.Calls(), 2)
	assert.False(t, IsFailure(<-failed))
	assert.True(t, IsFailure(<-failed))
}

func TestTaskThatFindsItsOwnMarkIsParked(t *testing.T) {
	b := newBench(t)
	id := b.enqueue(t)
	// As a killed worker leaves it.
	may := graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: "a worker ended while it was sending"}
	_, err := replace(t.Context(), b.Client, id, State{Decision: may})
	require.NoError(t, err)
	settle := Settle(b.Client, b.inspector, queue, b.worker.sender.Policy)
	require.Error(t, settle(t.Context(), webhook.Report{CallbackData: id}), "Meta is to send the webhook again")
	b.start(t)
	b.becomes(t, id, graphretry.OutcomeUnknown, true)
	task, err := b.inspector.GetTaskInfo(queue, id)
	require.NoError(t, err)
	assert.Contains(t, task.LastErr, "a worker ended while it was sending")
	assert.Empty(t, b.api.Calls())
}

// A worker that stalls for longer than its lease marks the task when another has had it.
func TestNothingIsSentForATaskThatAnotherWorkerHas(t *testing.T) {
	b := newBench(t)
	hook := &stall{}
	b.worker.redis = redis.NewClient(&redis.Options{Network: "unix", Addr: b.socket})
	b.worker.redis.(*redis.Client).AddHook(hook)
	hook.before = func(id string) {
		_, err := replace(context.Background(), b.Client, id, State{Decision: graphretry.Decision{Outcome: graphretry.OutcomeSent}})
		assert.NoError(t, err)
	}
	b.enqueue(t)
	failed := b.start(t)
	assert.ErrorContains(t, <-failed, "nothing was sent")
	assert.Empty(t, b.api.Calls())
}

// stall does something just before a task is marked for the first time.
type stall struct {
	once   sync.Once
	before func(id string)
}

func (s *stall) DialHook(next redis.DialHook) redis.DialHook { return next }
func (s *stall) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (s *stall) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "set" {
			s.once.Do(func() { s.before(fmt.Sprint(cmd.Args()[1])[len(key("")):]) })
		}
		return next(ctx, cmd)
	}
}

func TestParkedTaskIsSettledByWebhook(t *testing.T) {
	b := newBench(t)
	settle := Settle(b.Client, b.inspector, queue, b.worker.sender.Policy)
	b.api.AnswerNext(3, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	id := b.enqueue(t)
	b.start(t)
	b.becomes(t, id, graphretry.OutcomeUnknown, true)
	failed := webhook.Report{CallbackData: id, MessageID: b.api.Accepted()[0].ID, Graph: &graphretry.Error{Code: 131000}}
	require.NoError(t, settle(t.Context(), failed))
	require.Eventually(t, func() bool { return len(b.api.Accepted()) == 2 }, time.Minute, time.Millisecond, "131000 is sent again, once")
	state := b.becomes(t, id, graphretry.OutcomeUnknown, true)
	assert.Equal(t, graphretry.History{Retries: map[graphretry.Code]int{131000: 1}}, state.History)

	for _, other := range []webhook.Report{failed, {CallbackData: "order 7"}} {
		require.NoError(t, settle(t.Context(), other), "of an attempt before, or of no task of ours")
		b.becomes(t, id, graphretry.OutcomeUnknown, true)
	}
	failed.MessageID = b.api.Accepted()[1].ID
	require.NoError(t, settle(t.Context(), failed))
	b.becomes(t, id, graphretry.OutcomeFailed, true) // 131000 for the second time

	id = b.enqueue(t)
	b.becomes(t, id, graphretry.OutcomeUnknown, true)
	require.NoError(t, settle(t.Context(), webhook.Report{CallbackData: id, MessageID: b.api.Accepted()[2].ID}))
	b.becomes(t, id, graphretry.OutcomeSent, false)
	assert.Len(t, b.api.Accepted(), 3)
}

func TestHeldTaskFailsAtItsAge(t *testing.T) {
	b := newBench(t)
	b.api.AnswerNext(1, graphtest.Answer{Code: 190})
	old, err := json.Marshal(Message{message, time.Now().Add(-25 * time.Hour)})
	require.NoError(t, err)
	info, err := asynq.NewClientFromRedisClient(b.Client).EnqueueContext(t.Context(), asynq.NewTask(TypeMessage, old))
	require.NoError(t, err)
	b.start(t)
	b.becomes(t, info.ID, graphretry.OutcomeFailed, true)
}

func TestFakeRunNeedsNoAccount(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	var out queuetest.Output
	require.NoError(t, command(t.Context(), []string{"-fake", "-down", "1s", "-redis", "unix://" + queuetest.Redis(t)}, &out))
	assert.Contains(t, out.String(), "0 wait, 0 failed, 0 parked")
}

func TestWrongUseIsExplained(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	t.Setenv("APP_SECRET", "")
	for want, args := range map[string][]string{
		"set WHATSAPP_TOKEN": nil,
		"takes flags alone":  {"-fake", "x"},
		"want 0 or more":     {"-fake", "-n", "-1"},
		"set APP_SECRET":     {"-fake", "-listen", ":0"},
		"no Redis server":    {"-fake", "-redis", "unix:///nowhere"},
	} {
		assert.ErrorContains(t, command(t.Context(), args, io.Discard), want)
	}
}
