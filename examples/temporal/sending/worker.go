package sending

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

// TaskQueue is the worker's.
const TaskQueue = "whatsapp"

// NewWorker returns a worker with what matters for messages.
func NewWorker(c client.Client, sender *whatsapp.Sender) worker.Worker {
	w := worker.New(c, TaskQueue, worker.Options{
		MaxConcurrentActivityExecutionSize: 20,
		// Longer than an attempt can take. By default a worker that stops leaves at once, and its
		// messages are parked.
		WorkerStopTimeout: whatsapp.AttemptTimeout + 5*time.Second,
	})
	w.RegisterWorkflow(SendMessage)
	w.RegisterWorkflow(SendMessageByActivityRetries)
	w.RegisterActivity(&Activities{sender})
	return w
}

// Settle returns what settles a parked workflow by what Meta says of its message.
func Settle(c client.Client) func(context.Context, webhook.Report) error {
	return func(ctx context.Context, report webhook.Report) error {
		err := c.SignalWorkflow(ctx, report.CallbackData, "", ReportSignal, report)
		var done *serviceerror.NotFound
		if errors.As(err, &done) {
			return nil // it has ended, or is none of ours
		}
		return err
	}
}

// StateOf says what has become of a workflow.
func StateOf(ctx context.Context, c client.Client, id string) (string, error) {
	described, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return "waiting", err
	}
	info := described.GetWorkflowExecutionInfo()
	_, parked := info.GetMemo().GetFields()["parked"]
	switch {
	case info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return "sent", nil
	case info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return "failed", nil
	case parked:
		return "parked", nil
	}
	return "waiting", nil
}
