package outbox

import (
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// State is where a message is in its life.
type State = message.State

const (
	// StateQueued: the message waits for a worker, or for its next attempt.
	StateQueued = message.StateQueued
	// StateSending: a worker has announced an attempt, and its answer is not known yet. If the
	// process dies, the message becomes unknown when another Run notices, within 40 s.
	StateSending = message.StateSending
	// StateSent: Meta has accepted the message.
	StateSent = message.StateSent
	// StateFailed: the message was not sent, or Meta could not deliver it. It is not tried
	// again.
	StateFailed = message.StateFailed
	// StateUnknown: the message may have been sent. It is not sent again until a webhook or a
	// person settles it.
	StateUnknown = message.StateUnknown
)

// Status is what the outbox knows about a message.
type Status struct {
	// ID is the id that it was enqueued with.
	ID string
	// PhoneNumberID is the business's phone number that sends it.
	PhoneNumberID string
	// Label is the label of the message, "" if it has none: see [Label].
	Label string
	// State is the state of the message.
	State State
	// MessageID is the id that Meta gave it, as in "wamid.HBgL...". It is empty before
	// StateSent, and if the answer named no message.
	MessageID string
	// Graph is Meta's last error, if Meta refused the message or could not deliver it,
	// otherwise nil. Its Raw is not kept.
	Graph *graphretry.Error
	// Reason says in words why the message is StateFailed or StateUnknown, or why it waits for
	// another attempt. If Meta says of a delivered message that it failed too, Reason says so,
	// and Graph is that failure.
	Reason string
	// Retries is how often it was retried: 0 after its first attempt. Resend sets it to 0.
	Retries int
	// NotBefore is when the next attempt may be made, the zero Time if it may be made now.
	NotBefore time.Time
	// Delivered and Read are when it was delivered and read, as webhooks say, by Meta's clock.
	// They are zero if no webhook has said so.
	Delivered, Read time.Time
	// ParticipantFailures is the number of participants of a group to whom it was not
	// delivered, as webhooks say, and ParticipantGraph is the error of the last of them. The
	// others may have it, so it is not sent again.
	ParticipantFailures int
	ParticipantGraph    *graphretry.Error
	// Enqueued is when it was first enqueued, and Changed is when it last changed, both by the
	// database's clock. A claim by a worker is no change.
	Enqueued, Changed time.Time
}

func statusOf(m *store.Stored) Status {
	s := Status{
		ID: m.ID, PhoneNumberID: m.Number, Label: m.Label, State: m.State, MessageID: m.MessageID,
		Graph: m.Graph, Reason: m.Reason, Retries: m.Retries(),
		Delivered: m.Delivered.Time, Read: m.Read.Time,
		ParticipantFailures: len(m.Participants), ParticipantGraph: m.ParticipantGraph,
		Enqueued: m.Enqueued, Changed: m.Changed,
	}
	if m.State == StateQueued && m.Due.After(m.Enqueued.Add(time.Second)) {
		s.NotBefore = m.Due
	}
	return s
}
