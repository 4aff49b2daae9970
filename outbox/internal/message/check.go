package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// maxID is the length of the longest id, in bytes. Meta allows 512 characters in
	// biz_opaque_callback_data.
	maxID = 256
	// maxPayload is the length of the longest payload, in bytes.
	maxPayload = 1 << 20
	// maxLabel is the length of the longest label, in bytes.
	maxLabel = 128

	callbackData = "biz_opaque_callback_data"
)

var numberPattern = regexp.MustCompile(`^[0-9]{1,64}$`)

// IsNumber reports whether a text can be the id of a phone number.
func IsNumber(text string) bool { return numberPattern.MatchString(text) }

// CheckID returns an error if an id is wrong.
func CheckID(id string) error {
	switch {
	case id == "":
		return errors.New("outbox: the id is empty: want one that identifies the message")
	case len(id) > maxID:
		return fmt.Errorf("outbox: the id has %d bytes: want at most %d", len(id), maxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("outbox: the id %q is not valid UTF-8: Meta could not return it unchanged", id)
	case strings.ContainsRune(id, 0):
		return fmt.Errorf("outbox: the id %q has a NUL, which no database keeps in a text", id)
	}
	return nil
}

// CheckLabel returns an error if a label is wrong.
func CheckLabel(label string) error {
	switch {
	case len(label) > maxLabel:
		return fmt.Errorf("the label has %d bytes: want at most %d", len(label), maxLabel)
	case !utf8.ValidString(label) || strings.ContainsRune(label, 0):
		return fmt.Errorf("the label %q: want valid UTF-8 without a NUL", label)
	}
	return nil
}

// Check returns an error if a message is wrong, and otherwise its recipient, "" if its payload
// does not name one.
func Check(id, number string, payload []byte) (recipient string, err error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	if !IsNumber(number) {
		return "", fmt.Errorf("outbox: message %q: the phone number ID %q: want the digits of the id, not the phone number itself, as in 106540352242922", id, number)
	}
	if len(payload) > maxPayload {
		return "", fmt.Errorf("outbox: message %q: the payload has %d bytes: want a shorter payload, at most %d bytes", id, len(payload), maxPayload)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil || fields == nil {
		return "", fmt.Errorf("outbox: message %q: the payload is not a JSON object: want the body of POST /messages, as in {\"messaging_product\":\"whatsapp\", ...}", id)
	}
	if !utf8.Valid(payload) {
		return "", fmt.Errorf("outbox: message %q: the payload is not valid UTF-8", id)
	}
	if given, ok := fields[callbackData]; ok {
		var text string
		if json.Unmarshal(given, &text) != nil || text != id {
			return "", fmt.Errorf("outbox: message %q: the payload has a %s of its own: leave it out, the outbox sets it to the id", id, callbackData)
		}
	}
	return recipientOf(fields), nil
}

// recipientOf returns who receives a message: the digits of a phone number, however it is
// written, or any other text as it is.
func recipientOf(fields map[string]json.RawMessage) string {
	for _, name := range []string{"to", "recipient"} {
		raw, ok := fields[name]
		if !ok || string(raw) == "null" {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if text == "" {
			continue
		}
		digits := strings.Map(func(r rune) rune {
			if strings.ContainsRune("+-(). ", r) {
				return -1
			}
			return r
		}, text)
		if numberPattern.MatchString(digits) {
			return digits
		}
		// JSON can escape a NUL, which no database keeps in a text.
		return strings.ReplaceAll(text, "\x00", "\\0")
	}
	return ""
}

// Body returns the body of the call to Meta: the payload with the id as its
// biz_opaque_callback_data. Other members, numbers and their order stay as they are.
func Body(id string, payload []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, fmt.Errorf("outbox: message %q: the payload is not a JSON object: %w", id, err)
	}
	if _, ok := fields[callbackData]; ok {
		return payload, nil
	}
	value, err := json.Marshal(id)
	if err != nil {
		return nil, fmt.Errorf("outbox: the id %q cannot be written as JSON: %w", id, err)
	}
	var body bytes.Buffer
	body.WriteString(`{"` + callbackData + `":`)
	body.Write(value)
	if len(fields) > 0 {
		body.WriteByte(',')
	}
	body.Write(bytes.TrimLeft(payload, " \t\r\n")[1:])
	return body.Bytes(), nil
}
