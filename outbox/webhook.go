package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/internal/jsonbody"
)

// HandleWebhook takes the body of a webhook from Meta and settles the messages
// that it speaks of, by their biz_opaque_callback_data. A status "sent",
// "delivered" or "read" proves that a message was sent. A status "failed" is put
// to the policy: what it retries (131000, once) goes back into the queue, and
// any other message has failed. Webhooks of other fields, and of messages that
// this Outbox does not know, are passed over. So whoever else sends for the same
// business account must not use the ids of this Outbox as their callback data.
//
// The same webhook may be handled any number of times, on any machine. Verify
// its signature (X-Hub-Signature-256) before: HandleWebhook believes what it
// reads.
//
// The error is nil if Meta can forget the webhook. Otherwise answer with a
// status of 500, so that Meta sends it again; but a body that is no JSON object
// will not be one then either.
func (o *Outbox) HandleWebhook(ctx context.Context, body []byte) error {
	failures, err := graphretry.ParseWebhook(body)
	if err != nil {
		return fmt.Errorf("outbox: the webhook cannot be read: %w", err)
	}
	var report webhook
	// What can go wrong is a value of another type than Meta's. It is left out, and
	// what stands beside it is read.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(jsonbody.Trim(body), &report); err != nil && !errors.As(err, &odd) {
		return fmt.Errorf("outbox: the webhook cannot be read: %w", err)
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	var errs []error
	for _, status := range report.statuses() {
		switch status.Status {
		case "sent", "delivered", "read":
			errs = append(errs, o.proved(ctx, status))
		case "failed":
			var graph *graphretry.Error
			for _, failure := range failures {
				if graph == nil && failure.MessageID == status.ID {
					graph = failure.Graph
				}
			}
			errs = append(errs, o.refuted(ctx, status, graph))
		}
	}
	return errors.Join(errs...)
}

// webhook is what a webhook says of messages.
type webhook struct {
	Entry []struct {
		Changes []struct {
			Value struct {
				Statuses []messageStatus `json:"statuses"`
			} `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

type messageStatus struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	CallbackData string `json:"biz_opaque_callback_data"`
}

// statuses are those that may be of our messages.
func (w *webhook) statuses() []messageStatus {
	var ours []messageStatus
	for _, entry := range w.Entry {
		for _, change := range entry.Changes {
			for _, status := range change.Value.Statuses {
				if status.ID != "" && checkID(status.CallbackData) == nil {
					ours = append(ours, status)
				}
			}
		}
	}
	return ours
}

// proved takes in that a message was sent.
func (o *Outbox) proved(ctx context.Context, proof messageStatus) error {
	return o.report(ctx, proof.CallbackData, func(r *record) bool {
		if !r.provedSentBy(proof.ID) && r.State != StateSending {
			return false
		}
		// Also while it is being sent: the webhook can overtake the answer.
		if slices.Contains(r.Refuted, proof.ID) {
			return false
		}
		r.toSent(proof.ID)
		return true
	})
}

// provedSentBy reports whether it is news for the record that the message was sent
// under that wamid, by an attempt that it does not wait for any more.
func (r *record) provedSentBy(messageID string) bool {
	if slices.Contains(r.Refuted, messageID) {
		return false
	}
	switch r.State {
	case StateQueued, StateFailed, StateUnknown:
		return true
	case StateSent:
		return r.MessageID == "" && messageID != ""
	}
	return false
}

// refuted takes in that a message was sent and not delivered. graph is why, nil
// if Meta did not say.
func (o *Outbox) refuted(ctx context.Context, failure messageStatus, graph *graphretry.Error) error {
	return o.report(ctx, failure.CallbackData, func(r *record) bool {
		if slices.Contains(r.Refuted, failure.ID) {
			return false
		}
		earlier := r.State == StateSent && r.MessageID != "" && r.MessageID != failure.ID
		r.Refuted = append(r.Refuted, failure.ID)
		switch {
		case earlier || r.State == StateQueued || r.State == StateFailed:
			// An earlier attempt's, on which nothing hangs any more.
		case r.State != StateSent && r.Doubts > 0:
			// It may be that of an attempt which a person has taken for not sent,
			// and then says nothing of the one since.
			r.Doubts--
			r.Graph = kept(graph)
		default:
			if r.State == StateSending {
				// The message in the queue belongs to the attempt that is under way;
				// the retry gets one of its own.
				r.State = StateUnknown
			}
			o.undelivered(r, graph)
		}
		return true
	})
}

// report changes the record of a message that a webhook speaks of.
func (o *Outbox) report(ctx context.Context, id string, alter func(*record) bool) error {
	current, err := o.store.load(ctx, keyOf(id))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case errors.Is(err, errUnreadable):
		// It will not be readable when Meta sends the webhook again.
		o.logger.Error("outbox: a webhook is about a record that cannot be read", slog.String("id", id), slog.Any("error", err))
		return nil
	case err == nil:
		_, err = o.change(ctx, current, alter)
	}
	if err != nil {
		return fmt.Errorf("outbox: cannot settle message %q by webhook: %w", id, err)
	}
	return nil
}
