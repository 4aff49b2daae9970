package outage

import (
	"cmp"
	"context"
	"flag"
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

	state      State
	sequence   int
	now        time.Time // of the last step
	due, early time.Time
	inVain     time.Time // a probe has failed, and no other is sent before
	waiting    []*modelCall
	headroom   time.Duration
	leavers    float64
	began      time.Time
	isDown     bool // or was; else less load is tried
	fellFrom   int  // the sequence number
	arrived    int
	gathers    time.Time // what has arrived is counted from then

	// Runs.
	run, fatal        int
	runFrom           int // the sequence number
	runBegan, worstAt time.Time
	worstRun          float64

	// Probes.
	probes, passedOn int
	partial          bool

	// Rates.
	rate, ceiling, floor       float64
	goodOfLate, goodBefore     float64
	counted, slowed            time.Time
	arrivedThen                int
	throttled                  float64
	passedOver, trials, helped int // how often

	// Shares.
	looking       bool
	lookFrom      time.Time
	good, answers float64
	badInARow     int

	// Trials.
	trial     time.Time // when it began; zero: there is none
	turns     map[int]*modelTurn
	best      float64
	nextTrial time.Time
	noes      int
}

// modelTurn is ten seconds of the clock, of a trial.
type modelTurn struct {
	sent, heard int
	seconds     [10]struct{ answers, good float64 }
}

// turn is that in which a call was sent, nil if it does not count.
func (r *reference) turn(sent time.Time) *modelTurn {
	second := sent.Sub(time.Unix(0, 0)).Seconds()
	into := math.Mod(second, 10)
	if r.trial.IsZero() || sent.Before(r.trial.Add(time.Second)) || into < 1 || into >= 9 {
		return nil
	}
	number := int(second / 10)
	if r.turns[number] == nil {
		r.turns[number] = &modelTurn{}
	}
	return r.turns[number]
}

// isLess reports whether it is a turn with less load, of a trial.
func (r *reference) isLess(now time.Time) bool { return !r.trial.IsZero() && now.Unix()/10%2 == 1 }

var (
	schedules = flag.Int("model.schedules", 250, "how many schedules to play against the reference model")
	onlySeed  = flag.Int("model.seed", -1, "play this schedule alone; -1: all")
)

// modelCall is one call, in the eyes of the reference and in those of the gate.
type modelCall struct {
	number   int
	deadline time.Time
	released bool // by the reference
	refused  bool
	at       time.Time
	sequence int // of its permit, as the reference has it
	probe    int
	waited   time.Time // when it was last released from the queue

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
	return r.worstRun * math.Pow(0.5, now.Sub(r.worstAt).Minutes())
}

func (r *reference) scheduleProbe(now time.Time) {
	seconds := r.interval.Seconds() * math.Pow(2, float64(r.probes))
	if r.partial {
		seconds = r.interval.Seconds() * 0.2 * math.Pow(1.1, float64(r.probes))
	}
	limit := r.limit.Seconds()
	if r.probes >= 12 {
		limit /= 2
	}
	r.due = now.Add(time.Duration(min(seconds, limit) * float64(time.Second)))
	r.early = now.Add(time.Duration(0.49 * float64(r.interval)))
}

func latestOf(moments ...time.Time) time.Time { return slices.MaxFunc(moments, time.Time.Compare) }

// moveTo releases whoever goes at the moment until or before.
func (r *reference) moveTo(until time.Time) {
	for r.state != Up && len(r.waiting) > 0 {
		first, last := r.waiting[0], r.waiting[len(r.waiting)-1]
		if r.state == Down && !first.deadline.IsZero() {
			if early := latestOf(r.now, r.early, first.deadline.Add(-time.Duration(0.49*float64(r.interval)))); early.Before(r.due) {
				r.due = early
			}
		}
		goes, at := first, latestOf(r.due, r.now)
		isRefused := !first.deadline.IsZero() && !first.deadline.After(at.Add(50*time.Millisecond)) && r.due.After(r.now)
		if !first.deadline.IsZero() && !first.deadline.After(at) {
			isRefused = true
		}
		if isRefused { // soon enough to be told
			at = latestOf(r.now, first.deadline.Add(-50*time.Millisecond))
		}
		if !first.deadline.IsZero() && !first.deadline.After(r.inVain) && r.now.Before(at) {
			at, isRefused = r.now, true
		}
		if at.After(until) {
			return
		}
		r.now = at
		switch {
		case isRefused:
		case r.state == Recovering && !first.deadline.IsZero() && first.deadline.Sub(at) <= r.headroom && len(r.waiting) > 1:
			isRefused = true
			r.passedOver++
		case r.state == Down:
			goes = last
			r.probes++
			goes.probe = r.probes
			r.scheduleProbe(at)
		default:
			if r.leavers >= 3 {
				goes = last
			}
			// Nobody may have waited for a while, as a trial goes on.
			rate := r.rate
			if r.isLess(at) {
				rate *= 0.4
			}
			gap := time.Duration(1e9 / rate)
			r.due = latestOf(r.due.Add(gap), at)
			if turn := r.turn(at); turn != nil {
				turn.sent++
			}
		}
		goes.released, goes.refused, goes.at, goes.waited, goes.sequence = true, isRefused, at, at, r.sequence
		r.waiting = slices.DeleteFunc(r.waiting, func(w *modelCall) bool { return w == goes })
		if r.state == Recovering && len(r.waiting) == 0 && !isRefused && r.trial.IsZero() {
			r.ended()
		}
	}
}

