package outbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// HandleWebhook settles the messages that a webhook from Meta is about. It finds them by their
// biz_opaque_callback_data. body is the body of the request:
//
//   - "delivered", "read" and "played" say that a device has the message. The message is sent
//     then, whatever else Meta says about it, and a retry in the queue is cancelled.
//   - "failed" goes to the policy. If the policy retries it (131000, once), the message goes
//     back into the queue; otherwise it has failed. After a fault of the sender (131031,
//     131042) the phone number is held and its messages stay queued, until a webhook says that
//     one of them was sent. Nothing is sent again while another attempt may have been accepted.
//   - "failed" for one participant of a group is only counted, since the others have the
//     message. See [Status].ParticipantFailures.
//   - Any other status, such as "sent", says that Meta has accepted the message.
//
// HandleWebhook ignores statuses of payments and calls, webhooks of other fields, and messages
// that this Outbox does not know. Other programs that send for the same business account must
// not use the ids of this Outbox as their callback data.
//
// Webhooks may come in any order, any number of times, before the answer to the call, and on
// any machine. HandleWebhook trusts the body: verify its signature with
// [graphretry.VerifyWebhook] first.
//
// The error is nil if Meta need not repeat the webhook. After any other error answer with a
// status of 500, so that Meta repeats it. A body that is not a JSON object is refused every
// time.
func (o *Outbox) HandleWebhook(ctx context.Context, body []byte) error {
	failures, err := graphretry.ParseWebhook(body)
	if err != nil {
		return message.AsInvalid(fmt.Errorf("outbox: the webhook cannot be read: %w", err))
	}
	var report webhook
	// The only possible error is a value whose type is not Meta's. It is left out, and the
	// values beside it are read.
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
		errs = append(errs, o.settle(ctx, status.CallbackData, status.event(failures, o.now())))
	}
	return errors.Join(errs...)
}

// trimmed removes what ParseWebhook ignores: a byte order mark, and NULs at the end.
func trimmed(body []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "\x00")
}

// webhook is the part of a webhook that is about messages.
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
	Type         string `json:"type"` // "message" or "" for a message, others such as "payment" and "call"
	Status       string `json:"status"`
	Timestamp    string `json:"timestamp"`
	CallbackData string `json:"biz_opaque_callback_data"`
	// The participant of a group whom it is about, empty if it is about all.
	ParticipantID     string `json:"recipient_participant_id"`
	ParticipantUserID string `json:"recipient_participant_user_id"`
}

// event returns the event that a status is for its message.
func (s *messageStatus) event(failures []graphretry.Failure, now time.Time) message.Event {
	e := message.Event{Kind: message.Accepted, MessageID: s.ID, At: s.at(now)}
	switch s.Status {
	case "delivered", "played":
		e.Kind = message.Delivered
	case "read":
		e.Kind = message.Read
	case "failed":
		e.Kind, e.Participant = message.Undelivered, cmp.Or(s.ParticipantID, s.ParticipantUserID)
		for _, f := range failures {
			if e.Graph == nil && f.MessageID == s.ID && f.ParticipantID == s.ParticipantID && f.ParticipantUserID == s.ParticipantUserID {
				e.Graph = f.Graph
			}
		}
	}
	return e
}

// statuses returns the statuses that may be about messages of this Outbox.
func (w *webhook) statuses() []messageStatus {
	var ours []messageStatus
	for _, entry := range w.Entry {
		for _, change := range entry.Changes {
			for _, status := range change.Value.Statuses {
				isMessage := status.Type == "" || status.Type == "message"
				if isMessage && status.ID != "" && status.Status != "" && message.CheckID(status.CallbackData) == nil {
					ours = append(ours, status)
				}
			}
		}
	}
	return ours
}

// at returns the time that Meta gives, or now if it gives none.
func (s *messageStatus) at(now time.Time) time.Time {
	seconds, err := strconv.ParseInt(s.Timestamp, 10, 64)
	if err != nil || seconds <= 0 {
		return now
	}
	return time.Unix(seconds, 0).UTC()
}

// settle applies to a message what a webhook says about it.
func (o *Outbox) settle(ctx context.Context, id string, e message.Event) error {
	current, err := o.store.Load(ctx, id)
	if err == nil && e.Kind == message.Undelivered && e.Graph.AboutSender() {
		// Only a message that was accepted before this attempt's answer says something about
		// this message.
		var number lane.Shared
		if number, err = o.store.Number(ctx, current.Number); err == nil && number.Released.Before(current.Changed) {
			e.Accepted = number.Released
		}
	}
	if err == nil && (e.Kind == message.Accepted || e.Kind == message.Delivered) {
		err = o.unholdByWebhook(ctx, &current)
	}
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

// unholdByWebhook ends the hold of a number that webhooks have caused, if a webhook now says
// that a message was accepted since.
func (o *Outbox) unholdByWebhook(ctx context.Context, m *store.Stored) error {
	held, err := o.held.get(ctx, o.store)
	number, isHeld := held[m.Number]
	if err != nil || !isHeld || m.State != StateSending && (m.State != StateSent || !m.Delivered.IsZero() || m.Changed.Before(number.HeldSince)) {
		return err
	}
	was, err := o.unhold(ctx, m.Number, true)
	if was {
		o.observe(ctx, Event{Kind: EventReleased, PhoneNumberID: m.Number})
		o.runs.look()
	}
	return err
}
