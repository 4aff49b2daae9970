package outbox

import (
	"context"
	"sync"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// heldNumbers are the numbers that are held for what Meta said by webhook, as they were a
// moment ago: there are far more webhooks than such numbers.
type heldNumbers struct {
	mu      sync.Mutex
	numbers map[string]lane.Shared
	at      time.Time // when they were asked for
}

func (h *heldNumbers) get(ctx context.Context, s *store.Store) (map[string]lane.Shared, error) {
	h.mu.Lock()
	numbers, known := h.numbers, time.Since(h.at) < lookEvery
	h.mu.Unlock()
	if known {
		return numbers, nil
	}
	numbers, err := s.HeldByWebhook(ctx)
	if err == nil {
		h.mu.Lock()
		h.numbers, h.at = numbers, time.Now()
		h.mu.Unlock()
	}
	return numbers, err
}

// forget has them be asked for anew.
func (h *heldNumbers) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = time.Time{}
}
