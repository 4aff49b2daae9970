package outbox

import (
	"context"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Pause stops sending from a phone number on every machine, or with "" from all numbers, until
// [Outbox.Resume]. Attempts that are under way are completed. Messages can still be enqueued,
// and those that become too old fail. Other machines notice within half a second, or within
// some 5 s if the database answers slowly. Repeating Pause is safe.
func (o *Outbox) Pause(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "pause", phoneNumberID, true)
}

// Resume ends [Outbox.Pause] of the same phone number, or with "" that of all numbers. A number
// that was paused by itself stays paused. Repeating Resume is safe.
func (o *Outbox) Resume(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "resume", phoneNumberID, false)
}

func (o *Outbox) setPause(ctx context.Context, verb, number string, paused bool) error {
	if number != "" && !message.IsNumber(number) {
		return message.AsInvalid(fmt.Errorf("outbox: cannot %s the phone number ID %q: want the digits of the id, or nothing for all", verb, number))
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	if err := o.store.SetPaused(ctx, number, paused); err != nil {
		return fmt.Errorf("outbox: cannot %s: %w", verb, err)
	}
	o.runs.look()
	return nil
}
