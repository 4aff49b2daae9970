package outbox

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
)

// event is something that happens to a message.
type event struct {
	kind     eventKind
	token    string            // of the attempt; eventMarked, eventUnmarked, eventAnswered, eventAbandoned
	sequence uint64            // of the entry in the queue; eventMarked
	write    string            // of the record before the mark; eventUnmarked
	end      outcome           // eventAnswered
	graph    *graphretry.Error // eventExpired, eventUndelivered; nil: unknown
	wamid    string            // eventAccepted, eventDelivered, eventRead, eventUndelivered
	at       time.Time         // when Meta says that it was; eventDelivered, eventRead
}

type eventKind int

const (
	eventMarked      eventKind = iota // a worker is about to send it
	eventUnmarked                     // it was not sent after all
	eventAnswered                     // the attempt has ended
	eventAbandoned                    // the worker that was sending it is gone
	eventExpired                      // it is too old to be sent
	eventLost                         // its payload is not there any more
	eventAccepted                     // Meta says by webhook that it was sent
	eventDelivered                    // ... that it was delivered
	eventRead                         // ... that it was read
	eventUndelivered                  // ... that it was not delivered
	eventResent                       // a person puts it back into the queue
	eventDropped                      // a person gives it up
)

// effects are what comes with a change of a record.
type effects struct {
	changed     bool        // the record must be written
	requeue     bool        // its entry must stand in the queue, from NotBefore on
	dropPayload bool        // its payload is of no more use
	outcome     OutcomeKind // what to tell of it; "" for nothing
	refused     error       // why a person's decision is not carried out
}

// rules are what decides about a message.
type rules struct {
	policy *graphretry.Policy
	// schedule decides for failures of every kind together: whether any retries
	// are left, and how long to wait.
	schedule    *graphretry.Policy
	maxAge      time.Duration
	keepPayload bool
}

// anyCode stands for any failure that is retried: one that has the schedule's
// waits and can be retried without a limit of its own.
const anyCode = graphretry.CodeServiceUnavailable

const (
	reasonExpired   = "older than the maximum age"
	reasonDropped   = "dropped"
	reasonLost      = "its payload is no longer kept"
	reasonAbandoned = "the worker that was sending it has not said how it ended"
	reasonNotWhy    = "Meta says that it failed, and not why"
)

// step is the life of a message: what becomes of its record when something happens, and
// what comes with that. All that happens elsewhere only carries out what it says.
func step(r record, e event, now time.Time, rules *rules) (record, effects) {
	s := stepping{record: r.clone(), rules: rules, now: now}
	changed := s.take(e)
	if !changed {
		return r, effects{refused: s.refused}
	}
	s.Changed = moment{now}
	s.effects.changed = true
	return s.record, s.effects
}

// stepping is a record in the middle of a step.
type stepping struct {
	record
	effects
	rules *rules
	now   time.Time
}

// take reports whether an event changes the record.
func (s *stepping) take(e event) bool {
	switch e.kind {
	case eventMarked:
		return s.marked(e)
	case eventUnmarked:
		return s.unmarked(e)
	case eventAnswered:
		return s.answered(e)
	case eventAbandoned:
		if s.State != StateSending || !s.markedBy(e.token) {
			return false
		}
		s.toUnknown(reasonAbandoned)
	case eventExpired:
		if s.State != StateQueued {
			return false
		}
		s.toFailed(e.graph, reasonExpired)
	case eventLost:
		if s.State != StateQueued {
			return false
		}
		s.toFailed(nil, reasonLost)
	case eventAccepted, eventDelivered, eventRead:
		return s.accepted(e)
	case eventUndelivered:
		return s.undelivered(e)
	case eventResent:
		return s.resent()
	case eventDropped:
		return s.dropped()
	}
	return true
}

func (s *stepping) marked(e event) bool {
	if s.State != StateQueued {
		return false
	}
	s.State, s.Mark = StateSending, &mark{e.token, e.sequence}
	return true
}

// unmarked takes back the mark of an attempt that was not made. The mark may still be
// on its way: a write that changes nothing but the revision keeps it from being made.
func (s *stepping) unmarked(e event) bool {
	if s.Write == e.write {
		return true
	}
	if !s.markedBy(e.token) {
		return false
	}
	if s.State == StateUnknown {
		s.Generation++ // its entry has left the queue
		s.requeue = true
	}
	s.State, s.Mark = StateQueued, nil
	return true
}

