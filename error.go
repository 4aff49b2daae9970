package graphretry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/graphretry/graphretry/internal/netfail"
	"github.com/graphretry/graphretry/internal/redact"
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
	// Status is the HTTP status of the answer, 0 for an error from a webhook. It
	// does not decide whether to retry: Meta documents a 500 that must not be
	// retried, and a 400 after which waiting helps.
	Status int
	// Code is the field "code". It decides whether to retry.
	Code Code
	// Subcode is the field "error_subcode", 0 if there was none. From 130000 up it
	// is itself a code, such as a WhatsApp code that Meta gives with code 100. A
	// subcode that stands for a lasting block overrules Code: see [WithRetryOn].
	Subcode int
	// Type is the field "type", as in "OAuthException".
	Type string
	// Message is the field "message"; for a webhook without one, its "title".
	Message string
	// Details is the text in the field "error_data": its "details" if it is an
	// object, or else the string itself. Without "error_data" it is the field
	// "details" next to the code.
	Details string
	// UserTitle and UserMessage are the fields "error_user_title" and
	// "error_user_msg", which Meta writes for the person using the app.
	UserTitle, UserMessage string
	// Transient is the field "is_transient".
	Transient bool
	// TraceID is the field "fbtrace_id". Meta's support asks for it.
	TraceID string
	// RetryAfter is the wait that the answer's headers ask for, or 0. It is the
	// longest Retry-After (RFC 9110, section 10.2.3), in which a date counts from
	// the answer's own Date. For a code of [ClassThrottle] it is at least the
	// longest estimated_time_to_regain_access in X-Business-Use-Case-Usage, and at
	// least the reset_time_duration in X-Ad-Account-Usage.
	RetryAfter time.Duration
	// Raw is the error object as it was received, for a support ticket. It is the
	// only field that can contain a token, if Meta's message echoes one, so it is
	// left out of JSON.
	Raw []byte `json:"-"`
}

// Error returns Meta's texts on one line, with the fbtrace_id that Meta's support
// asks for. Where Details is empty, the texts for the user stand in. For a nil Error it
// says that there is no Graph error.
func (e *Error) Error() string {
	if e == nil {
		return "graphretry: no Graph error"
	}
	return prefix + e.text(e.title())
}

// prefix is what the texts of errors begin with.
const prefix = "graphretry: "

// text returns what Meta said, on one line. The title can be left out.
func (e *Error) text(title string) string {
	var text strings.Builder
	text.WriteString("Graph error " + strconv.Itoa(int(e.Code)))
	if e.Subcode != 0 {
		text.WriteString(", subcode " + strconv.Itoa(e.Subcode))
	}
	if title != "" {
		text.WriteString(" (" + title + ")")
	}
	parts := []string{e.Message, e.Details}
	if e.Details == "" {
		parts = []string{e.Message, e.UserTitle, e.UserMessage}
	}
	for _, part := range parts {
		if part != "" {
			text.WriteString(": " + part)
		}
	}
	if e.TraceID != "" {
		text.WriteString(" [fbtrace_id " + e.TraceID + "]")
	}
	return oneLine(text.String())
}

// oneLine returns a text without what would begin a line in a log, or turn one around.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, text)
}

// Class returns the class of Subcode if that is a code in the catalogue, since it is
// the more specific of the two, and otherwise the class of Code. The class of a nil
// Error is [ClassUnknown].
func (e *Error) Class() Class {
	if e == nil {
		return ClassUnknown
	}
	return e.specificCode().Class()
}

// AboutSender reports whether every message of the sender would get the error: see
// [Code.AboutSender]. A subcode that the catalogue has decides, as for Class. It reports
// false for a nil Error.
func (e *Error) AboutSender() bool {
	return e != nil && e.specificCode().AboutSender()
}

// title returns Meta's name for the error.
func (e *Error) title() string { return e.specificCode().Title() }

// specificCode returns the code in Subcode if the catalogue has it, else Code.
func (e *Error) specificCode() Code {
	if subcode := e.subcode(); subcode.Title() != "" {
		return subcode
	}
	return e.Code
}

// subcode returns Subcode as a Code if its number is one, from [firstSubcode] up,
// else Code.
func (e *Error) subcode() Code {
	if e.Subcode < firstSubcode {
		return e.Code
	}
	return Code(e.Subcode)
}

// firstSubcode is where the numbers of subcodes begin to be those of codes, such
// as WhatsApp's. Below it the two have nothing to do with each other: subcode 33 is
// "unsupported request", not a deleted phone number.
const firstSubcode = 130000

