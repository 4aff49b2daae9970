package outage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The paths of two phone numbers.
const (
	noisy = "/v25.0/1001/messages"
	quiet = "/v25.0/1002/messages"
)

var errPath = errors.New("the path is down")

// newTestHost is a host whose threshold is 3, with the intervals of the defaults and no
// jitter.
func newTestHost() *Host {
	return New(Config{Threshold: 3, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
}

// answers sends a call of a path that gets so many of these answers.
func answers(t *testing.T, h *Host, path string, results ...Result) (changes []Change) {
	t.Helper()
	for _, result := range results {
		permit, ok := h.Pass(path)
		require.True(t, ok)
		changes = append(changes, h.Answered(path, permit, result, errPath)...)
	}
	return changes
}

// hostWithAPathDown is a host that is up, and of which one path is down.
func hostWithAPathDown(t *testing.T) *Host {
	t.Helper()
	h := newTestHost()
	answers(t, h, noisy, ResultDown)
	answers(t, h, quiet, ResultUp)
	require.Equal(t, []Change{{Path: Key(noisy)}}, answers(t, h, noisy, ResultDown, ResultDown))
	return h
}

// waits is a call of a path that joins a queue.
func waits(t *testing.T, h *Host, path string) *Waiter {
	t.Helper()
	w, err := h.Join(path, time.Time{}, Held{})
	require.NoError(t, err)
	return w
}

func TestPathThatFailsWhileAnotherIsWellIsDownAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := hostWithAPathDown(t)
		_, ok := h.Pass(noisy)
		assert.False(t, ok)
		assert.Empty(t, answers(t, h, quiet, ResultUp, ResultDown, ResultUp), "one that is no run")
		w := waits(t, h, noisy)
		assert.Equal(t, HostStatus{Paths: []PathStatus{{
			Path: "/1001/messages", Status: Status{State: Down, Since: began, Waiting: 1, NextProbe: began.Add(5 * time.Second), Cause: errPath},
		}}}, h.Status())

		<-w.Released()
		assert.Equal(t, 5*time.Second, time.Since(began))
		permit, err := w.Permit()
		require.NoError(t, err)
		assert.Empty(t, h.Answered(noisy, permit, ResultDown, errPath))
		probe := waits(t, h, noisy)
		<-probe.Released()
		assert.Equal(t, 15*time.Second, time.Since(began))
		permit, err = probe.Permit()
		require.NoError(t, err)
		changes := h.Answered(noisy, permit, ResultUp, nil)
		assert.Equal(t, []Change{{Path: "/1001/messages", Ended: &Summary{Lasted: 15 * time.Second, Held: 2, Cause: errPath}}}, changes)
		assert.Equal(t, HostStatus{}, h.Status())
	})
}

// The gate goes on with the run that the host has counted.
func TestPathIsDownAfterAsManyAnswersAsAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown, ResultDown)
		assert.Empty(t, h.paths.gates, "nothing is known of others")
		answers(t, h, quiet, ResultUp)
		assert.Equal(t, []Change{{Path: Key(noisy)}}, answers(t, h, noisy, ResultDown))
		assert.Equal(t, Up, h.gate.state)
		assert.Zero(t, h.gate.runs.length, "the good answer has ended the host's run, which hears no more of it")
	})
}

// What a path is asked for is a part of what its host is, and two brakes in a row would
// each be on trial for the other.
func TestPathHasNoBrakeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		for range 100 {
			answers(t, h, quiet, ResultUp, ResultUp, ResultUp, ResultUp)
			answers(t, h, noisy, ResultDown, ResultUp)
			time.Sleep(100 * time.Millisecond)
		}
		own := h.paths.of(Key(noisy))
		require.NotNil(t, own)
		assert.Equal(t, Up, own.state)
		assert.Zero(t, own.brake.trial.began)
	})
}

