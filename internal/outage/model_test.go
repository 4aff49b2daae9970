package outage

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// reference is the law of the gate in its plainest form: a slice for a queue, no
// timer, no lock, no atomics. It is moved to a moment by moveTo, which releases
// whoever goes until then, one after the other.
type reference struct {
	threshold       int
	interval, limit time.Duration

	state             State
	sequence          int
	run, runBegan     int
	worstRun          float64
	worstTime         time.Time
	fell, probes      int
	passedOn, joined  int
	partial           bool
	began             time.Time
	due, slowed       time.Time
	arrivals, initial float64
	rate, ceiling     float64
	throttled         float64
	counted           time.Time
	joinedThen        int
	headroom          time.Duration
	passedOver        int // how often one who stood behind went first
	waiting           []*modelCall
}

// modelCall is one call, in the eyes of the reference and in those of the gate.
type modelCall struct {
	number   int
	deadline time.Time
	released bool // by the reference
	refused  bool
	at       time.Time
	permit   Permit // as the reference gives it: no outage that ended

	waiter *Waiter // in the gate; nil: it passed at once
	real   Permit
}

func (r *reference) order(a, b *modelCall) int {
	if a.deadline.Equal(b.deadline) {
		return cmp.Compare(a.number, b.number)
	}
	if a.deadline.IsZero() || b.deadline.IsZero() {
		return cmp.Compare(b.deadline.Unix(), a.deadline.Unix())
	}
	return a.deadline.Compare(b.deadline)
}

func (r *reference) worst(now time.Time) float64 {
	return r.worstRun * math.Pow(0.5, now.Sub(r.worstTime).Seconds()/30)
}

func (r *reference) probeInterval() time.Duration {
	seconds := r.interval.Seconds() * math.Pow(2, float64(r.probes))
	if r.partial {
		seconds = r.interval.Seconds() * 0.2 * math.Pow(1.1, float64(r.probes))
	}
	return time.Duration(min(seconds, r.limit.Seconds()) * float64(time.Second))
}

// moveTo releases whoever goes at the moment until or before.
func (r *reference) moveTo(until time.Time) {
	for r.state != Up && len(r.waiting) > 0 {
		slices.SortFunc(r.waiting, r.order)
		first := r.waiting[0]
		overAt, goesAt := first.deadline, r.due
		switch {
		case !overAt.IsZero() && !overAt.After(goesAt) && !overAt.After(until):
			first.released, first.refused, first.at = true, true, overAt
			r.waiting = r.waiting[1:]
		case goesAt.After(until):
			return
		default:
			goes := r.waiting[len(r.waiting)-1]
			if r.state == Recovering {
				for _, w := range slices.Backward(r.waiting) {
					if w.deadline.IsZero() || w.deadline.Sub(goesAt) > r.headroom {
						goes = w
					}
				}
			}
			if r.state == Recovering && goes != first {
				r.passedOver++
			}
			goes.released, goes.at = true, goesAt
			goes.permit = Permit{sequence: uint64(r.sequence)}
			r.waiting = slices.DeleteFunc(r.waiting, func(w *modelCall) bool { return w == goes })
			if r.state == Down {
				r.probes++
				goes.permit.probe = r.probes
				r.due = goesAt.Add(r.probeInterval())
			} else if r.due = goesAt.Add(time.Duration(1e9 / r.rate)); len(r.waiting) == 0 {
				r.state = Up
			}
		}
	}
}

func (r *reference) join(now time.Time, c *modelCall) {
	if r.state == Up {
		c.released, c.at, c.permit = true, now, Permit{sequence: uint64(r.sequence)}
		return
	}
	if r.due.Before(now) {
		r.due = now // nobody was waiting
	}
	if !c.deadline.IsZero() && !c.deadline.After(r.due) {
		c.released, c.refused, c.at = true, true, now
		return
	}
	r.joined++
	r.waiting = append(r.waiting, c)
	r.moveTo(now)
}

func (r *reference) leave(now time.Time, c *modelCall) {
	r.waiting = slices.DeleteFunc(r.waiting, func(w *modelCall) bool { return w == c })
	r.moveTo(now)
}

