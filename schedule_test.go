package graphretry_test

import (
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

func TestWaitsDoubleFromFiveSecondsToThreeMinutesForFifteenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		end, waits := sendMessage(t, []reply{down})
		endsWith(down)(t, end)
		assert.Equal(t, seconds(5, 10, 20, 40, 80, 160, 180, 180, 180), waits)
		// The next would end after 17 min 15 s, so the call ends with its last
		// attempt.
		assert.Equal(t, 14*time.Minute+15*time.Second, time.Since(began))
	})
}

func TestScheduleOfACallIsThatOfItsOptions(t *testing.T) {
	constant := func() backoff.BackOff { return backoff.NewConstantBackOff(7 * time.Second) }
	for name, test := range map[string]struct {
		options []graphretry.Option
		waits   []time.Duration
	}{
		"initial interval": {[]graphretry.Option{graphretry.WithInitialInterval(time.Second), graphretry.WithMaxRetries(4)}, seconds(1, 2, 4, 8)},
		"multiplier":       {[]graphretry.Option{graphretry.WithMultiplier(1.5), graphretry.WithMaxRetries(3)}, seconds(5, 7.5, 11.25)},
		"multiplier of 1":  {[]graphretry.Option{graphretry.WithMultiplier(1), graphretry.WithMaxRetries(3)}, seconds(5, 5, 5)},
		"maximum interval": {[]graphretry.Option{graphretry.WithMaxInterval(6 * time.Second), graphretry.WithMaxRetries(3)}, seconds(5, 6, 6)},
		"no time limit": {
			[]graphretry.Option{graphretry.WithMaxElapsedTime(0), graphretry.WithMaxRetries(12)},
			seconds(5, 10, 20, 40, 80, 160, 180, 180, 180, 180, 180, 180),
		},
		"a schedule of the caller's":                  {[]graphretry.Option{graphretry.WithBackOff(constant), graphretry.WithMaxRetries(3)}, seconds(7, 7, 7)},
		"a schedule of the caller's, maximum of time": {[]graphretry.Option{graphretry.WithBackOff(constant), graphretry.WithMaxElapsedTime(20 * time.Second)}, seconds(7, 7)},
		"a schedule of the caller's that ends by itself": {
			[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return backoff.WithMaxRetries(constant(), 2) })}, seconds(7, 7),
		},
		"no wait at all": {[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return &backoff.ZeroBackOff{} }), graphretry.WithMaxRetries(3)}, seconds(0, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Twice, since each call begins anew.
				for range 2 {
					end, waits := sendMessage(t, []reply{down}, test.options...)
					endsWith(down)(t, end)
					assert.Equal(t, test.waits, waits)
				}
			})
		})
	}
}

func TestCallersScheduleIsMadeForEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		transport := newTransport(t, script(down, down, success, success, down, success), graphretry.WithBackOff(func() backoff.BackOff {
			made++
			return backoff.NewConstantBackOff(time.Second)
		}))
		for i, want := range []int{1, 1, 2} {
			assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context()))
			assert.Equal(t, want, made, "after call %d; a success needs none", i+1)
		}
	})
}

func TestRetryComesNoSoonerThanTheScheduleSaysAndHalfAsLateAgainAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		differs := false
		for range 20 {
			w := &witness{next: script(down)}
			transport := newTransport(t, w)
			callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
			waits := w.waits()
			assert.GreaterOrEqual(t, len(waits), 6)
			for i, interval := range seconds(5, 10, 20, 40, 80, 160, 180, 180, 180)[:len(waits)] {
				assert.GreaterOrEqual(t, waits[i], interval)
				assert.LessOrEqual(t, waits[i], interval*3/2)
				differs = differs || waits[i] != interval
			}
		}
		assert.True(t, differs, "there is jitter")
	})
}

// A wait that Retry-After lengthened does not move the schedule.
func TestScheduleGoesOnAfterARetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asks := down.with(func(r *reply) { r.header = http.Header{"Retry-After": {"100"}} })
		_, waits := sendMessage(t, []reply{asks, down, asks, down, success})
		assert.Equal(t, seconds(100, 10, 100, 40), waits)
	})
}

