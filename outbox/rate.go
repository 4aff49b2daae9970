package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// A phone number's rate holds for all machines together. So each leases turns of it, up
// to a quarter of a second's at once: from the moment on to which others have leased
// already, one message at a time. What is leased stands in one message of the stream,
// and costs a write for each lease and not for each message.

// leased is how far the rate of a number was leased.
type leased struct {
	Version int `json:"v"`
	// Until is when the next lease begins.
	Until moment `json:"until"`
	// Share is what is left of the rate since the API has asked for less, 1 for all.
	Share float64 `json:"share"`
	// Slowed is when the rate was last lowered.
	Slowed moment `json:"slowed,omitzero"`
}

const (
	// leaseTime is how much of a number's time is leased at once, and leastLease how much
	// is where few messages wait: at a high rate each would need a lease of its own.
	leaseTime  = 250 * time.Millisecond
	leastLease = 10 * time.Millisecond
	// leaseShare is the part of the rate that is leased. Messages take a while to arrive,
	// and not all the same, so that at the full rate some second would have too many. A
	// refused one comes again after seconds, which costs more than the share: on a busy
	// machine 1,500 messages took 1.33 of the ideal time with 0.97, and 1.06 with 0.95.
	leaseShare = 0.95
	// slowDown is what the share is multiplied by if the API asks for less, once in
	// slowEvery at most, and speedUp is by how much it grows with each turn.
	slowDown  = 0.8
	slowEvery = time.Second
	speedUp   = 0.005
)

// pace is what this process has leased of a number.
type pace struct {
	mu       sync.Mutex
	next     time.Time // when the next turn is, by the server's clock
	until    time.Time // from then on others have the number
	interval time.Duration
}

// turn returns when the next turn is. One that is late does not make the next one early.
func (p *pace) turn(now time.Time) time.Time {
	if now.After(p.next) {
		return now
	}
	return p.next
}

// perSecondOf returns the rate of a number, as the options have it.
func (o *Outbox) perSecondOf(number string) float64 {
	if perSecond, ok := o.rates[number]; ok {
		return perSecond
	}
	return o.perSecond
}

// rateWait returns how long to wait for a number's next turn. waiting is how many
// messages are in the queue behind this one.
func (o *Outbox) rateWait(ctx context.Context, number string, waiting uint64) (time.Duration, error) {
	p := &o.lanes.of(number).pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.turn(o.now()).Before(p.until) {
		if err := o.lease(ctx, number, p, waiting+1); err != nil {
			return 0, err
		}
	}
	at := p.turn(o.now())
	p.next = at.Add(p.interval)
	return max(0, at.Sub(o.now())), nil
}

// lease leases turns of a number.
func (o *Outbox) lease(ctx context.Context, number string, p *pace, wanted uint64) error {
	perSecond := o.perSecondOf(number)
	return o.changeLease(ctx, number, func(l *leased) bool {
		rate := max(leaseShare*perSecond*l.Share, min(1, leaseShare*perSecond))
		turns := max(1, min(float64(wanted), rate*leaseTime.Seconds()), rate*leastLease.Seconds())
		p.next = o.now()
		if l.Until.After(p.next) {
			p.next = l.Until.Time
		}
		p.interval = time.Duration(float64(time.Second) / rate)
		p.until = p.next.Add(time.Duration(turns * float64(p.interval)))
		l.Until = moment{p.until}
		l.Share = min(1, l.Share+speedUp*turns)
		return true
	})
}

// slow lowers the rate of a number, for all machines.
func (o *Outbox) slow(ctx context.Context, number string) error {
	return o.changeLease(ctx, number, func(l *leased) bool {
		if o.now().Sub(l.Slowed.Time) < slowEvery {
			return false
		}
		l.Share, l.Slowed = l.Share*slowDown, moment{o.now()}
		return true
	})
}

func (o *Outbox) changeLease(ctx context.Context, number string, alter func(*leased) bool) error {
	subject := o.store.subject(kindRate, number)
	for {
		l := leased{Share: 1}
		msg, err := o.store.latest(ctx, subject)
		var revision uint64
		switch {
		case err == nil:
			revision = msg.Sequence
			if json.Unmarshal(msg.Data, &l) != nil || l.Version > schemaVersion || !(l.Share > 0) {
				l = leased{Share: 1}
			}
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if !alter(&l) {
			return nil
		}
		l.Version = schemaVersion
		data, err := json.Marshal(l)
		if err != nil {
			return err
		}
		err = o.store.put(ctx, put{subject: subject, data: data, expected: revision, expectedOn: subject})
		if !errors.Is(err, errConflict) {
			return err
		}
		// Another machine was faster; or the answer to this write was lost, and its turns
		// are lost with it.
	}
}
