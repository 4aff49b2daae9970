package graphretry_test

import (
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

func TestScheduleOfTheCallersIsMadeAnewForEachCall(t *testing.T) {
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

func TestRetryComesNoSoonerThanTheScheduleSaysAndAFifthLaterAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		differs := false
		for range 20 {
			w := &witness{next: script(down)}
			transport := newTransport(t, w)
			callUnderContract(t, transport, w, newWatchedRequest(t, t.Context(), http.MethodPost, withGetBody))
			waits := w.waits()
			assert.GreaterOrEqual(t, len(waits), 8)
			for i, interval := range seconds(5, 10, 20, 40, 80, 160, 180, 180, 180)[:len(waits)] {
				assert.GreaterOrEqual(t, waits[i], interval)
				assert.LessOrEqual(t, waits[i], interval*6/5)
				differs = differs || waits[i] != interval
			}
		}
		assert.True(t, differs, "there is jitter")
	})
}

func TestRetryAfterOfAnAnswerRaisesTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for value, wait := range map[string]float64{
			"30": 30, "5": 5, "4": 5, "0": 5, "-30": 5, "soon": 5, "1e3": 5, "30.5": 5, "": 5, "+30": 5,
		} {
			first := down.with(func(r *reply) { r.header = http.Header{"Retry-After": {value}} })
			_, waits := sendMessage(t, []reply{first, success})
			assert.Equal(t, seconds(wait), waits, "Retry-After: %s", value)
		}
		for _, layout := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
			for in, wait := range map[time.Duration]float64{42 * time.Second: 42, 4 * time.Second: 5, -time.Hour: 5} {
				value := time.Now().Add(in).UTC().Format(layout)
				_, waits := sendMessage(t, []reply{down.with(func(r *reply) { r.header = http.Header{"Retry-After": {value}} }), success})
				assert.Equal(t, seconds(wait), waits, "Retry-After: %s", value)
			}
		}
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

func TestThrottledCallWaitsOnItsOwnTerms(t *testing.T) {
	usage := `{"1":[{"type":"whatsapp","estimated_time_to_regain_access":2},{"estimated_time_to_regain_access":1}]}`
	throttled := fails(graphretry.CodeRateLimitHit).with(func(r *reply) {
		r.header = http.Header{"X-Business-Use-Case-Usage": {usage}, "Retry-After": {"60"}}
	})
	pair := fails(graphretry.CodePairRateLimitHit)
	for name, test := range map[string]struct {
		replies []reply
		options []graphretry.Option
		waits   []time.Duration
	}{
		"not by default":             {[]reply{throttled, success}, nil, nil},
		"the largest of all":         {[]reply{throttled, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(120)},
		"usage is not for others":    {[]reply{throttled.with(func(r *reply) { r.body = down.body }), success}, nil, seconds(60)},
		"131056, not by default":     {[]reply{pair, success}, nil, nil},
		"131056 has its own":         {[]reply{pair, pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 256)},
		"131056 above every maximum": {[]reply{pair, pair, pair, pair, success}, []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxInterval(10 * time.Second)}, seconds(1, 4, 16, 64)},
		"131056 beside the schedule": {[]reply{pair, down, pair, down, success}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 5, 4, 10)},
		"131056 until time is over":  {[]reply{pair}, []graphretry.Option{graphretry.WithThrottleRetries()}, seconds(1, 4, 16, 64, 256)},
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