func TestThrottledCallWaitsByItsCode(t *testing.T) {
	throttled := fails(graphretry.CodeRateLimitHit)
	pair := fails(graphretry.CodePairRateLimitHit)
	for name, test := range map[string]struct {
		replies []reply
		options []graphretry.Option
		waits   []time.Duration
	}{
		"not by default":             {[]reply{throttled, success}, nil, nil},
		"as any other":               {[]reply{throttled, throttled, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(5, 10)},
		"131056, not by default":     {[]reply{pair, success}, nil, nil},
		"131056 has its own":         {[]reply{pair, pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 180)},
		"131056 up to the maximum":   {[]reply{pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(10 * time.Second)}, seconds(1, 4, 10, 10)},
		"131056 beside the schedule": {[]reply{pair, down, pair, down, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 10, 4, 40)},
		"131056 until time is over":  {[]reply{pair}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 180, 180, 180, 180)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end, waits := sendMessage(t, test.replies, test.options...)
				require.NoError(t, end.err)
				assert.Equal(t, test.waits, waits)
			})
		})
	}
}

func TestScheduleGrowsFromTheInitialToTheMaximumInterval(t *testing.T) {
	for _, test := range []struct {
		name  string
		opts  []graphretry.Option
		waits []time.Duration // in seconds
	}{
		{"the default", nil, []time.Duration{5, 10, 20, 40, 80, 160, 180, 180, 180}},
		{"initial interval", []graphretry.Option{graphretry.WithInitialInterval(time.Second)}, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 180, 180}},
		{"initial interval at the maximum", []graphretry.Option{graphretry.WithInitialInterval(3 * time.Minute)}, []time.Duration{180, 180, 180}},
		{"multiplier", []graphretry.Option{graphretry.WithMultiplier(3)}, []time.Duration{5, 15, 45, 135, 180, 180}},
		{"multiplier of 1", []graphretry.Option{graphretry.WithMultiplier(1)}, []time.Duration{5, 5, 5, 5}},
		{"multiplier beyond all bounds", []graphretry.Option{graphretry.WithMultiplier(math.MaxFloat64)}, []time.Duration{5, 180, 180}},
		{"max interval", []graphretry.Option{graphretry.WithMaxInterval(30 * time.Second)}, []time.Duration{5, 10, 20, 30, 30}},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy := policyWith(t, test.opts...)
			for retries, wait := range test.waits {
				assert.Equal(t, wait*time.Second, decide(policy, &graphretry.Error{Code: 2}, retries).Wait, "after %d retries", retries)
			}
		})
	}
}

func TestLongestIntervalThereIsStaysAWait(t *testing.T) {
	policy := policyWith(t, graphretry.WithJitter(1), graphretry.WithMaxInterval(math.MaxInt64), graphretry.WithMultiplier(1000))
	for retries := range 20 {
		decision := decide(policy, &graphretry.Error{Code: 2}, retries)
		assert.True(t, decision.Retry)
		assert.GreaterOrEqual(t, decision.Wait, 5*time.Second, "after %d retries", retries)
	}
	assert.Equal(t, time.Duration(math.MaxInt64), decide(policy, &graphretry.Error{Code: 2}, 20).Wait)
}

func TestJitterOnlyLengthensAWait(t *testing.T) {
	const draws = 4000
	for _, test := range []struct {
		name     string
		opts     []graphretry.Option
		code     graphretry.Code
		retries  int
		interval time.Duration
		fraction float64
	}{
		{"by default a half", nil, 2, 0, 5 * time.Second, 0.5},
		{"on the second wait", nil, 2, 1, 10 * time.Second, 0.5},
		{"above the maximum interval", nil, 2, 9, 3 * time.Minute, 0.5},
		{"a hundredth", []graphretry.Option{graphretry.WithJitter(0.01)}, 2, 0, 5 * time.Second, 0.01},
		{"as much again", []graphretry.Option{graphretry.WithJitter(1)}, 131000, 0, 5 * time.Second, 1},
		{"on the schedule of 131056", []graphretry.Option{graphretry.WithThrottleRetries()}, 131056, 2, 16 * time.Second, 0.5},
		{
			"above the maximum interval of that schedule",
			[]graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(30 * time.Second)},
			131056, 4, 30 * time.Second, 0.5,
		},
		{
			"on a schedule of the caller's, if asked for",
			[]graphretry.Option{
				graphretry.WithBackOff(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }),
				graphretry.WithJitter(0.5),
			},
			2, 0, time.Second, 0.5,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy, err := graphretry.NewPolicy(test.opts...)
			require.NoError(t, err)
			var sum float64
			least, most := math.Inf(1), math.Inf(-1)
			for range draws {
				wait := decide(policy, &graphretry.Error{Code: test.code}, test.retries).Wait
				extra := float64(wait-test.interval) / float64(test.interval)
				least, most, sum = min(least, extra), max(most, extra), sum+extra
			}
			assert.GreaterOrEqual(t, least, 0.0, "the shortest wait")
			assert.LessOrEqual(t, most, test.fraction, "the longest wait")
			// Of 4000 even draws, all miss the lowest or the highest twentieth
			// less often than once in 10^88.
			assert.Less(t, least, 0.05*test.fraction, "the draws reach down to the interval")
			assert.Greater(t, most, 0.95*test.fraction, "the draws reach up to the limit")
			assert.InDelta(t, test.fraction/2, sum/draws, 0.05*test.fraction, "the draws are even")
		})
	}
}

