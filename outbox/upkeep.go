package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// upkeep settles messages that dead Runs have left, fails messages that are too old, and
// deletes messages that are older than the retention.
func (q *queue) upkeep(ctx context.Context, gate gate) {
	var aged, retained int64
	for {
		err := q.settleOrphans(ctx)
		if err == nil {
			aged, err = q.failExpired(ctx, gate, aged)
		}
		if err == nil {
			retained, err = q.store.Retain(ctx, retained, q.now().Add(-q.retention))
		}
		if err != nil && ctx.Err() == nil {
			q.logger.Error("outbox: cannot do the upkeep of the tables", errorOf(err.Error()))
		}
		wait := q.life.beat
		if retained != 0 || aged != 0 {
			wait = min(wait, time.Second)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// settleOrphans settles the messages of Runs that do not exist any more.
func (q *queue) settleOrphans(ctx context.Context) error {
	orphans, err := q.store.Orphans(ctx)
	if err != nil {
		return err
	}
	for i := range orphans {
		if err := q.abandon(ctx, &orphans[i]); err != nil {
			return err
		}
	}
	return nil
}

// abandon settles a message whose goroutine does not exist any more. If it was being sent it
// becomes unknown, otherwise it goes back to the queue.
func (q *queue) abandon(ctx context.Context, c *store.Claim) error {
	if c.State == StateQueued {
		if err := q.store.GiveBack(ctx, c, "", c.Due); err != nil {
			return err
		}
		q.runs.ring(map[string]bool{c.Number: c.Urgent})
		return nil
	}
	_, err := q.apply(ctx, "abandoned", c.Stored, message.Event{Kind: message.Abandoned, Token: c.Token})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// failExpired fails queued messages that are too old. It looks at one page of the queue, and
// returns where the next page begins.
func (q *queue) failExpired(ctx context.Context, gate gate, after int64) (int64, error) {
	ids, next, err := q.store.Expired(ctx, after, q.now().Add(-q.maxAge))
	if err != nil {
		return after, err
	}
	for _, id := range ids {
		current, err := q.store.Load(ctx, id)
		if err == nil && current.State == StateQueued && !q.now().Before(q.rules.Expiry(&current.Record)) {
			_, err = q.apply(ctx, "expired", current, gate.expired())
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return after, err
		}
	}
	return next, nil
}
