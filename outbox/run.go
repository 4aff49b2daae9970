package outbox

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// claimEvery is how long a Run waits after a claim if few workers are free.
const claimEvery = 5 * time.Millisecond

// Run sends messages until ctx ends or the Outbox is closed, with as many workers as
// [WithWorkers] says. Any number of Runs on any number of machines share the work. If the
// database fails, Run goes on when the database works again.
//
// When Run is to stop it takes no more messages, and completes the attempts that are under way.
// That takes the attempt timeout at most, and 30 s more if the database does not answer. Then
// it returns nil. Run returns [ErrClosed] if the Outbox was closed before, and the database's
// error if it cannot begin.
//
// Phone numbers share the workers fairly: while several have something to send, none gets more
// than its share. One more worker is only for urgent messages. While the transport takes the
// API to be down, all messages stay in the queue, except the one that probes.
func (o *Outbox) Run(ctx context.Context) error {
	ctx, done, err := o.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer done()
	signals := newSignals()
	r := &running{
		queue: o.queue, signals: signals, gate: o.sender.gate, sender: o.sender,
		heartbeat: &heartbeat{queue: o.queue, signals: signals},
		ends:      make(chan end, 4*maxWorkers), handling: make(map[int64]bool),
		unadopted: make(chan struct{}, 1), lanes: lane.Lanes{Rate: o.perSecondOf},
	}
	if err := r.heartbeat.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it is stopped before it has begun
		}
		return fmt.Errorf("outbox: cannot begin to send: %w", err)
	}
	defer o.runs.add(signals)()
	r.run(ctx)
	return nil
}

// run sends messages until ctx ends.
func (r *running) run(ctx context.Context) {
	var loops sync.WaitGroup
	// Attempts that are under way need the heartbeat until they end.
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	loops.Go(func() { r.heartbeat.keep(beating) })
	loops.Go(func() { r.upkeep(ctx, r.gate) })
	if r.onOutcome != nil {
		loops.Go(func() { r.reportOutcomes(ctx, r.unreported) })
	}
	loops.Go(func() { r.adopting(ctx, r.unadopted) })
	r.loop(ctx)
	r.workers.Wait()
	stop()
	loops.Wait()
	r.heartbeat.leave()
}

// running is one Run. Only its loop decides what is claimed, and only the loop uses lanes.
type running struct {
	*queue
	*signals
	gate
	sender    *sender
	heartbeat *heartbeat
	lanes     lane.Lanes
	workers   sync.WaitGroup
	writing   atomic.Int64 // how many messages goroutines have
	ends      chan end
	// unadopted has a value when there are rows that programs have inserted and no Run has
	// adopted.
	unadopted chan struct{}

	claimed time.Time // when messages were last claimed
	blind   bool      // the last look has not read the numbers, since nothing was due
	lookAt  time.Time // when the loop looks for due messages; monotonic
	next    time.Time // when the next message becomes due, by the database's clock
	probing bool      // an attempt is finding out whether the API is up again
	shut    time.Time // until then the gate lets nothing through; monotonic

	mu       sync.Mutex
	handling map[int64]bool // the messages that a goroutine has, by seq; guarded by mu
}

// loop claims due messages and gives them to workers, until ctx ends.
func (r *running) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for ctx.Err() == nil {
		claimed, err := r.round(ctx)
		if err == nil {
			r.turnedRound()
		}
		switch {
		case err != nil && ctx.Err() == nil:
			r.logger.Error("outbox: cannot claim messages", errorOf(err.Error()))
			failures++
			timer.Reset(min(time.Second, time.Duration(failures)*50*time.Millisecond))
		case claimed:
			failures = 0
			continue
		default:
			failures = 0
			timer.Reset(r.until())
		}
		select {
		case <-timer.C:
		case <-r.wake:
		case e := <-r.ends:
			r.ended(ctx, e)
		case <-ctx.Done():
		}
	}
}

// until returns how long the loop may sleep if nothing wakes it.
func (r *running) until() time.Duration {
	wait := time.Until(r.lookAt)
	now := r.now()
	for _, at := range []time.Time{r.lanes.Next(now), r.next} {
		if !at.IsZero() {
			wait = min(wait, at.Sub(now))
		}
	}
	// Several turns share one statement.
	return max(wait, 5*time.Millisecond)
}

// round does the work of one round of the loop, and reports whether it has claimed messages.
func (r *running) round(ctx context.Context) (claimed bool, err error) {
	for more := true; more; {
		select {
		case e := <-r.ends:
			r.ended(ctx, e)
		default:
			more = false
		}
	}
	rung, look, check := r.take()
	for number, urgent := range rung {
		r.lanes.Ring(number, urgent)
		look = look || r.blind
	}
	if check {
		if err := r.checkClaims(ctx); err != nil {
			return false, err
		}
	}
	if now := r.now(); !r.next.IsZero() && !r.next.After(now) {
		if err := r.store.Ripen(ctx); err != nil {
			return false, err
		}
		r.next, look = time.Time{}, true
	}
	if look || !time.Now().Before(r.lookAt) {
		if err := r.lookAround(ctx); err != nil {
			return false, err
		}
	}
	return r.claim(ctx)
}

