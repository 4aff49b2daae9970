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
	// StateSending: a worker has announced that it sends the message, and the
	// answer is not in yet. A process that dies here leaves this state behind; the
	// message is then parked as unknown once another Run has noticed, within 40 s.
	StateSending = message.StateSending
	// StateSent: Meta has taken the message.
	StateSent = message.StateSent
	// StateFailed: the message was not sent, or Meta could not deliver it, and it
	// will not be tried again.
	StateFailed = message.StateFailed
	// StateUnknown: the message may or may not have been sent, and is not sent
	// again until a webhook or a person settles it.
	StateUnknown = message.StateUnknown
)

// Status is what is known of a message.
type Status struct {
	// ID is the id that it was enqueued with.
	ID string
	// PhoneNumberID is the business's phone number that it is sent from.
	PhoneNumberID string
	// Label is that of [Label], "" if it has none.
	Label string
	// State is where it is in its life.
	State State
	// MessageID is the id that Meta gave it, as in "wamid.HBgL...". It is empty
	// before StateSent, and for a success that named no message.
	MessageID string
	// Graph is what Meta said last, if it refused the message or failed to
	// deliver it; otherwise nil. Its Raw is not kept.
	Graph *graphretry.Error
	// Reason says in words why the state is StateFailed or StateUnknown, or why
	// a queued message waits for another attempt. Of one that was delivered it says so if
	// Meta says that it failed, too; Graph is that failure then.
	Reason string
	// Retries is how often it was retried, 0 after its first attempt. Resend
	// begins to count anew.
	Retries int
	// NotBefore is when the next attempt may be made, the zero Time if nothing is
	// to be waited for.
	NotBefore time.Time
	// Delivered and Read are when a webhook says that it was, by Meta's clock; the
	// zero Time if none has.
	Delivered, Read time.Time
	// ParticipantFailures is to how many participants of a group it was not delivered, as
	// webhooks say, and ParticipantGraph is what Meta said of the last of them. The others
	// may have it, so it is not sent again for them.
	ParticipantFailures int
	ParticipantGraph    *graphretry.Error
	// Enqueued is when it was first enqueued, Changed when something last happened to it
	// that is written down, both by the clock of the database. A claim by a worker is not.
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
