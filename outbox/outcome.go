package outbox

import (
	"context"
	"log/slog"
)

// OutcomeKind is what an [Outcome] tells.
type OutcomeKind string

const (
	// OutcomeSent: Meta has taken the message.
	OutcomeSent OutcomeKind = "sent"
	// OutcomeDelivered: Meta says by webhook that it was delivered.
	OutcomeDelivered OutcomeKind = "delivered"
	// OutcomeRead: Meta says by webhook that it was read, and so delivered.
	OutcomeRead OutcomeKind = "read"
	// OutcomeFailed: it will not be sent, or was not delivered, and is not tried again.
	OutcomeFailed OutcomeKind = "failed"
	// OutcomeUnknown: it may have been sent, and is not tried again until a webhook or a
	// person settles it.
	OutcomeUnknown OutcomeKind = "unknown"
)

// Outcome is what has become of a message.
type Outcome struct {
	Kind OutcomeKind
	// Status is what is known of the message.
	Status Status
}

// report tells of an outcome, and logs those that somebody should know of.
func (o *Outbox) report(ctx context.Context, r stored, kind OutcomeKind) {
	if kind == "" {
		return
	}
	attributes := []any{slog.String("id", r.ID), slog.String("phone_number_id", r.number), slog.String("reason", r.Reason)}
	if r.Graph != nil {
		attributes = append(attributes, slog.Any("graph", r.Graph))
	}
	switch kind {
	case OutcomeFailed:
		o.logger.Warn("outbox: a message has failed", attributes...)
	case OutcomeUnknown:
		o.logger.Warn("outbox: a message is parked as unknown", attributes...)
	}
	if o.onOutcome == nil {
		return
	}
	defer func() {
		if thrown := recover(); thrown != nil {
			o.logger.Error("outbox: the function given to WithOutcome panicked", slog.Any("panic", thrown))
		}
	}()
	o.onOutcome(context.WithoutCancel(ctx), Outcome{kind, r.status()})
}