func (r *reference) ended() {
	r.state, r.looking, r.trial, r.fatal = Up, false, time.Time{}, 0
}

func (r *reference) join(now time.Time, c *modelCall) {
	c.released, c.refused, c.probe = false, false, 0
	if r.state == Up {
		c.released, c.at, c.sequence, c.waited = true, now, r.sequence, time.Time{}
		return
	}
	next := r.due
	if r.state == Down && r.early.Before(next) {
		next = r.early
	}
	if next.After(now) {
		next = next.Add(50 * time.Millisecond)
	}
	if !c.deadline.IsZero() && !c.deadline.After(latestOf(now, next)) {
		c.released, c.refused, c.at = true, true, now
		return
	}
	r.arrived++
	r.now = now
	place, _ := slices.BinarySearchFunc(r.waiting, c, r.order)
	r.waiting = slices.Insert(r.waiting, place, c)
	r.moveTo(now)
}

func (r *reference) leave(now time.Time, c *modelCall) {
	r.waiting = slices.DeleteFunc(r.waiting, func(w *modelCall) bool { return w == c })
	r.now = now
	r.moveTo(now)
}

func (r *reference) answered(now time.Time, c *modelCall, result Result) {
	r.now = now
	turn := r.turn(c.waited)
	if turn != nil {
		turn.heard++
	}
	switch {
	case result == ResultAbandoned && c.probe > 0:
		if r.state == Down && c.sequence >= r.fellFrom && c.probe == r.probes && c.probe != r.passedOn {
			r.passedOn, r.due = r.probes+1, now
			r.moveTo(now)
		}
		return
	case result == ResultAbandoned:
		if r.state == Recovering && c.sequence >= r.fellFrom && !c.waited.IsZero() && (c.deadline.IsZero() || c.deadline.After(now)) {
			r.leavers = min(r.leavers+1, 4)
		} else if r.state == Recovering && c.sequence >= r.fellFrom && !c.waited.IsZero() {
			r.headroom = max(r.headroom, 2*min(now.Sub(c.waited), r.headroom+time.Second))
		}
		return
	case result == ResultNone, c.sequence < r.fellFrom:
		return
	}
	if r.state == Down && result == ResultDown && c.probe > 0 && c.probe == r.probes {
		r.inVain = r.early
	}
	if r.state == Recovering {
		r.headroom = time.Duration(float64(r.headroom) * 0.95)
		r.leavers = max(0, r.leavers-0.05/3)
	}
	if result == ResultDown {
		r.down(now)
	} else {
		r.up(now, c, result)
	}
	r.judge(now, c, result != ResultDown)
	r.moveTo(now)
}

func (r *reference) down(now time.Time) {
	if r.run == 0 {
		r.sequence++
		r.runFrom, r.runBegan = r.sequence, now
	}
	if r.state == Up && !r.looking {
		r.look(now)
	}
	r.run++
	if r.state == Recovering && r.trial.IsZero() {
		r.goodOfLate -= r.goodOfLate / 20
	}
	enough := float64(r.threshold)
	if now.Sub(r.runBegan) >= r.interval {
		enough /= 4
	}
	if r.state == Down || float64(r.run) < max(enough, 3*r.worst(now)) {
		return
	}
	again := r.state == Recovering && r.isDown
	r.worstRun, r.worstAt = r.worst(now), now
	if again {
		r.worstRun = max(r.worstRun, float64(r.fatal))
	}
	r.fatal = r.run
	r.partial = r.worstRun > 1
	if !again {
		if r.state == Up {
			r.gathers, r.arrived = now, 0
		}
		r.began, r.isDown, r.headroom, r.leavers = now, true, 0, 0
	}
	r.sequence++
	r.fellFrom = r.sequence
	r.state, r.probes, r.passedOn, r.looking, r.trial, r.inVain = Down, 0, 0, false, time.Time{}, time.Time{}
	r.scheduleProbe(now)
}

