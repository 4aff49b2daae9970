package bench

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/graphretry/graphretry/graphtest"
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

var overloaded = graphtest.ErrorBody(2)

func (o *overload) RoundTrip(req *http.Request) (*http.Response, error) {
	if !o.refuses(time.Now()) {
		return o.next.RoundTrip(req)
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	req.Body.Close()
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(bytes.NewReader(overloaded)), ContentLength: int64(len(overloaded)),
	}, nil
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
