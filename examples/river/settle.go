package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
)

// Settle returns what settles a parked job by what Meta says of its message: it was sent,
// or it is sent again if the policy retries why it failed, or it has failed.
func Settle[Tx any](client *river.Client[Tx], policy *graphretry.Policy) func(context.Context, webhook.Report) error {
	return func(ctx context.Context, report webhook.Report) error {
		id, err := strconv.ParseInt(report.CallbackData, 10, 64)
		if err != nil {
			return nil // no job of River's
		}
		job, err := client.JobGet(ctx, id)
		if errors.Is(err, rivertype.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		last, err := stateOf(job)
		switch {
		case err != nil:
			return err
		case job.Kind != (Message{}).Kind(), last.Outcome != graphretry.OutcomeUnknown:
			return nil
		case job.State != rivertype.JobStateCancelled:
			return fmt.Errorf("job %d is being sent, or its worker was killed: it is not parked yet", id)
		case slices.Contains(last.FailedIDs, report.MessageID):
			return nil // of an attempt before the last one: Meta sends a webhook again
		}
		decision := graphretry.Decision{Outcome: graphretry.OutcomeSent, History: last.History}
		if report.Graph != nil {
			decision = policy.Decide(report.Graph, last.History)
			last.FailedIDs = append(last.FailedIDs, report.MessageID)
		}
		if _, err := client.JobUpdate(ctx, id, &river.JobUpdateParams{Output: State{decision, last.FailedIDs}}); err != nil || !decision.Retry {
			return err
		}
		_, err = client.JobRetry(ctx, id)
		return err
	}
}