// The bad answers that the host has heard of were the path's.
func TestHostTriesNoLessLoadBecauseOfAPathThatHasFallen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Threshold: 20, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		for range 18 {
			answers(t, h, noisy, ResultDown)
		}
		require.True(t, h.gate.brake.window.isOpen)
		h.gate.brake.trial.began = time.Now()
		answers(t, h, noisy, ResultDown)
		require.Equal(t, Down, h.paths.of(Key(noisy)).state)
		assert.False(t, h.gate.brake.window.isOpen)
		assert.False(t, h.gate.brake.trial.isOn())
	})
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		h.gate.brake.trial.began = time.Now()
		h.gate.brake.window.open(time.Now())
		time.Sleep(time.Second)
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		answers(t, h, noisy, ResultDown, ResultDown)
		require.Equal(t, Down, h.paths.of(Key(noisy)).state)
		assert.True(t, h.gate.brake.trial.isOn(), "it began before")
	})
}

// What others did well a while ago says nothing of now.
func TestPathHasAGateOnlyWhileAnotherIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		assert.Len(t, h.paths.gates, 1)
		time.Sleep(turn + 1)
		assert.Equal(t, []Change{{}}, answers(t, h, noisy, ResultDown, ResultDown, ResultDown), "the host is down")
		assert.Empty(t, h.paths.gates)
	})
}

func TestCallerWithOnePathHasNoGateButItsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		for range 10 {
			answers(t, h, "/v25.0/1001/messages", ResultDown, ResultUp)
			answers(t, h, "/v24.0/1001/messages", ResultDown, ResultUp)
		}
		assert.Empty(t, h.paths.gates, "the version tells no paths apart")
		time.Sleep(time.Hour)
		assert.Equal(t, []Change{{}}, answers(t, h, noisy, ResultDown, ResultDown, ResultDown))
		w := waits(t, h, noisy)
		assert.Equal(t, 1, h.Status().Waiting)
		h.Leave(w)
	})
}

// All bad answers are of one path: whose fault it is, the first call of another one tells.
func TestCallOfAnotherPathIsSentWhereOnlyOneIsKnownToBeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		require.Equal(t, []Change{{}}, answers(t, h, noisy, ResultDown, ResultDown, ResultDown))
		held := waits(t, h, noisy)
		asks, second := waits(t, h, quiet), waits(t, h, quiet)
		assert.True(t, isReleased(asks), "at once")
		assert.False(t, isReleased(second), "one is enough")
		time.Sleep(time.Second)
		changes := h.Answered(quiet, asks.permit(), ResultUp, nil)
		assert.Equal(t, []Change{{Ended: &Summary{Lasted: time.Second, Held: 1, Cause: errPath}}, {Path: Key(noisy), Cause: errPath}}, changes,
			"it is no outage of the host, but one of the path")
		assert.True(t, isReleased(second))
		assert.False(t, isReleased(held))
		status := h.Status()
		assert.Equal(t, Up, status.State)
		require.Len(t, status.Paths, 1)
		assert.Equal(t, 1, status.Paths[0].Waiting)

		<-held.Released()
		changes = h.Answered(noisy, held.permit(), ResultUp, nil)
		assert.Equal(t, []Change{{Path: Key(noisy), Ended: &Summary{Lasted: 5 * time.Second, Held: 1, Cause: errPath}}}, changes)
	})
}

func TestBadAnswerOfAnotherPathShowsThatTheHostIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown, ResultDown, ResultDown)
		asks := waits(t, h, quiet)
		require.True(t, isReleased(asks))
		assert.Empty(t, h.Answered(quiet, asks.permit(), ResultDown, nil))
		for _, path := range []string{quiet, "/v25.0/1003/messages"} {
			w := waits(t, h, path)
			assert.False(t, isReleased(w), "nobody asks any more")
			h.Leave(w)
		}
	})
}

func TestCallThatAsksAndLeavesHasTheNextOneAsk(t *testing.T) {
	for name, leave := range map[string]func(*Host, *Waiter){
		"before it is sent": func(h *Host, w *Waiter) { h.Leave(w) },
		"its body is gone":  func(h *Host, w *Waiter) { h.GiveBack(w.permit()) },
		"after that":        func(h *Host, w *Waiter) { h.Answered(quiet, w.permit(), ResultAbandoned, nil) },
		"without an answer": func(h *Host, w *Waiter) { h.Answered(quiet, w.permit(), ResultNone, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHost()
				answers(t, h, noisy, ResultDown, ResultDown, ResultDown)
				asks := waits(t, h, quiet)
				require.True(t, isReleased(asks))
				leave(h, asks)
				assert.True(t, isReleased(waits(t, h, quiet)))
			})
		})
	}
}

