package lane

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)

// simulation is a clock, and the part of the tables that lanes use.
type simulation struct {
	t   *testing.T
	now time.Time
	Lanes
	leased map[string]time.Time
	due    map[string]bool
	shared map[string]Shared
}

func newSimulation(t *testing.T, rate float64, numbers ...string) *simulation {
	s := &simulation{t: t, now: start, leased: map[string]time.Time{}, due: map[string]bool{}, shared: map[string]Shared{}}
	s.Rate = func(string) float64 { return rate }
	for _, number := range numbers {
		s.due[number] = false
	}
	s.Look(s.due, s.shared)
	return s
}

// plan leases what is wanted, and plans.
func (s *simulation) plan(workers int) map[string]int {
	free := workers - s.Flights()
	s.lease(free)
	return s.Plan(s.now, workers, free, false)
}

func (s *simulation) lease(free int) {
	wanted := s.Leases(s.now, max(1, free))
	got := make(map[string]Leased)
	for number, w := range wanted {
		first := s.now
		if s.leased[number].After(first) {
			first = s.leased[number]
		}
		s.leased[number] = first.Add(w.Length)
		got[number] = Leased{Until: s.leased[number], Share: 1, Now: s.now}
	}
	s.Lease(wanted, got)
}

// begin begins what was planned.
func (s *simulation) begin(plan map[string]int) (n int) {
	for number, k := range plan {
		s.Spend(number, k, s.now)
		for range k {
			s.Begin(number, s.now)
			n++
		}
	}
	return n
}

// end ends the first attempt of a number.
func (s *simulation) end(number string, end End) (News, bool) {
	return s.End(number, s.lanes[number].flights[0], end)
}

func TestNumbersShareTheWorkers(t *testing.T) {
	s := newSimulation(t, 1e6, "1")
	assert.Equal(t, map[string]int{"1": 8}, s.plan(8), "one alone has all")
	s.begin(map[string]int{"1": 6})
	s.due["2"], s.due["3"] = false, false
	s.Look(s.due, s.shared)
	assert.Equal(t, map[string]int{"2": 1, "3": 1}, s.plan(8), "what is free is for those who have least")
	s.begin(map[string]int{"2": 1, "3": 1})
	s.end("1", Up)
	assert.Equal(t, 1, len(s.plan(8)))
	assert.Zero(t, s.plan(8)["1"])
}

// A number whose API hung had all the workers, and the others waited.
func TestNumberWhoseAPIHangsGivesWayToTheOthers(t *testing.T) {
	s := newSimulation(t, 1e6, "1")
	s.begin(s.plan(8))
	require.Equal(t, 8, s.Flights())
	s.due["2"] = false
	s.Look(s.due, s.shared)
	assert.Empty(t, s.plan(8), "they may be over in a moment")
	s.now = s.now.Add(hangs)
	plan := s.plan(8)
	assert.Positive(t, plan["2"])
	assert.Zero(t, plan["1"])
	s.begin(plan)
	s.due["3"] = false
	s.Look(s.due, s.shared)
	assert.Positive(t, s.plan(8)["3"])
	for range 10 {
		s.now = s.now.Add(hangs)
		s.begin(s.plan(8))
	}
	assert.LessOrEqual(t, s.Flights(), 16, "twice as many at most")
}

func TestThreeEndsInARowHoldANumber(t *testing.T) {
	s := newSimulation(t, 1e6, "1", "2")
	s.begin(map[string]int{"1": 3})
	for i, want := range []News{NoNews, NoNews, Hold} {
		news, _ := s.end("1", Bad)
		assert.Equal(t, want, news, i)
	}
	next := s.now.Add(5 * time.Second)
	s.Held("1", next, "why")
	assert.Equal(t, map[string]int{"2": 8}, s.plan(8), "the others go on")
	assert.Empty(t, s.Probes(s.now))
	s.due = map[string]bool{"1": false}
	s.Look(s.due, s.shared)
	s.Held("1", next, "why")
	assert.Equal(t, next, s.Next(s.now), "it looks again when the probe is due")

	s.shared["1"] = Shared{NextProbe: next, Probes: 1, Share: 1, Reason: "why"}
	s.Look(s.due, s.shared)
	s.now = next
	s.lease(8)
	wishes := s.Probes(s.now)
	require.Len(t, wishes, 1)
	s.Probe("1", next.Add(10*time.Second), s.now)
	assert.Equal(t, 1, s.plan(8)["1"], "one")
	assert.True(t, s.Begin("1", s.now))
	assert.Zero(t, s.plan(8)["1"])
	news, _ := s.end("1", Up)
	assert.Equal(t, Unhold, news)
	assert.Positive(t, s.plan(8)["1"])
}

