package message

import (
	"time"

	"github.com/graphretry/graphretry"
)

// Event is something that happens to a message.
type Event struct {
	Kind      EventKind
	Token     string              // of the attempt; Answered, Abandoned
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
	Answered    EventKind = iota // the attempt has ended
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

// Blame is whom a refusal blames.
type Blame int

// Whom a refusal can blame.
const (
	BlameMessage Blame = iota // it says something of the message, or nothing was refused
	BlameToken                // the token, or what stands in front of the API
	BlameSender               // the sender; but it can be that only this message gets it
)

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