// lookAround finds out which numbers have something due, and what all machines know about the
// numbers.
func (r *running) lookAround(ctx context.Context) error {
	asked := time.Now()
	look, err := r.store.Look(ctx)
	if err != nil {
		return err
	}
	r.clock.set(look.Now, asked)
	r.lanes.Look(look.Due, look.Shared)
	r.blind = look.Shared == nil
	r.next = look.Next
	if look.Unadopted {
		select {
		case r.unadopted <- struct{}{}:
		default: // adopting is looking already
		}
	}
	// Where the database is far away most of the time is for messages.
	r.lookAt = time.Now().Add(max(lookEvery, min(4*time.Since(asked), lookWithin)))
	return nil
}

// free returns how many workers are free.
func (r *running) free() int {
	if r.writing.Load() > int64(2*r.queue.workers) {
		return 0 // the database is slower than the workers
	}
	return r.queue.workers - r.lanes.Flights()
}

// claim claims as many messages as can go now, and gives them to workers.
func (r *running) claim(ctx context.Context) (claimed bool, err error) {
	now := r.now()
	if time.Now().Before(r.shut) {
		return false, nil
	}
	free := r.free()
	if free > 0 && free < r.queue.workers/4 && time.Since(r.claimed) < claimEvery {
		return false, nil // more workers will be free soon: one statement serves them all
	}
	host, down := r.hostDown()
	if down {
		if wait := time.Until(host.NextProbe); wait > 0 {
			r.shut = time.Now().Add(wait)
			return false, nil
		}
		if r.probing {
			return false, nil
		}
		free = 1
	}
	r.lanes.Narrow(nil)
	if paths := r.pathsDown(); len(paths) > 0 {
		narrow := make(map[string]bool)
		for number, nextProbe := range paths {
			if wait := time.Until(nextProbe); wait > 0 {
				r.lanes.Block(number, now.Add(wait))
			} else {
				narrow[number] = true
			}
		}
		r.lanes.Narrow(narrow)
	}
	for _, wish := range r.lanes.Probes(now) {
		wait := r.probeWait(wish.Seen.Probes)
		taken, err := r.store.Probe(ctx, wish.Number, wish.Seen, wait)
		if err != nil {
			return false, err
		}
		if !taken {
			r.lookAt = time.Time{} // another Run has taken it: look again
			continue
		}
		r.lanes.Probe(wish.Number, now.Add(wait), now)
	}
	if wanted := r.lanes.Leases(now, max(1, free)); len(wanted) > 0 && free >= 0 {
		asked := time.Now()
		got, err := r.store.Lease(ctx, wanted, lane.Speedup)
		if err != nil {
			return false, err
		}
		for _, leased := range got { // by one clock, which was read for all
			r.clock.set(leased.Now, asked)
			break
		}
		r.lanes.Lease(wanted, got)
		now = r.now()
	}
	plan, urgentOnly := r.lanes.Plan(now, r.queue.workers, free, false), false
	if len(plan) == 0 && free == 0 && !down {
		plan, urgentOnly = r.lanes.Plan(now, r.queue.workers, 1, true), true
	}
	if len(plan) == 0 {
		return false, nil
	}
	r.claimed = time.Now()
	probes := make(map[string]int)
	for number, n := range plan {
		if r.lanes.IsProbe(number) {
			probes[number] = n
			delete(plan, number)
		}
	}
	var claims []store.Claim
	if len(probes) > 0 {
		if claims, err = r.store.TakeProbes(ctx, r.heartbeat.id.Load(), probes, r.recipientOrder, urgentOnly); err != nil {
			return false, err
		}
	}
	if len(plan) > 0 {
		others, err := r.store.Take(ctx, r.heartbeat.id.Load(), plan, r.recipientOrder, urgentOnly)
		if err != nil {
			// checkClaims gives back what has been claimed.
			return false, err
		}
		claims = append(claims, others...)
	}
	maps.Copy(plan, probes)
	now = r.now()
	got := make(map[string]int)
	for _, c := range claims {
		got[c.Number]++
		r.mu.Lock()
		busy := r.handling[c.Seq]
		r.mu.Unlock()
		if busy {
			// The message was resent while an attempt of this Run is about to write its end.
			if err := r.store.GiveBack(ctx, &c, "", now.Add(lookEvery)); err != nil {
				return true, err
			}
			continue
		}
		r.lanes.Spend(c.Number, 1, now)
		r.work(ctx, c, now, down)
	}
	for number, wanted := range plan {
		if got[number] < min(wanted, store.MostTaken) {
			r.lanes.Empty(number, urgentOnly)
		}
	}
	return len(claims) > 0, nil
}

