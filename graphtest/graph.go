package graphtest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
)

// request is a call that has been read.
type request struct {
	method, path string
	version      string // "v25.0" or the like, or "" for a path without one
	node, edge   string // "/node/edge"
	mediaType    string // of the body, without its parameters
	acceptsGzip  bool
	body         []byte // the first maxKeptBody bytes
	size         int64
	fields       map[string]string // of a multipart body: its parts but for files
	files        map[string]bool   // of a multipart body: the names of its files
	broken       bool              // reading the body failed
}

// APIVersion is the version of the Graph API that a call has which names none in its
// path. It is the newest that this package knows. Meta ends a version two years after
// the next one came out; see
// https://developers.facebook.com/docs/graph-api/changelog/versions.
const APIVersion = "v25.0"

var versionPattern = regexp.MustCompile(`^v\d+\.\d+$`)

// readRequest reads body to its end. It returns an error of body's as it is.
func readRequest(r *http.Request, body io.Reader) (*request, error) {
	q := &request{
		method:      r.Method,
		path:        r.URL.Path,
		acceptsGzip: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"),
	}
	if q.method == "" {
		q.method = http.MethodGet
	}
	q.readPath()
	if body == nil {
		return q, nil
	}

	var params map[string]string
	q.mediaType, params, _ = mime.ParseMediaType(r.Header.Get("Content-Type"))
	kept := &bodyReader{from: body}
	if n := r.ContentLength; n > 0 {
		kept.head = make([]byte, 0, min(n, maxKeptBody))
	}
	if q.mediaType == "multipart/form-data" {
		q.readMultipart(multipart.NewReader(kept, params["boundary"]))
	}
	_, _ = io.Copy(io.Discard, kept) // kept.err has the error
	q.body, q.size = kept.head, kept.size
	q.broken = kept.err != nil
	return q, kept.err
}

// readPath takes the path apart.
func (r *request) readPath() {
	segments := strings.Split(strings.Trim(r.path, "/"), "/")
	if versionPattern.MatchString(segments[0]) {
		r.version, segments = segments[0], segments[1:]
	}
	if len(segments) > 0 {
		r.node, r.edge = segments[0], strings.Join(segments[1:], "/")
	}
}

// bodyReader keeps the head of what is read through it, and counts the whole.
type bodyReader struct {
	from io.Reader
	head []byte
	size int64
	err  error // of from, other than io.EOF
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.size += int64(n)
	b.head = append(b.head, p[:min(n, maxKeptBody-len(b.head))]...)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// readMultipart notes the parts as they stream by: a file need not fit into
// memory. What is malformed shows as a field that is missing.
func (q *request) readMultipart(parts *multipart.Reader) {
	q.fields, q.files = map[string]string{}, map[string]bool{}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return
		}
		if part.FileName() != "" {
			q.files[part.FormName()] = true
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, maxKeptBody))
		if err != nil {
			return
		}
		q.fields[part.FormName()] = string(value)
	}
}

// reply is an answer that is ready to be sent.
type reply struct {
	status int
	header http.Header
	body   []byte
	fault  Fault
	delay  time.Duration
}

