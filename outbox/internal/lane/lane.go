// Package lane decides how many messages a process may send from each phone number now. It
// knows what holds a number, its rate, and its share of the workers. It uses no database and no
// clock: times are parameters.
//
// The messages of a number are a lane. [Shared] is what all machines know about it; the rest is
// what this process has seen itself.
package lane

import (
	"cmp"
	"slices"
	"time"
)

// Shared is what all machines know about a number.
type Shared struct {
	Paused bool
	// NextProbe is when the next probe may be sent, zero if the number is not held.
	NextProbe time.Time
	// Probes is how many probes have been sent since it is held.
	Probes int
	// Ambiguous reports whether it is held because of messages that may have been sent.
	Ambiguous bool
	// ByWebhook reports whether it is held because of a webhook about messages that Meta had
	// accepted. Then no answer ends the hold, but a webhook does.
	ByWebhook bool
	Reason    string
	// HeldSince is since when it is held, and Released is when its last hold ended.
	HeldSince, Released time.Time
	// LeasedUntil is the end of the last lease of its rate. Share is the part of the rate that
	// it may use: 1, or less since the API has asked for less.
	LeasedUntil time.Time
	Share       float64
}

// IsHeld reports whether the number is held.
func (s *Shared) IsHeld() bool { return !s.NextProbe.IsZero() }

// All is the number that stands for all numbers.
const All = ""

// threshold is how many attempts in a row must say nothing about their message until the number
// is held.
const threshold = 3

// End is what the end of an attempt says about its number.
type End int

// The kinds of End.
const (
	Nothing   End = iota // no attempt was made, or no connection
	Up                   // the API has answered
	Own                  // the message was refused, and other messages of the number are not
	Bad                  // the message was refused, and that is not its fault
	Ambiguous            // the message may have been sent
)

// Lanes are the numbers from which a process sends.
type Lanes struct {
	// Rate returns how many messages a second a number may send.
	Rate func(number string) float64

	lanes  map[string]*lane
	all    Shared
	served int
	narrow map[string]bool // numbers that may have one attempt at a time
}

// lane is one number.
type lane struct {
	Shared
	due       bool // a message is due
	urgent    bool // an urgent message is due
	run       int  // ends in a row that say nothing about their message
	ambiguous bool // all of these are Ambiguous
	isUsed    bool // an attempt has ended, and not with Nothing
	flights   []time.Time
	probing   bool      // this process has taken the next probe
	blocked   time.Time // the gate lets nothing through until then
	served    int       // counts up: the number that was served last has the highest
	accepted  time.Time // when a message was last accepted
	pace      pace
	others    time.Time // the end of the last known lease of another process
}

func (l *Lanes) lane(number string) *lane {
	if l.lanes == nil {
		l.lanes = make(map[string]*lane)
	}
	this, ok := l.lanes[number]
	if !ok {
		this = &lane{Shared: Shared{Share: 1}}
		l.lanes[number] = this
	}
	return this
}

// Look stores what the tables show: which numbers have something due, and what all machines
// know about the numbers. shared is nil if it was not read because nothing is due.
func (l *Lanes) Look(due map[string]bool, shared map[string]Shared) {
	for number, this := range l.lanes {
		if _, ok := due[number]; !ok {
			this.due, this.urgent = false, false
			if len(this.flights) == 0 && this.run == 0 && !this.pace.isLeased() {
				if _, ok := shared[number]; !ok || !this.isUsed {
					delete(l.lanes, number) // a new lane would be the same
				}
			}
		}
	}
	for number, urgent := range due {
		this := l.lane(number)
		this.due, this.urgent = true, urgent
	}
	if shared == nil {
		return
	}
	l.all = shared[All]
	for number, this := range l.lanes {
		if found, ok := shared[number]; ok {
			if this.IsHeld() && !found.IsHeld() {
				// Another process has found out that messages of the number are accepted.
				this.run, this.ambiguous = 0, false
			}
			if !found.LeasedUntil.Equal(this.pace.until) {
				this.others = found.LeasedUntil
			}
			this.Shared = found
		} else {
			this.Shared = Shared{Share: 1}
		}
	}
}

