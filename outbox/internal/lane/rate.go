package lane

import (
	"math"
	"time"
)

// A phone number's rate applies to all machines together. So each process leases turns of the
// number, for up to a quarter of a second at once. A lease begins where the last one of any
// process ends.

// Lease is what a process wants to lease of a number's time.
type Lease struct {
	Length time.Duration // at the full rate
	turns  float64
}

// Leased is what the process has got.
type Leased struct {
	Until time.Time
	Share float64
	Now   time.Time     // by the database's clock
	Took  time.Duration // how long the database took to say so
}

const (
	// leaseTime is how much of a number's time is leased at once at most. leastLease is how
	// much is leased if few messages wait: at a high rate each would otherwise need a lease of
	// its own.
	leaseTime  = 250 * time.Millisecond
	leastLease = time.Millisecond
	// leaseShare is the part of the rate that is leased. Messages do not all take the same time
	// to arrive, so that at the full rate some second would have too many.
	leaseShare = 0.95
	// forgotten is how long after the end of another process's lease that process is taken to
	// be gone. Until then this process must not take long leases, since the other one would
	// wait for their end.
	forgotten = time.Second
	// burst is how late a turn may be used, in addition to the time that the lease took to
	// arrive. Without that, the lease from a database that is far away would be over on
	// arrival.
	burst = 30 * time.Millisecond
	// soon is how much earlier than its turn a message may be claimed: the claim takes longer.
	soon = time.Millisecond
	// setBack is how much the database's clock must have been set back for a lease to be void.
	setBack = time.Second
	// Slowdown is the factor by which the share falls if the API asks for less. Speedup is how
	// much it grows with each second that is leased.
	Slowdown = 0.8
	Speedup  = 0.4
)

// pace is what this process has leased of a number.
type pace struct {
	leased   time.Time // when it was leased, by the database's clock
	next     time.Time // when the next turn is, by the database's clock
	until    time.Time // the end of the lease
	interval time.Duration
	late     time.Duration // how late a turn may be
	last     float64       // turns of the last lease
	spent    float64       // how many of these were used
	alone    bool          // no other process is known to lease turns of the number
}

func (p *pace) isLeased() bool { return p.interval > 0 && p.next.Before(p.until) }

// hasTurns reports whether turns of the lease are left, now or later. If the clock has been set
// back there are none, since they would be as much later.
func (p *pace) hasTurns(now time.Time) bool {
	return p.interval > 0 && p.at(now).Before(p.until) && now.After(p.leased.Add(-setBack))
}

// at returns when the next turn is. A turn that is too late is lost, so that the next ones are
// not early.
func (p *pace) at(now time.Time) time.Time {
	if earliest := now.Add(-p.late); p.next.Before(earliest) {
		return earliest
	}
	return p.next
}

// turns returns how many messages may be sent now.
func (p *pace) turns(now time.Time) int {
	if p.interval <= 0 {
		return 0
	}
	now = now.Add(soon)
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

// nextTurn returns when the next turn is, or now if it must be leased.
func (p *pace) nextTurn(now time.Time) time.Time {
	if p.hasTurns(now) {
		return p.at(now)
	}
	return now
}

// want returns what to lease of a number with that full rate, for that many workers.
func (p *pace) want(now time.Time, perSecond float64, workers int) Lease {
	rate := leaseShare * perSecond
	// As many turns as there are free workers, and twice as many as last time if those were
	// used up. If no other process sends from the number, more turns delay nobody.
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

// paceOf returns the pace for what was leased. others is the end of the last known lease of
// another process.
func paceOf(wanted Lease, got Leased, others time.Time) pace {
	length := time.Duration(float64(wanted.Length) / got.Share)
	first := got.Until.Add(-length)
	return pace{leased: got.Now, next: first, until: got.Until, interval: time.Duration(math.Ceil(float64(length) / wanted.turns)), late: burst + got.Took, last: wanted.turns,
		alone: !first.After(got.Now.Add(time.Millisecond)) && got.Now.Sub(others) > forgotten}
}
