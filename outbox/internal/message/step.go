package message

import (
	"errors"
	"fmt"
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
	Delivered                    // ... that it was delivered
	Read                         // ... that it was read
	Undelivered                  // ... that it was not delivered
	Resent                       // a person puts it back into the queue
	Dropped                      // a person gives it up
	Parked                       // a person has it not be sent, as it may have been
)

// Effects are what comes with a change of a record.
type Effects struct {
	Write       bool        // the record must be written
	DropPayload bool        // its payload is of no more use
	Outcome     OutcomeKind // what to tell of it; "" for nothing
	Refused     error       // why a person's decision is not carried out
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
		if !s.markedBy(e.Token) {
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
	case Accepted, Delivered, Read:
		return s.accepted(e)
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
	if e.Decision.Outcome == graphretry.OutcomeSent {
		switch {
		case mine && slices.Contains(s.Refuted, e.MessageID):
			// Meta's word on its failure has overtaken the answer.
			s.retryUndelivered(s.Graph)
		case mine || s.isNews(e.MessageID):
			s.toSent(e.MessageID)
		default:
			return false
		}
		return true
	}
	if !mine || e.Decision.Outcome == graphretry.OutcomeUnknown && s.State == StateUnknown {
		return false
	}
	s.decided(e.Decision)
	return true
}

// accepted takes in that a message was sent, also while it is being sent: the webhook
// can overtake the answer.
func (s *stepping) accepted(e Event) bool {
	if slices.Contains(s.Refuted, e.MessageID) {
		return false
	}
	changed := false
	if s.isNews(e.MessageID) || s.State == StateSending {
		s.toSent(e.MessageID)
		changed = true
	}
	if s.State != StateSent || s.MessageID != e.MessageID {
		return changed
	}
	if e.Kind != Accepted && s.Delivered.IsZero() {
		s.Delivered, s.Outcome, changed = Moment{e.At}, OutcomeDelivered, true
		s.DropPayload = !s.rules.KeepPayload
	}
	if e.Kind == Read && s.Read.IsZero() {
		s.Read, s.Outcome, changed = Moment{e.At}, OutcomeRead, true
	}
	return changed
}

// isNews reports whether it is news that the message was sent under that wamid, by an
// attempt that the record does not wait for any more.
func (r *Record) isNews(wamid string) bool {
	if slices.Contains(r.Refuted, wamid) {
		return false
	}
	switch r.State {
	case StateQueued, StateFailed, StateUnknown:
		return true
	case StateSent:
		return r.MessageID == "" && wamid != ""
	}
	return false
}

// undelivered takes in that a message was sent and not delivered.
func (s *stepping) undelivered(e Event) bool {
	if slices.Contains(s.Refuted, e.MessageID) {
		return false
	}
	earlier := s.State == StateSent && s.MessageID != "" && s.MessageID != e.MessageID
	s.Refuted = append(s.Refuted, e.MessageID)
	switch {
	case earlier || s.State == StateQueued || s.State == StateFailed:
		// An earlier attempt's, on which nothing hangs any more.
	case s.State != StateSent && s.Doubts > 0:
		// It may be that of an attempt which a person has taken for not sent,
		// and then says nothing of the one since.
		s.Doubts--
		s.Graph = kept(e.Graph)
	case s.State == StateSending:
		// Its answer is on its way, and brings the same wamid. Until then nothing may
		// put the message into the queue.
		s.Graph, s.Overtaken = kept(e.Graph), true
	default:
		s.retryUndelivered(e.Graph)
	}
	return true
}

// resent puts the message back as if it were new, at a person's word. One that is queued
// stays so.
func (s *stepping) resent() bool {
	switch s.State {
	case StateQueued:
		return false
	case StateUnknown, StateFailed:
		if s.State == StateUnknown {
			s.Doubts++
		}
		s.State, s.Place, s.Due, s.Born = StateQueued, s.now, s.now, Moment{s.now}
		s.Token, s.History, s.Reason, s.Graph, s.MessageID = "", graphretry.History{}, "", nil, ""
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

// retryUndelivered puts what Meta reported by webhook to the Policy.
func (s *stepping) retryUndelivered(e *graphretry.Error) {
	if e == nil {
		s.toFailed(nil, reasonNotWhy)
		return
	}
	d := s.rules.Policy.Decide(e, s.History)
	if d.Outcome == graphretry.OutcomeHeld {
		// It was taken, and not refused: what holds a number by an answer fails a message
		// that was on its way.
		d.Outcome = graphretry.OutcomeFailed
	}
	s.decided(d)
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
	s.State, s.Token, s.Due, s.Overtaken = StateQueued, "", next, false
	s.MessageID, s.Delivered, s.Read = "", Moment{}, Moment{}
	if d.Graph != nil {
		s.Graph = kept(d.Graph)
	}
	s.Reason, s.History = reason, d.History
}

func (s *stepping) toSent(wamid string) {
	if s.State != StateSent {
		s.Outcome = OutcomeSent
	}
	s.State, s.Token, s.Overtaken = StateSent, "", false
	s.Graph, s.Reason = nil, ""
	if wamid != "" {
		s.MessageID = wamid
	}
}

func (s *stepping) toFailed(e *graphretry.Error, reason string) {
	s.State, s.Token, s.Overtaken = StateFailed, "", false
	if e != nil {
		s.Graph = kept(e)
	}
	s.Reason = reason
	s.Outcome = OutcomeFailed
}

// toUnknown keeps the token, so that the attempt, should its answer come late, can still
// say what happened.
func (s *stepping) toUnknown(reason string) {
	if s.Overtaken {
		s.retryUndelivered(s.Graph)
		return
	}
	s.State, s.Reason = StateUnknown, reason
	s.Outcome = OutcomeUnknown
}

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