// Bad answers of two paths are the host's, and nobody asks.
func TestHostThatFailsForTwoPathsIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown)
		assert.Equal(t, []Change{{}}, answers(t, h, quiet, ResultDown, ResultDown))
		w := waits(t, h, "/v25.0/1003/messages")
		assert.False(t, isReleased(w))
		h.Leave(w)
	})
}

// One outage of many paths is one outage.
func TestPathThatIsDownWhenItsHostFallsIsPartOfTheHostsOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWithAPathDown(t)
		var waiting []*Waiter
		for range 20 {
			waiting = append(waiting, waits(t, h, noisy))
		}
		require.Equal(t, []Change{{}}, answers(t, h, quiet, ResultDown, ResultDown))
		other := waits(t, h, quiet)
		assert.Equal(t, 21, h.Status().Waiting, "they wait for the host now")
		assert.Empty(t, h.Status().Paths)
		assert.Equal(t, 1, h.gate.outage.arrived, "who has moved has not arrived")
		assert.Equal(t, 21, h.gate.outage.held, "and is held")

		waiting = append(waiting, other)
		var changes []Change
		for _, w := range waiting {
			w := w
			synctest.Wait()
			for !isReleased(w) {
				time.Sleep(time.Second)
				for _, w := range waiting {
					if isReleased(w) && w.exit != nil {
						changes = append(append(changes, w.Changes()...), h.Answered(w.path, w.permit(), ResultUp, nil)...)
						w.exit = nil
					}
				}
			}
		}
		for _, change := range changes {
			assert.Empty(t, change.Path)
		}
		assert.Equal(t, HostStatus{Status: Status{Since: h.gate.since}}, h.Status())
	})
}

// Thousands may have come to the host before, and must not all be sent.
func TestWaitersAtTheHostMoveToTheirPathIfItHasFallenSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultDown, ResultDown) // the host
		var waiting []*Waiter
		for range 100 {
			waiting = append(waiting, waits(t, h, noisy))
		}
		probe := waits(t, h, quiet)
		<-probe.Released()
		h.Answered(quiet, probe.permit(), ResultUp, nil)
		sent := 0
		for range 200 {
			for _, w := range waiting {
				if isReleased(w) && w.exit != nil {
					sent++
					h.Answered(noisy, w.permit(), ResultDown, errPath)
					w.exit = nil
				}
			}
			if status := h.Status(); len(status.Paths) == 1 && status.Waiting == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, sent, 15, "until the path is down")
		h.mu.Lock()
		own := h.paths.of(Key(noisy))
		require.NotNil(t, own)
		assert.Equal(t, 100-sent, own.queue.len())
		assert.Zero(t, own.outage.arrived)
		assert.Equal(t, 100-sent, own.outage.held)
		h.mu.Unlock()
		for _, w := range waiting {
			if !isReleased(w) {
				h.Leave(w)
			}
		}
		assert.Zero(t, h.Status().Waiting)
	})
}

// bothDown is a host that is down, and of which a path has a gate that is down too. That
// cannot last: it is for what happens at the second gate.
func bothDown(t *testing.T) (h *Host, own *gate) {
	t.Helper()
	h = hostWithAPathDown(t)
	own = h.paths.of(Key(noisy))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate.become(Recovering, time.Now())
	h.gate.rate.start(time.Now(), outage{since: time.Now(), arrived: 1})
	h.gate.due = time.Now().Add(time.Minute)
	h.publish()
	return h, own
}

