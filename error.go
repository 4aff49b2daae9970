package graphretry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Error is a Graph error: the object "error" in the body of a failed answer,
// or an entry of "errors" in a webhook.
//
// Its fields are Meta's, described at
// https://developers.facebook.com/docs/graph-api/guides/error-handling and
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes.
// The texts are for people: they are translated and reworded, so nothing in
// this package depends on them.
type Error struct {
	// Status is the HTTP status of the answer, 0 for an error out of a webhook.
	// It does not decide: Meta documents a 500 that must not be retried and a
	// 400 that is a mere wait.
	Status int
	// Code is the field "code". It decides.
	Code Code
	// Subcode is the field "error_subcode", 0 if there was none. From 130000
	// up it is a WhatsApp code, which Meta sets under the code 100.
	Subcode int
	// Type is the field "type", as in "OAuthException".
	Type string
	// Message is the field "message"; for a webhook without one, its "title".
	Message string
	// Details is the text in the field "error_data": its "details" where it is
	// an object, else the string as it came.
	Details string
	// UserTitle and UserMessage are the fields "error_user_title" and
	// "error_user_msg", which Meta writes for the person using the app.
	UserTitle, UserMessage string
	// Transient is the field "is_transient".
	Transient bool
	// TraceID is the field "fbtrace_id". Meta's support asks for it.
	TraceID string
	// RetryAfter is the wait that the answer's headers asked for, 0 if they
	// asked for none: Retry-After (RFC 9110, section 10.2.3) and, for a code of
	// [ClassThrottle], the longest estimated_time_to_regain_access in
	// X-Business-Use-Case-Usage.
	RetryAfter time.Duration
	// Raw is the error object as it was received, for a support ticket. It is
	// the one field that may hold a token, where Meta's message echoes one.
	Raw []byte
}

// Error is what Meta said, on one line, with the fbtrace_id that its support asks
// for. A nil Error says that there is none.
func (e *Error) Error() string {
	if e == nil {
		return "graphretry: no Graph error"
	}
	var text strings.Builder
	text.WriteString("graphretry: Graph error ")
	text.WriteString(strconv.Itoa(int(e.Code)))
	if e.Subcode != 0 {
		text.WriteString(", subcode " + strconv.Itoa(e.Subcode))
	}
	if title := e.title(); title != "" {
		text.WriteString(" (" + title + ")")
	}
	for _, part := range []string{e.Message, e.Details} {
		if part != "" {
			text.WriteString(": " + part)
		}
	}
	if e.TraceID != "" {
		text.WriteString(" [fbtrace_id " + e.TraceID + "]")
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' ' // a line break of Meta's must not begin a line in a log
		}
		return r
	}, text.String())
}

// LogValue gives the error to a [slog.Logger] as a group: status, code, subcode,
// class, title, message, details, fbtrace_id and advice, of which class, title
// and advice are the catalogue's.
func (e *Error) LogValue() slog.Value {
	if e == nil {
		return slog.Value{}
	}
	return slog.GroupValue(e.attributes()...)
}

// attributes are the error's fields in a log, with the names Meta gives them. A
// nil Error has them all too, and they say nothing: whoever searches a log by an
// attribute finds every record.
func (e *Error) attributes() []slog.Attr {
	var title, advice string
	class := e.Class()
	if e == nil {
		e = new(Error)
	} else {
		title, advice = e.title(), e.mostExact().Advice()
	}
	return []slog.Attr{
		slog.Int("status", e.Status),
		slog.Int("code", int(e.Code)),
		slog.Int("subcode", e.Subcode),
		slog.String("class", class.String()),
		slog.String("title", title),
		slog.String("message", e.Message),
		slog.String("details", e.Details),
		slog.String("fbtrace_id", e.TraceID),
		slog.String("advice", advice),
	}
}

// Class is the class of the WhatsApp code in Subcode where there is one, since
// it is the more exact of the two, and the class of Code otherwise. A nil Error
// is of [ClassUnknown].
func (e *Error) Class() Class {
	if e == nil {
		return ClassUnknown
	}
	return e.mostExact().Class()
}

// title is Meta's name for the error.
func (e *Error) title() string { return e.mostExact().Title() }

// mostExact is the WhatsApp code in Subcode if the catalogue has it, else Code.
func (e *Error) mostExact() Code {
	if e.Subcode >= firstWhatsAppCode && Code(e.Subcode).Title() != "" {
		return Code(e.Subcode)
	}
	return e.Code
}

// firstWhatsAppCode is where subcodes begin to be WhatsApp codes. Below it the
// numbers of subcodes and of codes have nothing to do with each other: subcode
// 33 is "unsupported request", not a deleted phone number.
const firstWhatsAppCode = 130000

// either tells whether the code, or the WhatsApp code in the subcode, is such.
func (e *Error) either(such func(Code) bool) bool {
	return such(e.Code) || e.Subcode >= firstWhatsAppCode && such(Code(e.Subcode))
}

