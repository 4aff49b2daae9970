package graphtest_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// outcomes sends n messages at once after each other, and returns the status of
// each.
func (w way) outcomes(t *testing.T, n int) []int {
	t.Helper()
	statuses := make([]int, n)
	for i := range statuses {
		statuses[i] = w.send(t, fmt.Sprint("order-", i)).StatusCode
	}
	return statuses
}

func TestQueueAnswersInOrderThenAllIsWell(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.AnswerNext(2, graphtest.Answer{Code: 2})
		api.AnswerNext(0, graphtest.Answer{Code: 190})
		api.AnswerNext(1, graphtest.Answer{})
		api.AnswerNext(1, graphtest.Answer{Code: 131016})
		assert.Equal(t, []int{503, 503, 200, 500, 200, 200}, w.outcomes(t, 6))
		assert.Equal(t, []string{"order-2", "order-4", "order-5"}, api.AcceptedKeys())
	})
}

func TestDownFromItsFirstMomentUntilBeforeItsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		now := time.Now()
		api.DownBetween(now.Add(2*time.Second), now.Add(4*time.Second), graphtest.Answer{Code: 131016})
		var statuses []int
		for range 6 {
			statuses = append(statuses, w.send(t, "order-1").StatusCode)
			time.Sleep(time.Second)
		}
		assert.Equal(t, []int{200, 200, 500, 500, 200, 200}, statuses)
		assert.Equal(t, 2, api.Totals().WhileDown)
	})
}

func TestAPIThatIsDownAnswersSoOverHTTP(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.DownAfter(0, time.Hour, graphtest.Answer{})
		assert.Equal(t, 2, w.send(t, "order-1").code(t), "code 2 unless told otherwise")
		assert.True(t, api.Calls()[0].Down)
		api.Clear()
		assert.Equal(t, 200, w.send(t, "order-1").StatusCode)
		assert.False(t, api.Calls()[1].Down)
	})
}

func TestOverlappingOutagesAnswerAsTheFirstThatBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.DownAfter(3*time.Second, 3*time.Second, graphtest.Answer{Code: 3})   // [3, 6)
		api.DownAfter(0, 2*time.Second, graphtest.Answer{Code: 131000})          // [0, 2)
		api.DownAfter(1*time.Second, 3*time.Second, graphtest.Answer{Code: 2})   // [1, 4)
		api.DownAfter(1*time.Second, 3*time.Second, graphtest.Answer{Code: 190}) // [1, 4), never heard
		api.DownAfter(9*time.Second, 0, graphtest.Answer{Code: 190})             // never
		var codes []int
		for range 10 {
			codes = append(codes, w.do(t, "GET", "/1", "", "").code(t))
			time.Sleep(time.Second)
		}
		assert.Equal(t, []int{131000, 131000, 2, 2, 3, 3, 0, 0, 0, 0}, codes)
	})
}

func TestShareOfCallsIsDrawnFromTheSeed(t *testing.T) {
	drawn := func(seed uint64, share float64) []int {
		api := graphtest.New(graphtest.WithSeed(seed))
		api.AnswerShare(share, graphtest.Answer{})
		return memory(api).outcomes(t, 1000)
	}
	failed := func(statuses []int) (n int) {
		for _, status := range statuses {
			if status == 503 {
				n++
			}
		}
		return n
	}
	assert.Equal(t, drawn(7, 0.3), drawn(7, 0.3))
	assert.NotEqual(t, drawn(7, 0.3), drawn(8, 0.3))
	assert.InDelta(t, 300, failed(drawn(7, 0.3)), 60)
	assert.Equal(t, 0, failed(drawn(7, 0)))
	assert.Equal(t, 1000, failed(drawn(7, 1)))
}

func TestWhichCallsFailDoesNotDependOnWhatElseIsDrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet, busy := graphtest.New(), graphtest.New()
		quiet.AnswerShare(0.5, graphtest.Answer{})
		busy.AnswerShare(0.5, graphtest.Answer{})
		busy.SetSlowShare(0.5, time.Second)
		for range 100 {
			want := memory(quiet).do(t, http.MethodGet, "/1", "", "").StatusCode
			assert.Equal(t, want, memory(busy).send(t, "order-1").StatusCode, "an id was drawn for each message, a time for half of the calls")
		}
	})
}

