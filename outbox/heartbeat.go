package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// heartbeat shows that a Run is alive, and finds out which others are.
type heartbeat struct {
	*queue
	signals *signals
	id      atomic.Int64 // the Run's in the database; it gets a new one if it was taken for dead
}

// start writes the row of this Run.
func (h *heartbeat) start(ctx context.Context) error {
	id := rand.Int64N(1<<62) + 1
	if err := h.store.Begin(ctx, id); err != nil {
		return err
	}
	h.id.Store(id)
	return nil
}

// leave deletes the row of this Run.
func (h *heartbeat) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := h.store.End(ctx, h.id.Load(), -1); err != nil {
		h.logger.Error("outbox: cannot delete the row of a Run that has ended: other Runs will take it for dead", errorOf(err.Error()))
	}
}

// watched is the heartbeat of another Run.
type watched struct {
	beat  int64
	still time.Duration // how long it has not moved while this Run was looking
}

// keep counts up the heartbeat, and removes Runs that are dead.
func (h *heartbeat) keep(ctx context.Context) {
	others := make(map[int64]*watched)
	last := time.Now()
	for pause(ctx, h.life.beat) {
		bounded, cancel := context.WithTimeout(ctx, h.life.dead)
		beats, err := h.store.Beat(bounded, h.id.Load())
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				h.logger.Error("outbox: cannot send a heartbeat", errorOf(err.Error()))
			}
			continue
		}
		// While the database could not be reached, no Run could send a heartbeat.
		passed := min(time.Since(last), 2*h.life.beat)
		last = time.Now()
		if _, ok := beats[h.id.Load()]; !ok {
			h.logger.Warn("outbox: this Run was taken for dead, since it sent no heartbeat: it begins again")
			if err := h.start(ctx); err != nil && ctx.Err() == nil {
				h.logger.Error("outbox: cannot begin again", errorOf(err.Error()))
			}
		}
		for id, beat := range beats {
			if id == h.id.Load() {
				continue
			}
			w := others[id]
			if w == nil || w.beat != beat {
				others[id] = &watched{beat: beat}
				continue
			}
			if w.still += passed; w.still < h.life.dead {
				continue
			}
			h.logger.Warn("outbox: a Run is taken for dead, since it sent no heartbeat", slog.Int64("graphretry.outbox.run", id), slog.Float64("graphretry.outbox.silent_s", w.still.Seconds()))
			if err := h.store.End(ctx, id, beat); err != nil && ctx.Err() == nil {
				h.logger.Error("outbox: cannot remove a Run that is dead", errorOf(err.Error()))
			}
		}
		for id := range others {
			if _, ok := beats[id]; !ok {
				delete(others, id)
			}
		}
		h.signals.beaten()
	}
}
