package graphretry

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// reference is the law of the gate in its plainest form: a slice for a line, no
// timer, no lock, no atomics. It is moved to a moment by moveTo, which lets go
// whoever goes until then, one after the other.
type reference struct {
	threshold       int
	interval, limit time.Duration

	state            gateState
	sequence         int
	run, runBegan    int
	worstRun         float64
	worstTime        time.Time
	shut, probes     int
	passedOn, joined int
	patchy           bool
	shutAt           time.Time
	due, slowed      time.Time
	joining, resume  float64
	pace, ceiling    float64
	throttled        float64
	counted          time.Time
	joinedThen       int
	need             time.Duration
	passedOver       int // how often one who stood behind went first
	waiting          []*modelCall
}

// modelCall is one call, in the eyes of the reference and in those of the gate.
type modelCall struct {
	number   int
	patience time.Time
	let      bool // by the reference
	refused  bool
	at       time.Time
	turn     turn // as the reference gives it: no outage that ended

	waiter *waiter // in the gate; nil: it was let pass at once
	real   turn
}

func (r *reference) order(a, b *modelCall) int {
	if a.patience.Equal(b.patience) {
		return cmp.Compare(a.number, b.number)
	}
	if a.patience.IsZero() || b.patience.IsZero() {
		return cmp.Compare(b.patience.Unix(), a.patience.Unix())
	}
	return a.patience.Compare(b.patience)
}

func (r *reference) worst(now time.Time) float64 {
	return r.worstRun * math.Pow(0.5, now.Sub(r.worstTime).Seconds()/30)
}

func (r *reference) probeInterval() time.Duration {
	seconds := r.interval.Seconds() * math.Pow(2, float64(r.probes))
	if r.patchy {
		seconds = r.interval.Seconds() * 0.2 * math.Pow(1.1, float64(r.probes))
	}
	return time.Duration(min(seconds, r.limit.Seconds()) * float64(time.Second))
}

// moveTo lets go whoever goes at the moment until or before.
func (r *reference) moveTo(until time.Time) {
	for r.state != gateOpen && len(r.waiting) > 0 {
		slices.SortFunc(r.waiting, r.order)
		first := r.waiting[0]
		overAt, goesAt := first.patience, r.due
		switch {
		case !overAt.IsZero() && !overAt.After(goesAt) && !overAt.After(until):
			first.let, first.refused, first.at = true, true, overAt
			r.waiting = r.waiting[1:]
		case goesAt.After(until):
			return
		default:
			goes := r.waiting[len(r.waiting)-1]
			if r.state == gateLettingGo {
				for _, w := range slices.Backward(r.waiting) {
					if w.patience.IsZero() || w.patience.Sub(goesAt) > r.need {
						goes = w
					}
				}
			}
			if r.state == gateLettingGo && goes != first {
				r.passedOver++
			}
			goes.let, goes.at = true, goesAt
			goes.turn = turn{sequence: uint64(r.sequence)}
			r.waiting = slices.DeleteFunc(r.waiting, func(w *modelCall) bool { return w == goes })
			if r.state == gateShut {
				r.probes++
				goes.turn.probe = r.probes
				r.due = goesAt.Add(r.probeInterval())
			} else if r.due = goesAt.Add(time.Duration(1e9 / r.pace)); len(r.waiting) == 0 {
				r.state = gateOpen
			}
		}
	}
}

