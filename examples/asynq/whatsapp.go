package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

// TypeMessage is the type of a task whose payload is a [Message].
const TypeMessage = "whatsapp:message"

// Message is a message, and when its task was made, which a task of Asynq's does not know.
type Message struct {
	whatsapp.Message
	Created time.Time
}

// Worker sends messages.
type Worker struct {
	sender *whatsapp.Sender
	redis  redis.UniversalClient
}

// ProcessTask makes one attempt.
func (w *Worker) ProcessTask(ctx context.Context, task *asynq.Task) error {
	var message Message
	if err := json.Unmarshal(task.Payload(), &message); err != nil {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	id := task.ResultWriter().TaskID()
	last, stored, err := load(ctx, w.redis, id)
	switch {
	case err != nil:
		return err
	case last.Outcome == graphretry.OutcomeSent:
		return nil
	case last.Outcome == graphretry.OutcomeUnknown: // its own mark
		return fmt.Errorf("%s: %w", last.Cause, asynq.SkipRetry)
	}
	attempt := whatsapp.Job{ID: id, Created: message.Created, History: last.History}
	decision, err := w.sender.Send(ctx, message.Message, attempt, func(mark graphretry.Decision) error {
		before, err := replace(ctx, w.redis, id, State{mark, last.FailedIDs})
		if err == nil && before != stored {
			err = errors.New("the task is another worker's by now")
		}
		return err
	})
	if err != nil {
		return err
	}
	// Asynq ends ctx when it stops for a deploy.
	if _, err := replace(context.WithoutCancel(ctx), w.redis, id, State{decision, last.FailedIDs}); err != nil {
		return err // the mark stands
	}
	switch decision.Outcome {
	case graphretry.OutcomeSent:
		return nil
	case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
		return &waitError{decision}
	default:
		return fmt.Errorf("%s: %w", decision.Cause, asynq.SkipRetry)
	}
}

// waitError has the task delivered again after a wait.
type waitError struct{ decision graphretry.Decision }

func (e *waitError) Error() string { return e.decision.Cause }

// RetryDelay is the RetryDelayFunc of an [asynq.Config].
func RetryDelay(n int, err error, task *asynq.Task) time.Duration {
	var wait *waitError
	if errors.As(err, &wait) {
		return wait.decision.Wait
	}
	return asynq.DefaultRetryDelayFunc(n, err, task)
}

// IsFailure is that of an [asynq.Config]. What it denies does not count against MaxRetry:
// the History counts the retries.
func IsFailure(err error) bool {
	var wait *waitError
	return err != nil && !errors.As(err, &wait)
}