// Ring records that a number has something due.
func (l *Lanes) Ring(number string, urgent bool) {
	this := l.lane(number)
	this.due = true
	this.urgent = this.urgent || urgent
}

// Block has a number send nothing until then, because the gate would let nothing through.
func (l *Lanes) Block(number string, until time.Time) { l.lane(number).blocked = until }

// Narrow limits these numbers, and no others, to one attempt at a time: the gate lets only a
// probe of them through.
func (l *Lanes) Narrow(numbers map[string]bool) { l.narrow = numbers }

// hold returns the hold that applies to a number, and whether there is one: the hold of all
// numbers, or its own.
func (l *Lanes) hold(this *lane) (*Shared, bool) {
	if l.all.IsHeld() {
		return &l.all, true
	}
	return &this.Shared, this.IsHeld()
}

// state returns how many messages of a number may be sent as far as holds, pauses and the gate
// allow, -1 for any number. again is when to ask again, zero for after the next change.
func (l *Lanes) state(number string, now time.Time) (most int, again time.Time) {
	this := l.lanes[number]
	if this.Paused || l.all.Paused {
		return 0, time.Time{}
	}
	if this.blocked.After(now) {
		return 0, this.blocked
	}
	if held, ok := l.hold(this); ok {
		switch {
		case this.probing:
			return 1 - min(1, len(this.flights)), time.Time{}
		default:
			return 0, held.NextProbe
		}
	}
	if l.narrow[number] {
		return 1 - min(1, len(this.flights)), time.Time{}
	}
	if this.run > 0 {
		// The attempts that are under way may cause a hold.
		return max(0, threshold-this.run-len(this.flights)), time.Time{}
	}
	return -1, time.Time{}
}

// Wish is a probe that is due, and the state of its number when that was found.
type Wish struct {
	Number string
	Seen   Shared
}

// Probes returns the probes that are due, of numbers that have something to send.
func (l *Lanes) Probes(now time.Time) []Wish {
	if l.all.Paused {
		return nil
	}
	if l.all.IsHeld() {
		if l.all.NextProbe.After(now) || l.anyProbes() {
			return nil
		}
		for _, this := range l.lanes {
			if this.due && !this.Paused && len(this.flights) == 0 && !this.blocked.After(now) {
				return []Wish{{All, l.all}}
			}
		}
		return nil
	}
	var due []Wish
	for number, this := range l.lanes {
		if this.IsHeld() && this.due && !this.Paused && !this.probing && len(this.flights) == 0 && !this.NextProbe.After(now) && !this.blocked.After(now) {
			due = append(due, Wish{number, this.Shared})
		}
	}
	slices.SortFunc(due, func(a, b Wish) int { return cmp.Compare(a.Number, b.Number) })
	return due
}

func (l *Lanes) anyProbes() bool {
	for _, this := range l.lanes {
		if this.probing {
			return true
		}
	}
	return false
}

// Probe records that this process has taken the probe of a number, or of all numbers, and when
// the next one is due.
func (l *Lanes) Probe(number string, next, now time.Time) {
	if number != All {
		this := l.lane(number)
		this.probing, this.NextProbe, this.Probes = true, next, this.Probes+1
		return
	}
	l.all.NextProbe, l.all.Probes = next, l.all.Probes+1
	for _, number := range sortedNumbers(l.lanes) {
		this := l.lanes[number]
		if this.due && !this.Paused && len(this.flights) == 0 && !this.blocked.After(now) {
			this.probing = true
			return
		}
	}
}

// IsProbe reports whether the next message of a number that is claimed is its probe.
func (l *Lanes) IsProbe(number string) bool { return l.lane(number).probing }

