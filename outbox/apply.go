package outbox

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// conflictWait is how long to wait for a replica that lags behind.
const conflictWait = 10 * time.Millisecond

// apply has an event happen to a message, whatever else happens to it meanwhile: where
// somebody is faster, it happens to what they have made of it. It returns the record as
// it is in the end.
//
// All that comes with a change is done here. What must not be apart is written at once:
// the record, its entry in the queue, by what it is found while it is failed or unknown,
// and whose turn it is. What follows only tidies up.
func (o *Outbox) apply(ctx context.Context, current stored, e event) (stored, error) {
	for {
		next := current
		var effects effects
		next.record, effects = step(current.record, e, o.now(), &o.rules)
		if !effects.changed {
			return current, effects.refused
		}
		saved, worthless, err := o.write(ctx, current, next, effects)
		if err == nil {
			o.tidy(ctx, append(worthless, o.worthless(current, saved, effects)...))
			o.report(ctx, saved, effects.outcome)
			return saved, nil
		}
		if !errors.Is(err, errConflict) {
			return current, err
		}
		if err := pause(ctx, conflictWait); err != nil {
			return current, err
		}
		if current, err = o.store.reload(ctx, current.key); err != nil {
			return current, err
		}
	}
}

// write writes a record and what must not be apart from it. It returns what becomes
// worthless with that.
func (o *Outbox) write(ctx context.Context, before, next stored, effects effects) (saved stored, worthless []string, err error) {
	puts, worthless, isNext, err := o.takeTurn(ctx, next)
	if err != nil {
		return next, nil, err
	}
	if effects.requeue && isNext {
		entry, err := o.store.entryPut(&next, o.now())
		if err != nil {
			return next, nil, err
		}
		puts = append(puts, entry)
	}
	if kind := parkedKind(next.State); kind != "" && next.State != before.State {
		puts = append(puts, put{subject: o.store.subject(kind, next.number, next.key)})
	}
	if next.Generation > before.Generation && next.State == StateQueued {
		payload, err := o.freshPayload(ctx, next)
		if err != nil {
			return next, nil, err
		}
		puts = append(puts, payload...)
	}
	saved, err = o.store.save(ctx, next, puts...)
	return saved, worthless, err
}

// freshPayload returns what writes a payload anew that would be forgotten before its
// message is too old.
func (o *Outbox) freshPayload(ctx context.Context, r stored) ([]put, error) {
	msg, err := o.store.last(ctx, o.store.subject(kindPayload, r.number, r.key))
	if errors.Is(err, ErrNotFound) {
		return nil, nil // the worker that comes to it will say so
	}
	if err != nil {
		return nil, err
	}
	if o.retention == 0 || o.now().Sub(msg.Time) < (o.retention-o.maxAge)/2 {
		return nil, nil
	}
	return []put{{subject: msg.Subject, data: msg.Data, header: propagated(msg.Header)}}, nil
}

// worthless returns the subjects whose messages a change has made worthless.
func (o *Outbox) worthless(before, after stored, effects effects) []string {
	var kinds []string
	if kind := parkedKind(before.State); kind != "" && before.State != after.State {
		kinds = append(kinds, kind)
	}
	if before.State == StateQueued && !after.isActive() {
		kinds = append(kinds, kindWait, queueKind(after.Urgent))
	}
	if effects.dropPayload {
		kinds = append(kinds, kindPayload)
	}
	subjects := make([]string, len(kinds))
	for i, kind := range kinds {
		subjects[i] = o.store.subject(kind, after.number, after.key)
	}
	return subjects
}

// tidy takes out of the stream what is worth nothing any more. If that fails, or the
// process dies before, what is left harms nobody.
func (o *Outbox) tidy(ctx context.Context, worthless []string) {
	for _, subject := range worthless {
		if err := o.store.clear(ctx, subject); err != nil {
			o.logger.Error("outbox: cannot tidy up", slog.String("subject", subject), slog.Any("error", err))
			return
		}
	}
}
