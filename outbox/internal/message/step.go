package message

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
)

// Event is something that happens to a message.
type Event struct {
	Kind      EventKind
	Token     string              // of the attempt; Marked, Unmarked, Answered, Abandoned
	Decision  graphretry.Decision // Answered: what becomes of it, by the Policy
	MessageID string              // the wamid; Answered with a success, and what webhooks say
	Graph     *graphretry.Error   // Expired, Undelivered; nil: unknown
	At        time.Time           // when Meta says that it was; Delivered, Read
	Reason    string              // Invalid: why
	// Participant is the one of a group to whom it was not delivered; "": the failure is the
	// whole message's; Undelivered.
	Participant string
	// Blame is whom a refusal blames; Answered.
	Blame Blame
	// Accepted is when, before the attempt began, another message of its number was last
	// accepted, as far as is known; Answered, Undelivered.
	Accepted time.Time
}

// EventKind is what happens to a message.
type EventKind int

// What can happen to a message.
const (
	Marked      EventKind = iota // a worker is about to send it
	Unmarked                     // it was not sent after all
	Answered                     // the attempt has ended
	Abandoned                    // the Run that was sending it is gone
	Expired                      // it is too old to be sent
	Lost                         // its payload is not there any more
	Invalid                      // a row that somebody has inserted is none that can be sent
	Accepted                     // Meta says by webhook that it was sent
	Delivered                    // ... that it was delivered, or played
	Read                         // ... that it was read
	Undelivered                  // ... that it was not delivered
	Resent                       // a person puts it back into the queue
	Dropped                      // a person gives it up
	Parked                       // a person has it not be sent, as it may have been
)

// Effects are what comes with a change of a record.
type Effects struct {
	Write       bool          // the record must be written
	DropPayload bool          // its payload is of no more use
	Outcomes    []OutcomeKind // what to tell of it, in this order
	Hold        bool          // its number is to be held, for what Meta said by webhook
	Refused     error         // why a person's decision is not carried out
}

// OutcomeKind is what is told of a message.
type OutcomeKind string

// What is told of a message. What they mean stands in package outbox.
const (
	OutcomeSent      OutcomeKind = "sent"
	OutcomeDelivered OutcomeKind = "delivered"
	OutcomeRead      OutcomeKind = "read"
	OutcomeFailed    OutcomeKind = "failed"
	OutcomeUnknown   OutcomeKind = "unknown"
)

// Rules are what decides about a message.
type Rules struct {
	Policy      *graphretry.Policy
	MaxAge      time.Duration
	KeepPayload bool
}

// The reasons that are not the Policy's.
const (
	ReasonExpired   = "older than the maximum age"
	ReasonDropped   = "dropped"
	ReasonParked    = "parked"
	ReasonLost      = "its payload is no longer kept"
	ReasonAbandoned = "the worker that was sending it has not said how it ended"
	reasonNotWhy    = "Meta says that it failed, and not why"
	reasonDelivered = "it was delivered, though Meta also says that it failed"
	reasonOpen      = "Meta says that it failed, and another attempt may have been accepted"
	reasonItself    = "refused 3 times, and others of its number were accepted in between"
)

// Step is the life of a message: what becomes of its record when something happens, and
// what comes with that. All that happens elsewhere only carries out what it says.
func Step(r Record, e Event, now time.Time, rules *Rules) (Record, Effects) {
	s := stepping{Record: r.Clone(), rules: rules, now: now}
	if !s.take(e) {
		return r, Effects{Refused: s.Refused}
	}
	s.Changed = now
	s.Write = true
	return s.Record, s.Effects
}

// stepping is a record in the middle of a step.
type stepping struct {
	Record
	Effects
	rules *Rules
	now   time.Time
}