func (r *reference) answered(now time.Time, p Permit, result Result) {
	switch {
	case result == ResultNone, int(p.sequence) < r.fell:
		return
	case result == ResultAbandoned:
		if r.state == Down && p.probe == r.probes && p.probe > 0 && p.probe != r.passedOn {
			r.passedOn = r.probes + 1
			r.due = now
			r.moveTo(now)
		}
		if r.state == Recovering && p.probe == 0 {
			r.headroom = min(max(10*time.Millisecond, 8*r.headroom), 24*time.Hour)
		}
		return
	}
	if r.state == Recovering {
		r.headroom = time.Duration(float64(r.headroom) * 0.95)
	}
	if result == ResultDown {
		if r.run == 0 {
			r.sequence++
			r.runBegan = r.sequence
		}
		r.run++
		if r.state == Down || float64(r.run) < max(float64(r.threshold), 3*r.worst(now)) {
			return
		}
		r.worstRun, r.worstTime = r.worst(now), now
		r.partial = r.state == Recovering || r.worstRun >= 2
		if r.state == Up {
			r.began, r.joined, r.initial, r.headroom = now, 0, 10, 0
		} else {
			r.initial = max(10, r.rate/2)
		}
		r.sequence++
		r.fell = r.sequence
		r.state, r.probes, r.passedOn = Down, 0, 0
		r.due = now.Add(r.probeInterval())
		return
	}
	if r.state == Down {
		r.worstTime = now
	}
	if int(p.sequence) >= r.runBegan && r.run > 0 {
		r.worstRun, r.worstTime, r.run = max(r.worst(now), float64(r.run)), now, 0
	}
	if since := now.Sub(r.counted).Seconds(); r.state == Recovering && len(r.waiting) > 0 && since >= 1 {
		r.ceiling = max(r.ceiling, 1.5*float64(r.joined-r.joinedThen)/since)
		r.counted, r.joinedThen = now, r.joined
	}
	switch {
	case r.state == Up:
	case len(r.waiting) == 0:
		r.state = Up
	case r.state == Down:
		elapsed := max(1, now.Sub(r.began).Seconds())
		r.arrivals = float64(r.joined) / elapsed
		r.ceiling = max(10, r.arrivals+1.5*float64(len(r.waiting))/elapsed)
		r.counted, r.joinedThen, r.throttled = now, r.joined, 0
		r.state, r.rate, r.due, r.slowed = Recovering, r.initial, now, time.Time{}
	case result == ResultThrottled:
		if r.throttled++; r.throttled >= 3 && (r.slowed.IsZero() || now.Sub(r.slowed) >= time.Second) {
			r.rate, r.slowed, r.throttled = max(0.8*r.rate, min(r.rate, r.arrivals)), now, 0
		}
	default:
		rise := 1.0
		if !r.slowed.IsZero() {
			rise = 1 / r.rate
		}
		if !r.slowed.IsZero() && now.Sub(r.slowed) < 10*time.Second {
			rise = 0
		}
		r.rate = min(r.rate+rise, r.ceiling)
		r.throttled = max(0, r.throttled-0.05)
	}
	r.moveTo(now)
}

