package graphretry

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/internal/jsonbody"
	"github.com/graphretry/graphretry/internal/redact"
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
	// empty for an incoming message, whose recipient is the business, for a recipient
	// of whom Meta gives only the RecipientUserID, and for a group, which is in GroupID.
	RecipientID string
	// RecipientUserID is the field "recipient_user_id" of the status: the
	// recipient's business-scoped user ID, empty if there was none.
	RecipientUserID string
	// GroupID is the group that the message was sent to: the field "recipient_id" of a
	// status whose "recipient_type" is "group". Outside of statuses it is the field
	// "group_id": the group that the error is about. It is empty if there was none.
	GroupID string
	// ParticipantID and ParticipantUserID are the fields "recipient_participant_id"
	// and "recipient_participant_user_id" of the status: the phone number and the
	// business-scoped user ID of one participant of the group. A message to a group
	// has statuses for each participant. So if either is set, the message failed for
	// this person, and others may have it; it failed for the group if both are empty.
	ParticipantID, ParticipantUserID string
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
// Check the signature of the same bytes first, with [VerifyWebhook]: anybody can post
// to a webhook's URL. Expect repetitions: Meta delivers a webhook again, for up to 7
// days
// (https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview),
// until it is answered with 200, and sometimes after that. So remember the MessageID
// of each failed message that was dealt with, and skip it when it comes again. Of a
// message to a group, each participant can fail: see [Failure].ParticipantID.
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
	for _, entry := range jsonbody.Elements(jsonbody.Member(body, "entry")) {
		for _, change := range jsonbody.Elements(jsonbody.Member(entry, "changes")) {
			failures.find(jsonbody.Member(change, "value"), Failure{Field: jsonbody.Text(jsonbody.Member(change, "field"))}, nil, 0)
		}
	}
	return failures, nil
}

// VerifyWebhook returns an error unless a webhook was signed with an app's secret, as
// Meta signs those that it sends. signature is the header X-Hub-Signature-256 of the
// request: "sha256=" and the HMAC-SHA256 of the body in hexadecimal digits. body is the
// body of the request, byte for byte: JSON that was decoded and encoded again has another
// signature. appSecret is the App Secret in the app's settings at Meta.
//
// The comparison takes the same time wherever a signature is wrong. An empty signature
// and an empty secret are errors of their own. No error contains the secret or a
// signature.
//
// See https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads.
func VerifyWebhook(body []byte, signature string, appSecret []byte) error {
	switch {
	case len(appSecret) == 0:
		return errors.New("graphretry: webhook cannot be verified, the app secret is empty: want the App Secret in the app's settings at Meta")
	case signature == "":
		return errors.New("graphretry: webhook has no signature: want the header X-Hub-Signature-256 of Meta's request")
	}
	digits, hasPrefix := strings.CutPrefix(signature, "sha256=")
	signed, err := hex.DecodeString(digits)
	if !hasPrefix || err != nil || len(signed) != sha256.Size {
		return errors.New(`graphretry: webhook has a malformed signature: want the header X-Hub-Signature-256, "sha256=" and 64 hexadecimal digits`)
	}
	mac := hmac.New(sha256.New, appSecret)
	mac.Write(body)
	if !hmac.Equal(signed, mac.Sum(nil)) {
		return errors.New("graphretry: webhook has a wrong signature: want the body of Meta's request, unchanged, and the secret of the app that it is for")
	}
	return nil
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
	for key, inner := range jsonbody.Members(value) {
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
	for i, inner := range jsonbody.Elements(value) {
		if isNested(inner) {
			f.find(inner, nearest, element(path, i), depth+1)
		}
	}
}

// add adds the errors of an array "errors" at a path.
func (f *failures) add(array []byte, nearest Failure, path []byte) {
	for i, object := range jsonbody.Elements(array) {
		if graph, ok := decodeObject(0, object); ok {
			failure := nearest
			failure.Path = string(element(path, i))
			failure.Graph = graph.described().redacted(redact.Of())
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
	var recipient string
	var isGroup bool
	for key, value := range jsonbody.Members(object) {
		switch string(key) {
		case "id":
			f.MessageID = textOr(value, f.MessageID)
		case "recipient_id":
			recipient = jsonbody.Text(value)
		case "recipient_type":
			isGroup = jsonbody.Text(value) == "group"
		case "recipient_user_id":
			f.RecipientUserID = textOr(value, f.RecipientUserID)
		case "recipient_participant_id":
			f.ParticipantID = textOr(value, f.ParticipantID)
		case "recipient_participant_user_id":
			f.ParticipantUserID = textOr(value, f.ParticipantUserID)
		case "group_id":
			f.GroupID = textOr(value, f.GroupID)
		case "biz_opaque_callback_data":
			f.CallbackData = textOr(value, f.CallbackData)
		case "metadata":
			f.PhoneNumberID = textOr(jsonbody.Member(value, "phone_number_id"), f.PhoneNumberID)
		case "timestamp":
			// In seconds since 1970, as a string or a number.
			if seconds, ok := jsonbody.Integer(value); ok {
				f.Time = time.Unix(int64(seconds), 0).UTC()
			}
		}
	}
	// The type can stand behind the ID.
	switch {
	case recipient == "":
	case isGroup:
		f.RecipientID, f.GroupID = "", recipient
	default:
		f.RecipientID = recipient
	}
}

// textOr returns the text of a JSON string, and for any other value a fallback.
func textOr(value []byte, fallback string) string {
	if bytes.HasPrefix(value, []byte(`"`)) {
		return jsonbody.Text(value)
	}
	return fallback
}