func TestSharesAddUpAndACallGetsOneOfThem(t *testing.T) {
	w, api := newMemory()
	api.AnswerShare(0.2, graphtest.Answer{Code: 2})
	api.AnswerShare(0.3, graphtest.Answer{Code: 131000})
	api.AnswerShare(0.5, graphtest.Answer{Code: 133004, Status: 599})
	counts := map[int]int{}
	for _, status := range w.outcomes(t, 2000) {
		counts[status]++
	}
	assert.InDelta(t, 400, counts[503], 80)
	assert.InDelta(t, 600, counts[500], 80)
	assert.InDelta(t, 1000, counts[599], 80)
	assert.Len(t, counts, 3, "the shares are all calls")
}

func TestLimitHoldsForEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.SetLimit(3, graphtest.Answer{})
		passed := func(n int) (passed int) {
			for range n {
				answer := w.do(t, "GET", "/1", "", "")
				if answer.StatusCode == http.StatusOK {
					passed++
				} else {
					assert.Equal(t, 130429, answer.code(t), "130429 unless told otherwise")
				}
			}
			return passed
		}
		assert.Equal(t, 2, passed(2))
		time.Sleep(600 * time.Millisecond)
		assert.Equal(t, 1, passed(5), "the second began with the first call, not on the clock")
		time.Sleep(400 * time.Millisecond)
		assert.Equal(t, 2, passed(5), "two of three have left it, and what was refused took no room")
		time.Sleep(time.Second)
		assert.Equal(t, 3, passed(5))

		api.SetLimit(0, graphtest.Answer{})
		assert.Equal(t, 50, passed(50), "0 lifts it")
		api.SetLimit(1, graphtest.Answer{Code: 2})
		api.AnswerNext(1, graphtest.Answer{})
		assert.Equal(t, 1, passed(1))
	})
}

func TestRulesApplyInTheirDocumentedOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.SetLimit(1, graphtest.Answer{Code: 4})
		api.AnswerShare(1, graphtest.Answer{Code: 3})
		api.DownAfter(0, time.Second, graphtest.Answer{Code: 2})
		api.AnswerNext(1, graphtest.Answer{Code: 1})
		code := func() int { return w.do(t, "GET", "/1", "", "").code(t) }

		assert.Equal(t, 1, code(), "the queue")
		assert.Equal(t, 2, code(), "down")
		time.Sleep(time.Second)
		assert.Equal(t, 3, code(), "the share")

		api.Clear()
		api.SetLimit(1, graphtest.Answer{Code: 4})
		assert.Equal(t, 0, code(), "what the rules before it answered left the limit its room")
		assert.Equal(t, 4, code(), "the limit")
		assert.Equal(t, 1, api.Totals().WhileDown-1, "a call while it is down is one whatever answers it")
	})
}

func TestEveryAnswerTakesTheLatencyAndItsOwnDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.SetLatency(50 * time.Millisecond)
		api.AnswerNext(1, graphtest.Answer{Code: 2})
		api.AnswerNext(1, graphtest.Answer{Delay: 8 * time.Second})
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
		took := func() time.Duration {
			begun := time.Now()
			if response, err := w.try(t, "GET", "/1", "", ""); err == nil {
				read(t, response)
			}
			return time.Since(begun)
		}
		assert.Equal(t, 50*time.Millisecond, took())
		assert.Equal(t, 8050*time.Millisecond, took())
		assert.Equal(t, 50*time.Millisecond, took())
		assert.Equal(t, 50*time.Millisecond, took())
		api.SetLatency(0)
		assert.Zero(t, took())
	})
}

func TestAnswerOverHTTPIsLateToo(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		api.SetLatency(20 * time.Millisecond)
		begun := time.Now()
		w.send(t, "order-1")
		assert.GreaterOrEqual(t, time.Since(begun), 20*time.Millisecond)
	})
}

func TestShareOfAnswersIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.SetSlowShare(0.25, 8*time.Second)
		slow, longest := 0, time.Duration(0)
		for range 400 {
			begun := time.Now()
			w.do(t, "GET", "/1", "", "")
			if took := time.Since(begun); took > 0 {
				slow, longest = slow+1, max(longest, took)
			}
		}
		assert.InDelta(t, 100, slow, 30)
		assert.Greater(t, longest, 7*time.Second)
		assert.LessOrEqual(t, longest, 8*time.Second)

		api.SetSlowShare(0, 0)
		begun := time.Now()
		w.outcomes(t, 100)
		assert.Zero(t, time.Since(begun))
	})
}

