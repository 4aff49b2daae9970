package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// sendOne sends one message and tells what happens to each attempt. next is the
// fake API, or nil for the real one.
func sendOne(ctx context.Context, terminal *terminal, s settings, to destination, next http.RoundTripper) int {
	api, fake := next.(*graphtest.API)
	began := time.Now()
	var last graphretry.Event // that of the last failed attempt
	transport, err := wrap(next, s, func(_ context.Context, event graphretry.Event) {
		if event.Kind == graphretry.EventRecovered {
			return
		}
		last = event
		terminal.failed(time.Since(began), event)
	})
	if err != nil {
		terminal.prose(err.Error())
		return exitWrongUse
	}
	defer transport.CloseIdleConnections()

	message := textMessage(s.to, "Your code is 493817.", "demo")
	if s.token != "" {
		message = templateMessage(s.to)
	}
	terminal.at(0, "sending", plain, "one client.Do, and the program waits for it")
	wamid, err := send(ctx, &http.Client{Transport: transport}, to, message)
	took := time.Since(began)
	if err == nil {
		terminal.at(took, fmt.Sprintf("attempt %d", last.Attempt+1), green, "HTTP 200, delivered")
		terminal.more(grey, wamid)
		if last.Attempt == 0 {
			terminal.closing("Delivered at the first attempt: there was nothing for graphretry to do.")
			return exitDelivered
		}
		terminal.closing(
			fmt.Sprintf("client.Do returned once, after %s, with a success.", seconds(took)),
			"Without graphretry it would have returned after attempt 1, with the failure.",
			"One call alone waits for its own backoff, as a plain loop does. Many calls share a queue and its probes: run the demo without -one.")
		return exitDelivered
	}

	var waiting *graphretry.WaitError
	var refused *refusal
	switch {
	case errors.As(err, &waiting):
		terminal.closing(fmt.Sprintf("Interrupted in the wait for attempt %d. The API has refused the message so far (%s), and nothing is on its way: it was not delivered.",
			waiting.Attempts+1, count(waiting.Attempts, "attempt")))
	case ctx.Err() != nil:
		terminal.closing(fmt.Sprintf("Interrupted while attempt %d was on its way: whether the API took the message is not known.", last.Attempt))
	case errors.As(err, &refused) && last.Graph != nil:
		if !fake {
			terminal.closing(fmt.Sprintf("Not delivered, after %s.", count(last.Attempt, "attempt")))
		} else {
			terminal.closing(fmt.Sprintf("Not delivered. The API saw %s, and client.Do returned the last answer as it came, with a nil error:",
				count(api.Totals().Calls, "call")))
			terminal.line(terminal.paint(grey, string(refused.body)))
		}
		if last.Attempt == 1 {
			terminal.prose("Without graphretry it would have been the same: one send, and this answer.")
		}
		terminal.prose("What to do: " + cmp.Or(last.Graph.Code.Advice(), "Meta does not say."))
	default:
		terminal.closing("Not delivered: " + err.Error() + ".")
	}
	return exitNotDelivered
}

// indent is what stands before a line that has no time of its own.
const indent = "                    "

// at prints what happened at a time since the beginning.
func (t *terminal) at(elapsed time.Duration, label string, c colour, text string) {
	lines := wrapText(text, textWidth-len(indent))
	t.line(t.paint(grey, fmt.Sprintf("%8s", seconds(elapsed))) + fmt.Sprintf("  %-10s", label) + t.paint(c, lines[0]))
	for _, line := range lines[1:] {
		t.more(c, line)
	}
}

// more prints more about what happened last.
func (t *terminal) more(c colour, text string) {
	for _, line := range wrapText(text, textWidth-len(indent)) {
		t.line(indent + t.paint(c, line))
	}
}

// failed prints what Meta said to an attempt, and what is done about it.
func (t *terminal) failed(elapsed time.Duration, event graphretry.Event) {
	label := fmt.Sprintf("attempt %d", event.Attempt)
	c := red
	if event.Kind == graphretry.EventRetrying {
		c = yellow
	}
	switch {
	case event.Graph == nil && event.Err != nil:
		t.at(elapsed, label, c, "no answer")
	case event.Graph == nil:
		t.at(elapsed, label, c, "an answer that is no Graph error")
	default:
		t.at(elapsed, label, c, fmt.Sprintf("HTTP %d, code %s", event.Graph.Status, named(event.Graph.Code)))
		// A text that only repeats the title says nothing new.
		if text := cmp.Or(event.Graph.Details, event.Graph.Message); !strings.HasSuffix(text, event.Graph.Code.Title()) {
			t.more(grey, strconv.QuoteToGraphic(text))
		}
		t.more(grey, "fbtrace_id "+cmp.Or(event.Graph.TraceID, "is missing"))
	}
	switch {
	case event.Kind == graphretry.EventRetrying:
		t.more(grey, fmt.Sprintf("retrying in %s (%v)", seconds(event.Wait), event.Reason))
	case event.Reason == graphretry.ReasonNotRetried:
		t.more(grey, event.Kind.String()) // its reason says the same once more
	default:
		t.more(grey, fmt.Sprintf("%v: %v", event.Kind, event.Reason))
	}
}
