package graphretry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

func isNever(code graphretry.Code) bool {
	return code.Class() == graphretry.ClassParameter || code.Class() == graphretry.ClassExperiment
}

func TestErrorOfAnOptionForANeverCodeNamesItAndTheReason(t *testing.T) {
	var never int
	for _, code := range append(documentedNumbers(t), 33, 100, 131008, 131009, 130472) {
		policy, err := graphretry.NewPolicy(graphretry.WithRetryOn(code, 1))
		if !isNever(code) {
			assert.NoError(t, err, "%d %s", code, code.Title())
			continue
		}
		never++
		assert.Nil(t, policy)
		require.Error(t, err, "%d %s", code, code.Title())
		assert.ErrorContains(t, err, fmt.Sprintf("graphretry: WithRetryOn(%d, 1)", code))
		assert.ErrorContains(t, err, fmt.Sprintf("code %d (%s) is never retried", code, code.Title()))
		why := "the same request would get the same answer"
		if code == graphretry.CodeUserExperiment {
			why = "Meta enforces against repeated sends"
		}
		assert.ErrorContains(t, err, why)
	}
	assert.Greater(t, never, 60, "codes that are never retried")
}

func TestNeverCodeIsNotRetriedWithAnyOption(t *testing.T) {
	policy := policyWith(t, everyOptIn()...)
	for _, code := range append(documentedNumbers(t), 33, 100, 131008, 131009, 130472) {
		if !isNever(code) {
			continue
		}
		want := retryDecision{Reason: graphretry.ReasonNever}
		assert.Equal(t, want, decide(policy, &graphretry.Error{Code: code, Transient: true, RetryAfter: time.Minute}, 0), "%d", code)
		if code < 130000 {
			continue
		}
		for _, above := range []graphretry.Code{1, 2, 4, 131000, 131016} {
			e := &graphretry.Error{Code: above, Subcode: int(code), Transient: true}
			assert.Equal(t, want, decide(policy, e, 0), "subcode %d under %d", code, above)
		}
	}
}

func TestSubcodeIsAWhatsAppCodeFrom130000Up(t *testing.T) {
	for _, test := range []struct {
		name    string
		code    graphretry.Code
		subcode int
		reason  graphretry.Reason
	}{
		{"33 under 2 is no deleted number", 2, 33, graphretry.ReasonTransient},
		{"100 under 2 is no wrong parameter", 2, 100, graphretry.ReasonTransient},
		{"506 under 131016", 131016, 506, graphretry.ReasonTransient},
		{"129999 under 2", 2, 129999, graphretry.ReasonTransient},
		{"130472 under 2 is the experiment", 2, 130472, graphretry.ReasonNever},
		{"131008 under 131000", 131000, 131008, graphretry.ReasonNever},
		{"2388040 under 2", 2, 2388040, graphretry.ReasonNever},
		{"one that is in no catalogue, under 2", 2, 2494010, graphretry.ReasonTransient},
		{"2 under 1 makes nothing retried", 1, 2, graphretry.ReasonNotRetried},
		{"131016 under 1 makes nothing retried", 1, 131016, graphretry.ReasonNotRetried},
		{"131016 under 100 makes nothing retried", 100, 131016, graphretry.ReasonNever},
		{"133010 under 100", 100, 133010, graphretry.ReasonNever},
		{"33 under 100", 100, 33, graphretry.ReasonNever},
		{"a lasting block under 2", 2, 2207051, graphretry.ReasonNotRetried},
		{"a person who cannot be reached, under 131000", 131000, 131026, graphretry.ReasonNotRetried},
		{"a missing permission under 2", 2, 131005, graphretry.ReasonNotRetried},
		{"0 under 2 is no subcode", 2, 0, graphretry.ReasonTransient},
	} {
		t.Run(test.name, func(t *testing.T) {
			decision := decide(policyWith(t), &graphretry.Error{Code: test.code, Subcode: test.subcode}, 0)
			assert.Equal(t, test.reason, decision.Reason)
			assert.Equal(t, test.reason == graphretry.ReasonTransient, decision.Retry)
		})
	}
}

// A passing code can stand over a lasting block.
func TestOptionsAndCatalogueLookAtTheSubcodeToo(t *testing.T) {
	const limit, block, unknown = 4, 2207051, 2494010
	throttled := graphretry.WithThrottleRetries()
	for name, test := range map[string]struct {
		code, subcode graphretry.Code
		options       []graphretry.Option
		reason        graphretry.Reason
	}{
		"the limit alone":                        {limit, 0, []graphretry.Option{throttled}, graphretry.ReasonThrottle},
		"a subcode that says nothing":            {limit, unknown, []graphretry.Option{throttled}, graphretry.ReasonThrottle},
		"the block":                              {limit, block, []graphretry.Option{throttled}, graphretry.ReasonNotRetried},
		"the block, its code named":              {limit, block, []graphretry.Option{graphretry.WithRetryOn(limit, 3)}, graphretry.ReasonNotRetried},
		"the block, itself named":                {limit, block, []graphretry.Option{graphretry.WithRetryOn(block, 3)}, graphretry.ReasonRetryOn},
		"the block, marked is_transient":         {limit, block, []graphretry.Option{graphretry.WithTransientFlag()}, graphretry.ReasonNotRetried},
		"a subcode that is named":                {1, unknown, []graphretry.Option{graphretry.WithRetryOn(unknown, 3)}, graphretry.ReasonRetryOn},
		"a subcode that is taken away":           {2, unknown, []graphretry.Option{graphretry.WithoutRetryOn(unknown)}, graphretry.ReasonNotRetried},
		"a code that is taken away":              {2, 131016, []graphretry.Option{graphretry.WithoutRetryOn(2)}, graphretry.ReasonNotRetried},
		"its subcode is taken away":              {2, 131016, []graphretry.Option{graphretry.WithoutRetryOn(131016)}, graphretry.ReasonNotRetried},
		"code 0 is named, and is no subcode":     {2, 0, []graphretry.Option{graphretry.WithRetryOn(0, 3)}, graphretry.ReasonTransient},
		"a subcode under what is never retried":  {100, unknown, []graphretry.Option{graphretry.WithRetryOn(unknown, 3)}, graphretry.ReasonNever},
		"a limit on one recipient, as a subcode": {1, 131056, []graphretry.Option{graphretry.WithRetryOn(131056, 3)}, graphretry.ReasonRetryOn},
	} {
		e := &graphretry.Error{Code: test.code, Subcode: int(test.subcode), Transient: true}
		assert.Equal(t, test.reason, decide(policyWith(t, test.options...), e, 0).Reason, name)
	}
}
