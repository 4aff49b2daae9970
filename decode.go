package graphretry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"math"
	"net/http"
	"strconv"

	"github.com/graphretry/graphretry/internal/jsonbody"
)

// ParseError returns the Graph error in an answer with the given HTTP status, header and
// body, with the wait that the header asks for. It is for a client whose answers are no
// [http.Response]. The header may be nil; its names are written as in "Retry-After", as
// [http.Header.Set] does. ParseError reports false if the body has no Graph error: HTML,
// an empty or truncated body, a success, or an error without an integer "code" (a number
// or a numeric string). In its texts, what looks like one of Meta's access tokens is
// blanked.
func ParseError(status int, header http.Header, body []byte) (*Error, bool) {
	e, ok := decodeAnswer(status, header, body)
	if !ok {
		return nil, false
	}
	return redactorOf().graph(e.described()), true
}

// ErrorFromResponse returns the Graph error of an answer whose status is 400 or
// above, with the wait that its headers ask for. It reads at most 64 KiB of the body
// and makes them readable again. A body compressed with gzip or deflate is decoded
// for this only. In Meta's texts, the tokens of the response's Request are blanked.
// It reports false for a nil response, for a status below 400, for the answer to a
// HEAD, which has no body and is not read, and for a body whose first 64 KiB contain no
// whole Graph error, or that was read before.
func ErrorFromResponse(resp *http.Response) (*Error, bool) {
	if resp == nil || resp.StatusCode < http.StatusBadRequest {
		return nil, false
	}
	body := peek(resp)
	e, ok := decodeAnswer(resp.StatusCode, resp.Header, body.decoded(resp))
	if !ok {
		return nil, false
	}
	described := e.described()
	return redactorFor(described, resp.Request, body.sent).graph(described), true
}

// decodeAnswer decodes the body of an answer, and its header.
func decodeAnswer(status int, header http.Header, body []byte) (Error, bool) {
	e, ok := decode(status, body)
	if ok {
		e.RetryAfter = retryAfter(header)
		if e.Code.Class() == ClassThrottle {
			e.RetryAfter = max(e.RetryAfter, usageWait(header))
		}
	}
	return e, ok
}

// decode reads what a decision needs of a Graph error. The texts take as long
// again to read and most calls never ask for them, so they are left in Raw,
// which still is a part of body, for [Error.described].
func decode(status int, body []byte) (Error, bool) {
	body = jsonbody.Trim(body)
	if !json.Valid(body) {
		return Error{}, false
	}
	return decodeObject(status, member(body, "error"))
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

// described returns the whole error, with its texts. It shares no memory with the
// body it was decoded from.
func (e Error) described() *Error {
	e.Raw = bytes.Clone(e.Raw)
	var texts struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Title   string `json:"title"`
		Details string `json:"details"`
		Data    struct {
			Details string `json:"details"`
		} `json:"error_data"`
		UserTitle   string `json:"error_user_title"`
		UserMessage string `json:"error_user_msg"`
		TraceID     string `json:"fbtrace_id"`
	}
	if err := json.Unmarshal(e.Raw, &texts); err != nil {
		// Raw is valid JSON, so a value has another type than Meta's. It is left out,
		// but for error_data, which can be a string.
		for key, value := range members(e.Raw) {
			if string(key) == "error_data" {
				texts.Data.Details = cmp.Or(text(value), texts.Data.Details)
			}
		}
	}
	e.Type, e.TraceID = texts.Type, texts.TraceID
	e.Message = cmp.Or(texts.Message, texts.Title)
	e.Details = cmp.Or(texts.Data.Details, texts.Details)
	e.UserTitle, e.UserMessage = texts.UserTitle, texts.UserMessage
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

// member returns the value of a member of a JSON object, nil if it has none. Of
// several of that name it is the last, as in encoding/json.
func member(object []byte, name string) (last []byte) {
	for key, value := range members(object) {
		if string(key) == name {
			last = value
		}
	}
	return last
}

// elements walks the elements of a JSON array, as [members] does an object.
func elements(array []byte) iter.Seq2[int, []byte] {
	return func(yield func(i int, value []byte) bool) {
		rest := bytes.TrimLeft(array, " \t\r\n")
		if len(rest) == 0 || rest[0] != '[' {
			return
		}
		rest = rest[1:]
		for i := 0; ; i++ {
			rest = bytes.TrimLeft(rest, " \t\r\n,")
			end := valueEnd(rest)
			if end == 0 || !yield(i, rest[:end]) {
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

// integer reads a JSON number that is an integer, however it is written, or a
// string of its digits.
func integer(value []byte) (int, bool) {
	if n, err := strconv.Atoi(unquoted(value)); err == nil {
		return n, true
	}
	// Beyond that a float64 does not hold every integer.
	const largest = min(1<<53, math.MaxInt)
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > largest {
		return 0, false
	}
	return int(n), true
}

// unquoted returns the text of a JSON string, and any other value as it stands.
func unquoted(value []byte) string {
	if bytes.HasPrefix(value, []byte(`"`)) {
		return text(value)
	}
	return string(value)
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
