package bench

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

// overload is in front of an API that collapses. Above its capacity the API carries out
// less, the more calls it gets: capacity*capacity/offered of them, where offered is the
// number of calls in the last second. overload answers the others with code 2.
type overload struct {
	next         http.RoundTripper
	capacity     int
	from, until  time.Time // zero: without an end
	refusalTakes time.Duration

	mu      sync.Mutex
	random  *rand.Rand
	start   time.Time
	offered []time.Time
	refused []int // in each second since the start
}

func (o *overload) RoundTrip(req *http.Request) (*http.Response, error) {
	if !o.refuses(time.Now()) {
		return o.next.RoundTrip(req)
	}
	return answerAfter(o.refusalTakes, req, graphretry.CodeAPIService)
}

// refuses reports whether a call is to be answered with code 2.
func (o *overload) refuses(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Before(o.from) || !o.until.IsZero() && !now.Before(o.until) {
		return false
	}
	for len(o.offered) > 0 && now.Sub(o.offered[0]) >= time.Second {
		o.offered = o.offered[1:]
	}
	o.offered = append(o.offered, now)
	carried := float64(o.capacity) / float64(len(o.offered))
	if carried >= 1 || o.random.Float64() < carried*carried {
		return false
	}
	o.refused = addAt(o.refused, int(now.Sub(o.start)/time.Second), 1)
	return true
}

// processes are clients that know nothing of each other. Each call is sent by one of them.
type processes struct {
	clients []http.RoundTripper
	mu      sync.Mutex
	random  *rand.Rand
}

func (p *processes) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	client := p.clients[p.random.IntN(len(p.clients))]
	p.mu.Unlock()
	return client.RoundTrip(req)
}