func TestNoJitterMeansTheIntervalToTheNanosecond(t *testing.T) {
	policy := policyWith(t, graphretry.WithInitialInterval(1234567891), graphretry.WithMultiplier(1))
	for range 100 {
		assert.Equal(t, time.Duration(1234567891), decide(policy, &graphretry.Error{Code: 2}, 3).Wait)
	}
}

func TestRetryAfterRaisesAWaitAndNeverLowersIt(t *testing.T) {
	for _, test := range []struct {
		retryAfter, wait time.Duration
	}{
		{0, 5 * time.Second},
		{time.Second, 5 * time.Second},
		{5 * time.Second, 5 * time.Second},
		{5*time.Second + 1, 5*time.Second + 1},
		{time.Hour, time.Hour},
		{math.MaxInt64, math.MaxInt64},
		{-time.Hour, 5 * time.Second},
	} {
		decision := decide(policyWith(t), &graphretry.Error{Code: 2, RetryAfter: test.retryAfter}, 0)
		assert.Equal(t, retryDecision{Retry: true, Wait: test.wait, Reason: graphretry.ReasonTransient}, decision, "Retry-After of %v", test.retryAfter)
	}
	jittered := policyWith(t, graphretry.WithJitter(1))
	for range 100 {
		assert.Equal(t, 10*time.Second, decide(jittered, &graphretry.Error{Code: 2, RetryAfter: 10 * time.Second}, 0).Wait,
			"jitter is on top of the interval and not of Retry-After")
	}
}

func TestPairRateLimitFollowsMetasScheduleUpToTheMaximumInterval(t *testing.T) {
	for name, test := range map[string]struct {
		options []graphretry.Option
		waits   []time.Duration // in seconds: 4^n, or the maximum
	}{
		"by default":                       {nil, []time.Duration{1, 4, 16, 64, 180, 180}},
		"whatever the initial interval":    {[]graphretry.Option{graphretry.WithInitialInterval(time.Minute)}, []time.Duration{1, 4, 16, 64, 180}},
		"whatever the multiplier":          {[]graphretry.Option{graphretry.WithMultiplier(10)}, []time.Duration{1, 4, 16, 64, 180}},
		"for those who asked for it alone": {[]graphretry.Option{graphretry.WithoutRetryOn(131056), graphretry.WithRetryOn(131056, 10)}, []time.Duration{1, 4, 16, 64, 180}},
		"with a lower maximum":             {[]graphretry.Option{graphretry.WithMaxInterval(30 * time.Second)}, []time.Duration{1, 4, 16, 30, 30}},
		"with a higher maximum":            {[]graphretry.Option{graphretry.WithMaxInterval(time.Hour)}, []time.Duration{1, 4, 16, 64, 256, 1024, 3600, 3600}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := policyWith(t, append([]graphretry.Option{graphretry.WithThrottleRetries()}, test.options...)...)
			for retries, wait := range test.waits {
				assert.Equal(t, wait*time.Second, decide(policy, &graphretry.Error{Code: 131056}, retries).Wait, "after %d retries", retries)
			}
			assert.Equal(t, 20*time.Second, decide(policy, &graphretry.Error{Code: 131056, RetryAfter: 20 * time.Second}, 2).Wait, "Retry-After raises it")
			assert.Equal(t, 16*time.Second, decide(policy, &graphretry.Error{Code: 131056, RetryAfter: 10 * time.Second}, 2).Wait, "and never lowers it")
			assert.Equal(t, 2*time.Hour, decide(policy, &graphretry.Error{Code: 131056, RetryAfter: 2 * time.Hour}, 9).Wait, "nor does the maximum")
		})
	}
	longest := decide(policyWith(t, graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(math.MaxInt64)), &graphretry.Error{Code: 131056}, math.MaxInt-1)
	assert.True(t, longest.Retry)
	assert.Greater(t, longest.Wait, 365*24*time.Hour, "4^n does not wrap around")
}