func (r *reference) up(now time.Time, c *modelCall, result Result) {
	if r.state == Down {
		r.worstAt = now
	}
	switch {
	case r.run == 0:
	case c.sequence < r.runFrom:
		r.run -= r.run / 2
	case r.state == Down:
		r.run = 0
	default:
		r.worstRun, r.worstAt = max(r.worst(now), float64(max(r.run, r.fatal))), now
		r.run, r.fatal = 0, 0
	}
	switch {
	case r.state == Up:
	case len(r.waiting) == 0 && r.trial.IsZero():
		r.ended()
	case r.state == Down:
		r.release(now)
		r.state, r.due, r.inVain = Recovering, now, time.Time{}
		r.best, r.nextTrial, r.noes, r.badInARow = 0, time.Time{}, 0, 0
		r.look(now)
	case r.trial.IsZero():
		r.adjust(now, result)
	}
}

// release begins the release of a queue.
func (r *reference) release(now time.Time) {
	arrivals := float64(r.arrived) / max(1, now.Sub(r.gathers).Seconds())
	r.rate = max(1, arrivals)
	r.ceiling = max(r.rate, 2.5*arrivals)
	r.floor, r.goodOfLate = r.ceiling, 1
	r.counted, r.arrivedThen, r.throttled, r.slowed = now, r.arrived, 0, time.Time{}
}

func (r *reference) adjust(now time.Time, result Result) {
	r.goodOfLate += (1 - r.goodOfLate) / 20
	if fresh, since := r.arrived-r.arrivedThen, now.Sub(r.counted).Seconds(); since >= 1 && fresh >= 3 {
		r.ceiling = max(r.floor, (1+0.5*r.goodOfLate)*float64(fresh)/since)
		r.rate = min(r.rate, r.ceiling)
		r.counted, r.arrivedThen = now, r.arrived
	}
	if result == ResultThrottled {
		if r.throttled++; r.throttled >= 3 && (r.slowed.IsZero() || now.Sub(r.slowed) >= time.Second) {
			r.rate, r.slowed, r.throttled = max(0.1, 0.8*r.rate), now, 0
		}
		return
	}
	rise := 1.0
	if !r.slowed.IsZero() {
		rise = 0.01 * r.ceiling / r.rate
	}
	if !r.slowed.IsZero() && now.Sub(r.slowed) < 10*time.Second {
		rise = 0
	}
	r.rate = min(r.rate+rise, r.ceiling)
	r.throttled = max(0, r.throttled-0.05)
}

// look begins to take a share of good answers.
func (r *reference) look(now time.Time) {
	r.looking, r.lookFrom, r.good, r.answers = true, now, 0, 0
}

func (r *reference) judge(now time.Time, c *modelCall, good bool) {
	if r.state == Down || r.state == Recovering && r.slowed.IsZero() && r.rate < r.ceiling {
		return
	}
	if r.answers > 0 {
		r.goodBefore = r.good / r.answers
	}
	r.badInARow++
	if good {
		r.badInARow = 0
	}
	counts := r.badInARow <= r.threshold
	if !r.trial.IsZero() {
		if turn := r.turn(c.waited); turn != nil && counts {
			second := &turn.seconds[c.waited.Unix()%10]
			second.answers++
			if good {
				second.good++
			}
		}
		r.decide(now)
		return
	}
	if !counts || !r.looking {
		return
	}
	next := func() {
		r.look(now)
		r.looking = r.state == Recovering
	}
	age := now.Sub(r.lookFrom)
	if age >= time.Minute || age >= 20*time.Second && r.answers < 8 {
		next()
		return
	}
	r.answers++
	if good {
		r.good++
	}
	if r.answers < 8 || age < time.Second {
		return
	}
	share, chance := shareOf(r.good, r.answers)
	bar := 0.95 * r.best
	if !now.Before(r.nextTrial) {
		bar = max(bar, map[State]float64{Up: 0.6, Recovering: 0.8}[r.state])
	}
	switch {
	case share+3*chance < bar && (r.noes == 0 || !now.Before(r.nextTrial)):
		r.trials++
		if r.state == Up {
			r.sequence++
			r.state, r.began, r.gathers, r.isDown, r.arrived, r.headroom, r.leavers, r.due = Recovering, now, now, false, 0, 0, 0, now
			r.rate = r.answers / age.Seconds()
			r.ceiling, r.counted, r.arrivedThen, r.throttled, r.slowed = r.rate, now, 0, 0, time.Time{}
			r.floor, r.goodOfLate = r.rate, r.goodBefore
		}
		r.trial, r.turns = now, map[int]*modelTurn{}
	case r.answers >= 160 || share-chance >= bar:
		if !r.nextTrial.IsZero() {
			r.best = max(r.best, share-3*chance)
		}
		next()
	}
}

