package graphtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/graphretry/graphretry"
)

// An Answer is what a call gets. Set the fields that are needed; the zero Answer is
// a success.
//
//	Answer{Code: 131016}                          a Graph error, with its documented status
//	Answer{Code: 2, Transient: true}              the same, marked is_transient
//	Answer{Code: 4, RetryAfter: "30"}             a throttling error that says how long to wait
//	Answer{Status: 502}                           a gateway's HTML page
//	Answer{Status: 503, Body: []byte{}}           an empty answer
//	Answer{Fault: FaultBreak}                     the connection breaks, the message is not accepted
//	Answer{Fault: FaultBreak, Accept: true}       the message is accepted, then the connection breaks
//	Answer{Status: 504, Accept: true}             the message is accepted, and a gateway times out
//	Answer{Fault: FaultHang}                      no answer until the caller ends the call
//	Answer{Delay: 8 * time.Second}                a success, late
type Answer struct {
	// Code is the code of the Graph error to answer with. 0 means no error. For the
	// error with code 0, AuthException, give Status 401 and Body ErrorBody(0).
	Code graphretry.Code
	// Status is the HTTP status, between 200 and 599. 0 means the status documented
	// for Code (see [Status]), or 200 without a Code. A Status of 400 or above
	// without a Code and a Body is a gateway's HTML page.
	Status int
	// Subcode, if not 0, is the error's error_subcode.
	Subcode int
	// Transient puts "is_transient":true into the error.
	Transient bool
	// Message and Details are the error's texts. Message is otherwise the code's
	// documented title after "(#code) ". Details, which stands in error_data, is
	// otherwise the title for WhatsApp's own codes and absent for the others.
	Message, Details string
	// RetryAfter is the value of the Retry-After header, in seconds or as an HTTP
	// date. It is sent unchanged, so that an invalid one can be tried too.
	RetryAfter string
	// Header is added to the answer's headers; it replaces those of the same
	// name. "Connection: close" closes the connection after the answer.
	Header http.Header
	// Body, if not nil, is sent instead of the body that the other fields make.
	Body []byte
	// Gzip compresses the body, for a caller whose Accept-Encoding has gzip. An
	// [http.Transport] asks for it and decompresses the body by itself.
	Gzip bool
	// Accept accepts the message although the answer does not say so. An answer that
	// is a success always accepts it. A message that is not well formed is never
	// accepted.
	Accept bool
	// Delay is how long this answer takes, in addition to the API's latency.
	Delay time.Duration
	// Fault says what happens to the connection.
	Fault Fault
}

// A Fault is what happens to the connection of an [Answer].
type Fault int

const (
	// FaultNone is no fault: the answer arrives whole.
	FaultNone Fault = iota
	// FaultBreak breaks the connection instead of an answer. In memory the error
	// is a connection reset (a [*net.OpError] that wraps ECONNRESET), as over
	// HTTP/1.1; over HTTP/2 the stream is reset.
	//
	// An [http.Transport] repeats a GET by itself when the connection it reused
	// breaks so; over HTTP the record then has more calls than were made.
	FaultBreak
	// FaultHang gives no answer until the caller ends the call: its context ends,
	// its Cancel channel closes, or over HTTP its connection closes.
	FaultHang
	// FaultTruncate sends the headers and half of the body, then breaks the
	// connection. Reading the body ends in [io.ErrUnexpectedEOF], or over HTTP/2
	// in a stream error. An answer without a body arrives as it is.
	FaultTruncate
	// FaultStall sends the headers and half of the body, then nothing until the
	// caller ends the call. An answer without a body arrives as it is.
	FaultStall
)

func (answer Answer) check() error {
	switch {
	case answer.Code < 0:
		return fmt.Errorf("Answer.Code %d: a code must not be negative", answer.Code)
	case answer.Status != 0 && (answer.Status < 200 || answer.Status > 599):
		return fmt.Errorf("Answer.Status %d: a status is between 200 and 599, or 0 for the code's own", answer.Status)
	case answer.Delay < 0:
		return fmt.Errorf("Answer.Delay %v: a delay must not be negative", answer.Delay)
	case answer.Fault < FaultNone || answer.Fault > FaultStall:
		return fmt.Errorf("Answer.Fault %d: there is no such fault", answer.Fault)
	}
	return nil
}

func (answer Answer) status() int {
	if answer.Status == 0 && answer.Code != 0 {
		return Status(answer.Code)
	}
	if answer.Status == 0 {
		return http.StatusOK
	}
	return answer.Status
}

// accepts reports whether a message that gets this answer has been taken.
func (answer Answer) accepts() bool {
	if answer.Fault == FaultBreak || answer.Fault == FaultHang {
		return answer.Accept
	}
	return answer.Accept || answer.succeeds()
}

// succeeds reports whether the answer says that all went well.
func (answer Answer) succeeds() bool {
	return answer.Code == 0 && answer.status() < 300
}

// graphError is the error object, in the order in which Meta's answers have it.
type graphError struct {
	Message   string     `json:"message"`
	Type      string     `json:"type"`
	Transient bool       `json:"is_transient,omitempty"`
	Code      int        `json:"code"`
	Data      *errorData `json:"error_data,omitempty"`
	Subcode   int        `json:"error_subcode,omitempty"`
	TraceID   string     `json:"fbtrace_id"`
}

type errorData struct {
	MessagingProduct string `json:"messaging_product,omitempty"`
	Details          string `json:"details"`
}

// The codes from here up are WhatsApp's own; those below belong to every Graph
// API and come without error_data.
const firstWhatsAppCode = 130000

func (answer Answer) graphError(traceID string) graphError {
	title := theCatalogue().lookUp(answer.Code).title
	e := graphError{
		Message:   answer.Message,
		Type:      "OAuthException",
		Transient: answer.Transient,
		Code:      int(answer.Code),
		Subcode:   answer.Subcode,
		TraceID:   traceID,
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("(#%d) %s", answer.Code, title)
	}
	details := answer.Details
	if details == "" && answer.Code >= firstWhatsAppCode {
		details = title
	}
	if details != "" {
		e.Data = &errorData{MessagingProduct: "whatsapp", Details: details}
	}
	return e
}

// ErrorBody returns the body of an answer with a Graph error of that code, for tests
// with their own HTTP fake. Its fbtrace_id is always the same.
func ErrorBody(code graphretry.Code) []byte {
	return Answer{Code: code}.errorBody("AGraphtestTraceIDxxxxxx")
}

func (answer Answer) errorBody(traceID string) []byte {
	return mustMarshal(struct {
		Error graphError `json:"error"`
	}{answer.graphError(traceID)})
}

// mustMarshal serves this package's own types, none of which can fail.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// gatewayPage is what stands before the API answers when it cannot reach it.
const gatewayPage = `<!DOCTYPE html>
<html lang="en">
<head><title>Error</title></head>
<body>
<h1>Sorry, something went wrong.</h1>
<p>We're working on getting this fixed as soon as we can.</p>
</body>
</html>
`