// take reports whether an event changes the record.
func (s *stepping) take(e Event) bool {
	switch e.Kind {
	case Marked:
		if s.State != StateQueued {
			return false
		}
		s.State, s.Token = StateSending, e.Token
	case Unmarked:
		if !s.markedBy(e.Token) || s.State == StateSent {
			return false
		}
		s.State, s.Token = StateQueued, ""
	case Answered:
		return s.answered(e)
	case Abandoned:
		if s.State != StateSending || !s.markedBy(e.Token) {
			return false
		}
		s.toUnknown(ReasonAbandoned)
	case Expired:
		if s.State != StateQueued {
			return false
		}
		reason := ReasonExpired
		if s.Reason != "" {
			reason = joined(ReasonExpired, s.Reason)
		}
		s.toFailed(e.Graph, reason)
	case Lost:
		if s.State != StateQueued {
			return false
		}
		s.toFailed(nil, ReasonLost)
	case Invalid:
		if s.State != StateQueued {
			return false
		}
		s.toFailed(nil, Shorten(e.Reason))
	case Accepted:
		return s.accepted(e.MessageID)
	case Delivered, Read:
		return s.delivered(e)
	case Undelivered:
		return s.undelivered(e)
	case Resent:
		return s.resent()
	case Dropped:
		return s.dropped()
	case Parked:
		return s.parked()
	}
	return true
}

// answered takes in how an attempt ended. If the record has meanwhile been changed by
// somebody who could not know that, it is put right as far as it can be.
func (s *stepping) answered(e Event) bool {
	mine := s.markedBy(e.Token)
	switch {
	case e.Decision.Outcome == graphretry.OutcomeSent && !mine:
		return s.accepted(e.MessageID) // late, of an earlier attempt
	case !mine:
		return false
	case e.Decision.Outcome == graphretry.OutcomeUnknown:
		if s.State != StateSending {
			return false
		}
		s.toUnknown(why(e.Decision))
		return true
	}
	failure, overtaken := s.Overtook[e.MessageID]
	s.end(e.MessageID)
	switch {
	case e.Decision.Outcome == graphretry.OutcomeSent && s.State == StateSent:
		// A webhook has said so before, of this attempt or of an earlier one.
		if !s.knows(e.MessageID) {
			s.Others = append(s.Others, e.MessageID)
		}
	case s.State == StateSent:
	case e.Decision.Outcome != graphretry.OutcomeSent:
		s.refused(e)
	case overtaken:
		s.retryUndelivered(failure, e)
	default:
		s.toSent(e.MessageID)
	}
	return true
}

// Blame is whom a refusal blames.
type Blame int

// Whom a refusal can blame.
const (
	BlameMessage Blame = iota // it says something of the message, or nothing was refused
	BlameToken                // the token, or what stands in front of the API
	BlameSender               // the sender; but it can be that only this message gets it
)

// BlameOf returns whom a decision blames that was made of an answer with that status, 0 if
// there was no answer. Only what a message can cause by what it says is the sender's: an
// expired token is never a message's own.
func BlameOf(d graphretry.Decision, status int) Blame {
	switch {
	case d.Outcome != graphretry.OutcomeHeld, d.Graph != nil && !d.Graph.AboutSender():
		return BlameMessage
	case d.Graph != nil && slices.Contains(tokenCodes, d.Graph.Code), d.Graph == nil && status != http.StatusForbidden:
		return BlameToken
	}
	return BlameSender
}

// tokenCodes are those of a token that is missing, expired or revoked.
var tokenCodes = []graphretry.Code{0, 102, 104, 190, 200, 412}

// IsOwn reports whether a refusal that blames the sender is likely to be the message's own:
// it was refused before, and then, before this attempt, another of its number was accepted.
func (r *Record) IsOwn(accepted time.Time) bool {
	return !r.LastRefusal.IsZero() && accepted.After(r.LastRefusal.Time)
}

// mostRefusals is how often a message is refused for what is the sender's, with another of
// its number accepted between each two, before it fails.
const mostRefusals = 3

