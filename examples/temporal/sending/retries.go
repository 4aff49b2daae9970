package sending

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

// SendMessageByActivityRetries is the workflow for those who keep the activity's own
// retries. It fails with an error of the type "Unknown" if the message may have been sent,
// and with a timeout if the worker was killed. Neither may be retried.
func SendMessageByActivityRetries(ctx workflow.Context, message whatsapp.Message) error {
	var activities *Activities
	info := workflow.GetInfo(ctx)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    2 * whatsapp.AttemptTimeout,
		ScheduleToCloseTimeout: whatsapp.MaxAge,
		// By default Temporal retries an activity whose worker was killed, and so sends twice.
		RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{"TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat"}},
	})
	job := whatsapp.Job{ID: info.WorkflowExecution.ID, Created: info.WorkflowStartTime}
	return workflow.ExecuteActivity(ctx, activities.AttemptAndRetry, message, job).Get(ctx, nil)
}

// AttemptAndRetry makes one attempt, and has Temporal wait as long as the policy says. The
// History is in the heartbeat's details, which the next attempt gets.
func (a *Activities) AttemptAndRetry(ctx context.Context, message whatsapp.Message, job whatsapp.Job) error {
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &job.History); err != nil {
			return err
		}
	}
	decision, err := a.Attempt(ctx, message, job)
	if err != nil {
		return err
	}
	activity.RecordHeartbeat(ctx, decision.History)
	switch decision.Outcome {
	case graphretry.OutcomeSent:
		return nil
	case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
		return temporal.NewApplicationErrorWithOptions(decision.Cause, "Waiting", temporal.ApplicationErrorOptions{NextRetryDelay: decision.Wait})
	case graphretry.OutcomeUnknown:
		return temporal.NewNonRetryableApplicationError(decision.Cause, "Unknown", nil, decision)
	default:
		return temporal.NewNonRetryableApplicationError(decision.Cause, "Failed", nil, decision)
	}
}
