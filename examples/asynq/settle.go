package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
)

// Settle returns what settles a parked task by what Meta says of its message: it was sent,
// or it is sent again if the policy retries why it failed, or it has failed.
func Settle(client redis.UniversalClient, inspector *asynq.Inspector, queue string, policy *graphretry.Policy) func(context.Context, webhook.Report) error {
	return func(ctx context.Context, report webhook.Report) error {
		last, _, err := load(ctx, client, report.CallbackData)
		switch {
		case err != nil:
			return err
		case last.Outcome != graphretry.OutcomeUnknown:
			return nil // not parked, or no task of ours
		case slices.Contains(last.FailedIDs, report.MessageID):
			return nil // of an attempt before the last one: Meta sends a webhook again
		}
		task, err := inspector.GetTaskInfo(queue, report.CallbackData)
		if errors.Is(err, asynq.ErrTaskNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if task.State != asynq.TaskStateArchived {
			return fmt.Errorf("task %s is being sent, or its worker was killed: it is not parked yet", task.ID)
		}
		decision := graphretry.Decision{Outcome: graphretry.OutcomeSent, History: last.History}
		if report.Graph != nil {
			decision = policy.Decide(report.Graph, last.History)
			last.FailedIDs = append(last.FailedIDs, report.MessageID)
		}
		if _, err := replace(ctx, client, task.ID, State{decision, last.FailedIDs}); err != nil {
			return err
		}
		switch decision.Outcome {
		case graphretry.OutcomeSent:
			return inspector.DeleteTask(queue, task.ID)
		case graphretry.OutcomeRetry:
			return inspector.RunTask(queue, task.ID)
		}
		return nil
	}
}