func TestFirstBadEndLetsFewOut(t *testing.T) {
	s := newSimulation(t, 1e6, "1")
	s.begin(map[string]int{"1": 1})
	s.end("1", Ambiguous)
	assert.Equal(t, 2, s.plan(8)["1"], "what is under way may hold the number")
	s.begin(map[string]int{"1": 2})
	assert.Zero(t, s.plan(8)["1"])
	s.end("1", Up)
	assert.Positive(t, s.plan(8)["1"])
}

func TestHostIsHeldIfEveryNumberIs(t *testing.T) {
	s := newSimulation(t, 1e6, "1", "2", "3")
	for _, number := range []string{"1", "2", "3"} {
		for range 3 {
			s.Begin(number, s.now)
			s.end(number, Ambiguous)
		}
		s.Held(number, s.now.Add(5*time.Second), "503")
		s.shared[number] = Shared{NextProbe: s.now.Add(5 * time.Second), Probes: 1, Ambiguous: true, Share: 1}
	}
	assert.True(t, s.AllAreHeld())
	s.shared[All] = Shared{NextProbe: s.now.Add(5 * time.Second), Probes: 1, Ambiguous: true}
	s.Look(s.due, s.shared)
	s.now = s.now.Add(5 * time.Second)
	wishes := s.Probes(s.now)
	require.Len(t, wishes, 1, "one probe serves all")
	assert.Equal(t, All, wishes[0].Number)
	s.Probe(All, s.now.Add(10*time.Second), s.now)
	plan := s.plan(8)
	require.Len(t, plan, 1)
	for number := range plan {
		assert.True(t, s.Begin(number, s.now))
		news, host := s.end(number, Up)
		assert.Equal(t, Unhold, news)
		assert.True(t, host)
	}
}

// Numbers with a long queue do not delay the others, whatever their names.
func TestNumbersTakeTurns(t *testing.T) {
	var numbers []string
	for i := range 100 {
		numbers = append(numbers, fmt.Sprint(1000+i))
	}
	s := newSimulation(t, 1e6, numbers...)
	served := make(map[string]int)
	for range 100 {
		for number, n := range s.plan(4) {
			for range n {
				s.Spend(number, 1, s.now)
				s.Begin(number, s.now)
				s.end(number, Up)
				served[number]++
			}
		}
	}
	for _, number := range numbers {
		assert.GreaterOrEqual(t, served[number], 2, number)
	}
}

func TestPausedNumberSendsNothing(t *testing.T) {
	s := newSimulation(t, 1e6, "1", "2")
	s.shared["1"] = Shared{Paused: true, Share: 1}
	s.Look(s.due, s.shared)
	assert.Equal(t, map[string]int{"2": 8}, s.plan(8))
	s.shared[All] = Shared{Paused: true}
	s.Look(s.due, s.shared)
	assert.Empty(t, s.plan(8))
}

// No second has more messages than the rate, however many processes send.
func TestRateHoldsInEverySecond(t *testing.T) {
	for _, processes := range []int{1, 3} {
		for _, rate := range []float64{1, 7, 80, 1000} {
			t.Run(fmt.Sprint(processes, " processes, ", rate), func(t *testing.T) {
				leased := map[string]time.Time{}
				var all []*simulation
				for range processes {
					s := newSimulation(t, rate, "1")
					s.leased = leased
					all = append(all, s)
				}
				var sent []time.Time
				now := start
				for now.Before(start.Add(20 * time.Second)) {
					for _, s := range all {
						s.now = now
						for range s.plan(64)["1"] {
							s.Spend("1", 1, now)
							sent = append(sent, now)
						}
					}
					now = now.Add(5 * time.Millisecond)
				}
				first := 0
				for i, at := range sent {
					for at.Sub(sent[first]) >= time.Second {
						first++
					}
					require.LessOrEqual(t, float64(i-first+1), max(rate, 2), "in one second, at %v", at.Sub(start))
				}
				assert.GreaterOrEqual(t, float64(len(sent)), 0.9*20*rate*leaseShare)
			})
		}
	}
}

// If the database was far away, a lease was over when its answer arrived, and nothing was ever
// sent.
func TestRateIsUsedWhereTheDatabaseIsFarAway(t *testing.T) {
	for took, least := range map[time.Duration]float64{20 * time.Millisecond: 0.8, 150 * time.Millisecond: 0.4, 4 * time.Second: 0.02} {
		s := newSimulation(t, 80, "1")
		sent := 0
		for s.now.Before(start.Add(time.Minute)) {
			asked := s.now
			if wanted := s.Leases(s.now, 64); len(wanted) > 0 {
				first := s.now
				if s.leased["1"].After(first) {
					first = s.leased["1"]
				}
				s.leased["1"] = first.Add(wanted["1"].Length)
				s.now = s.now.Add(took)
				s.Lease(wanted, map[string]Leased{"1": {Until: s.leased["1"], Share: 1, Now: asked, Took: took}})
			}
			if n := s.Plan(s.now, 64, 64, false)["1"]; n > 0 {
				s.now = s.now.Add(took) // a claim
				s.Spend("1", n, s.now)
				sent += n
			}
			s.now = s.now.Add(5 * time.Millisecond)
		}
		assert.GreaterOrEqual(t, float64(sent), least*60*80, "each statement takes %v", took)
		assert.LessOrEqual(t, float64(sent), 60*80.0, "each statement takes %v", took)
	}
}