func TestCallWaitsForItsPathAndThenForItsHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, own := bothDown(t)
		began := time.Now()
		w := waits(t, h, noisy)
		where := func() *queue {
			h.mu.Lock()
			defer h.mu.Unlock()
			return w.queue
		}
		assert.Same(t, &own.queue, where())
		time.Sleep(5 * time.Second)
		assert.False(t, isReleased(w))
		assert.Same(t, &h.gate.queue, where())
		assert.Equal(t, 1, own.out, "it is a probe of the path that is out")
		<-w.Released()
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

func TestWhoLeavesGivesBothPermitsBack(t *testing.T) {
	for name, leave := range map[string]func(*Host, *Waiter){
		"at the host":      func(h *Host, w *Waiter) { h.Leave(w) },
		"when both let go": func(h *Host, w *Waiter) { time.Sleep(time.Hour); synctest.Wait(); h.Leave(w) },
		"without a body":   func(h *Host, w *Waiter) { <-w.Released(); h.GiveBack(w.permit()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, own := bothDown(t)
				w := waits(t, h, noisy)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				require.Equal(t, 1, own.probes.sent)
				leave(h, w)
				assert.Zero(t, own.out)
				assert.Zero(t, h.gate.out)
				assert.Zero(t, own.probes.sent, "it was not sent")
				assert.Zero(t, h.gate.queue.len())
			})
		})
	}
}

func TestWhoIsRefusedByItsHostGivesThePermitOfItsPathBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, own := bothDown(t)
		w, err := h.Join(noisy, time.Now().Add(20*time.Second), Held{})
		require.NoError(t, err)
		<-w.Released()
		_, err = w.Permit()
		var refused *Outage
		require.ErrorAs(t, err, &refused)
		assert.Empty(t, refused.Path, "the host has no turn for it")
		assert.Zero(t, own.out)
		assert.Zero(t, own.probes.sent)
	})
}

func TestCallThatDoesNotWaitTriesBothGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, own := bothDown(t)
		_, err := h.Try(noisy)
		assert.Equal(t, &Outage{Path: Key(noisy), Cause: errPath, UntilNext: 5 * time.Second}, err)
		time.Sleep(5 * time.Second)
		_, err = h.Try(noisy)
		assert.Equal(t, &Outage{Cause: errPath, UntilNext: 55 * time.Second}, err)
		assert.Zero(t, own.out, "the path's permit is given back")
		time.Sleep(55 * time.Second)
		w, err := h.Try(noisy)
		require.NoError(t, err)
		h.Answered(noisy, w.permit(), ResultUp, nil)
		assert.Zero(t, own.outage.held)
	})
}

func TestDialThatIsRefusedCountsAtTheHostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultUnreachable)
		answers(t, h, quiet, ResultUp)
		assert.Empty(t, h.paths.gates)
		assert.Equal(t, []Change{{}}, answers(t, h, noisy, ResultUnreachable, ResultUnreachable, ResultUnreachable))
		w := waits(t, h, quiet)
		assert.False(t, isReleased(w), "no other path can be well")
		h.Leave(w)
	})
}

func TestCallThatJoinsTwiceIsHeldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWithAPathDown(t)
		var held Held
		for range 3 {
			w, err := h.Join(noisy, time.Time{}, held)
			require.NoError(t, err)
			<-w.Released()
			held = w.Held()
			h.Answered(noisy, w.permit(), ResultDown, nil)
		}
		own := h.paths.of(Key(noisy))
		assert.Equal(t, 1, own.outage.held)
		assert.Equal(t, 3, own.outage.arrived)
	})
}

func TestGateOfAPathGoesOnceItHasBeenUpForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWithAPathDown(t)
		w := waits(t, h, noisy)
		<-w.Released()
		h.Answered(noisy, w.permit(), ResultUp, nil)
		assert.NotZero(t, h.published.Load()&gated)
		for range 2 * fewestAnswers { // until nothing is watched
			time.Sleep(100 * time.Millisecond)
			answers(t, h, noisy, ResultUp)
		}
		assert.Len(t, h.paths.gates, 1)
		time.Sleep(again)
		answers(t, h, quiet, ResultUp)
		assert.Empty(t, h.paths.gates)
		assert.Zero(t, h.published.Load()&(gated|watched|notUp), "calls take no lock")
	})
}

