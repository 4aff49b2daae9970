package graphretry

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/graphretry/graphretry/internal/jsonbody"
)

// Failure is an error that Meta reported by webhook. It is about a message that was
// accepted and not delivered, an incoming message that could not be passed on, or
// the account.
type Failure struct {
	// Graph is the error. Its Status and RetryAfter are 0, since it was not in an
	// answer. [Policy.Decide] takes it.
	Graph *Error
	// MessageID is the field "id" of the status or of the message, as in
	// "wamid.HBgL...": for a status, the id that the answer to POST /messages
	// gave. It is empty for an error that belongs to no message.
	MessageID string
	// RecipientID is the field "recipient_id" of the status: the phone number. It is
	// empty for an incoming message, whose recipient is the business, and for a
	// recipient of whom Meta gives only the RecipientUserID.
	RecipientID string
	// RecipientUserID is the field "recipient_user_id" of the status: the
	// recipient's business-scoped user ID, empty if there was none.
	RecipientUserID string
	// PhoneNumberID is the business's phone number, as it stands in the path of
	// POST /{phone-number-id}/messages.
	PhoneNumberID string
	// CallbackData is the field "biz_opaque_callback_data", which the sender set
	// on the message, empty if there was none.
	CallbackData string
	// Time is the field "timestamp", to the second and in UTC: when it happened,
	// which can be long before the webhook. It is the zero Time if there was none.
	Time time.Time
	// Field is the field "field" of the change, as in "messages" or "history": what
	// the webhook is about.
	Field string
	// Path is the place of the error in the value of the change, as in
	// "statuses[0].errors[0]". It shows whether the error is about a message that
	// was sent, an echo or the history.
	Path string
}

// ParseWebhook returns the errors in the body of a webhook. It reads every array
// "errors" in the value of a change, and returns a Failure for each element that has
// an integer code. Meta puts such arrays in statuses, for messages that failed; in
// messages, for incoming messages that could not be passed on; in message_echoes,
// history and groups; and in the value itself. The message's id, its recipient and
// its time are those of the nearest object around the error that has them. A webhook
// that reports no error, such as "delivered", has no Failure.
//
// What is not as Meta documents it is skipped, and so is what is nested more than 32
// levels deep or has a Path of more than 256 bytes. The rest is read all the same.
// Only a body that is not a JSON object is an error.
//
// Check the signature first, X-Hub-Signature-256, over the same bytes: anybody can
// post to a webhook's URL. Expect repetitions: Meta delivers a webhook again, for up
// to 7 days
// (https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview),
// until it is answered with 200, and sometimes after that. So remember the MessageID
// of each failed message that was dealt with, and skip it when it comes again.
//
// See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
// and the pages next to it.
func ParseWebhook(body []byte) ([]Failure, error) {
	body = jsonbody.Trim(body)
	if !json.Valid(body) || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return nil, errors.New("graphretry: webhook body is not a JSON object: want the body of Meta's POST request, unchanged")
	}
	var failures failures
	for _, entry := range elements(member(body, "entry")) {
		for _, change := range elements(member(entry, "changes")) {
			failures.find(member(change, "value"), Failure{Field: text(member(change, "field"))}, nil, 0)
		}
	}
	return failures, nil
}

// failures are those that were found so far.
type failures []Failure

// find adds the errors in an object or an array at a path. nearest is what the
// objects around it say of a message.
func (f *failures) find(value []byte, nearest Failure, path []byte, depth int) {
	// Meta nests less than 10 deep, and its names are short. Each level is read once
	// more, and each Failure has its Path, so what is larger would take much.
	const deepest, longestPath = 32, 256
	if depth > deepest || len(path) > longestPath {
		return
	}
	nearest.read(value)
	for key, inner := range members(value) {
		if !isNested(inner) || len(path)+len(key) > longestPath {
			continue
		}
		here := path
		if len(here) > 0 {
			here = append(here, '.')
		}
		here = append(here, key...)
		if string(key) == "errors" {
			f.add(inner, nearest, here)
		}
		f.find(inner, nearest, here, depth+1)
	}
	for i, inner := range elements(value) {
		if isNested(inner) {
			f.find(inner, nearest, element(path, i), depth+1)
		}
	}
}

// add adds the errors of an array "errors" at a path.
func (f *failures) add(array []byte, nearest Failure, path []byte) {
	for i, object := range elements(array) {
		if graph, ok := decodeObject(0, object); ok {
			failure := nearest
			failure.Path = string(element(path, i))
			failure.Graph = redactorOf().graph(graph.described())
			*f = append(*f, failure)
		}
	}
}

// element returns the path of an element of the array at a path.
func element(path []byte, i int) []byte {
	return append(strconv.AppendInt(append(path, '['), int64(i), 10), ']')
}

// isNested reports whether a value is an object or an array.
func isNested(value []byte) bool { return len(value) > 0 && (value[0] == '{' || value[0] == '[') }

// read reads what an object says of a message. What it does not say stays, and so
// does what has another type than Meta's.
func (f *Failure) read(object []byte) {
	for key, value := range members(object) {
		switch string(key) {
		case "id":
			f.MessageID = textOr(value, f.MessageID)
		case "recipient_id":
			f.RecipientID = textOr(value, f.RecipientID)
		case "recipient_user_id":
			f.RecipientUserID = textOr(value, f.RecipientUserID)
		case "biz_opaque_callback_data":
			f.CallbackData = textOr(value, f.CallbackData)
		case "metadata":
			f.PhoneNumberID = textOr(member(value, "phone_number_id"), f.PhoneNumberID)
		case "timestamp":
			// In seconds since 1970, as a string or a number.
			if seconds, ok := integer(value); ok {
				f.Time = time.Unix(int64(seconds), 0).UTC()
			}
		}
	}
}

// textOr returns the text of a JSON string, and for any other value a fallback.
func textOr(value []byte, fallback string) string {
	if bytes.HasPrefix(value, []byte(`"`)) {
		return text(value)
	}
	return fallback
}