func TestClockThatIsSetBackDelaysNothing(t *testing.T) {
	s := newSimulation(t, 80, "1")
	require.NotEmpty(t, s.plan(8))
	s.now = s.now.Add(-time.Hour)
	s.leased["1"] = s.now // as the database has it after the first lease from then on
	require.NotEmpty(t, s.plan(8))
}

// A process that has sent for a while, and another one that joins, use all their workers at a
// rate that is higher than they can send.
func TestProcessThatJoinsGetsItsPartOfAHighRate(t *testing.T) {
	const took = 50 * time.Millisecond // an attempt
	leased := map[string]time.Time{}
	workers := []int{8, 64}
	var all []*simulation
	sent := make([]int, len(workers))
	for i := range 12_000 / 5 {
		now := start.Add(time.Duration(i) * 5 * time.Millisecond)
		if i == 0 || i == 2000/5 {
			s := newSimulation(t, 1e6, "1")
			s.leased = leased
			all = append(all, s)
		}
		for j, s := range all {
			s.now = now
			for len(s.lanes["1"].flights) > 0 && now.Sub(s.lanes["1"].flights[0]) >= took {
				s.end("1", Up)
				if i >= 7000/5 {
					sent[j]++
				}
			}
			if i%50 == 0 {
				s.shared["1"] = Shared{Share: 1, LeasedUntil: leased["1"]}
				s.Look(s.due, s.shared)
			}
			s.begin(s.plan(workers[j]))
		}
	}
	for j, n := range workers {
		assert.GreaterOrEqual(t, float64(sent[j]), 0.8*5*float64(n)/took.Seconds(), "the process with %d workers", n)
	}
}

const number = "106540352242922"

// lanes is a process with messages of one number to send.
func lanes() (l *Lanes, now time.Time) {
	l = &Lanes{Rate: func(string) float64 { return 80 }}
	l.Ring(number, false)
	return l, time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
}

// ends ends attempts of the number one after the other.
func (l *Lanes) ends(now time.Time, ends ...End) (last News) {
	for _, end := range ends {
		l.Begin(number, now)
		last, _ = l.End(number, now, end)
	}
	return last
}

func TestRefusalThatIsTheMessagesOwnSaysNothingOfTheNumber(t *testing.T) {
	l, now := lanes()
	assert.Equal(t, NoNews, l.ends(now, Own, Own, Own, Own))
	assert.Equal(t, NoNews, l.ends(now, Bad, Own, Bad, Own))
	assert.Equal(t, Hold, l.ends(now, Bad), "nor does it count for it")
	l.Held(number, now, "why")
	assert.Equal(t, NoNews, l.ends(now, Own))
	assert.Equal(t, Unhold, l.ends(now, Up))
}

func TestNumberThatAnotherProcessHasReleasedSendsAgain(t *testing.T) {
	l, now := lanes()
	l.ends(now, Bad, Bad, Bad)
	l.Held(number, now.Add(time.Minute), "why")
	l.Look(map[string]bool{number: false}, map[string]Shared{number: {NextProbe: now.Add(time.Minute), Share: 1}})
	room, _ := l.state(number, now)
	assert.Zero(t, room)
	l.Look(map[string]bool{number: false}, map[string]Shared{number: {Released: now, Share: 1}})
	room, _ = l.state(number, now)
	assert.Equal(t, -1, room)
	assert.Equal(t, now, l.Accepted(number))
	l.Accept(number, now.Add(time.Second))
	assert.Equal(t, now.Add(time.Second), l.Accepted(number))
}

func TestAnswerReleasesNoNumberThatAWebhookHolds(t *testing.T) {
	l, now := lanes()
	held := Shared{NextProbe: now, Probes: 1, ByWebhook: true, Share: 1}
	l.Look(map[string]bool{number: false}, map[string]Shared{number: held})
	assert.Equal(t, []Wish{{number, held}}, l.Probes(now))
	l.Probe(number, now.Add(time.Minute), now)
	assert.True(t, l.IsProbe(number))
	assert.Equal(t, NoNews, l.ends(now, Up))
	room, again := l.state(number, now)
	assert.Zero(t, room)
	assert.Equal(t, now.Add(time.Minute), again)
}