func TestGateOfAPathThatFailedOnceAndIsSilentGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		require.Len(t, h.paths.gates, 1)
		time.Sleep(again + 1)
		answers(t, h, quiet, ResultUp)
		assert.Empty(t, h.paths.gates)
	})
}

// Ids of media must not lock out phone numbers.
func TestFullHostDropsTheGateThatIsUpForLongestAndNeverOneWithCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hostWithAPathDown(t)
		waiting := waits(t, h, noisy)
		now := time.Now()
		down := func(path string) *gate {
			g := newGate(h.config, h, &h.clock, path)
			g.state = Down
			require.True(t, h.paths.add(now, g))
			return g
		}
		out := down("/out")
		out.out = 1
		down("/idle")
		for i := range maxPaths - len(h.paths.gates) {
			require.True(t, h.paths.add(now, newGate(h.config, h, &h.clock, fmt.Sprint("/media-", i))))
		}
		require.Len(t, h.paths.gates, maxPaths)
		for i := range 100 {
			answers(t, h, quiet, ResultUp)
			answers(t, h, fmt.Sprint("/more-", i), ResultDown)
			assert.Len(t, h.paths.gates, maxPaths)
			assert.Nil(t, h.paths.of(fmt.Sprint("/media-", i)), "up for longest")
			assert.NotNil(t, h.paths.of(fmt.Sprint("/media-", i+1)))
		}
		assert.NotNil(t, h.paths.of(Key(noisy)))

		// None is up.
		for _, g := range h.paths.gates {
			if g.state == Up {
				g.state, g.out = Down, 1
				h.paths.sort(g)
			}
		}
		require.True(t, h.paths.add(now, newGate(h.config, h, &h.clock, "/one")))
		assert.Nil(t, h.paths.of("/idle"), "silent for longest")
		one := h.paths.gates["/one"]
		one.out = 1
		assert.False(t, h.paths.add(now, newGate(h.config, h, &h.clock, "/two")), "all have calls")
		assert.Nil(t, h.addPath(now, "/two", runs{}))
		one.out = 0
		h.Leave(waiting)
	})
}

func TestVersionOfTheAPIIsNoPartOfAPath(t *testing.T) {
	for path, want := range map[string]string{
		"/v25.0/1001/messages": "/1001/messages",
		"/v25.0":               "/v25.0",
		"/v25.0/":              "/",
		"/1001/messages":       "/1001/messages",
		"/value/messages":      "/value/messages",
		"/v/messages":          "/v/messages",
		"":                     "",
		"/":                    "/",
	} {
		assert.Equal(t, want, Key(path), path)
	}
}