func TestClearRemovesEveryRuleAndKeepsTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		w.send(t, "order-0")
		api.SetLimit(1, graphtest.Answer{})
		api.AnswerShare(1, graphtest.Answer{})
		api.DownAfter(0, time.Hour, graphtest.Answer{})
		api.AnswerNext(100, graphtest.Answer{Code: 2})
		api.SetLatency(time.Hour)
		api.SetSlowShare(1, time.Hour)
		api.Clear()

		begun := time.Now()
		assert.Equal(t, []int{200, 200}, w.outcomes(t, 2))
		assert.Zero(t, time.Since(begun))
		assert.Equal(t, 3, api.Totals().Calls)
		api.AnswerShare(1, graphtest.Answer{})
		assert.Equal(t, []int{503}, w.outcomes(t, 1), "the shares before Clear do not count")
	})
}

func TestWrongArgumentFailsEveryCallWithAnErrorThatNamesIt(t *testing.T) {
	now := time.Now()
	for want, misuse := range map[string]func(*graphtest.API){
		"AnswerNext(-1, ...): the number of calls must not be negative": func(api *graphtest.API) {
			api.AnswerNext(-1, graphtest.Answer{})
		},
		"AnswerNext: Answer.Code -2: a code must not be negative": func(api *graphtest.API) {
			api.AnswerNext(1, graphtest.Answer{Code: -2})
		},
		"AnswerNext: Answer.Status 42: a status is between 200 and 599": func(api *graphtest.API) {
			api.AnswerNext(1, graphtest.Answer{Status: 42})
		},
		"DownAfter: Answer.Status 600: a status is between 200 and 599": func(api *graphtest.API) {
			api.DownAfter(0, 0, graphtest.Answer{Status: 600})
		},
		"AnswerShare: Answer.Delay -1s: a delay must not be negative": func(api *graphtest.API) {
			api.AnswerShare(0, graphtest.Answer{Delay: -time.Second})
		},
		"SetLimit: Answer.Fault 5: there is no such fault": func(api *graphtest.API) {
			api.SetLimit(0, graphtest.Answer{Fault: 5})
		},
		"DownBetween: Answer.Fault -1: there is no such fault": func(api *graphtest.API) {
			api.DownBetween(now, now, graphtest.Answer{Fault: -1})
		},
		"it must not end before it begins": func(api *graphtest.API) {
			api.DownBetween(now, now.Add(-time.Second), graphtest.Answer{})
		},
		"DownAfter(-1s, 1s, ...): neither delay nor length may be negative": func(api *graphtest.API) {
			api.DownAfter(-time.Second, time.Second, graphtest.Answer{})
		},
		"DownAfter(1s, -1s, ...): neither delay nor length may be negative": func(api *graphtest.API) {
			api.DownAfter(time.Second, -time.Second, graphtest.Answer{})
		},
		"AnswerShare(50, ...): a share is between 0 and 1": func(api *graphtest.API) {
			api.AnswerShare(50, graphtest.Answer{})
		},
		"AnswerShare(-0.1, ...): a share is between 0 and 1": func(api *graphtest.API) {
			api.AnswerShare(-0.1, graphtest.Answer{})
		},
		"AnswerShare(NaN, ...): a share is between 0 and 1": func(api *graphtest.API) {
			api.AnswerShare(math.NaN(), graphtest.Answer{})
		},
		"AnswerShare(0.75, ...): with it the shares add up to 1.25, and 1 is all calls": func(api *graphtest.API) {
			api.AnswerShare(0.5, graphtest.Answer{})
			api.AnswerShare(0.75, graphtest.Answer{})
		},
		"SetLimit(-1, ...): a limit must not be negative": func(api *graphtest.API) {
			api.SetLimit(-1, graphtest.Answer{})
		},
		"SetLatency(-1s): a latency must not be negative": func(api *graphtest.API) {
			api.SetLatency(-time.Second)
		},
		"SetSlowShare(2, ...): a share is between 0 and 1": func(api *graphtest.API) {
			api.SetSlowShare(2, time.Second)
		},
		"SetSlowShare(..., -1s): a time must not be negative": func(api *graphtest.API) {
			api.SetSlowShare(1, -time.Second)
		},
	} {
		t.Run(strings.NewReplacer("/", " ").Replace(want), func(t *testing.T) {
			overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
				misuse(api)
				api.SetLatency(-time.Hour) // the first wrong argument is the one that is told
				response, err := w.try(t, http.MethodPost, messages, "", message("order-1"))
				if w.inMemory() {
					require.ErrorContains(t, err, want)
					assert.ErrorContains(t, err, "graphtest: ")
				} else {
					require.NoError(t, err)
					answer := read(t, response)
					assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
					assert.Equal(t, "text/plain; charset=utf-8", answer.Header.Get("Content-Type"))
					assert.Contains(t, answer.body, want)
				}
				assert.Empty(t, api.Calls())
			})
		})
	}
}
