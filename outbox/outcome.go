package outbox

import (
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// OutcomeKind is what an [Outcome] tells.
type OutcomeKind = message.OutcomeKind

const (
	// OutcomeSent: Meta has taken the message.
	OutcomeSent = message.OutcomeSent
	// OutcomeDelivered: Meta says by webhook that it was delivered, or played.
	OutcomeDelivered = message.OutcomeDelivered
	// OutcomeRead: Meta says by webhook that it was read.
	OutcomeRead = message.OutcomeRead
	// OutcomeFailed: it will not be sent, or was not delivered, and is not tried again. A
	// message that somebody drops has failed, too.
	OutcomeFailed = message.OutcomeFailed
	// OutcomeUnknown: it may have been sent, and is not tried again until a webhook or a
	// person settles it.
	OutcomeUnknown = message.OutcomeUnknown
)

// Outcome is what has become of a message. A message can have several, one after the other:
// sent, delivered and read, or failed, and sent after a Resend.
type Outcome struct {
	Kind OutcomeKind
	// Time is when it became known, by the clock of the database.
	Time time.Time
	// Status is what is known of the message when it is told, which can be later: it may have
	// been delivered by then.
	Status Status
}
