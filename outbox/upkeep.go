package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// upkeep settles what dead Runs have left behind, fails what is too old, and deletes what
// is older than the retention.
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
			q.logger.Error("outbox: cannot look after the tables", errorOf(err.Error()))
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

// settleOrphans puts back what Runs had claimed that are gone, and parks what they were
// sending.
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

// abandon puts back a message whose goroutine is gone, or parks it if that was sending it.
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

// failExpired fails what is too old in the queue. It goes through the queue page by page,
// and returns where to go on.
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
