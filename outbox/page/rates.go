package page

import (
	"sync"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

// rateWindow is the shortest time over which the rate is measured, except after the first look.
const rateWindow = 5 * time.Second

// rates compares each look at the outbox with an earlier one.
type rates struct {
	mu         sync.Mutex
	base, next sentCounts
}

// sentCounts is how many messages each number had sent at one time.
type sentCounts struct {
	at   time.Time
	sent map[string]int
}

// perSecond returns how many messages a second each number has sent since an earlier look, and
// how long ago that was. It returns nil and 0 at the first look.
func (r *rates) perSecond(now time.Time, stats outbox.Stats) (map[string]float64, time.Duration) {
	this := sentCounts{now, make(map[string]int, len(stats.Numbers))}
	for number, s := range stats.Numbers {
		this.sent[number] = s.States[outbox.StateSent]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	base := r.base
	if base.at.IsZero() {
		r.base, r.next = this, this
		return nil, 0
	}
	// base is replaced when next is rateWindow old.
	if now.Sub(r.next.at) >= rateWindow {
		r.base, r.next = r.next, this
	}
	since := now.Sub(base.at)
	if since <= 0 {
		return nil, 0
	}
	found := make(map[string]float64, len(this.sent))
	for number, n := range this.sent {
		// There are fewer than before if messages were deleted.
		found[number] = float64(max(0, n-base.sent[number])) / since.Seconds()
	}
	return found, since
}
