package outbox

import (
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// OutcomeKind is the kind of an [Outcome].
type OutcomeKind = message.OutcomeKind

const (
	// OutcomeSent: Meta has accepted the message.
	OutcomeSent = message.OutcomeSent
	// OutcomeDelivered: a webhook says that the message was delivered, or played.
	OutcomeDelivered = message.OutcomeDelivered
	// OutcomeRead: a webhook says that the message was read.
	OutcomeRead = message.OutcomeRead
	// OutcomeFailed: the message is not sent, or was not delivered, and is not tried again. A
	// message that was dropped has failed too.
	OutcomeFailed = message.OutcomeFailed
	// OutcomeUnknown: the message may have been sent. It is not tried again until a webhook or
	// a person settles it.
	OutcomeUnknown = message.OutcomeUnknown
)

// Outcome is what has become of a message. A message can have several, one after the other:
// sent, delivered and read, or failed, and sent after a Resend.
type Outcome struct {
	Kind OutcomeKind
	// Time is when the outbox learned of it, by the database's clock.
	Time time.Time
	// Status is the status of the message when the outcome is reported. That can be later than
	// Time: the message may have been delivered meanwhile.
	Status Status
}
