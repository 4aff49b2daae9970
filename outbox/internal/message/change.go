package message

import (
	"net/http"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
)

// stepping is a record during a step.
type stepping struct {
	Record
	Effects
	rules *Rules
	now   time.Time
}

// decided applies the Policy's decision about a message that was not sent, or may have been
// sent.
func (s *stepping) decided(d graphretry.Decision) {
	switch reason := why(d); d.Outcome {
	case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
		s.again(d, reason)
	case graphretry.OutcomeFailed:
		s.toFailed(d.Graph, reason)
	default:
		s.toUnknown(reason)
	}
}

// why returns why a message was not sent. With a Graph error, which the record has as well,
// that is the Policy's reason; otherwise it is the cause.
func why(d graphretry.Decision) string {
	if d.Graph != nil || d.Cause == "" {
		return d.Reason.String()
	}
	return Shorten(d.Cause)
}

// again puts a message back into the queue, at its place, until the wait has passed.
func (s *stepping) again(d graphretry.Decision, reason string) {
	next := s.now.Add(d.Wait)
	if next.After(s.rules.Expiry(&s.Record)) {
		s.toFailed(d.Graph, joined(ReasonExpired, reason))
		return
	}
	s.State, s.Due = StateQueued, next
	s.forget()
	if d.Graph != nil {
		s.Graph = kept(d.Graph)
	}
	s.Reason, s.History = reason, d.History
}

// forget removes what is only true of earlier attempts.
func (s *stepping) forget() {
	s.Token, s.Overtook = "", nil
	s.MessageID, s.Others, s.Delivered, s.Read = "", nil, Moment{}, Moment{}
	s.Participants, s.ParticipantGraph = nil, nil
}

func (s *stepping) toSent(wamid string) {
	if s.State != StateSent {
		s.report(OutcomeSent)
	}
	s.State, s.Graph, s.Reason = StateSent, nil, ""
	if wamid != "" {
		s.MessageID = wamid
	}
}

func (s *stepping) toFailed(e *graphretry.Error, reason string) {
	s.State, s.Token, s.Overtook = StateFailed, "", nil
	if e != nil {
		s.Graph = kept(e)
	}
	s.Reason = reason
	s.report(OutcomeFailed)
}

// toUnknown keeps the token, so that a late answer to the attempt can still settle the message.
func (s *stepping) toUnknown(reason string) {
	if !s.isOpen() {
		graph := s.Graph
		s.end("")
		s.retryUndelivered(graph, Event{})
		return
	}
	s.State, s.Reason = StateUnknown, reason
	s.report(OutcomeUnknown)
}

func (s *stepping) report(kind OutcomeKind) { s.Outcomes = append(s.Outcomes, kind) }

func joined(reason, because string) string { return reason + ", after: " + because }

// isOpen reports whether an attempt whose wamid is not known may have been accepted.
func (r *Record) isOpen() bool { return len(r.Overtook) <= r.Doubts }

// end records that the attempt that was under way has ended, with that wamid if it was
// accepted. The failures of other wamids belong to earlier attempts.
func (s *stepping) end(wamid string) {
	others := len(s.Overtook)
	if _, ok := s.Overtook[wamid]; ok {
		others--
	}
	s.Token, s.Overtook, s.Doubts = "", nil, max(0, s.Doubts-others)
}

// retryUndelivered asks the Policy about a failure that a webhook has reported. A fault of the
// sender holds its number, as an answer would.
func (s *stepping) retryUndelivered(graph *graphretry.Error, e Event) {
	if graph == nil {
		s.toFailed(nil, reasonNotWhy)
		return
	}
	e.Decision = s.rules.Policy.Decide(graph, s.History)
	if e.Decision.Outcome == graphretry.OutcomeHeld && graph.AboutSender() {
		e.Blame = BlameSender
		s.Hold = !s.IsOwn(e.Accepted)
	}
	s.refused(e)
}

// BlameOf returns what a decision is about. status is that of the answer, 0 if there was none.
// BlameSender is only for refusals that the content of a message can cause: an expired token is
// never the fault of one message.
func BlameOf(d graphretry.Decision, status int) Blame {
	switch {
	case d.Outcome != graphretry.OutcomeHeld, d.Graph != nil && !d.Graph.AboutSender():
		return BlameMessage
	case d.Graph != nil && slices.Contains(tokenCodes, d.Graph.Code), d.Graph == nil && status != http.StatusForbidden:
		return BlameToken
	}
	return BlameSender
}

// tokenCodes are the codes of a token that is missing, expired or revoked.
var tokenCodes = []graphretry.Code{0, 102, 104, 190, 200, 412}

// IsOwn reports whether a refusal that blames the sender is probably about this message: it was
// refused before, and another message of its number was accepted after that and before this
// attempt.
func (r *Record) IsOwn(accepted time.Time) bool {
	return !r.LastRefusal.IsZero() && accepted.After(r.LastRefusal.Time)
}

// mostRefusals is the number of refusals after which a message fails, if each blames the sender
// and another message of its number was accepted between each two.
const mostRefusals = 3

// refused applies a definite answer that is not a success.
func (s *stepping) refused(e Event) {
	if s.isBlameless(e) {
		s.toFailed(e.Decision.Graph, joined(reasonItself, why(e.Decision)))
		return
	}
	s.decided(e.Decision)
}

// isBlameless counts a refusal that blames the sender, and reports whether it is now certain
// that the fault is the message's, and not the sender's.
func (s *stepping) isBlameless(e Event) bool {
	if e.Blame == BlameMessage {
		return false
	}
	own := s.IsOwn(e.Accepted)
	s.LastRefusal = Moment{s.now}
	if e.Blame == BlameSender && (own || s.Refusals == 0) {
		s.Refusals++
	}
	return s.Refusals >= mostRefusals
}
