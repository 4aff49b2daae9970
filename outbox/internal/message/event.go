package message

import (
	"time"

	"github.com/graphretry/graphretry"
)

// Event is something that happens to a message.
type Event struct {
	Kind      EventKind
	Token     string              // the attempt's; Answered, Abandoned
	Decision  graphretry.Decision // Answered: the Policy's
	MessageID string              // the wamid; Answered with a success, and events of webhooks
	Graph     *graphretry.Error   // Expired, Undelivered; nil: unknown
	At        time.Time           // when it happened, as Meta says; Delivered, Read
	Reason    string              // Invalid: why
	// Participant is the participant of a group to whom it was not delivered, "" if the failure
	// is about the whole message; Undelivered.
	Participant string
	// Blame is what a refusal is about; Answered.
	Blame Blame
	// Accepted is when another message of its number was last accepted before the attempt
	// began, as far as is known; Answered, Undelivered.
	Accepted time.Time
}

// EventKind is what happens to a message.
type EventKind int

// The kinds of Event.
const (
	Answered    EventKind = iota // the attempt has ended
	Abandoned                    // the Run that was sending it does not exist any more
	Expired                      // it is too old to be sent
	Lost                         // its payload is not kept any more
	Invalid                      // a row that a program has inserted cannot be sent
	Accepted                     // a webhook says that it was sent
	Delivered                    // a webhook says that it was delivered, or played
	Read                         // a webhook says that it was read
	Undelivered                  // a webhook says that it was not delivered
	Resent                       // a person puts it back into the queue
	Dropped                      // a person gives it up
	Parked                       // a person stops it, since it may have been sent
)

// Effects are what a change of a record brings with it.
type Effects struct {
	Write       bool          // the record must be written
	DropPayload bool          // its payload is not needed any more
	Outcomes    []OutcomeKind // the outcomes to report, in this order
	Hold        bool          // its number is to be held because of a webhook
	Refused     error         // why a person's decision is not carried out
}

// OutcomeKind is the kind of an outcome.
type OutcomeKind string

// The kinds of outcomes. Package outbox explains them.
const (
	OutcomeSent      OutcomeKind = "sent"
	OutcomeDelivered OutcomeKind = "delivered"
	OutcomeRead      OutcomeKind = "read"
	OutcomeFailed    OutcomeKind = "failed"
	OutcomeUnknown   OutcomeKind = "unknown"
)

// Rules decide about messages.
type Rules struct {
	Policy      *graphretry.Policy
	MaxAge      time.Duration
	KeepPayload bool
}

// These are the reasons that are not the Policy's.
const (
	ReasonExpired   = "older than the maximum age"
	ReasonDropped   = "dropped"
	ReasonParked    = "parked"
	ReasonLost      = "its payload is no longer kept"
	ReasonAbandoned = "the worker that was sending it has not said how it ended"
	reasonNotWhy    = "Meta says that it failed, and does not say why"
	reasonDelivered = "it was delivered, although Meta also says that it failed"
	reasonOpen      = "Meta says that it failed, and another attempt may have been accepted"
	reasonItself    = "refused 3 times, while other messages of its number were accepted in between"
)

// Blame is what a refusal is about.
type Blame int

// The kinds of Blame.
const (
	BlameMessage Blame = iota // the message, or nothing was refused
	BlameToken                // the token, or a proxy in front of the API
	BlameSender               // the sender, although it may be only this message that is refused
)

// Expiry returns when a message is too old to be sent.
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
