package lane

import (
	"math"
	"time"
)

// A phone number's rate holds for all machines together. So each leases turns of it, up
// to a quarter of a second's at once: from the moment on to which others have leased
// already.

// Lease is what a process wants of a number's time.
type Lease struct {
	Length time.Duration // at the full rate
	turns  float64
}

// Leased is what it has got.
type Leased struct {
	Until time.Time
	Share float64
	Now   time.Time // by the database's clock
}

const (
	// leaseTime is how much of a number's time is leased at once, and leastLease how much
	// is where few messages wait: at a high rate each would need a lease of its own.
	leaseTime  = 250 * time.Millisecond
	leastLease = 10 * time.Millisecond
	// leaseShare is the part of the rate that is leased. Messages take a while to arrive,
	// and not all the same, so that at the full rate some second would have too many.
	leaseShare = 0.95
	// forgotten is how long after the end of another process's lease it is taken for gone.
	// While it is there, who took a long lease would have it wait for all of that.
	forgotten = time.Second
	// burst is how much of its time a number may be late and still use.
	burst = 30 * time.Millisecond
	// Slowdown is what the share is multiplied by if the API asks for less, and Speedup is
	// by how much it grows with each second that is leased.
	Slowdown = 0.8
	Speedup  = 0.4
)

// pace is what this process has leased of a number.
type pace struct {
	next     time.Time // when the next turn is, by the database's clock
	until    time.Time // from then on others have the number
	interval time.Duration
	last     float64 // turns of the last lease
	spent    float64 // of these
	alone    bool    // nobody else leases turns of the number, as far as is known
}

func (p *pace) isLeased() bool { return p.interval > 0 && p.next.Before(p.until) }

// at returns when the next turn is. One that is late does not make the next ones early, but
// for a burst.
func (p *pace) at(now time.Time) time.Time {
	if late := now.Add(-burst); p.next.Before(late) {
		return late
	}
	return p.next
}

// turns returns how many messages may go now.
func (p *pace) turns(now time.Time) int {
	if p.interval <= 0 {
		return 0
	}
	n := 0
	if at := p.at(now); !at.After(now) && at.Before(p.until) {
		end := now
		if p.until.Before(end) {
			end = p.until
		}
		n = int(end.Sub(at)/p.interval) + 1
	}
	return n
}

func (p *pace) spend(n int, now time.Time) {
	p.next = p.at(now).Add(time.Duration(n) * p.interval)
	p.spent += float64(n)
}

// nextTurn returns when the next turn is, now if it must be leased.
func (p *pace) nextTurn(now time.Time) time.Time {
	if at := p.at(now); p.interval > 0 && at.Before(p.until) {
		return at
	}
	return now
}

// Leases returns what to lease of the numbers that have something to send and no turns left:
// as much as most workers can use.
func (l *Lanes) Leases(now time.Time, most int) map[string]Lease {
	wanted := make(map[string]Lease)
	for _, number := range l.inTurn() {
		this := l.lanes[number]
		if room, _ := l.state(number, now); !this.due || room == 0 || this.pace.interval > 0 && this.pace.at(now).Before(this.pace.until) {
			continue
		}
		if len(wanted) >= max(1, most) {
			break
		}
		rate := leaseShare * l.Rate(number)
		// As many as workers are free for, and twice as many as before if these were used up.
		// Where nobody else sends from the number it costs nobody a turn to take more.
		turns := float64(min(most, 8))
		switch recent := now.Sub(this.pace.until) < leaseTime; {
		case recent && this.pace.alone:
			turns = rate * leaseTime.Seconds()
		case recent && this.pace.spent >= this.pace.last:
			turns = max(turns, 2*this.pace.last)
		}
		turns = max(1, math.Floor(max(min(turns, rate*leaseTime.Seconds()), rate*leastLease.Seconds())))
		wanted[number] = Lease{Length: time.Duration(turns / rate * float64(time.Second)), turns: turns}
	}
	return wanted
}

// Lease takes in what was leased.
func (l *Lanes) Lease(wanted map[string]Lease, got map[string]Leased) {
	for number, w := range wanted {
		g, ok := got[number]
		if !ok || g.Share <= 0 {
			continue
		}
		this := l.lane(number)
		length := time.Duration(float64(w.Length) / g.Share)
		this.LeasedUntil, this.Share = g.Until, g.Share
		first := g.Until.Add(-length)
		this.pace = pace{next: first, until: g.Until, interval: time.Duration(math.Ceil(float64(length) / w.turns)), last: w.turns,
			alone: !first.After(g.Now.Add(time.Millisecond)) && g.Now.Sub(this.others) > forgotten}
	}
}