// Accept records that a message of a number was accepted.
func (l *Lanes) Accept(number string, now time.Time) { l.lane(number).accepted = now }

// Accepted returns when a message of a number was last accepted, as far as this process knows.
func (l *Lanes) Accepted(number string) time.Time {
	this := l.lane(number)
	if this.Released.After(this.accepted) {
		return this.Released
	}
	return this.accepted
}

// Begin records that an attempt from a number begins. It reports whether the attempt is the
// probe of a number that is held.
func (l *Lanes) Begin(number string, now time.Time) (probe bool) {
	this := l.lane(number)
	this.flights = append(this.flights, now)
	probe, this.probing = this.probing, false
	return probe
}

// News is what an end changes for all machines.
type News int

// The kinds of News.
const (
	NoNews News = iota
	Hold        // the number is to be held
	Unhold      // the hold is to end
)

// End records how an attempt has ended that began at that time. host reports whether the host
// is to be held too, since every number is.
func (l *Lanes) End(number string, began time.Time, end End) (news News, host bool) {
	this := l.lane(number)
	if i := slices.Index(this.flights, began); i >= 0 {
		this.flights = slices.Delete(this.flights, i, i+1)
	}
	this.isUsed = this.isUsed || end != Nothing
	switch end {
	case Up:
		this.run, this.ambiguous = 0, false
		held := this.IsHeld() && !this.ByWebhook
		if held {
			this.NextProbe, this.Probes = time.Time{}, 0
		}
		if held || l.all.IsHeld() {
			host = l.all.IsHeld()
			l.all.NextProbe = time.Time{}
			return Unhold, host
		}
	case Bad, Ambiguous:
		ambiguous := end == Ambiguous
		this.ambiguous = ambiguous && (this.ambiguous || this.run == 0)
		this.run++
		host = ambiguous && !l.all.IsHeld()
		if this.run >= threshold && !this.IsHeld() {
			news = Hold
		}
		return news, host
	}
	return NoNews, false
}

// Held records that a number, or the host, is held.
func (l *Lanes) Held(number string, nextProbe time.Time, reason string) {
	if number == All {
		l.all.NextProbe, l.all.Reason, l.all.Probes = nextProbe, reason, 1
		return
	}
	this := l.lane(number)
	this.NextProbe, this.Reason, this.Probes, this.Ambiguous, this.ByWebhook = nextProbe, reason, 1, this.ambiguous, false
}

// IsAmbiguous reports whether a number is held, or is about to be held, because of messages
// that may have been sent.
func (l *Lanes) IsAmbiguous(number string) bool { return l.lane(number).ambiguous }

// AllAreHeld reports whether several numbers are used, and each of them is held for an
// ambiguous reason. Then the fault is the host's.
func (l *Lanes) AllAreHeld() bool {
	held := 0
	for _, this := range l.lanes {
		switch {
		case !this.isUsed:
		case this.IsHeld() && (this.ambiguous || this.Ambiguous):
			held++
		default:
			return false
		}
	}
	return held > 1
}

// Empty records that no more messages of a number are due, or with urgentOnly no more urgent
// ones.
func (l *Lanes) Empty(number string, urgentOnly bool) {
	this := l.lane(number)
	this.due, this.urgent = this.due && urgentOnly, false
}

// Flights returns how many attempts are under way.
func (l *Lanes) Flights() int {
	n := 0
	for _, this := range l.lanes {
		n += len(this.flights)
	}
	return n
}

// hangs is the age from which an attempt gives its worker to a number that waits.
const hangs = 2 * time.Second

