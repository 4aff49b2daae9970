package graphretry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"

	"github.com/graphretry/graphretry/internal/jsonbody"
	"github.com/graphretry/graphretry/internal/redact"
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
	return e.described().redacted(redact.Of()), true
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
	return e.described().redactedFor(resp.Request, body.sent), true
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
	return decodeObject(status, jsonbody.Member(body, "error"))
}

// decodeObject is [decode] for the error object itself, which must be valid JSON.
func decodeObject(status int, object []byte) (e Error, ok bool) {
	e = Error{Status: status, Raw: object}
	for key, value := range jsonbody.Members(object) {
		switch string(key) {
		case "code":
			var code int
			code, ok = jsonbody.Integer(value)
			e.Code = Code(code)
		case "error_subcode":
			e.Subcode, _ = jsonbody.Integer(value)
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
		for key, value := range jsonbody.Members(e.Raw) {
			if string(key) == "error_data" {
				texts.Data.Details = cmp.Or(jsonbody.Text(value), texts.Data.Details)
			}
		}
	}
	e.Type, e.TraceID = texts.Type, texts.TraceID
	e.Message = cmp.Or(texts.Message, texts.Title)
	e.Details = cmp.Or(texts.Data.Details, texts.Details)
	e.UserTitle, e.UserMessage = texts.UserTitle, texts.UserMessage
	return &e
}