func shareOf(good, answers float64) (share, chance float64) {
	smoothed := (good + 2) / (answers + 4)
	return good / answers, math.Sqrt(smoothed * (1 - smoothed) / answers)
}

// decide ends a trial, if it can.
func (r *reference) decide(now time.Time) {
	var answers, good [2]float64 // with as much as before, and with less
	var turns [2]int
	var seconds [2][]struct{ answers, good float64 }
	for number, turn := range r.turns {
		began := time.Unix(int64(10*number), 0)
		if float64(turn.heard) < 0.95*float64(turn.sent) || now.Sub(began) < 2*time.Second {
			continue
		}
		arm, had := number%2, answers[number%2]
		for _, second := range turn.seconds {
			if second.answers > 0 {
				answers[arm] += second.answers
				good[arm] += second.good
				seconds[arm] = append(seconds[arm], second)
			}
		}
		if answers[arm]-had >= 3 {
			turns[arm]++
		}
	}
	isKnown := answers[0] >= 4 && answers[1] >= 4
	most := [2]float64{math.Inf(-1), math.Inf(-1)} // if nothing is better, and if it is
	for share := 0.005; isKnown && share < 1; share *= 1.15 {
		for i, less := range []float64{share, min(0.95, max(share/0.4, good[1]/answers[1]))} {
			if i == 1 && less <= share {
				continue
			}
			likelihood := 0.0
			for arm, good := range good {
				share := [2]float64{share, less}[arm]
				likelihood += good*math.Log(share) + (answers[arm]-good)*math.Log(1-share)
			}
			most[i] = max(most[i], likelihood)
		}
	}
	ratio := 0.0
	if isKnown {
		ratio = most[1] - most[0]
	}
	differ, freedom := 0.0, 0.0 // from second to second
	for arm := range 2 {
		if good[arm] == 0 || good[arm] == answers[arm] {
			continue
		}
		share := good[arm] / answers[arm]
		for _, second := range seconds[arm] {
			differ += math.Pow(second.good-second.answers*share, 2) / (second.answers * share * (1 - share))
			freedom++
		}
		freedom--
	}
	if freedom > 0 && differ > freedom {
		ratio /= differ / freedom
	}
	if now.Sub(r.trial) < 2*time.Minute && (math.Abs(ratio) < 3 || ratio > 0 && (turns[0] == 0 || turns[1] == 0 || turns[0]+turns[1] < 3)) {
		return
	}
	minutes := int64(1)
	if ratio > 0 {
		r.helped++
		r.best = 1
		r.rate, r.slowed, r.noes = max(0.1, r.rate*min(0.8, math.Sqrt((good[0]+0.5)/(answers[0]+1)))), now, 0
	} else {
		if isKnown {
			r.best = (good[0] + good[1]) / (answers[0] + answers[1])
		}
		minutes = []int64{1, 2, 4}[min(r.noes, 2)]
		r.slowed = time.Time{}
		r.noes++
		if !r.isDown {
			r.release(now)
			r.rate = r.ceiling
		}
	}
	r.trial = time.Time{}
	r.nextTrial = time.Unix((now.Unix()/60/minutes+1)*60*minutes, 0)
	r.look(now)
}