// answered takes in how an attempt ended. If the record has meanwhile been changed by
// somebody who could not know that, it is put right as far as it can be.
func (s *stepping) answered(e event) bool {
	mine := s.markedBy(e.token)
	switch e.end.kind {
	case outcomeSent:
		switch {
		case mine && slices.Contains(s.Refuted, e.end.messageID):
			// Meta's word on its failure has overtaken the answer.
			s.retryUndelivered(s.Graph)
		case mine || s.isNews(e.end.messageID):
			s.toSent(e.end.messageID)
		default:
			return false
		}
		return true
	case outcomeUnknown:
		if !mine || s.State == StateUnknown {
			return false
		}
		s.toUnknown(e.end.reason)
		return true
	}
	if !mine {
		return false
	}
	switch {
	case e.end.kind == outcomeUnsent:
		s.retryUnsent(e.end.reason)
	case e.end.ofTheLane():
		s.hold(e.end)
	case e.end.graph != nil:
		s.retry(e.end.graph)
	default:
		s.toFailed(nil, e.end.reason)
	}
	return true
}

// accepted takes in that a message was sent, also while it is being sent: the webhook
// can overtake the answer.
func (s *stepping) accepted(e event) bool {
	if slices.Contains(s.Refuted, e.wamid) {
		return false
	}
	changed := false
	if s.isNews(e.wamid) || s.State == StateSending {
		s.toSent(e.wamid)
		changed = true
	}
	if s.State != StateSent || s.MessageID != e.wamid {
		return changed
	}
	if e.kind != eventAccepted && s.Delivered.IsZero() {
		s.Delivered, s.outcome, changed = moment{e.at}, OutcomeDelivered, true
		s.dropPayload = !s.rules.keepPayload
	}
	if e.kind == eventRead && s.Read.IsZero() {
		s.Read, s.outcome, changed = moment{e.at}, OutcomeRead, true
	}
	return changed
}