// ErrOutage is wrapped by the [WaitError] of a call that was never sent because the
// API is down or overloaded. The call does not wait ([WithoutWaiting]), or its time ended
// in the queue, or would have: its deadline or its maximum elapsed time comes before the
// next probe, or too soon after it.
var ErrOutage = errors.New("graphretry: the API is down and the call cannot wait until it is back")

// WaitError is the error of a call that ended while it waited for its next attempt,
// or in the queue of an outage, or that must not wait for the end of one
// ([WithoutWaiting]). A call that was sent and runs out of time returns its last response
// instead. So if Attempts is not 0, the caller canceled the call.
type WaitError struct {
	// Err says why the wait ended: [context.Canceled] or [context.DeadlineExceeded],
	// with [context.Cause] where that says more, or [ErrOutage].
	Err error
	// Graph is the Graph error of the last attempt, or, if the call was never sent,
	// the one that began the outage. It is nil if there was none: also in an outage in
	// which nobody gets a connection.
	Graph *Error
	// Attempts is how many times the call was sent.
	Attempts int
	// Wait is how long it was, when the wait ended, until the next probe may be sent;
	// for a host that is recovering, until the next call may be. It is 0 if the call did
	// not wait for an outage to end.
	Wait time.Duration
	// Path is the path that was down, such as "/106540352242922/messages", without the
	// version of the API. It is "" if the host was, or if the call did not wait for an
	// outage to end. Secrets in it are blanked.
	Path string
}

// Error returns why the wait ended, how many times the call was sent, and Meta's
// last error.
func (e *WaitError) Error() string {
	sent := "never sent"
	switch {
	case e.Attempts == 1:
		sent = "sent once"
	case e.Attempts > 1:
		sent = fmt.Sprintf("sent %d times", e.Attempts)
	}
	text := fmt.Sprintf("%sthe wait for an attempt ended, %s: %s", prefix, sent, strings.ReplaceAll(fmt.Sprint(e.Err), prefix, ""))
	if e.Path != "" {
		text += " of " + e.Path
	}
	if e.Graph != nil {
		title := e.Graph.title()
		if strings.Contains(e.Graph.Message, title) {
			title = "" // the message says it
		}
		text += "; last answer: " + e.Graph.text(title)
	}
	return text
}

// Unwrap returns Err and Graph, so that [errors.Is] and [errors.As] find them.
func (e *WaitError) Unwrap() []error {
	if e.Graph == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Graph}
}

// Timeout reports whether a deadline ended the wait, as in [net.Error].
func (e *WaitError) Timeout() bool {
	var timeout net.Error
	return errors.Is(e.Err, context.DeadlineExceeded) || errors.As(e.Err, &timeout) && timeout.Timeout()
}

// NeverSent reports whether err proves that a request was not carried out, so that it can
// be sent again whatever its method. Either it was not sent: no connection could be made,
// directly or through a proxy, the server's certificate was refused, or a [*WaitError]
// says that there was no attempt. Or the server said that it did not process it, over
// HTTP/2 (RFC 9113, section 8.7) or HTTP/3 (RFC 9114, section 4.1.1). Where several errors
// are joined, each of them must prove it. It reports false for nil.
//
// A dial that was cut off by a deadline, and a proxy that refused a CONNECT, come from
// net/http as errors that do not tell. And the error of a request that was sent can be the
// cause of its context, which is about something else. NeverSent knows both where the
// [Transport] watched the connection, which it does with [WithAttemptTimeout],
// [WithoutWaiting], [WithObserver], [WithLogger] and [WithNetworkRetries].
// [http.Client.Timeout] replaces the error, and NeverSent reports false.
func NeverSent(err error) bool {
	return netfail.NeverSent(err, func(err error) bool {
		wait, ok := err.(*WaitError)
		return ok && wait.Attempts == 0 || err == ErrOutage
	})
}

// redacted blanks secrets in the texts of e, but for Raw, and returns e.
func (e *Error) redacted(secrets redact.Redactor) *Error {
	for _, text := range []*string{&e.Type, &e.Message, &e.Details, &e.UserTitle, &e.UserMessage, &e.TraceID} {
		*text = secrets.Text(*text)
	}
	return e
}

// redactedFor blanks the secrets of these requests, which may be nil, in the texts of e, and
// returns e. A caller's own GetBody is not asked for the body if e passes by itself: such
// an error says nothing of the request.
func (e *Error) redactedFor(requests ...*http.Request) *Error {
	class := e.Class()
	passes := class == ClassTransient || class == ClassRetryOnce || class == ClassThrottle
	var secrets redact.Values
	for _, req := range requests {
		if req != nil {
			secrets.AddRequest(req)
			secrets.AddBody(headInMemory(req, !passes))
		}
	}
	return e.redacted(secrets.Redactor())
}
