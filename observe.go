package graphretry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/graphretry/graphretry/internal/redact"
)

// Event is something that happened to a call, for [WithObserver]. There is one for
// each failed attempt, one for a success after a retry, and one each for the
// beginning and the end of an outage. A call that gives up in the queue of an outage
// also has an [EventGaveUp]. A call that succeeds at once has none. A call that its
// caller ends during a wait has no further event: its [*WaitError] says what
// happened.
type Event struct {
	// Kind is what happened.
	Kind EventKind
	// Request is the caller's own. Its URL and its headers contain secrets.
	Request *http.Request
	// Attempt is the number of the attempt, from 1; 0 if nothing was sent.
	Attempt int
	// Graph is what Meta said, nil if the attempt had no Graph error. For
	// [EventRecovered] it is what Meta said to the attempt before, for
	// [EventOutageEnded] what began the outage. In its texts the tokens of the
	// request are blanked.
	Graph *Error
	// Err is the attempt's error if it had no response, or what kept a call from
	// being retried: a [*WaitError], or the error of GetBody. For [EventRecovered]
	// it is the error of the attempt before. An error of the next RoundTripper or of
	// GetBody is passed on unchanged, so its text is not blanked.
	Err error
	// Wait is the time until the next attempt, for [EventRetrying]; otherwise it is
	// 0. Time in the queue of an outage is not included.
	Wait time.Duration
	// Held is how many calls the outage held back, for [EventOutageEnded]; otherwise
	// it is 0. A call counts once, however often it joined the queue.
	Held int
	// Lasted is how long the outage lasted, for [EventOutageEnded]; otherwise it is
	// 0.
	Lasted time.Duration
	// Path is the path that is down, or was, for [EventOutageBegan] and
	// [EventOutageEnded], such as "/106540352242922/messages": without the version of the
	// API, and with secrets blanked. It is "" if the whole host is.
	Path string
	// Reason says why the attempt is, or is not, retried, for [EventRetrying],
	// [EventGaveUp] and [EventNotRetried]; otherwise it is 0.
	Reason Reason
	// Time is when it happened.
	Time time.Time

	status int // of the last answer that was a failure; 0: there was none

	// For [ReasonNoTime], needed is the wait that did not fit, and left the time that
	// the call had.
	needed, left time.Duration
}

// EventKind is the kind of an [Event].
type EventKind int

const (
	// EventRetrying: an attempt failed, and the next one follows after Wait.
	EventRetrying EventKind = iota + 1
	// EventGaveUp: a failure that the policy retries was not retried. Reason says
	// why: no retries or no time was left, the body cannot be sent again, the call
	// could not wait for the end of an outage, or it does not wait at all
	// ([WithoutWaiting]). In the last two cases Attempt is 0 if nothing was sent.
	EventGaveUp
	// EventNotRetried: an attempt failed in a way that is not retried.
	EventNotRetried
	// EventRecovered: an attempt succeeded after a retry.
	EventRecovered
	// EventOutageBegan: after this call's answer the request's host is [HostDown], or,
	// with a Path, that path alone is. A path that is down when its host falls has no
	// end of its own: it is part of the host's outage.
	EventOutageBegan
	// EventOutageEnded: the request's host, or with a Path that path, is [HostUp] again.
	// Held and Lasted describe the outage. If all calls that failed were of one path and
	// another one turns out to be well, the host's outage ends at once, and that of the
	// path begins.
	EventOutageEnded
)

var eventKindTexts = [...]string{
	EventRetrying:    "retrying",
	EventGaveUp:      "gave up",
	EventNotRetried:  "not retried",
	EventRecovered:   "recovered",
	EventOutageBegan: "outage began",
	EventOutageEnded: "outage ended",
}

// String returns the kind in a word or two.
func (k EventKind) String() string { return enumText("EventKind", eventKindTexts[:], k) }

// level returns the level of an event's log record.
func (e *Event) level() slog.Level {
	switch {
	case e.Kind == EventRetrying, e.Kind == EventOutageBegan, e.Reason == ReasonWithoutWaiting:
		return slog.LevelWarn
	case e.Kind == EventGaveUp:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// reason returns why an attempt is not retried. For a limit that soon passes it names
// the option that retries it, and for lack of time it says how much is missing.
func (e *Event) reason() string {
	switch {
	case e.Reason == ReasonNotRetried && e.Graph != nil && slices.Contains(throttleRetries, e.Graph.specificCode()):
		return e.Reason.String() + ": WithThrottleRetries retries this code"
	case e.Reason == ReasonNoTime:
		return fmt.Sprintf("%v: the next attempt would be in %v, and the call has %v",
			e.Reason, e.needed.Round(time.Millisecond), e.left.Round(time.Millisecond))
	default:
		return e.Reason.String()
	}
}

// logTo returns the observer that writes each event to a logger. The host is there
// without the rest of the URL, whose query contains tokens.
func logTo(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, event Event) {
		level := event.level()
		if !logger.Enabled(ctx, level) {
			return
		}
		var values redact.Values
		values.AddRequest(event.Request)
		if event.Err != nil {
			values.AddBody(headInMemory(event.Request, true))
		}
		secrets := values.Redactor()
		req := event.Request
		attributes := append([]slog.Attr{slog.String(attributeMethod, cmp.Or(req.Method, http.MethodGet))}, serverAttributes(req.URL)...)
		attributes = append(attributes, slog.String(attributePath, secrets.Text(req.URL.Path)))
		if event.Attempt > 1 {
			attributes = append(attributes, slog.Int(attributeResendCount, event.Attempt-1))
		}
		switch event.Kind {
		case EventOutageEnded:
			attributes = append(attributes, slog.Float64(attributeLasted, event.Lasted.Seconds()), slog.Int(attributeHeld, event.Held))
		case EventRetrying:
			attributes = append(attributes, slog.Float64(attributeWait, event.Wait.Seconds()), slog.String(attributeReason, event.Reason.String()))
		case EventGaveUp, EventNotRetried:
			attributes = append(attributes, slog.String(attributeReason, event.reason()))
		}
		if event.Path != "" {
			attributes = append(attributes, slog.String(attributeOutagePath, event.Path))
		}
		if event.Kind == EventRecovered || event.Kind == EventOutageEnded {
			// Under other names, so that what is over sets off no alert on a code.
			if event.Graph != nil {
				attributes = append(attributes, slog.Int(attributeAfterCode, int(event.Graph.Code)))
			}
			if event.Err != nil {
				attributes = append(attributes, slog.String(attributeAfterError, secrets.Err(event.Err)))
			}
		} else {
			attributes = append(attributes, slog.String(attributeErrorType, errorType(event.Graph, event.Err)))
			if event.status != 0 {
				attributes = append(attributes, slog.Int(attributeStatusCode, event.status))
			}
			attributes = append(attributes, event.Graph.attributes(graphPrefix)...)
			if event.Err != nil {
				attributes = append(attributes, slog.String(attributeErrorMessage, secrets.Err(event.Err)))
			}
		}
		logger.LogAttrs(ctx, level, "graphretry: "+event.Kind.String(), attributes...)
	}
}
