package bench

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

func TestEverybodyFollowsTheSameSchedule(t *testing.T) {
	for _, subject := range tuned {
		if subject.name == "SRE throttle" {
			continue // it refuses every other call of a caller whose calls all fail
		}
		t.Run(subject.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				api.SetLatency(answerTime)
				api.DownAfter(0, time.Hour, graphtest.Answer{})
				start := time.Now()
				require.False(t, deliver(t.Context(), subject.wrapped(api), "https", 0))

				calls := api.Calls()
				last := calls[len(calls)-1].Time.Sub(start)
				require.LessOrEqual(t, last, maxElapsedTime+answerTime)
				if last >= maxElapsedTime {
					calls = calls[:len(calls)-1] // failsafe-go tries once more as its time ends
				}
				for i := range calls[1:] {
					gap := calls[i+1].Time.Sub(calls[i].Time) - answerTime
					require.GreaterOrEqual(t, gap, interval(i), "wait %d", i)
					// A millisecond for failsafe-go, which counts its answer's
					// time in, and for rounding.
					require.LessOrEqual(t, gap, time.Duration((1+jitter)*float64(interval(i)))+time.Millisecond, "wait %d", i)
				}
				require.Contains(t, []int{8, 9, 10}, len(calls), "attempts in 15 minutes")
			})
		})
	}
}

func TestNobodyRetriesWhatIsNotTemporary(t *testing.T) {
	for _, subject := range tuned {
		for _, answer := range []graphtest.Answer{{Code: 131009}, {Code: 130429}, {Code: 1, Status: 500}, {Status: 502}} {
			synctest.Test(t, func(t *testing.T) {
				api := graphtest.New()
				api.AnswerNext(1, answer)
				require.False(t, deliver(t.Context(), subject.wrapped(api), "https", 0), "%s: %+v", subject.name, answer)
				require.Equal(t, 1, api.Totals().Calls, "%s: %+v", subject.name, answer)
			})
		}
	}
}

func TestEverybodyRetriesBothCodesOfAnOutage(t *testing.T) {
	for _, subject := range tuned {
		synctest.Test(t, func(t *testing.T) {
			api := graphtest.New()
			api.AnswerNext(1, graphtest.Answer{Code: 2, Status: 503})
			api.AnswerNext(1, graphtest.Answer{Code: 131016, Status: 400})
			require.True(t, deliver(t.Context(), subject.wrapped(api), "https", 0), subject.name)
			require.Empty(t, api.Lost("message-0"), subject.name)
			require.Equal(t, 3, api.Totals().Calls, subject.name)
		})
	}
}