// listedWaits is a schedule that stops at its end.
type listedWaits struct {
	waits []time.Duration
	next  int
	reset bool
}

func (l *listedWaits) Reset() { l.next, l.reset = 0, true }

func (l *listedWaits) NextBackOff() time.Duration {
	if !l.reset || l.next >= len(l.waits) {
		return backoff.Stop
	}
	l.next++
	return l.waits[l.next-1]
}

func TestCallersScheduleIsUsedUnchanged(t *testing.T) {
	var made int
	policy, err := graphretry.NewPolicy(graphretry.WithBackOff(func() backoff.BackOff {
		made++
		return &listedWaits{waits: []time.Duration{3 * time.Hour, time.Second, time.Second, time.Second, 0, time.Minute}}
	}))
	require.NoError(t, err)
	assert.Zero(t, made, "nothing is made before something fails")
	for retries, wait := range []time.Duration{3 * time.Hour, time.Second, time.Second, time.Second, 0, time.Minute} {
		// A queue takes no wait of 0, so it is a nanosecond at least.
		assert.Equal(t, retryDecision{Retry: true, Wait: max(1, wait), Reason: graphretry.ReasonTransient},
			decide(policy, &graphretry.Error{Code: 2}, retries), "after %d retries: no jitter, no maximum", retries)
		assert.Equal(t, retries+1, made, "each decision has a new schedule")
	}
	for _, retries := range []int{6, 7, 1000, math.MaxInt - 1} {
		assert.Equal(t, retryDecision{Reason: graphretry.ReasonRetriesExhausted},
			decide(policy, &graphretry.Error{Code: 2}, retries), "it has stopped, after %d retries", retries)
	}
	assert.Equal(t, 4*time.Hour, decide(policy, &graphretry.Error{Code: 2, RetryAfter: 4 * time.Hour}, 0).Wait)
	assert.False(t, decide(policy, &graphretry.Error{Code: 131000}, 1).Retry, "the table of codes still holds")
	assert.False(t, decide(policy, &graphretry.Error{Code: 1}, 0).Retry)
}

func TestMaxRetriesLimitsTheCallersSchedule(t *testing.T) {
	policy := policyWith(t, graphretry.WithMaxRetries(2), graphretry.WithBackOff(func() backoff.BackOff { return &backoff.ZeroBackOff{} }))
	assert.True(t, decide(policy, &graphretry.Error{Code: 2}, 1).Retry)
	assert.False(t, decide(policy, &graphretry.Error{Code: 2}, 2).Retry)
}

func TestScheduleThatStopsAtOnceOrIsNilRetriesNothing(t *testing.T) {
	for name, made := range map[string]backoff.BackOff{"stops at once": &backoff.StopBackOff{}, "nil": nil} {
		t.Run(name, func(t *testing.T) {
			policy := policyWith(t, graphretry.WithBackOff(func() backoff.BackOff { return made }))
			for _, retries := range []int{0, 1, 1000} {
				assert.Equal(t, retryDecision{Reason: graphretry.ReasonRetriesExhausted},
					decide(policy, &graphretry.Error{Code: 2}, retries))
			}
		})
	}
}

func TestPairRateLimitFollowsTheCallersSchedule(t *testing.T) {
	policy, err := graphretry.NewPolicy(graphretry.WithThrottleRetries(), graphretry.WithBackOff(func() backoff.BackOff {
		return &listedWaits{waits: []time.Duration{time.Minute}}
	}))
	require.NoError(t, err)
	limited := &graphretry.Error{Code: graphretry.CodePairRateLimitHit}
	assert.Equal(t, retryDecision{Retry: true, Wait: time.Minute, Reason: graphretry.ReasonThrottle}, decide(policy, limited, 0))
	assert.Equal(t, retryDecision{Reason: graphretry.ReasonRetriesExhausted}, decide(policy, limited, 1), "it has stopped")
}
