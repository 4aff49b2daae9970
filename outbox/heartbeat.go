package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// heartbeat is how a Run shows that it is alive, and finds out which others are.
type heartbeat struct {
	*queue
	signals *signals
	id      atomic.Int64 // of the Run in the database; another one if it was taken for dead
}

// start lets the others know of this Run.
func (h *heartbeat) start(ctx context.Context) error {
	id := rand.Int64N(1<<62) + 1
	if err := h.store.Begin(ctx, id); err != nil {
		return err
	}
	h.id.Store(id)
	return nil
}

// leave lets the others know that this Run is over.
func (h *heartbeat) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := h.store.End(ctx, h.id.Load(), -1); err != nil {
		h.logger.Error("outbox: cannot take out a Run that is over: the others will take it for dead", errorOf(err.Error()))
	}
}

// watched is what is known of the heartbeat of another Run.
type watched struct {
	beat  int64
	still time.Duration // for how long it has not moved, as far as somebody looked
}

// keep counts up the heartbeat, and takes out Runs that are dead.
func (h *heartbeat) keep(ctx context.Context) {
	others := make(map[int64]*watched)
	last := time.Now()
	for pause(ctx, h.life.beat) {
		bounded, cancel := context.WithTimeout(ctx, h.life.dead)
		beats, err := h.store.Beat(bounded, h.id.Load())
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				h.logger.Error("outbox: cannot give a sign of life", errorOf(err.Error()))
			}
			continue
		}
		// While the database was away nobody could give a sign of life.
		passed := min(time.Since(last), 2*h.life.beat)
		last = time.Now()
		if _, ok := beats[h.id.Load()]; !ok {
			h.logger.Warn("outbox: this Run was taken for dead, as it gave no sign of life: it begins anew")
			if err := h.start(ctx); err != nil && ctx.Err() == nil {
				h.logger.Error("outbox: cannot begin anew", errorOf(err.Error()))
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
			h.logger.Warn("outbox: a Run is taken for dead, as it gave no sign of life", slog.Int64("graphretry.outbox.run", id), slog.Float64("graphretry.outbox.silent_s", w.still.Seconds()))
			if err := h.store.End(ctx, id, beat); err != nil && ctx.Err() == nil {
				h.logger.Error("outbox: cannot take out a Run that is dead", errorOf(err.Error()))
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