// Plan returns how many messages of each number are to be claimed now, if free of the workers
// are idle. With urgentOnly it plans only urgent messages.
//
// Plan gives workers to the numbers that have the fewest, so that no number gets more than its
// share while another waits. If the API hangs for a number that has more than its share, its
// attempts that are older than 2 s do not count: other numbers get as many workers in their
// place.
func (l *Lanes) Plan(now time.Time, workers, free int, urgentOnly bool) map[string]int {
	type candidate struct {
		number string
		this   *lane
		room   int
		got    int
	}
	var waiting []candidate
	for _, number := range l.inTurn() {
		this := l.lanes[number]
		if !this.due || urgentOnly && !this.urgent {
			continue
		}
		room, _ := l.state(number, now)
		if room == 0 {
			continue
		}
		turns := this.pace.turns(now)
		if room < 0 || room > turns {
			room = turns
		}
		if room > 0 {
			waiting = append(waiting, candidate{number: number, this: this, room: room})
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	most := free
	if most <= 0 && !urgentOnly {
		// Every worker is busy. The attempts that hang make room for other numbers.
		share := max(1, workers/(len(waiting)+1))
		most = min(l.hanging(now, share), workers) - max(0, l.Flights()-workers)
		for i := range waiting {
			waiting[i].room = min(waiting[i].room, share-len(waiting[i].this.flights))
		}
	}
	plan := make(map[string]int)
	for ; most > 0; most-- {
		best := -1
		for i, c := range waiting {
			if c.got < c.room && (best < 0 || len(c.this.flights)+c.got < len(waiting[best].this.flights)+waiting[best].got) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		waiting[best].got++
		plan[waiting[best].number]++
	}
	return plan
}

// hanging returns how many attempts hang of numbers that have more than their share.
func (l *Lanes) hanging(now time.Time, share int) int {
	n := 0
	for _, this := range l.lanes {
		if len(this.flights) <= share {
			continue
		}
		for _, began := range this.flights {
			if now.Sub(began) >= hangs {
				n++
			}
		}
	}
	return n
}

// Leases returns what to lease for the numbers that have something to send and no turns left:
// as much as most workers can use.
func (l *Lanes) Leases(now time.Time, most int) map[string]Lease {
	wanted := make(map[string]Lease)
	for _, number := range l.inTurn() {
		this := l.lanes[number]
		if room, _ := l.state(number, now); !this.due || room == 0 || this.pace.hasTurns(now) {
			continue
		}
		if len(wanted) >= max(1, most) {
			break
		}
		wanted[number] = this.pace.want(now, l.Rate(number), most)
	}
	return wanted
}

// Lease records what was leased.
func (l *Lanes) Lease(wanted map[string]Lease, got map[string]Leased) {
	for number, w := range wanted {
		g, ok := got[number]
		if !ok || g.Share <= 0 {
			continue
		}
		this := l.lane(number)
		this.LeasedUntil, this.Share, this.pace = g.Until, g.Share, paceOf(w, g, this.others)
	}
}

// Spend records that n messages of a number were claimed.
func (l *Lanes) Spend(number string, n int, now time.Time) {
	this := l.lane(number)
	this.pace.spend(n, now)
	l.served++
	this.served = l.served
}

// Next returns when to plan again if nothing happens before, zero for never.
func (l *Lanes) Next(now time.Time) time.Time {
	var next time.Time
	for number, this := range l.lanes {
		if !this.due {
			continue
		}
		room, again := l.state(number, now)
		if room != 0 {
			again = this.pace.nextTurn(now)
		}
		if !again.IsZero() && (next.IsZero() || again.Before(next)) {
			next = again
		}
	}
	return next
}

// inTurn returns the numbers in the order in which they are served: the fewest attempts under
// way first, and among these the number that has waited longest.
func (l *Lanes) inTurn() []string {
	numbers := sortedNumbers(l.lanes)
	slices.SortStableFunc(numbers, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(l.lanes[a].flights), len(l.lanes[b].flights)), cmp.Compare(l.lanes[a].served, l.lanes[b].served))
	})
	return numbers
}

func sortedNumbers(lanes map[string]*lane) []string {
	numbers := make([]string, 0, len(lanes))
	for number := range lanes {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}
