package page

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/graphretry/graphretry/outbox"
)

// pageSize is how many messages one page of the list has.
const pageSize = 50

type messagesPage struct {
	frame
	Filter    filter
	Messages  []outbox.Status
	Decisions []decision
	// Next is the query of the next page, "" if this is the last.
	Next string
	// IsFirst reports whether the list begins here.
	IsFirst bool
}

func (p *pages) messages(w http.ResponseWriter, r *http.Request) error {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		return err
	}
	asked := f.Filter
	asked.Limit = pageSize + 1 // one more shows whether there is a next page
	found, err := p.outbox.List(r.Context(), asked)
	if err != nil {
		return err
	}
	page := messagesPage{frame: p.frame(r, "Messages", p.outbox.Now()), Filter: f, Messages: found, IsFirst: f.After == ""}
	if len(found) > pageSize {
		page.Messages = found[:pageSize]
		next := f.values()
		next.Set("after", page.Messages[pageSize-1].ID)
		page.Next = next.Encode()
	}
	if len(found) > 0 || !page.IsFirst {
		page.Decisions = decisionsOf(f.States)
	}
	return p.show(w, http.StatusOK, "messages", page)
}

type messagePage struct {
	frame
	Message   outbox.Status
	Decisions []decision
	// ShowsPayload reports whether Payload is to be shown. Payload is empty if it is not kept
	// any more.
	ShowsPayload bool
	Payload      string
}

func (p *pages) message(w http.ResponseWriter, r *http.Request) error {
	id := r.FormValue("id")
	status, err := p.outbox.Status(r.Context(), id)
	if err != nil {
		return err
	}
	page := messagePage{frame: p.frame(r, "Message", p.outbox.Now()), Message: status, ShowsPayload: p.payloads}
	if p.payloads {
		payload, err := p.outbox.Payload(r.Context(), id)
		if err != nil {
			return err
		}
		page.Payload = indented(payload)
	}
	page.Decisions = decisionsOf([]outbox.State{status.State})
	return p.show(w, http.StatusOK, "message", page)
}

// Query returns the query that names the message.
func (m messagePage) Query() string { return url.Values{"id": {m.Message.ID}}.Encode() }

// indented returns a payload with one field on each line.
func indented(payload []byte) string {
	var value any
	if json.Unmarshal(payload, &value) != nil {
		return string(payload)
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return string(payload)
	}
	return string(text)
}