// answer makes the reply to a request that gets that answer, and notes in call what
// it is. A message that is taken goes into the record. A success that the script
// asked for is one, whatever is wrong with the request.
func (a *API) answer(r *request, answer Answer, scripted bool, call *Call) *reply {
	traceID := a.traceID()
	var body []byte
	if answer.accepts() {
		success, refusal := a.perform(r, call)
		switch {
		case refusal.Code == 0:
			body = success
		case scripted:
			body = []byte(`{"success":true}`)
		case answer.succeeds():
			answer = refusal
		}
	}
	if answer.Fault == FaultBreak || answer.Fault == FaultHang {
		return &reply{fault: answer.Fault}
	}

	call.Status, call.Code, call.TraceID = answer.status(), answer.Code, traceID
	header := http.Header{
		"Cache-Control":        {"private, no-cache, no-store, must-revalidate"},
		"Date":                 {call.Time.UTC().Format(http.TimeFormat)},
		"Facebook-Api-Version": {r.apiVersion()},
		"X-Fb-Rev":             {"1023456789"},
		"X-Fb-Trace-Id":        {traceID},
	}
	contentType := "application/json; charset=UTF-8"
	switch {
	case answer.Body != nil:
		body = answer.Body
		if !json.Valid(body) {
			contentType = http.DetectContentType(body)
		}
	case answer.Code != 0:
		body = answer.errorBody(traceID)
	case answer.status() >= 400:
		body, contentType = []byte(gatewayPage), "text/html; charset=utf-8"
	}
	header.Set("Content-Type", contentType)
	if answer.Code != 0 && call.Status >= 400 {
		header.Set("WWW-Authenticate", answer.challenge())
	}
	if answer.RetryAfter != "" {
		header.Set("Retry-After", answer.RetryAfter)
	}
	if answer.Gzip && r.acceptsGzip && len(body) > 0 {
		body = compress(body)
		header.Set("Content-Encoding", "gzip")
	}
	for name, values := range answer.Header {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	fault := answer.Fault
	if len(body) == 0 || r.method == http.MethodHead || bodyForbidden(call.Status) {
		fault = FaultNone // no body, nothing to cut short
	}
	return &reply{status: call.Status, header: header, body: body, fault: fault}
}

// quotable makes a text fit for a quoted part of a header.
var quotable = strings.NewReplacer("\r", " ", "\n", " ", `"`, "'")

// challenge is the WWW-Authenticate header that comes with a Graph error.
func (answer Answer) challenge() string {
	kind := "invalid_request"
	if answer.Code == 190 || answer.Code == 102 {
		kind = "invalid_token"
	}
	return fmt.Sprintf(`OAuth "Facebook Platform" "%s" "%s"`, kind, quotable.Replace(answer.graphError("").Message))
}

// perform does what a request asks, and returns the body of its success; or else
// the answer that says what is wrong with the request.
func (a *API) perform(r *request, call *Call) ([]byte, Answer) {
	switch {
	case r.node == "":
		return nil, invalid("Unsupported %s request.", strings.ToLower(r.method))
	case r.method == http.MethodGet || r.method == http.MethodHead:
		if r.edge != "" {
			return []byte(`{"data":[]}`), Answer{}
		}
		return mustMarshal(map[string]string{"id": r.node}), Answer{}
	case r.method == http.MethodPost && r.edge == "messages":
		return a.takeMessage(r, call)
	case r.method == http.MethodPost && r.edge == "media":
		return a.takeMedia(r)
	}
	return []byte(`{"success":true}`), Answer{}
}

func invalid(format string, args ...any) Answer {
	return Answer{Code: graphretry.CodeInvalidParameter, Message: "(#100) " + fmt.Sprintf(format, args...)}
}

// messageFields are the fields of POST /messages that the fake looks at.
type messageFields struct {
	MessagingProduct text   `json:"messaging_product"`
	To               text   `json:"to"`
	Recipient        text   `json:"recipient"` // a business-scoped user id, in place of "to"
	Type             text   `json:"type"`
	Status           text   `json:"status"` // "read", where the call marks a message as read
	MessageID        text   `json:"message_id"`
	CallbackData     string `json:"biz_opaque_callback_data"`
}

// text is a string that a sender may also write as a number, as the API lets it.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	switch {
	case b[0] == '"':
		return json.Unmarshal(b, (*string)(t))
	case b[0] == '-' || '0' <= b[0] && b[0] <= '9':
		*t = text(b)
		return nil
	case string(b) == "null":
		return nil
	}
	return errors.New("must be a string")
}

// messageFields reads a message in any of the encodings that the Graph API takes.
func (r *request) messageFields() (messageFields, error) {
	var m messageFields
	get := func(name string) string { return r.fields[name] }
	switch r.mediaType {
	case "multipart/form-data":
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(r.body))
		if err != nil {
			return m, err
		}
		get = values.Get
	default:
		return m, json.Unmarshal(r.body, &m)
	}
	return messageFields{
		MessagingProduct: text(get("messaging_product")),
		To:               text(get("to")),
		Recipient:        text(get("recipient")),
		Type:             text(get("type")),
		Status:           text(get("status")),
		MessageID:        text(get("message_id")),
		CallbackData:     get("biz_opaque_callback_data"),
	}, nil
}