// isNews reports whether it is news that the message was sent under that wamid, by an
// attempt that the record does not wait for any more.
func (r *record) isNews(wamid string) bool {
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
func (s *stepping) undelivered(e event) bool {
	if slices.Contains(s.Refuted, e.wamid) {
		return false
	}
	earlier := s.State == StateSent && s.MessageID != "" && s.MessageID != e.wamid
	s.Refuted = append(s.Refuted, e.wamid)
	switch {
	case earlier || s.State == StateQueued || s.State == StateFailed:
		// An earlier attempt's, on which nothing hangs any more.
	case s.State != StateSent && s.Doubts > 0:
		// It may be that of an attempt which a person has taken for not sent,
		// and then says nothing of the one since.
		s.Doubts--
		s.Graph = kept(e.graph)
	default:
		if s.State == StateSending {
			// The entry in the queue belongs to the attempt that is under way; the
			// retry gets one of its own.
			s.State = StateUnknown
		}
		s.retryUndelivered(e.graph)
	}
	return true
}

// resent puts the message back as if it were new, at a person's word. One that is
// queued stays so; its entry is put there once more, in case that is gone.
func (s *stepping) resent() bool {
	switch s.State {
	case StateQueued:
	case StateUnknown, StateFailed:
		if s.State == StateUnknown {
			s.Doubts++
		}
		s.Generation++
		s.State, s.Mark, s.NotBefore = StateQueued, nil, moment{}
		s.Queued, s.Retries, s.Reason, s.Graph, s.MessageID = moment{s.now}, nil, "", nil, ""
	default:
		s.refused = refused("it is %s: only an unknown or a failed message can be sent again", s.State)
		return false
	}
	s.requeue = true
	return true
}

// errRefused is in the chain of the error of a decision that a message's state does not
// allow.
var errRefused = errors.New("refused")

// refusal is an error without the words of errRefused.
type refusal struct{ text string }

func (r refusal) Error() string        { return r.text }
func (r refusal) Is(target error) bool { return target == errRefused }

func refused(format string, state State) error { return refusal{fmt.Sprintf(format, state)} }

func (s *stepping) dropped() bool {
	switch {
	case s.State == StateFailed && s.Reason == reasonDropped:
		return false
	case s.State == StateUnknown || s.State == StateQueued:
		s.toFailed(nil, reasonDropped)
		return true
	}
	s.refused = refused("it is %s: only an unknown or a queued message can be dropped", s.State)
	return false
}

// retry turns a message that was not sent, or that Meta could not deliver, to
// queued or to failed, as the policy says.
func (s *stepping) retry(e *graphretry.Error) {
	own := s.rules.policy.Decide(e, retriesOf(e.Code, s.Retries[e.Code]))
	if !own.Retry {
		s.toFailed(e, own.Reason.String())
		return
	}
	all := s.rules.schedule.Decide(&graphretry.Error{Code: anyCode, RetryAfter: e.RetryAfter}, retriesOf(anyCode, s.retries()))
	wait := max(own.Wait, all.Wait)
	if e.Code == graphretry.CodePairRateLimitHit {
		wait = own.Wait // its own schedule, in place of the common one
	}
	s.retryAfter(e.Code, e, own.Reason.String(), all, wait)
}

// retriesOf is the history of a message that was retried so often for a code.
func retriesOf(code graphretry.Code, retries int) graphretry.History {
	return graphretry.History{Retries: map[graphretry.Code]int{code: retries}}
}

// retryUndelivered is retry for what Meta reported by webhook, where it may not say
// why.
func (s *stepping) retryUndelivered(e *graphretry.Error) {
	if e == nil {
		s.toFailed(nil, reasonNotWhy)
		return
	}
	s.retry(e)
}

// retryUnsent turns a message whose connection could not be made to queued.
// That has no Graph error to ask the policy about, and is worth trying again for
// as long as the message is not too old.
func (s *stepping) retryUnsent(reason string) {
	all := s.rules.schedule.Decide(&graphretry.Error{Code: anyCode}, retriesOf(anyCode, s.retries()))
	s.retryAfter(0, nil, reason, all, all.Wait)
}

func (s *stepping) retryAfter(code graphretry.Code, e *graphretry.Error, reason string, all graphretry.Decision, wait time.Duration) {
	if !all.Retry {
		s.toFailed(e, joined(all.Reason.String(), reason))
		return
	}
	next := s.now.Add(wait)
	if next.After(s.rules.expiry(&s.record)) {
		s.toFailed(e, joined(reasonExpired, reason))
		return
	}
	if s.State != StateSending {
		s.Generation++ // its entry has left the queue
	}
	s.State, s.Mark, s.NotBefore = StateQueued, nil, moment{next}
	s.MessageID, s.Delivered, s.Read = "", moment{}, moment{}
	if e != nil {
		s.Graph = kept(e)
	}
	s.Reason = reason
	if s.Retries == nil {
		s.Retries = map[graphretry.Code]int{}
	}
	s.Retries[code]++
	s.requeue = true
}

// hold turns a message back to queued whose lane is at fault. That uses up none of its
// retries, and its entry in the queue stays.
func (s *stepping) hold(end outcome) {
	reason := end.reason
	if end.graph != nil {
		reason = "its phone number cannot send: " + end.graph.Code.Title()
	}
	if s.State != StateSending {
		s.Generation++
		s.requeue = true
	}
	s.State, s.Mark, s.NotBefore = StateQueued, nil, moment{}
	s.Graph, s.Reason = kept(end.graph), reason
}

func (s *stepping) toSent(wamid string) {
	if s.State != StateSent {
		s.outcome = OutcomeSent
	}
	s.State, s.Mark, s.NotBefore = StateSent, nil, moment{}
	s.Graph, s.Reason = nil, ""
	if wamid != "" {
		s.MessageID = wamid
	}
}

func (s *stepping) toFailed(e *graphretry.Error, reason string) {
	s.State, s.Mark, s.NotBefore = StateFailed, nil, moment{}
	if e != nil {
		s.Graph = kept(e)
	}
	s.Reason = reason
	s.outcome = OutcomeFailed
}

// toUnknown keeps the mark, so that the attempt that made it, should its answer
// come late, can still say what happened.
func (s *stepping) toUnknown(reason string) {
	s.State, s.Reason = StateUnknown, reason
	s.outcome = OutcomeUnknown
}

func joined(reason, because string) string { return reason + ", after: " + because }

// expiry is when a message is too old to be sent.
func (rules *rules) expiry(r *record) time.Time {
	began := r.Queued.Time
	if began.IsZero() {
		began = r.Enqueued.Time
	}
	oldest := began.Add(rules.maxAge)
	if !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(oldest) {
		return r.ExpiresAt.Time
	}
	return oldest
}
