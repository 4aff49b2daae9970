package outbox

import (
	"context"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Pause has every machine send nothing more from a phone number, or with "" from any,
// until [Outbox.Resume]. What is under way comes to its end. Messages can be enqueued
// as before; one that grows too old meanwhile fails. Other machines notice within half a
// second. Repeating it is safe.
func (o *Outbox) Pause(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "pause", phoneNumberID, true)
}

// Resume ends a [Outbox.Pause] of the same phone number, or with "" that of all. A
// number that was paused by itself stays so. Repeating it is safe.
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
