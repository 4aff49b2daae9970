// Package sending sends WhatsApp messages with Temporal.
package sending

import (
	"context"
	"errors"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

// ReportSignal is the name of the signal that settles a parked workflow, with a
// [webhook.Report].
const ReportSignal = "report"

// SendMessage is the workflow. An attempt is an activity, which is never retried: the
// workflow waits, and begins the next one. So what becomes of a message whose worker is
// killed is not known, without a mark.
func SendMessage(ctx workflow.Context, message whatsapp.Message) error {
	var activities *Activities
	info := workflow.GetInfo(ctx)
	job := whatsapp.Job{ID: info.WorkflowExecution.ID, Created: info.WorkflowStartTime}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * whatsapp.AttemptTimeout,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var failedIDs []string // messages of this workflow that Meta has reported as failed
	for {
		var decision graphretry.Decision
		err := workflow.ExecuteActivity(ctx, activities.Attempt, message, job).Get(ctx, &decision)
		var timeout *temporal.TimeoutError
		if errors.As(err, &timeout) {
			decision = graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: "a worker ended while it was sending", History: job.History}
		} else if err != nil {
			return err // nothing was sent
		}
		if decision.Outcome == graphretry.OutcomeUnknown {
			report, err := park(ctx, decision.Cause, failedIDs)
			if err != nil || report.Graph == nil {
				return err // nil: it was sent
			}
			failedIDs = append(failedIDs, report.MessageID)
			if err := workflow.ExecuteActivity(ctx, activities.Decide, report.Graph, job.History).Get(ctx, &decision); err != nil {
				return err
			}
		}
		job.History = decision.History
		switch decision.Outcome {
		case graphretry.OutcomeSent:
			return nil
		case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
			if err := workflow.Sleep(ctx, decision.Wait); err != nil {
				return err
			}
		default:
			return temporal.NewNonRetryableApplicationError(decision.Cause, "Failed", nil, decision)
		}
	}
}

// park waits until Meta says what became of the message of the last attempt. The
// workflow's memo says meanwhile why it is parked.
func park(ctx workflow.Context, cause string, failedIDs []string) (report webhook.Report, err error) {
	if err := workflow.UpsertMemo(ctx, map[string]any{"parked": cause}); err != nil {
		return report, err
	}
	for {
		workflow.GetSignalChannel(ctx, ReportSignal).Receive(ctx, &report)
		if !slices.Contains(failedIDs, report.MessageID) { // else of an attempt before
			return report, workflow.UpsertMemo(ctx, map[string]any{"parked": nil})
		}
	}
}

// Activities are what the workflow does outside itself.
type Activities struct{ Sender *whatsapp.Sender }

// Attempt makes one attempt. Its error means that nothing was sent.
func (a *Activities) Attempt(ctx context.Context, message whatsapp.Message, job whatsapp.Job) (graphretry.Decision, error) {
	return a.Sender.Send(ctx, message, job, func(graphretry.Decision) error { return nil })
}

// Decide says what becomes of a message that Meta has reported as failed. The policy draws
// its jitter at random, which a workflow must not.
func (a *Activities) Decide(_ context.Context, e *graphretry.Error, history graphretry.History) (graphretry.Decision, error) {
	return a.Sender.Policy.Decide(e, history), nil
}