// TestEveryCallerOfManyPathsLeavesOnce has many goroutines use one host through calls of
// paths that fail alone, all at once or not at all, and which are canceled at random.
func TestEveryCallerOfManyPathsLeavesOnce(t *testing.T) {
	var ofPaths, ofHosts atomic.Int64
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			h := New(Config{Threshold: 5, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute, Jitter: 0.5})
			began := time.Now()
			plan := rand.New(rand.NewPCG(seed, 1))
			var downFrom, downUntil [4]time.Duration
			for i := range downFrom {
				downFrom[i] = time.Duration(plan.IntN(60)) * time.Second
				downUntil[i] = downFrom[i] + time.Duration(plan.IntN(90))*time.Second
			}
			var open sync.Map // by path
			observe := func(changes []Change) {
				for _, change := range changes {
					if change.Ended == nil {
						_, isOpen := open.LoadOrStore(change.Path, true)
						assert.Falsef(t, isOpen, "seed %d: an outage of %q began twice", seed, change.Path)
						if change.Path == "" {
							ofHosts.Add(1)
							open.Range(func(path, _ any) bool {
								if path != "" {
									open.Delete(path) // part of the host's
								}
								return true
							})
						} else {
							ofPaths.Add(1)
						}
						continue
					}
					_, isOpen := open.LoadAndDelete(change.Path)
					assert.Truef(t, isOpen, "seed %d: an outage of %q ended that had not begun", seed, change.Path)
				}
			}
			var sent, left, refused atomic.Int64
			var group sync.WaitGroup
			const callers = 1500
			for i := range uint64(callers) {
				random := rand.New(rand.NewPCG(seed, 2+i))
				group.Go(func() {
					time.Sleep(time.Duration(random.Int64N(int64(2 * time.Minute))))
					number := min(random.IntN(8), 3)
					path := fmt.Sprintf("/v25.0/%d/messages", number)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if random.IntN(4) == 0 {
						leaves := time.AfterFunc(time.Duration(random.IntN(60))*time.Second, cancel)
						defer leaves.Stop()
					}
					permit, ok := h.Pass(path)
					if !ok {
						deadline := time.Now().Add(time.Duration(1+random.IntN(300)) * time.Second)
						w, err := h.Join(path, deadline, Held{})
						if err != nil {
							refused.Add(1)
							return
						}
						select {
						case <-w.Released():
						case <-ctx.Done():
						}
						if ctx.Err() != nil {
							_, changes := h.Leave(w)
							observe(changes)
							left.Add(1)
							return
						}
						observe(w.Changes())
						if permit, err = w.Permit(); err != nil {
							refused.Add(1)
							return
						}
					}
					sent.Add(1)
					time.Sleep(50 * time.Millisecond)
					result := ResultUp
					if since := time.Since(began); since >= downFrom[number] && since < downUntil[number] {
						result = ResultDown
					}
					observe(h.Answered(path, permit, result, errPath))
				})
			}
			group.Wait()
			require.EqualValues(t, callers, sent.Load()+left.Load()+refused.Load())
			require.Zero(t, h.gate.queue.len())
			require.Nil(t, h.gate.timer)
			require.Zero(t, h.gate.out)
			for _, g := range h.paths.gates {
				require.Zero(t, g.queue.len())
				require.Zero(t, g.out)
				require.Nil(t, g.timer)
			}
		})
	}
	assert.Greater(t, ofPaths.Load(), int64(20))
	assert.Greater(t, ofHosts.Load(), int64(5))
}

// BenchmarkUp is what two looks at a gate cost that is up: with one path, with many, and
// with as many that have a gate.
func BenchmarkUp(b *testing.B) {
	paths := make([]string, maxPaths)
	for i := range paths {
		paths[i] = fmt.Sprintf("/v25.0/%d/messages", 106540352242922+int64(i))
	}
	run := func(name string, many int, h *Host) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				path := paths[i%many]
				permit, _ := h.Pass(path)
				h.Answered(path, permit, ResultUp, nil)
			}
		})
	}
	run("1 path", 1, newTestHost())
	run("10,000 paths", maxPaths, newTestHost())
	full := newTestHost()
	for _, path := range paths {
		full.paths.add(time.Now(), newGate(full.config, full, &full.clock, Key(path)))
	}
	full.publish()
	run("10,000 paths with a gate", maxPaths, full)
}

// Its calls would look for a gate, under the lock, for ever.
func TestGateOfAPathThatFailedOnceGoesThoughItsCallsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		answers(t, h, noisy, ResultDown)
		for range 120 {
			time.Sleep(time.Second)
			answers(t, h, noisy, ResultUp)
			answers(t, h, quiet, ResultUp)
		}
		assert.Empty(t, h.paths.gates)
		assert.Zero(t, h.published.Load()&gated)
	})
}

// Its probe is not heard of at the path, whose gate would seem to have a call out for ever.
func TestProbeOfAnotherPathIsNotOutAtThePathThatTheOutageIsHandedOverTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown, ResultDown, ResultDown)
		asks, probe := waits(t, h, quiet), waits(t, h, quiet)
		<-probe.Released()
		h.Answered(quiet, asks.permit(), ResultUp, nil)
		h.Answered(quiet, probe.permit(), ResultUp, nil)
		own := h.paths.of(Key(noisy))
		assert.Zero(t, own.out)
		w := waits(t, h, noisy)
		<-w.Released()
		h.Answered(noisy, w.permit(), ResultUp, nil)
		time.Sleep(2 * again)
		answers(t, h, quiet, ResultUp)
		assert.Empty(t, h.paths.gates)
	})
}

