package message

import (
	"errors"
	"time"

	"github.com/graphretry/graphretry"
)

// Step returns what becomes of a message's record when an event happens, and what the change
// brings with it. It decides everything about the life of a message; the rest of the outbox
// carries that out.
func Step(r Record, e Event, now time.Time, rules *Rules) (Record, Effects) {
	s := stepping{Record: r.Clone(), rules: rules, now: now}
	if !s.take(e) {
		return r, Effects{Refused: s.Refused}
	}
	s.Changed = now
	s.Write = true
	return s.Record, s.Effects
}

// take applies an event, and reports whether it changes the record.
func (s *stepping) take(e Event) bool {
	switch e.Kind {
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

// answered records how an attempt ended. The record may have changed meanwhile, by a writer who
// did not know the end: then answered corrects it as far as possible.
func (s *stepping) answered(e Event) bool {
	mine := s.markedBy(e.Token)
	switch {
	case e.Decision.Outcome == graphretry.OutcomeSent && !mine:
		return s.accepted(e.MessageID) // the late answer to an earlier attempt
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
		// A webhook has said so before, about this attempt or an earlier one.
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

// resent puts a message back into the queue as if it were new, because a person says so. A
// message that is queued stays as it is.
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
	s.Refused = Refusal("it is " + string(s.State) + ": only an unknown or a failed message can be resent")
	return false
}

func (s *stepping) dropped() bool {
	switch {
	case s.State == StateFailed && s.Reason == ReasonDropped:
		return false
	case s.State == StateUnknown || s.State == StateQueued:
		s.doubt()
		s.toFailed(nil, ReasonDropped)
		return true
	}
	s.Refused = Refusal("it is " + string(s.State) + ": only an unknown or a queued message can be dropped")
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
	s.Refused = Refusal("it is " + string(s.State) + ": only a queued message can be parked")
	return false
}

// doubt records that a person decides about a message that may have been sent.
func (s *stepping) doubt() {
	if s.State == StateUnknown {
		s.Doubts = max(0, s.Doubts+1-len(s.Overtook))
		s.Token, s.Overtook = "", nil
	}
}

// ErrRefused is in the chain of the error of a decision that a message's state does not allow.
var ErrRefused = errors.New("refused")

// Refusal is an error that says why a decision is refused. Its text does not contain that of
// ErrRefused.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Is reports whether target is ErrRefused.
func (r Refusal) Is(target error) bool { return target == ErrRefused }