// TestGateAgreesWithItsReferenceModel plays random schedules of arrivals,
// answers and cancellations against the gate and the reference, and compares
// after every step who was released, how and with what permit.
func TestGateAgreesWithItsReferenceModel(t *testing.T) {
	seeds := 2000
	if testing.Short() {
		seeds = 300
	}
	var fallen, recovering, refused, passedOn, passedOver int
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			g := newTestGate(1 + random.IntN(8))
			r := &reference{threshold: g.config.Threshold, interval: 5 * time.Second, limit: 20 * time.Second}
			r.worstTime = time.Now()
			leavers, crowd := 1, 1 // of 13 callers, before their answer; how many come at once
			if seed%32 == 31 {
				leavers, crowd = 6, 20
			}
			down := true
			var out []*modelCall // calls that were released and have no answer yet
			var waiting []*modelCall
			var probed time.Time

			// settle takes in who was released, and compares.
			settle := func() {
				synctest.Wait()
				r.moveTo(time.Now())
				for _, c := range slices.Clone(waiting) {
					released := false
					select {
					case <-c.waiter.released:
						released = true
					default:
					}
					require.Equalf(t, c.released, released, "seed %d, call %d: released", seed, c.number)
					if !released {
						continue
					}
					c.real = c.waiter.permit
					c.real.Ended = nil
					waiting = slices.DeleteFunc(waiting, func(other *modelCall) bool { return other == c })
					require.Equalf(t, c.refused, c.waiter.refused, "seed %d, call %d: refused", seed, c.number)
					if c.refused {
						refused++
						continue
					}
					require.Equalf(t, c.permit, c.real, "seed %d, call %d: permit", seed, c.number)
					out = append(out, c)
					if c.permit.probe > 1 && c.permit.probe != r.passedOn && !probed.IsZero() {
						require.GreaterOrEqualf(t, c.at.Sub(probed), time.Second, "seed %d: two probes in one interval", seed)
					}
					if c.permit.probe > 0 {
						probed = c.at
					}
				}
				g.mu.Lock()
				state, idle := g.state, g.timer == nil
				g.mu.Unlock()
				require.Equalf(t, r.state, state, "seed %d: state", seed)
				require.Equalf(t, len(waiting) == 0, idle, "seed %d: a timer runs just while calls wait", seed)
				switch state {
				case Down:
					fallen++
				case Recovering:
					recovering++
				}
			}

			var number int
			arrive := func() {
				number++
				now := time.Now()
				c := &modelCall{number: number}
				if random.IntN(3) > 0 {
					c.deadline = now.Add(time.Duration(random.Int64N(int64(time.Minute))) &^ 1)
				}
				r.join(now, c)
				if real, ok := g.Pass(); ok {
					require.Truef(t, c.released && !c.refused, "seed %d, call %d: passed", seed, number)
					c.real = real
					out = append(out, c)
					return
				}
				w, real, ok := g.Join(c.deadline)
				if !ok {
					require.Truef(t, c.refused, "seed %d, call %d: refused at once", seed, number)
					return
				}
				if w == nil {
					c.real = real
					out = append(out, c)
					return
				}
				c.waiter = w
				waiting = append(waiting, c)
			}

			for range 120 {
				// An odd number of nanoseconds: nothing is due at the same moment.
				time.Sleep(time.Duration(random.Int64N(int64(800*time.Millisecond))) | 1)
				settle()
				now := time.Now()
				if random.IntN(40) == 0 {
					down = !down
				}
				switch choice := random.IntN(10); {
				case choice < 5:
					for range 1 + random.IntN(crowd) {
						arrive()
					}
				case choice < 9 && len(out) > 0: // answer
					i := random.IntN(len(out))
					c := out[i]
					out = slices.Delete(out, i, i+1)
					a := ResultUp
					switch draw := random.IntN(13); {
					case draw == 0:
						a = ResultNone
					case draw <= leavers:
						a = ResultAbandoned
						if c.real.probe > 0 {
							passedOn++
						}
					case draw <= leavers+2:
						a = ResultThrottled
					case down:
						a = ResultDown
					}
					r.answered(now, c.permit, a)
					g.Answered(c.real, a, nil)
				case len(waiting) > 0: // cancellation
					i := random.IntN(len(waiting))
					c := waiting[i]
					waiting = slices.Delete(waiting, i, i+1)
					r.leave(now, c)
					g.Leave(c.waiter)
				}
				settle()
			}

			// The host is up, and everybody leaves.
			for range 100_000 {
				if len(waiting) == 0 {
					break
				}
				for _, c := range out {
					r.answered(time.Now(), c.permit, ResultUp)
					g.Answered(c.real, ResultUp, nil)
				}
				out = nil
				time.Sleep(100*time.Millisecond | 1)
				settle()
			}
			require.Emptyf(t, waiting, "seed %d: stuck in the queue", seed)
			require.Nil(t, g.timer)
			passedOver += r.passedOver
		})
	}
	// The schedules were worth playing.
	for _, count := range []int{fallen, recovering, refused, passedOn, passedOver} {
		require.Greater(t, count, seeds/20)
	}
}

// TestEveryCallerLeavesTheQueueOnce has many goroutines use one gate through
// calls that are canceled at random moments.
func TestEveryCallerLeavesTheQueueOnce(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			g := newTestGate(5)
			began := time.Now()
			var sent, left, refused atomic.Int64
			var group sync.WaitGroup
			const callers = 300
			for i := range uint64(callers) {
				random := rand.New(rand.NewPCG(seed, i))
				group.Go(func() {
					time.Sleep(time.Duration(random.Int64N(int64(time.Minute))))
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					// Half of them leave, some at the very moment of a probe.
					if random.IntN(2) == 0 {
						leaves := time.AfterFunc(time.Duration(random.IntN(60))*time.Second, cancel)
						defer leaves.Stop()
					}
					permit, ok := g.Pass()
					if !ok {
						var w *Waiter
						if w, permit, ok = g.Join(time.Now().Add(15 * time.Minute)); w != nil {
							select {
							case <-w.Released():
								permit, ok = w.Permit()
							case <-ctx.Done():
							}
							if ctx.Err() != nil {
								g.Leave(w)
								left.Add(1)
								return
							}
						}
					}
					if !ok {
						refused.Add(1)
						return
					}
					sent.Add(1)
					time.Sleep(50 * time.Millisecond)
					result := ResultUp
					if time.Since(began) < 40*time.Second {
						result = ResultDown
					}
					g.Answered(permit, result, nil)
				})
			}
			group.Wait()
			require.EqualValues(t, callers, sent.Load()+left.Load()+refused.Load())
			require.Positive(t, left.Load())
			require.Zero(t, g.queue.Len())
			require.Nil(t, g.timer)
		})
	}
}