// Each call of another path is counted once, and only if it has waited.
func TestOutageThatIsHandedOverHasTheCallsOfItsPathAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHost()
		answers(t, h, noisy, ResultDown, ResultDown, ResultDown)
		asks := waits(t, h, quiet)
		var others []*Waiter
		for range 10 {
			others = append(others, waits(t, h, quiet))
			_, err := h.Try(quiet)
			require.Error(t, err)
		}
		_, err := h.Join(quiet, time.Now(), Held{})
		require.Error(t, err)
		waits(t, h, noisy)
		h.Leave(others[0])
		_, err = h.Join(quiet, time.Time{}, others[0].Held())
		require.NoError(t, err)
		changes := h.Answered(quiet, asks.permit(), ResultUp, nil)
		assert.Equal(t, 10, changes[0].Ended.Held)
		own := h.paths.of(Key(noisy))
		assert.Equal(t, 1, own.outage.held)
		assert.Equal(t, 1, own.outage.arrived)
		assert.Equal(t, time.Now(), h.Status().Since, "it was down until now")
	})
}

// A run with which a path falls again while it is recovering is the path's, too.
func TestRunWithWhichAPathFallsAgainIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Threshold: 20, InitialInterval: 5 * time.Second, MaxInterval: 3 * time.Minute})
		answers(t, h, noisy, ResultDown)
		answers(t, h, quiet, ResultUp)
		for range 19 {
			answers(t, h, noisy, ResultDown)
		}
		own := h.paths.of(Key(noisy))
		_, _, probe := waits(t, h, noisy), waits(t, h, noisy), waits(t, h, noisy)
		for !isReleased(probe) {
			time.Sleep(100 * time.Millisecond)
			answers(t, h, quiet, ResultUp)
		}
		h.Answered(noisy, probe.permit(), ResultUp, nil)
		require.Equal(t, Recovering, own.state)
		require.False(t, h.gate.brake.window.isOpen)
		for own.state == Recovering {
			h.Answered(noisy, Permit{sequence: h.clock}, ResultDown, nil)
		}
		require.Equal(t, Down, own.state)
		for range 10 {
			time.Sleep(200 * time.Millisecond)
			answers(t, h, quiet, ResultUp)
		}
		assert.False(t, h.gate.brake.trial.isOn())
	})
}

// It is the same calls that wait, and what was asked for before.
func TestCallsThatHaveMovedAreReleasedAtTheRateAtWhichTheyHaveGathered(t *testing.T) {
	answered := func(h *Host, path string, result Result) {
		h.Answered(path, Permit{sequence: h.published.Load() >> flagBits}, result, errPath)
	}
	gather := func(t *testing.T, h *Host) {
		for range 20 {
			waits(t, h, noisy)
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Run("from their path to the host", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := hostWithAPathDown(t)
			gather(t, h)
			for h.Status().State == Up {
				answered(h, quiet, ResultDown)
			}
			answered(h, quiet, ResultUp)
			require.Equal(t, Recovering, h.Status().State)
			h.mu.Lock()
			assert.InDelta(t, 10, h.gate.rate.current, 1)
			assert.Zero(t, h.gate.rate.arrived, "they are not those who come now")
			h.mu.Unlock()
			time.Sleep(time.Minute)
		})
	})
	t.Run("from the host to their path", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHost()
			answers(t, h, noisy, ResultDown)
			answers(t, h, quiet, ResultDown, ResultDown)
			gather(t, h)
			answered(h, quiet, ResultUp)
			for len(h.Status().Paths) == 0 {
				answered(h, noisy, ResultDown)
			}
			time.Sleep(4 * time.Second)
			answered(h, noisy, ResultUp)
			h.mu.Lock()
			own := h.paths.of(Key(noisy))
			require.Equal(t, Recovering, own.state)
			require.Greater(t, own.outage.moved, 10)
			assert.InDelta(t, float64(own.outage.moved)/6, own.rate.current, 1)
			h.mu.Unlock()
			time.Sleep(time.Minute)
		})
	})
}
