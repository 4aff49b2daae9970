package bench

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

// overload stands before an API that collapses when it is asked for too much: of what
// is offered above its capacity C it carries out only C*C/offered, and the rest it
// answers with code 2. What is offered is the calls of the last second.
type overload struct {
	next        http.RoundTripper
	capacity    int
	from, until time.Time // zero: without an end

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
	return answerAfter(answerTime, req, graphretry.CodeAPIService)
}

// refuses reports whether a call is one too many.
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

// processes are as many clients that know nothing of each other, of which each call is
// sent by one.
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
