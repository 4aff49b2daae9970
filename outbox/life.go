package outbox

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// life is how a Run shows that it is alive, and when another takes it for dead: when its
// heartbeat, a counter in its row, has not moved for some time of the one who watches. Times
// of different machines are never compared.
type life struct {
	beat time.Duration // between two heartbeats
	dead time.Duration // without one
	// linger is how long Run, once it is to stop, goes on trying to write down how an
	// attempt has ended.
	linger time.Duration
	// marking is how long a mark may take. After that a Run may have been taken for dead,
	// and somebody may be about to decide that the message was not sent.
	marking time.Duration
}

var defaultLife = life{beat: 5 * time.Second, dead: 30 * time.Second, linger: 30 * time.Second, marking: 15 * time.Second}

// start lets the others know of this Run.
func (r *running) start(ctx context.Context) error {
	id := rand.Int64N(1<<62) + 1
	if err := r.store.Begin(ctx, id); err != nil {
		return err
	}
	r.id.Store(id)
	return nil
}

// leave lets the others know that this Run is over.
func (r *running) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := r.store.End(ctx, r.id.Load(), -1); err != nil {
		r.logger.Error("outbox: cannot take out a Run that is over: the others will take it for dead", errorOf(err.Error()))
	}
}

// watched is what is known of the heartbeat of another Run.
type watched struct {
	beat  int64
	still time.Duration // for how long it has not moved, as far as somebody looked
}

// beat counts up the heartbeat, and takes out Runs that are dead.
func (r *running) beat(ctx context.Context) {
	others := make(map[int64]*watched)
	last := time.Now()
	for pause(ctx, r.life.beat) {
		bounded, cancel := context.WithTimeout(ctx, r.life.dead)
		beats, err := r.store.Beat(bounded, r.id.Load())
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				r.logger.Error("outbox: cannot give a sign of life", errorOf(err.Error()))
			}
			continue
		}
		// While the database was away nobody could give a sign of life.
		passed := min(time.Since(last), 2*r.life.beat)
		last = time.Now()
		if _, ok := beats[r.id.Load()]; !ok {
			r.logger.Warn("outbox: this Run was taken for dead, as it gave no sign of life: it begins anew")
			if err := r.start(ctx); err != nil && ctx.Err() == nil {
				r.logger.Error("outbox: cannot begin anew", errorOf(err.Error()))
			}
		}
		for id, beat := range beats {
			if id == r.id.Load() {
				continue
			}
			w := others[id]
			if w == nil || w.beat != beat {
				others[id] = &watched{beat: beat}
				continue
			}
			if w.still += passed; w.still < r.life.dead {
				continue
			}
			r.logger.Warn("outbox: a Run is taken for dead, as it gave no sign of life", slog.Int64("graphretry.outbox.run", id), slog.Float64("graphretry.outbox.silent_s", w.still.Seconds()))
			if err := r.store.End(ctx, id, beat); err != nil && ctx.Err() == nil {
				r.logger.Error("outbox: cannot take out a Run that is dead", errorOf(err.Error()))
			}
		}
		for id := range others {
			if _, ok := beats[id]; !ok {
				delete(others, id)
			}
		}
		r.mu.Lock()
		r.check, r.alive = true, time.Now()
		r.mu.Unlock()
		r.stir()
	}
}

// upkeep settles what dead Runs have left behind, fails what is too old, and deletes what
// is older than the retention.
func (r *running) upkeep(ctx context.Context) {
	var aged, retained int64
	for {
		err := r.settleOrphans(ctx)
		if err == nil {
			aged, err = r.failExpired(ctx, aged)
		}
		if err == nil {
			retained, err = r.store.Retain(ctx, retained, r.now().Add(-r.retention))
		}
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot look after the tables", errorOf(err.Error()))
		}
		wait := r.life.beat
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
func (r *running) settleOrphans(ctx context.Context) error {
	orphans, err := r.store.Orphans(ctx)
	if err != nil {
		return err
	}
	for i := range orphans {
		if err := r.abandon(ctx, &orphans[i]); err != nil {
			return err
		}
	}
	return nil
}

// abandon puts back a message whose goroutine is gone, or parks it if that was sending it.
func (r *running) abandon(ctx context.Context, c *store.Claim) error {
	if c.State == StateQueued {
		if err := r.store.GiveBack(ctx, c, "", c.Due); err != nil {
			return err
		}
		r.ring(map[string]bool{c.Number: c.Urgent})
		return nil
	}
	_, err := r.apply(ctx, "abandoned", c.Stored, message.Event{Kind: message.Abandoned, Token: c.Token})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// checkClaims settles claims of this Run that no goroutine has: the answer to a write may
// have been lost. It is the loop's, so that none is made meanwhile.
func (r *running) checkClaims(ctx context.Context) error {
	r.mu.Lock()
	before := make(map[int64]bool, len(r.handling))
	for seq := range r.handling {
		before[seq] = true
	}
	r.mu.Unlock()
	claims, err := r.store.Claims(ctx, r.id.Load())
	if err != nil {
		return err
	}
	for i := range claims {
		if !before[claims[i].Seq] {
			if err := r.abandon(ctx, &claims[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// failExpired fails what is too old in the queue. It goes through the queue page by page,
// and returns where to go on.
func (r *running) failExpired(ctx context.Context, after int64) (int64, error) {
	ids, next, err := r.store.Expired(ctx, after, r.now().Add(-r.maxAge))
	if err != nil {
		return after, err
	}
	for _, id := range ids {
		current, err := r.store.Load(ctx, id)
		if err == nil && current.State == StateQueued && !r.now().Before(r.rules.Expiry(&current.Record)) {
			_, err = r.apply(ctx, "expired", current, r.expired())
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return after, err
		}
	}
	return next, nil
}

// expired is that a message is too old; with what the outage began with, if it may have
// waited for the end of one.
func (o *Outbox) expired() message.Event {
	host, _ := o.hostDown()
	return message.Event{Kind: message.Expired, Graph: host.Cause}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}
