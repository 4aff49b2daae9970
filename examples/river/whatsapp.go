package main

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

// Message is a job.
type Message whatsapp.Message

func (Message) Kind() string { return "whatsapp_message" }

// State is what became of a job's last attempt. It is the job's output.
type State struct {
	graphretry.Decision
	FailedIDs []string // messages of this job that Meta has reported as failed
}

// stateOf returns a job's state, the zero State before its first attempt.
func stateOf(job *rivertype.JobRow) (state State, err error) {
	if output := job.Output(); output != nil {
		err = json.Unmarshal(output, &state)
	}
	return state, err
}

// Worker sends messages. Tx is the driver's transaction: pgx.Tx, or *sql.Tx for SQLite.
type Worker[Tx any] struct {
	river.WorkerDefaults[Message]
	sender *whatsapp.Sender
}

// Work makes one attempt.
func (w *Worker[Tx]) Work(ctx context.Context, job *river.Job[Message]) error {
	last, err := stateOf(job.JobRow)
	switch {
	case err != nil:
		return err
	case last.Outcome == graphretry.OutcomeSent:
		return nil
	case last.Outcome == graphretry.OutcomeUnknown:
		return river.JobCancel(errors.New(last.Cause)) // its own mark
	}
	attempt := whatsapp.Job{ID: strconv.FormatInt(job.ID, 10), Created: job.CreatedAt, History: last.History}
	decision, err := w.sender.Send(ctx, whatsapp.Message(job.Args), attempt, func(mark graphretry.Decision) error {
		row, err := river.ClientFromContext[Tx](ctx).JobUpdate(ctx, job.ID, &river.JobUpdateParams{Output: State{mark, last.FailedIDs}})
		if err == nil && (row.State != rivertype.JobStateRunning || !row.AttemptedAt.Equal(*job.AttemptedAt)) {
			err = errors.New("the job is another worker's by now")
		}
		return err
	})
	if err != nil {
		return err
	}
	// River stores it together with the job's new state.
	if err := river.RecordOutput(ctx, State{decision, last.FailedIDs}); err != nil {
		return err
	}
	switch decision.Outcome {
	case graphretry.OutcomeSent:
		return nil
	case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
		return river.JobSnooze(decision.Wait) // River counts no snooze: the History does
	default:
		return river.JobCancel(errors.New(decision.Cause))
	}
}
