package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
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
// its signature before, with [graphretry.VerifyWebhook]: HandleWebhook believes what it
// reads.
//
// The error is nil if Meta can forget the webhook. Otherwise answer with a
// status of 500, so that Meta sends it again; but a body that is no JSON object
// will not be one then either.
func (o *Outbox) HandleWebhook(ctx context.Context, body []byte) error {
	failures, err := graphretry.ParseWebhook(body)
	if err != nil {
		return message.AsInvalid(fmt.Errorf("outbox: the webhook cannot be read: %w", err))
	}
	var report webhook
	// What can go wrong is a value of another type than Meta's. It is left out, and
	// what stands beside it is read.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(trimmed(body), &report); err != nil && !errors.As(err, &odd) {
		return message.AsInvalid(fmt.Errorf("outbox: the webhook cannot be read: %w", err))
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	var errs []error
	for _, status := range report.statuses() {
		e := message.Event{MessageID: status.ID, At: status.at(o.now())}
		switch status.Status {
		case "sent":
			e.Kind = message.Accepted
		case "delivered":
			e.Kind = message.Delivered
		case "read":
			e.Kind = message.Read
		case "failed":
			e.Kind = message.Undelivered
			for _, failure := range failures {
				if e.Graph == nil && failure.MessageID == status.ID {
					e.Graph = failure.Graph
				}
			}
		default:
			continue
		}
		errs = append(errs, o.settle(ctx, status.CallbackData, e))
	}
	return errors.Join(errs...)
}

// trimmed leaves out what ParseWebhook passes over: a byte order mark, and NULs at the end.
func trimmed(body []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "\x00")
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
	Timestamp    string `json:"timestamp"`
	CallbackData string `json:"biz_opaque_callback_data"`
}

// statuses are those that may be of our messages.
func (w *webhook) statuses() []messageStatus {
	var ours []messageStatus
	for _, entry := range w.Entry {
		for _, change := range entry.Changes {
			for _, status := range change.Value.Statuses {
				if status.ID != "" && message.CheckID(status.CallbackData) == nil {
					ours = append(ours, status)
				}
			}
		}
	}
	return ours
}

// at is when Meta says that it was, or else now.
func (s *messageStatus) at(now time.Time) time.Time {
	seconds, err := strconv.ParseInt(s.Timestamp, 10, 64)
	if err != nil || seconds <= 0 {
		return now
	}
	return time.Unix(seconds, 0).UTC()
}

// settle has happen to a message what a webhook says of it.
func (o *Outbox) settle(ctx context.Context, id string, e message.Event) error {
	current, err := o.store.Load(ctx, id)
	if err == nil {
		_, err = o.apply(ctx, "webhook", current, e)
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("outbox: cannot settle message %q by webhook: %w", id, err)
	}
	return nil
}