// ParseError reads the Graph error out of the body of an answer with the given
// HTTP status. It reports false, and no error, for a body that holds none:
// HTML, an empty or truncated body, a success. An error without an integer
// "code" (a number or a numeric string) is none, since nothing can be decided
// by it. What looks like one of Meta's access tokens is blanked in the texts.
func ParseError(status int, body []byte) (*Error, bool) {
	e, ok := decode(status, body)
	if !ok {
		return nil, false
	}
	return redacted(nil, e.described()), true
}

// ErrorFromResponse reads the Graph error out of an answer whose status is 400
// or above, and what its headers ask for. It reads at most 64 KiB of the body
// and makes them readable again, so that the caller finds the body as it was. A
// body compressed with gzip or deflate is decoded for the reading alone. Where
// Meta's texts echo a token of the response's Request it is blanked. It reports
// false for a nil response, a status below 400, and a body that holds no whole
// Graph error within the 64 KiB, or none any more since it was read.
func ErrorFromResponse(resp *http.Response) (*Error, bool) {
	if resp == nil || resp.StatusCode < http.StatusBadRequest {
		return nil, false
	}
	body := peek(resp)
	e, ok := decodeResponse(resp, body)
	if !ok {
		return nil, false
	}
	return redacted(body.sent, redacted(resp.Request, e.described())), true
}

// decodeResponse decodes the peeked bytes of a response's body, and its headers.
func decodeResponse(resp *http.Response, body *peekedBody) (Error, bool) {
	e, ok := decode(resp.StatusCode, body.decoded(resp))
	if ok {
		e.RetryAfter = retryAfter(resp.Header)
		if e.Code.Class() == ClassThrottle {
			e.RetryAfter = max(e.RetryAfter, regainAccess(resp.Header))
		}
	}
	return e, ok
}

// decode reads what a decision needs of a Graph error. The texts take as long
// again to read and most calls never ask for them, so they are left in Raw,
// which still is a part of body, for [Error.described].
func decode(status int, body []byte) (Error, bool) {
	if !json.Valid(body) {
		return Error{}, false
	}
	var object []byte
	for key, value := range members(body) {
		if string(key) == "error" {
			object = value
		}
	}
	return decodeObject(status, object)
}

// decodeObject is [decode] for the error object itself, which must be valid JSON.
func decodeObject(status int, object []byte) (e Error, ok bool) {
	e = Error{Status: status, Raw: object}
	for key, value := range members(object) {
		switch string(key) {
		case "code":
			var code int
			code, ok = integer(value)
			e.Code = Code(code)
		case "error_subcode":
			e.Subcode, _ = integer(value)
		case "is_transient":
			e.Transient = string(value) == "true"
		}
	}
	return e, ok
}

// described is the whole error, with its texts, and shares no memory with the
// body it was decoded from.
func (e Error) described() *Error {
	e.Raw = bytes.Clone(e.Raw)
	for key, value := range members(e.Raw) {
		switch string(key) {
		case "type":
			e.Type = text(value)
		case "message":
			e.Message = cmp.Or(text(value), e.Message)
		case "title":
			e.Message = cmp.Or(e.Message, text(value))
		case "error_data":
			e.Details = text(value)
			for key, value := range members(value) {
				if string(key) == "details" {
					e.Details = text(value)
				}
			}
		case "error_user_title":
			e.UserTitle = text(value)
		case "error_user_msg":
			e.UserMessage = text(value)
		case "fbtrace_id":
			e.TraceID = text(value)
		}
	}
	return &e
}

// members walks the members of a JSON object: the keys without their quotes,
// the values as they stand. It has none for any other value. It only steps over
// strings and counts brackets, which is right for valid JSON and ends for any.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := bytes.TrimLeft(object, " \t\r\n")
		if len(rest) == 0 || rest[0] != '{' {
			return
		}
		for rest = rest[1:]; ; {
			rest = bytes.TrimLeft(rest, " \t\r\n,")
			keyEnd := valueEnd(rest)
			if keyEnd < len(`""`) {
				return // the closing brace
			}
			key := rest[1 : keyEnd-1]
			if bytes.IndexByte(key, '\\') >= 0 {
				key = []byte(text(rest[:keyEnd]))
			}
			rest = bytes.TrimLeft(rest[keyEnd:], " \t\r\n:")
			end := valueEnd(rest)
			if !yield(key, rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// valueEnd is the length of the JSON value that text begins with, 0 if it
// begins with none.
func valueEnd(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case quoted && c != '"':
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return i
			}
			if depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c == ':' || c <= ' '):
			return i
		}
	}
	return len(text)
}

// integer reads a JSON number or a string that holds one.
func integer(value []byte) (int, bool) {
	digits := bytes.Trim(value, `"`)
	if bytes.IndexByte(digits, '\\') >= 0 {
		digits = []byte(text(value))
	}
	n, err := strconv.Atoi(string(digits))
	if err != nil {
		return 0, false
	}
	return n, true
}

// text reads a JSON string; any other value has no text.
func text(value []byte) string {
	var s string
	if len(value) > 0 && value[0] == '"' {
		// The value stood in valid JSON, so it can only be a string.
		_ = json.Unmarshal(value, &s)
	}
	return s
}
