package outbox

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// held is what a process tells the others of a phone number that it holds.
type held struct {
	Version   int    `json:"v"`
	NextProbe moment `json:"next_probe"`
	Reason    string `json:"reason"`
}

// heldFor is how long after its next probe a number is still said to be held. The process
// that has said so may be gone.
const heldFor = time.Minute

// tellHeld tells the others whether this process holds a phone number. They find out for
// themselves what to send; this is for people.
func (o *Outbox) tellHeld(ctx context.Context, number string) {
	subject := o.store.subject(kindHeld, number)
	due, reason := o.lanes.held(number)
	var err error
	if due.IsZero() {
		err = o.store.clear(ctx, subject)
	} else {
		var data []byte
		inServersTime := moment{o.now().Add(time.Until(due))}
		if data, err = json.Marshal(held{schemaVersion, inServersTime, shorten(reason)}); err == nil {
			err = o.store.put(ctx, put{subject: subject, data: data})
		}
	}
	if err != nil {
		o.logger.Error("outbox: cannot tell others whether a phone number is held", slog.String("phone_number_id", number), slog.Any("error", err))
	}
}

// allHeld returns the phone numbers that some process holds.
func (o *Outbox) allHeld(ctx context.Context) (map[string]held, error) {
	found := make(map[string]held)
	err := o.store.each(ctx, o.store.subject(kindHeld, "*"), 0, page, func(msg *jetstream.RawStreamMsg) bool {
		var h held
		if json.Unmarshal(msg.Data, &h) == nil && h.Version <= schemaVersion && o.now().Before(h.NextProbe.Add(heldFor)) {
			found[lastToken(msg.Subject)] = h
		}
		return true
	})
	return found, err
}
