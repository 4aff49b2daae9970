package outbox

import (
	"context"
	"sync"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// heldNumbers caches the numbers that are held because of webhooks: there are far more webhooks
// than such numbers.
type heldNumbers struct {
	mu      sync.Mutex
	numbers map[string]lane.Shared
	at      time.Time // when they were read
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

// forget empties the cache.
func (h *heldNumbers) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = time.Time{}
}