// refused takes in a definite answer that is no success.
func (s *stepping) refused(e Event) {
	if s.isBlameless(e) {
		s.toFailed(e.Decision.Graph, joined(reasonItself, why(e.Decision)))
		return
	}
	s.decided(e.Decision)
}

// isBlameless counts a refusal that blames the sender, and reports whether it is now certain
// that nothing is wrong with that, but with the message.
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

// resent puts the message back as if it were new, at a person's word. One that is queued
// stays so.
func (s *stepping) resent() bool {
	switch s.State {
	case StateQueued:
		return false
	case StateUnknown, StateFailed:
		s.doubt()
		s.State, s.Place, s.Due, s.Born = StateQueued, s.now, s.now, Moment{s.now}
		s.History, s.Reason, s.Graph = graphretry.History{}, "", nil
		s.Refusals, s.LastRefusal = 0, Moment{}
		s.forget()
		return true
	}
	s.Refused = refused("it is %s: only an unknown or a failed message can be sent again", s.State)
	return false
}

// ErrRefused is in the chain of the error of a decision that a message's state does not
// allow.
var ErrRefused = errors.New("refused")

// refusal is an error without the words of ErrRefused.
type refusal struct{ text string }

func (r refusal) Error() string        { return r.text }
func (r refusal) Is(target error) bool { return target == ErrRefused }

func refused(format string, state State) error { return refusal{fmt.Sprintf(format, state)} }

func (s *stepping) dropped() bool {
	switch {
	case s.State == StateFailed && s.Reason == ReasonDropped:
		return false
	case s.State == StateUnknown || s.State == StateQueued:
		s.doubt()
		s.toFailed(nil, ReasonDropped)
		return true
	}
	s.Refused = refused("it is %s: only an unknown or a queued message can be dropped", s.State)
	return false
}

func (s *stepping) parked() bool {
	switch s.State {
	case StateUnknown:
		return false
	case StateQueued:
		s.toUnknown(ReasonParked)
		return true
	}
	s.Refused = refused("it is %s: only a queued message can be parked", s.State)
	return false
}

// decided carries out what the Policy says of a message that was not sent, or may not
// have been.
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

// why returns why a message was not sent: the Policy's reason beside a Graph error, which
// stands in the record by itself, and else what went wrong.
func why(d graphretry.Decision) string {
	if d.Graph != nil || d.Cause == "" {
		return d.Reason.String()
	}
	return Shorten(d.Cause)
}

// again puts a message back into the queue, at its place, until the wait is over.
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

// forget leaves out what is only true of the attempts that have been made.
func (s *stepping) forget() {
	s.Token, s.Overtook = "", nil
	s.MessageID, s.Others, s.Delivered, s.Read = "", nil, Moment{}, Moment{}
	s.Participants, s.ParticipantGraph = nil, nil
}

func (s *stepping) toSent(wamid string) {
	if s.State != StateSent {
		s.tell(OutcomeSent)
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
	s.tell(OutcomeFailed)
}

// toUnknown keeps the token, so that the attempt, should its answer come late, can still
// say what happened.
func (s *stepping) toUnknown(reason string) {
	if !s.isOpen() {
		graph := s.Graph
		s.end("")
		s.retryUndelivered(graph, Event{})
		return
	}
	s.State, s.Reason = StateUnknown, reason
	s.tell(OutcomeUnknown)
}

func (s *stepping) tell(kind OutcomeKind) { s.Outcomes = append(s.Outcomes, kind) }

func joined(reason, because string) string { return reason + ", after: " + because }

// Expiry is when a message is too old to be sent.
func (rules *Rules) Expiry(r *Record) time.Time {
	began := r.Born.Time
	if began.IsZero() {
		began = r.Enqueued
	}
	oldest := began.Add(rules.MaxAge)
	if !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(oldest) {
		return r.ExpiresAt
	}
	return oldest
}