func (a *API) takeMessage(r *request, call *Call) ([]byte, Answer) {
	if r.size > maxKeptBody {
		return nil, Answer{Code: graphretry.CodeParameterInvalid, Details: "The message is longer than 1 MiB, the most that graphtest takes."}
	}
	m, err := r.messageFields()
	if err != nil {
		return nil, Answer{Code: graphretry.CodeParameterInvalid, Details: "The request body cannot be read: " + err.Error()}
	}
	if m.MessagingProduct == "" {
		return nil, invalid("The parameter messaging_product is required.")
	}
	if m.MessagingProduct != "whatsapp" {
		return nil, invalid("Param messaging_product must be one of {WHATSAPP} - got %q.", m.MessagingProduct)
	}
	if m.Status != "" && m.MessageID != "" {
		return []byte(`{"success":true}`), Answer{}
	}
	if m.To == "" && m.Recipient == "" {
		return nil, invalid("The parameter to is required.")
	}

	input := string(cmp.Or(m.To, m.Recipient))
	recipientID := phoneNumberMarks.Replace(input)
	message := Message{
		Time:          call.Time,
		ID:            a.messageID(recipientID),
		Key:           m.CallbackData,
		CallbackData:  m.CallbackData,
		RecipientID:   recipientID,
		PhoneNumberID: r.node,
		Body:          call.Body,
	}
	if message.Key == "" {
		message.Key = string(call.Body)
	}
	a.record.accept(message)
	call.Accepted = true
	return messageAccepted(input, message, m.Type == "template"), Answer{}
}

func messageAccepted(input string, m Message, isTemplate bool) []byte {
	type contact struct {
		Input string `json:"input"`
		WaID  string `json:"wa_id"`
	}
	type message struct {
		ID     string `json:"id"`
		Status string `json:"message_status,omitempty"`
	}
	accepted := message{ID: m.ID}
	if isTemplate {
		accepted.Status = "accepted"
	}
	return mustMarshal(struct {
		MessagingProduct string    `json:"messaging_product"`
		Contacts         []contact `json:"contacts"`
		Messages         []message `json:"messages"`
	}{"whatsapp", []contact{{input, m.RecipientID}}, []message{accepted}})
}

func (a *API) takeMedia(r *request) ([]byte, Answer) {
	switch {
	case r.fields["messaging_product"] == "":
		return nil, invalid("The parameter messaging_product is required.")
	case !r.files["file"]:
		return nil, invalid("The parameter file is required.")
	}
	return mustMarshal(map[string]string{"id": strconv.FormatUint(1e15+a.naming.Uint64N(9e15), 10)}), Answer{}
}

// apiVersion is the version that answers, which Meta's header names also where
// the path does not.
func (r *request) apiVersion() string {
	if r.version != "" {
		return r.version
	}
	return APIVersion
}

// phoneNumberMarks leaves a phone number's digits, and the id of a group or a
// user as it is.
var phoneNumberMarks = strings.NewReplacer("+", "", "-", "", " ", "", "(", "", ")", "")

// traceID is 23 characters that begin with an A, as fbtrace_id is.
func (a *API) traceID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.naming.Uint64())
	binary.BigEndian.PutUint64(b[8:], a.naming.Uint64())
	return "A" + base64.RawURLEncoding.EncodeToString(b[:])
}

// messageID is laid out like Meta's: base64 of a header, the recipient and 18
// hexadecimal digits.
func (a *API) messageID(recipientID string) string {
	var b bytes.Buffer
	b.WriteString("\x1c\x18")
	b.WriteByte(byte(len(recipientID)))
	b.WriteString(recipientID)
	b.WriteString("\x15\x02\x00\x11\x18\x12")
	fmt.Fprintf(&b, "%016X%02X\x00", a.naming.Uint64(), a.naming.Uint32N(256))
	return "wamid." + base64.StdEncoding.EncodeToString(b.Bytes())
}