// TestGateAgreesWithItsReferenceModel plays random schedules of arrivals, answers,
// retries and cancellations against the gate and the reference, and compares after
// every step who was released, how and with what permit.
func TestGateAgreesWithItsReferenceModel(t *testing.T) {
	var fallen, recovering, refused, passedOn, passedOver, trials, helped int
	first, end := 0, *schedules
	if *onlySeed >= 0 {
		first, end = *onlySeed, *onlySeed+1
	}
	for seed := uint64(first); seed < uint64(end); seed++ {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			g := newTestGate(1 + random.IntN(8))
			r := &reference{threshold: g.config.Threshold, interval: 5 * time.Second, limit: 20 * time.Second}
			r.worstAt = time.Now()
			leavers, crowd, steps := 1, 1, 120 // of 13 callers, before their answer; how many come at once
			switch {
			case seed%32 == 31:
				leavers, crowd = 6, 20
			case seed%8 == 7: // so many that shares are taken
				crowd, steps = 40, 300
			}
			fails := 1.0         // the share of calls, of late; below 0: the more the more are out
			var out []*modelCall // calls that were released and have no answer yet
			var waiting []*modelCall
			var retried []*modelCall // calls that failed
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
					if c.released != released {
						require.FailNowf(t, "not the same are released", "seed %d, call %d: want %v, got %v", seed, c.number, c.released, released)
					}
					if !released {
						continue
					}
					waiting = slices.DeleteFunc(waiting, func(other *modelCall) bool { return other == c })
					var ok bool
					c.real, ok = permitOf(c.waiter)
					require.Equalf(t, c.refused, !ok, "seed %d, call %d: refused", seed, c.number)
					if c.refused {
						refused++
						continue
					}
					require.EqualValuesf(t, c.sequence, c.real.sequence, "seed %d, call %d: sequence", seed, c.number)
					require.Equalf(t, c.probe, probeOf(c.real), "seed %d, call %d: probe", seed, c.number)
					out = append(out, c)
					if c.probe > 1 && c.probe != r.passedOn && !probed.IsZero() {
						require.GreaterOrEqualf(t, c.at.Sub(probed), time.Second, "seed %d: two probes in one interval", seed)
					}
					if c.probe > 0 {
						probed = c.at
					}
				}
				g.host.mu.Lock()
				state, idle := g.state, g.timer == nil
				g.host.mu.Unlock()
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
			arrive := func(c *modelCall) {
				now := time.Now()
				r.join(now, c)
				if real, ok := g.Pass(); ok {
					require.Truef(t, c.released && !c.refused, "seed %d, call %d: passed", seed, c.number)
					c.real = real
					out = append(out, c)
					return
				}
				w, real, ok := g.Join(c.deadline)
				if !ok {
					require.Truef(t, c.refused, "seed %d, call %d: refused at once", seed, c.number)
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
			take := func(from *[]*modelCall) *modelCall {
				i := random.IntN(len(*from))
				c := (*from)[i]
				*from = slices.Delete(*from, i, i+1)
				return c
			}
			answer := func(now time.Time) {
				c := take(&out)
				result := ResultUp
				switch draw := random.IntN(13); {
				case draw == 0:
					result = ResultNone
				case draw <= leavers:
					result = ResultAbandoned
					if c.probe > 0 {
						passedOn++
					}
				case draw <= leavers+2:
					result = ResultThrottled
				case random.Float64() < fails, fails < 0 && random.IntN(20) < len(out)-5:
					result = ResultDown
					retried = append(retried, c)
				}
				r.answered(now, c, result)
				g.Answered(c.real, result, nil)
			}

			for range steps {
				// An odd number of nanoseconds: nothing is due at the same moment.
				time.Sleep(time.Duration(random.Int64N(int64(800*time.Millisecond))) | 1)
				settle()
				now := time.Now()
				if random.IntN(40) == 0 {
					fails = []float64{0, 0.5, 0.8, 1, -1, -1}[random.IntN(6)]
				}
				many := 1 + random.IntN(crowd)
				switch choice := random.IntN(10); {
				case choice < 5:
					for range many {
						c := new(modelCall)
						if random.IntN(3) > 0 {
							c.deadline = now.Add(time.Duration(random.Int64N(int64(time.Minute))) &^ 1)
						}
						if random.IntN(2) == 0 && len(retried) > 0 {
							c = take(&retried)
						}
						number++
						c.number = number
						arrive(c)
					}
				case choice < 9:
					for range min(many, len(out)) {
						answer(now)
					}
				case len(waiting) > 0: // cancellation
					c := take(&waiting)
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
					r.answered(time.Now(), c, ResultUp)
					g.Answered(c.real, ResultUp, nil)
				}
				out = nil
				time.Sleep(100*time.Millisecond | 1)
				settle()
			}
			require.Emptyf(t, waiting, "seed %d: stuck in the queue", seed)
			require.Nil(t, g.timer)
			passedOver += r.passedOver
			trials += r.trials
			helped += r.helped
		})
	}
	if *onlySeed >= 0 {
		return
	}
	// The schedules were worth playing.
	for i, count := range []int{fallen, recovering, refused, passedOn, passedOver, 5 * trials, 10 * helped} {
		require.Greater(t, count, *schedules/20, "%d", i)
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
								permit, ok = permitOf(w)
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
			require.Zero(t, g.queue.len())
			require.Nil(t, g.timer)
		})
	}
}