func (r *reference) join(now time.Time, c *modelCall) {
	if r.state == gateOpen {
		c.let, c.at, c.turn = true, now, turn{sequence: uint64(r.sequence)}
		return
	}
	if r.due.Before(now) {
		r.due = now // nobody was in line
	}
	if !c.patience.IsZero() && !c.patience.After(r.due) {
		c.let, c.refused, c.at = true, true, now
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

func (r *reference) answered(now time.Time, t turn, a answer) {
	switch {
	case a == answerNone, int(t.sequence) < r.shut:
		return
	case a == answerLeft:
		if r.state == gateShut && t.probe == r.probes && t.probe > 0 && t.probe != r.passedOn {
			r.passedOn = r.probes + 1
			r.due = now
			r.moveTo(now)
		}
		if r.state == gateLettingGo && t.probe == 0 {
			r.need = min(max(10*time.Millisecond, 8*r.need), 24*time.Hour)
		}
		return
	}
	if r.state == gateLettingGo {
		r.need = time.Duration(float64(r.need) * 0.95)
	}
	if a == answerOutage {
		if r.run == 0 {
			r.sequence++
			r.runBegan = r.sequence
		}
		r.run++
		if r.state == gateShut || float64(r.run) < max(float64(r.threshold), 3*r.worst(now)) {
			return
		}
		r.worstRun, r.worstTime = r.worst(now), now
		r.patchy = r.state == gateLettingGo || r.worstRun >= 2
		if r.state == gateOpen {
			r.shutAt, r.joined, r.resume, r.need = now, 0, 10, 0
		} else {
			r.resume = max(10, r.pace/2)
		}
		r.sequence++
		r.shut = r.sequence
		r.state, r.probes, r.passedOn = gateShut, 0, 0
		r.due = now.Add(r.probeInterval())
		return
	}
	if r.state == gateShut {
		r.worstTime = now
	}
	if int(t.sequence) >= r.runBegan && r.run > 0 {
		r.worstRun, r.worstTime, r.run = max(r.worst(now), float64(r.run)), now, 0
	}
	if since := now.Sub(r.counted).Seconds(); r.state == gateLettingGo && len(r.waiting) > 0 && since >= 1 {
		r.ceiling = max(r.ceiling, 1.5*float64(r.joined-r.joinedThen)/since)
		r.counted, r.joinedThen = now, r.joined
	}
	switch {
	case r.state == gateOpen:
	case len(r.waiting) == 0:
		r.state = gateOpen
	case r.state == gateShut:
		elapsed := max(1, now.Sub(r.shutAt).Seconds())
		r.joining = float64(r.joined) / elapsed
		r.ceiling = max(10, r.joining+1.5*float64(len(r.waiting))/elapsed)
		r.counted, r.joinedThen, r.throttled = now, r.joined, 0
		r.state, r.pace, r.due, r.slowed = gateLettingGo, r.resume, now, time.Time{}
	case a == answerThrottled:
		if r.throttled++; r.throttled >= 3 && (r.slowed.IsZero() || now.Sub(r.slowed) >= time.Second) {
			r.pace, r.slowed, r.throttled = max(0.8*r.pace, min(r.pace, r.joining)), now, 0
		}
	default:
		rise := 1.0
		if !r.slowed.IsZero() {
			rise = 1 / r.pace
		}
		if !r.slowed.IsZero() && now.Sub(r.slowed) < 10*time.Second {
			rise = 0
		}
		r.pace = min(r.pace+rise, r.ceiling)
		r.throttled = max(0, r.throttled-0.05)
	}
	r.moveTo(now)
}

// TestGateAgreesWithItsReferenceModel plays random schedules of arrivals,
// answers and cancellations against the gate and the reference, and compares
// after every step who was let go, how and with what turn.
func TestGateAgreesWithItsReferenceModel(t *testing.T) {
	seeds := 2000
	if testing.Short() {
		seeds = 300
	}
	var shut, lettingGo, refused, passedOn, passedOver int
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			g := newTestGate(1 + random.IntN(8))
			r := &reference{threshold: g.threshold, interval: 5 * time.Second, limit: 20 * time.Second}
			r.worstTime = time.Now()
			leavers, crowd := 1, 1 // of 13 callers, before their answer; how many come at once
			if seed%32 == 31 {
				leavers, crowd = 6, 20
			}
			down := true
			var out []*modelCall // calls that were let go and have no answer yet
			var inLine []*modelCall
			var probed time.Time

			// settle takes in who was let go, and compares.
			settle := func() {
				synctest.Wait()
				r.moveTo(time.Now())
				for _, c := range slices.Clone(inLine) {
					let := false
					select {
					case <-c.waiter.let:
						let = true
					default:
					}
					require.Equalf(t, c.let, let, "seed %d, call %d: let go", seed, c.number)
					if !let {
						continue
					}
					c.real = c.waiter.turn
					c.real.ended = nil
					inLine = slices.DeleteFunc(inLine, func(other *modelCall) bool { return other == c })
					require.Equalf(t, c.refused, c.waiter.refused, "seed %d, call %d: refused", seed, c.number)
					if c.refused {
						refused++
						continue
					}
					require.Equalf(t, c.turn, c.real, "seed %d, call %d: turn", seed, c.number)
					out = append(out, c)
					if c.turn.probe > 1 && c.turn.probe != r.passedOn && !probed.IsZero() {
						require.GreaterOrEqualf(t, c.at.Sub(probed), time.Second, "seed %d: two probes in one interval", seed)
					}
					if c.turn.probe > 0 {
						probed = c.at
					}
				}
				g.mu.Lock()
				state, idle := g.state, g.timer == nil
				g.mu.Unlock()
				require.Equalf(t, r.state, state, "seed %d: state", seed)
				require.Equalf(t, len(inLine) == 0, idle, "seed %d: a timer runs just while calls stand in line", seed)
				switch state {
				case gateShut:
					shut++
				case gateLettingGo:
					lettingGo++
				}
			}

			var number int
			arrive := func() {
				number++
				now := time.Now()
				c := &modelCall{number: number}
				if random.IntN(3) > 0 {
					c.patience = now.Add(time.Duration(random.Int64N(int64(time.Minute))) &^ 1)
				}
				r.join(now, c)
				if real, ok := g.pass(); ok {
					require.Truef(t, c.let && !c.refused, "seed %d, call %d: passed by", seed, number)
					c.real = real
					out = append(out, c)
					return
				}
				w, real, ok := g.join(c.patience)
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
				inLine = append(inLine, c)
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
					a := answerUp
					switch draw := random.IntN(13); {
					case draw == 0:
						a = answerNone
					case draw <= leavers:
						a = answerLeft
						if c.real.probe > 0 {
							passedOn++
						}
					case draw <= leavers+2:
						a = answerThrottled
					case down:
						a = answerOutage
					}
					r.answered(now, c.turn, a)
					g.answered(c.real, a, nil)
				case len(inLine) > 0: // cancellation
					i := random.IntN(len(inLine))
					c := inLine[i]
					inLine = slices.Delete(inLine, i, i+1)
					r.leave(now, c)
					g.leave(c.waiter)
				}
				settle()
			}

			// The API is up, and everybody leaves.
			for range 100_000 {
				if len(inLine) == 0 {
					break
				}
				for _, c := range out {
					r.answered(time.Now(), c.turn, answerUp)
					g.answered(c.real, answerUp, nil)
				}
				out = nil
				time.Sleep(100*time.Millisecond | 1)
				settle()
			}
			require.Emptyf(t, inLine, "seed %d: stuck in line", seed)
			require.Nil(t, g.timer)
			passedOver += r.passedOver
		})
	}
	// The schedules were worth playing.
	for _, count := range []int{shut, lettingGo, refused, passedOn, passedOver} {
		require.Greater(t, count, seeds/20)
	}
}

// TestEveryCallerLeavesTheLineOnce has many goroutines use one gate through
// calls that are canceled at random moments.
func TestEveryCallerLeavesTheLineOnce(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			policy, err := NewPolicy(WithOutageThreshold(5))
			require.NoError(t, err)
			g := newGate(&policy.settings)
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
						patience := time.Duration(random.IntN(60)) * time.Second
						timer := time.AfterFunc(patience, cancel)
						defer timer.Stop()
					}
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://graph.facebook.com/", nil)
					if err != nil {
						t.Error(err)
						return
					}
					c := call{policy: policy, gate: g, req: req}
					switch err := c.enter(); err {
					case nil:
						sent.Add(1)
						time.Sleep(50 * time.Millisecond)
						answer := answerUp
						if time.Since(began) < 40*time.Second {
							answer = answerOutage
						}
						c.report(answer)
					case ErrOutage:
						refused.Add(1)
					default:
						left.Add(1)
					}
				})
			}
			group.Wait()
			require.EqualValues(t, callers, sent.Load()+left.Load()+refused.Load())
			require.Positive(t, left.Load())
			require.Empty(t, g.line)
			require.Nil(t, g.timer)
		})
	}
}
