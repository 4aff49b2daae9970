package graphretry

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Failure is an error that Meta reported by webhook: of a message that was
// accepted and not delivered, of one that came in and could not be passed on, or
// of the account.
type Failure struct {
	// Graph is the error. Its Status and RetryAfter are 0, since no answer
	// brought it. [Policy.Decide] takes it as it is.
	Graph *Error
	// MessageID is the field "id" of the status or of the message, as in
	// "wamid.HBgL...": for a status, the id that the answer to POST /messages
	// gave. It is empty for an error that belongs to no message.
	MessageID string
	// RecipientID is the field "recipient_id" of the status. It is empty for a
	// message that came in, whose recipient is the business.
	RecipientID string
	// PhoneNumberID is the business's phone number, as it stands in the path of
	// POST /{phone-number-id}/messages.
	PhoneNumberID string
	// CallbackData is the field "biz_opaque_callback_data", which the sender set
	// on the message, empty if there was none.
	CallbackData string
	// Time is the field "timestamp", to the second and in UTC: when it happened,
	// which can be long before the webhook. It is the zero Time if there was none.
	Time time.Time
}

// webhook is what holds errors in the body of a webhook.
type webhook struct {
	Entry []struct {
		Changes []struct {
			Value struct {
				Metadata struct {
					PhoneNumberID string `json:"phone_number_id"`
				} `json:"metadata"`
				Statuses []report          `json:"statuses"`
				Messages []report          `json:"messages"`
				Errors   []json.RawMessage `json:"errors"`
			} `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

// report is what a webhook says of one message.
type report struct {
	ID           string            `json:"id"`
	RecipientID  string            `json:"recipient_id"`
	CallbackData string            `json:"biz_opaque_callback_data"`
	Timestamp    json.RawMessage   `json:"timestamp"`
	Errors       []json.RawMessage `json:"errors"`
}

// ParseWebhook reads the errors out of the body of a webhook, from every place
// where Meta puts them: statuses, for messages that failed; messages, for those
// that came in and could not be passed on; and the value itself, for the rest. A
// status with several errors gives a Failure for each. A webhook that reports no
// error, such as "delivered", gives none. Anything of another shape than Meta's
// is passed over, and so is an error without a code; what else the body holds is
// read all the same. Only a body that is no JSON object is an error.
//
// Check the signature first, X-Hub-Signature-256, over the same bytes: anybody
// can post to a webhook's URL. And expect repetitions: Meta delivers a webhook
// again, for up to 7 days
// (https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview),
// until it is answered with 200, and sometimes after that. So keep the MessageID
// of each failed message that was dealt with, and pass over one that comes again.
//
// See https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
// and, for the other two, the pages "unsupported" and "errors" beside it.
func ParseWebhook(body []byte) ([]Failure, error) {
	if !json.Valid(body) || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return nil, errors.New("graphretry: the body of the webhook is no JSON object: want the body of Meta's POST request, unchanged")
	}
	var webhook webhook
	// The body is valid, so what can go wrong is a value of another type than
	// Meta's. It is left out, and what stands beside it is read.
	_ = json.Unmarshal(body, &webhook)

	var failures []Failure
	for _, entry := range webhook.Entry {
		for _, change := range entry.Changes {
			value := change.Value
			for _, report := range slices.Concat(value.Statuses, value.Messages, []report{{Errors: value.Errors}}) {
				for _, object := range report.Errors {
					graph, ok := decodeObject(0, object)
					if !ok {
						continue
					}
					failures = append(failures, Failure{
						Graph:         redacted(nil, graph.described()),
						MessageID:     report.ID,
						RecipientID:   report.RecipientID,
						PhoneNumberID: value.Metadata.PhoneNumberID,
						CallbackData:  report.CallbackData,
						Time:          report.time(),
					})
				}
			}
		}
	}
	return failures, nil
}

// time is the timestamp, in seconds since 1970, which Meta writes as a string.
func (r report) time() time.Time {
	seconds, ok := integer(r.Timestamp)
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}
