package page

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

// pageSize is how many messages a page of the list has.
const pageSize = 50

// frame is what every page has.
type frame struct {
	Title string
	Now   time.Time
	// Done is what has just been done, "" for nothing.
	Done string
}

func (p *pages) frame(r *http.Request, title string, now time.Time) frame {
	f := frame{Title: title, Now: now}
	if d, ok := decisions[r.FormValue("did")]; ok {
		if n, err := strconv.Atoi(r.FormValue("n")); err == nil && n >= 0 {
			f.Done = d.report(n)
		}
	}
	return f
}

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
	asked.Limit = pageSize + 1 // one more tells whether there is a next page
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
	// ShowsPayload reports whether Payload is to be shown; it is empty if it is not kept.
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

// indented returns a payload a field a line.
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

// decisionsOf returns those that a person can make for messages of these states, or of all.
func decisionsOf(given []outbox.State) []decision {
	var found []decision
	for _, verb := range []string{"resend", "drop", "park", "delete"} {
		d := decisions[verb]
		if len(given) == 0 || slices.ContainsFunc(given, d.takes) {
			found = append(found, d)
		}
	}
	return found
}