// work sends a message in a goroutine.
func (r *running) work(ctx context.Context, c store.Claim, now time.Time, down bool) {
	r.mu.Lock()
	r.handling[c.Seq] = true
	r.mu.Unlock()
	r.writing.Add(1)
	r.probing = r.probing || down
	accepted := r.lanes.Accepted(c.Number)
	probe := r.lanes.Begin(c.Number, now)
	r.workers.Go(func() {
		// The end of Run must not cancel an attempt. So its context lasts for as long as an
		// attempt and the writing of its end may take.
		lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		detach := context.AfterFunc(ctx, func() {
			timer := time.AfterFunc(r.attemptTimeout+r.life.linger, cancel)
			context.AfterFunc(lasting, func() { timer.Stop() })
		})
		defer detach()
		a := &attempt{sender: r.sender, claim: c, lasting: lasting, accepted: accepted}
		err := a.make(ctx, func(e end) {
			e.number, e.began, e.probe, e.isProbe = c.Number, now, down, probe
			r.ends <- e
		})
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot process a message", idOf(c.ID), errorOf(a.redact(err.Error())))
		}
		r.mu.Lock()
		delete(r.handling, c.Seq)
		r.mu.Unlock()
		r.writing.Add(-1)
		if r.recipientOrder {
			r.runs.ring(map[string]bool{c.Number: false})
		}
		r.stir()
	})
}

// ended applies the end of an attempt.
func (r *running) ended(ctx context.Context, e end) {
	if e.probe {
		r.probing = false
	}
	if e.gate > 0 {
		// The gate is the path's, or the host's.
		if _, down := r.hostDown(); down || len(r.pathsDown()) == 0 {
			r.shut = time.Now().Add(e.gate)
		} else {
			r.lanes.Block(e.number, r.now().Add(e.gate))
		}
	}
	if e.accepted {
		r.lanes.Accept(e.number, r.now())
	}
	news, host := r.lanes.End(e.number, e.began, e.lane)
	var err error
	switch {
	case e.hold:
		err = r.hold(ctx, e.number, e.reason)
	case news == lane.Hold:
		if err = r.hold(ctx, e.number, e.reason); err == nil && r.lanes.AllAreHeld() {
			err = r.holdHost(ctx, e.reason)
		}
	case news == lane.Unhold:
		if host {
			if _, err = r.unhold(ctx, lane.All, true); err != nil {
				break
			}
		}
		var was bool
		if was, err = r.unhold(ctx, e.number, false); was {
			r.workers.Go(func() { r.observe(ctx, Event{Kind: EventReleased, PhoneNumberID: e.number}) })
		}
	}
	if e.throttles && err == nil {
		err = r.store.Slow(ctx, e.number, lane.Slowdown)
	}
	if err != nil && ctx.Err() == nil {
		r.logger.Error("outbox: cannot write the state of a phone number for other machines", numberOf(e.number), errorOf(err.Error()))
	}
}

// hold holds a number on all machines.
func (r *running) hold(ctx context.Context, number, reason string) error {
	wait := r.probeWait(0)
	first, err := r.queue.hold(ctx, number, wait, r.lanes.IsAmbiguous(number), false, reason)
	if err != nil {
		return err
	}
	r.lanes.Held(number, r.now().Add(wait), reason)
	if first {
		// Not in the loop, which has other work to do.
		r.workers.Go(func() { r.observe(ctx, Event{Kind: EventHeld, PhoneNumberID: number, Reason: reason, Wait: wait}) })
	} else {
		r.lookAt = time.Time{} // another Run has held it already: look again
	}
	return nil
}

func (r *running) holdHost(ctx context.Context, reason string) error {
	wait := r.probeWait(0)
	if _, err := r.queue.hold(ctx, lane.All, wait, true, false, reason); err != nil {
		return err
	}
	r.lanes.Held(lane.All, r.now().Add(wait), reason)
	return nil
}

// checkClaims settles claims of this Run that no goroutine has: the answer to a write may have
// been lost. The loop calls it, so that no claim is made meanwhile.
func (r *running) checkClaims(ctx context.Context) error {
	r.mu.Lock()
	before := make(map[int64]bool, len(r.handling))
	for seq := range r.handling {
		before[seq] = true
	}
	r.mu.Unlock()
	claims, err := r.store.Claims(ctx, r.heartbeat.id.Load())
	if err != nil {
		return err
	}
	for i := range claims {
		if !before[claims[i].Seq] {
			if err := r.abandon(ctx, &claims[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
