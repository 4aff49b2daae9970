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
	Now   time.Time     // by the database's clock
	Took  time.Duration // how long the database took to say so
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
	// burst is how much of its time a number may be late and still use, besides what the lease
	// took to arrive: one from a database that is far away would else be over by then.
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
	late     time.Duration // how late a turn may be
	last     float64       // turns of the last lease
	spent    float64       // of these
	alone    bool          // nobody else leases turns of the number, as far as is known
}

func (p *pace) isLeased() bool { return p.interval > 0 && p.next.Before(p.until) }

// hasTurns reports whether some of what was leased is left, now or later.
func (p *pace) hasTurns(now time.Time) bool { return p.interval > 0 && p.at(now).Before(p.until) }

// at returns when the next turn is. One that is too late is lost, so that the next ones are
// not early.
func (p *pace) at(now time.Time) time.Time {
	if earliest := now.Add(-p.late); p.next.Before(earliest) {
		return earliest
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
	if p.hasTurns(now) {
		return p.at(now)
	}
	return now
}

// want returns what to lease of a number whose full rate is so many a second, for so many
// workers.
func (p *pace) want(now time.Time, perSecond float64, workers int) Lease {
	rate := leaseShare * perSecond
	// As many as workers are free for, and twice as many as before if these were used up.
	// Where nobody else sends from the number it costs nobody a turn to take more.
	turns := float64(min(workers, 8))
	switch recent := now.Sub(p.until) < 2*p.late+leaseTime; {
	case recent && p.alone:
		turns = rate * leaseTime.Seconds()
	case recent && p.spent >= p.last:
		turns = max(turns, 2*p.last)
	}
	turns = max(1, math.Floor(max(min(turns, rate*leaseTime.Seconds()), rate*leastLease.Seconds())))
	return Lease{Length: time.Duration(turns / rate * float64(time.Second)), turns: turns}
}

// paceOf returns the pace by which what was leased is sent. others is until when another
// process has leased, as was last seen.
func paceOf(wanted Lease, got Leased, others time.Time) pace {
	length := time.Duration(float64(wanted.Length) / got.Share)
	first := got.Until.Add(-length)
	return pace{next: first, until: got.Until, interval: time.Duration(math.Ceil(float64(length) / wanted.turns)), late: burst + got.Took, last: wanted.turns,
		alone: !first.After(got.Now.Add(time.Millisecond)) && got.Now.Sub(others) > forgotten}
}
