package graphtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// batchPart is a part of a batch request, and batchReply what answers it. See
// https://developers.facebook.com/docs/graph-api/batch-requests.
type batchPart struct {
	Method      string `json:"method"`
	RelativeURL string `json:"relative_url"`
	Body        string `json:"body"`
}

type batchReply struct {
	Code    int           `json:"code"`
	Headers []batchHeader `json:"headers,omitempty"`
	Body    string        `json:"body"`
}

type batchHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// mostBatchParts is how many parts Meta takes.
const mostBatchParts = 50

// batch returns the parts of a POST / with the parameter batch, and whether it is
// one.
func (r *request) batch() (parts []batchPart, is bool) {
	if r.method != http.MethodPost || r.node != "" {
		return nil, false
	}
	value := r.parameter("batch")
	if value == "" {
		return nil, false
	}
	return parts, json.Unmarshal([]byte(value), &parts) == nil && len(parts) <= mostBatchParts
}

// parameter returns a parameter of the body, in any of the encodings that the Graph
// API takes; of JSON the value as it stands, or its text.
func (r *request) parameter(name string) string {
	switch r.mediaType {
	case "multipart/form-data":
		return r.fields[name]
	case "application/x-www-form-urlencoded":
		values, _ := url.ParseQuery(string(r.body))
		return values.Get(name)
	}
	var object map[string]json.RawMessage
	_ = json.Unmarshal(r.body, &object)
	value := string(object[name])
	if text := ""; json.Unmarshal(object[name], &text) == nil {
		value = text
	}
	return value
}

// answerBatch puts each part to the script, as a call of its own, and returns the
// answer to the whole. A part whose connection would break has no answer, which
// Meta writes as null.
func (a *API) answerBatch(r *request, parts []batchPart, now time.Time) *reply {
	withHeaders := r.parameter("include_headers") != "false"
	replies := make([]*batchReply, len(parts))
	var delay time.Duration
	for i, part := range parts {
		reply := a.settle(part.request(r), now)
		delay = max(delay, reply.delay)
		if reply.fault != FaultNone {
			continue
		}
		replies[i] = &batchReply{Code: reply.status, Body: string(reply.body)}
		if !withHeaders {
			continue
		}
		for name, values := range reply.header {
			for _, value := range values {
				replies[i].Headers = append(replies[i].Headers, batchHeader{name, value})
			}
		}
		slices.SortFunc(replies[i].Headers, func(a, b batchHeader) int { return strings.Compare(a.Name, b.Name) })
	}
	return &reply{
		status: http.StatusOK,
		header: http.Header{"Content-Type": {"application/json; charset=UTF-8"}, "Facebook-Api-Version": {r.apiVersion()}},
		body:   mustMarshal(replies),
		delay:  delay,
	}
}

// request returns the part as a call of its own.
func (part batchPart) request(whole *request) *request {
	path, _, _ := strings.Cut(part.RelativeURL, "?")
	q := &request{
		method: strings.ToUpper(part.Method), path: "/" + strings.TrimPrefix(path, "/"), version: whole.version,
		mediaType: "application/x-www-form-urlencoded", body: []byte(part.Body), size: int64(len(part.Body)),
	}
	if strings.HasPrefix(part.Body, "{") {
		q.mediaType = "application/json"
	}
	if q.method == "" {
		q.method = http.MethodGet
	}
	q.readPath()
	return q
}
