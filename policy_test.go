package graphretry_test

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// policyWith is a Policy without jitter, unless opts bring it back.
func policyWith(t testing.TB, opts ...graphretry.Option) *graphretry.Policy {
	t.Helper()
	policy, err := graphretry.NewPolicy(append([]graphretry.Option{graphretry.WithJitter(0)}, opts...)...)
	require.NoError(t, err)
	return policy
}

// retryDecision is what a Decision says of a retry.
type retryDecision struct {
	Retry  bool
	Wait   time.Duration
	Reason graphretry.Reason
}

// decide is what policy says of work that failed with e, after so many retries for the same
// code.
func decide(policy *graphretry.Policy, e *graphretry.Error, retries int) retryDecision {
	var history graphretry.History
	if e != nil && retries != 0 {
		history.Retries = map[graphretry.Code]int{e.Code: retries}
	}
	decision := policy.Decide(e, history)
	if !decision.Retry {
		decision.Wait = 0 // of work that is held
	}
	return retryDecision{decision.Retry, decision.Wait, decision.Reason}
}

// everyOptIn is all that makes a Policy retry more.
func everyOptIn() []graphretry.Option {
	return []graphretry.Option{
		graphretry.WithThrottleRetries(),
		graphretry.WithTransientFlag(),
		graphretry.WithNetworkRetries(),
		graphretry.WithRetryOn(graphretry.CodeAPIUnknown, 10),
		graphretry.WithRetryOn(graphretry.CodeSomethingWentWrong, 10),
	}
}

// documentedNumbers are the codes of graphtest/codes.csv.
func documentedNumbers(t testing.TB) []graphretry.Code {
	t.Helper()
	file, err := os.Open("graphtest/codes.csv")
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	var codes []graphretry.Code
	for _, line := range lines[1:] {
		// What is no number is a range or a code with its subcode.
		if n, err := strconv.Atoi(line[0]); err == nil {
			codes = append(codes, graphretry.Code(n))
		}
	}
	require.Greater(t, len(codes), 150)
	return codes
}

func TestCodeDecidesWhatIsRetried(t *testing.T) {
	for _, test := range []struct {
		code   graphretry.Code
		first  retryDecision // after the first failure
		second retryDecision // if the retry fails in the same way
	}{
		{
			2,
			retryDecision{Retry: true, Wait: 5 * time.Second, Reason: graphretry.ReasonTransient},
			retryDecision{Retry: true, Wait: 10 * time.Second, Reason: graphretry.ReasonTransient},
		},
		{
			131016,
			retryDecision{Retry: true, Wait: 5 * time.Second, Reason: graphretry.ReasonTransient},
			retryDecision{Retry: true, Wait: 10 * time.Second, Reason: graphretry.ReasonTransient},
		},
		{
			131000,
			retryDecision{Retry: true, Wait: 5 * time.Second, Reason: graphretry.ReasonRetryOnce},
			retryDecision{Reason: graphretry.ReasonRetriesExhausted},
		},
		{130472, retryDecision{Reason: graphretry.ReasonNever}, retryDecision{Reason: graphretry.ReasonNever}},
		{33, retryDecision{Reason: graphretry.ReasonNever}, retryDecision{Reason: graphretry.ReasonNever}},
		{100, retryDecision{Reason: graphretry.ReasonNever}, retryDecision{Reason: graphretry.ReasonNever}},
		{131008, retryDecision{Reason: graphretry.ReasonNever}, retryDecision{Reason: graphretry.ReasonNever}},
		{131009, retryDecision{Reason: graphretry.ReasonNever}, retryDecision{Reason: graphretry.ReasonNever}},
		{1, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
		{131005, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
		{134011, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
		{999999, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
		{0, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
		{-1, retryDecision{Reason: graphretry.ReasonNotRetried}, retryDecision{Reason: graphretry.ReasonNotRetried}},
	} {
		t.Run(strconv.Itoa(int(test.code)), func(t *testing.T) {
			policy := policyWith(t)
			e := &graphretry.Error{Status: 500, Code: test.code}
			assert.Equal(t, test.first, decide(policy, e, 0))
			assert.Equal(t, test.second, decide(policy, e, 1))
		})
	}
}

func TestNoOtherCodeIsRetriedByDefault(t *testing.T) {
	policy := policyWith(t)
	retried := map[graphretry.Code]bool{2: true, 131016: true, 131000: true}
	for _, code := range documentedNumbers(t) {
		// The flag alone is no reason.
		decision := decide(policy, &graphretry.Error{Code: code, Transient: true}, 0)
		assert.Equal(t, retried[code], decision.Retry, "%d %s", code, code.Title())
		assert.Equal(t, isNever(code), decision.Reason == graphretry.ReasonNever, "%d %s: %v", code, code.Title(), decision.Reason)
	}
}

func TestStatusDoesNotDecide(t *testing.T) {
	policy := policyWith(t)
	for _, status := range []int{0, 200, 400, 401, 403, 404, 429, 500, 502, 503, 504} {
		for code, retried := range map[graphretry.Code]bool{
			2: true, 131016: true, 131000: true, // also where a proxy made a 400 of it
			3: false, 131045: false, 133000: false, 134102: false, // documented with 500
			1: false, 4: false, 133004: false, // documented with 500, 429 and 503
		} {
			assert.Equal(t, retried, decide(policy, &graphretry.Error{Status: status, Code: code}, 0).Retry, "%d with status %d", code, status)
		}
	}
}

func TestDecideCountsTheRetriesOfACode(t *testing.T) {
	policy := policyWith(t, graphretry.WithRetryOn(131026, 2))
	for _, test := range []struct {
		code    graphretry.Code
		retries int
		retry   bool
	}{
		{131000, 0, true},
		{131000, 1, false},
		{2, 1, true},
		{2, 7, true},
		{131026, 1, true},
		{131026, 2, false},
	} {
		decision := decide(policy, &graphretry.Error{Code: test.code}, test.retries)
		assert.Equal(t, test.retry, decision.Retry, "%d after %d retries", test.code, test.retries)
		if !test.retry {
			assert.Equal(t, retryDecision{Reason: graphretry.ReasonRetriesExhausted}, decision)
		}
	}
}

func TestThrottlingCodesAreRetriedByTheirOption(t *testing.T) {
	throttling := map[graphretry.Code]bool{
		4: true, 17: true, 341: true, 613: true, 80007: true, 80008: true,
		130429: true, 131056: true, 133015: true, 134101: true,
	}
	plain, throttled := policyWith(t), policyWith(t, graphretry.WithThrottleRetries())
	for _, code := range documentedNumbers(t) {
		e := &graphretry.Error{Code: code}
		if !throttling[code] {
			assert.Equal(t, decide(plain, e, 0), decide(throttled, e, 0), "%d %s is not among them", code, code.Title())
			continue
		}
		delete(throttling, code)
		assert.Equal(t, retryDecision{Reason: graphretry.ReasonNotRetried}, decide(plain, e, 0), "%d by default", code)
		decision := decide(throttled, e, 100)
		assert.True(t, decision.Retry, "%d is retried as long as there is time", code)
		assert.Equal(t, graphretry.ReasonThrottle, decision.Reason, "%d", code)
		if code != 131056 {
			assert.Equal(t, 5*time.Second, decide(throttled, e, 0).Wait, "%d", code)
		}
		e.RetryAfter = 7 * time.Minute
		assert.Equal(t, 7*time.Minute, decide(throttled, e, 0).Wait, "%d asks for more", code)
	}
	assert.Empty(t, throttling, "these are not in graphtest/codes.csv")
}

func TestLastingBlocksAreNotRetriedByWithThrottleRetries(t *testing.T) {
	policy := policyWith(t, graphretry.WithThrottleRetries())
	for _, code := range []graphretry.Code{131048, 131049, 131050, 131064, 130403, 133016, 136024} {
		e := &graphretry.Error{Code: code, RetryAfter: time.Second}
		assert.Equal(t, retryDecision{Reason: graphretry.ReasonNotRetried}, decide(policy, e, 0), "%d %s", code, code.Title())
	}
}

func TestTransientFlagIsRetriedByItsOption(t *testing.T) {
	plain, flagged := policyWith(t), policyWith(t, graphretry.WithTransientFlag())
	refused := map[graphretry.Class]bool{
		graphretry.ClassParameter: true, graphretry.ClassExperiment: true,
		graphretry.ClassPolicy: true, graphretry.ClassRecipient: true,
	}
	seen := map[graphretry.Class]int{}
	for _, code := range documentedNumbers(t) {
		marked, unmarked := &graphretry.Error{Code: code, Transient: true}, &graphretry.Error{Code: code}
		seen[code.Class()]++
		assert.Equal(t, decide(plain, unmarked, 0), decide(flagged, unmarked, 0), "%d without the flag", code)
		switch decision := decide(flagged, marked, 0); {
		case code == 2 || code == 131016 || code == 131000:
			assert.Equal(t, decide(plain, marked, 0), decision, "%d has a rule of its own", code)
		case refused[code.Class()]:
			assert.False(t, decision.Retry, "%d %s is of class %v", code, code.Title(), code.Class())
			assert.Zero(t, decision.Wait)
		default:
			assert.True(t, decision.Retry, "%d %s is of class %v", code, code.Title(), code.Class())
			assert.Equal(t, graphretry.ReasonTransientFlag, decision.Reason)
			assert.True(t, decide(flagged, marked, 50).Retry, "%d is retried as long as there is time", code)
		}
	}
	for class := range refused {
		assert.Positive(t, seen[class], "codes of class %v", class)
	}
	unknown := &graphretry.Error{Code: 999999, Transient: true}
	assert.Equal(t, retryDecision{Retry: true, Wait: 5 * time.Second, Reason: graphretry.ReasonTransientFlag}, decide(flagged, unknown, 0))
	for _, subcode := range []int{131048, 131049, 131031} {
		unknown.Subcode = subcode
		assert.False(t, decide(flagged, unknown, 0).Retry, "the WhatsApp code %d stands in the subcode", subcode)
	}
	assert.False(t, decide(policyWith(t, graphretry.WithTransientFlag(), graphretry.WithoutRetryOn(1)),
		&graphretry.Error{Code: 1, Transient: true}, 0).Retry, "an option that names the code is the more exact")
}

func TestWhatIsNotRetriedCanBeChangedByAnOption(t *testing.T) {
	for _, test := range []struct {
		name    string
		opts    []graphretry.Option
		code    graphretry.Code
		retries int // how many in all
		reason  graphretry.Reason
	}{
		{"1 three times", []graphretry.Option{graphretry.WithRetryOn(1, 3)}, 1, 3, graphretry.ReasonRetryOn},
		{"131005 once", []graphretry.Option{graphretry.WithRetryOn(131005, 1)}, 131005, 1, graphretry.ReasonRetryOn},
		{"134011", []graphretry.Option{graphretry.WithRetryOn(134011, 2)}, 134011, 2, graphretry.ReasonRetryOn},
		{"a code nobody knows", []graphretry.Option{graphretry.WithRetryOn(999999, 1)}, 999999, 1, graphretry.ReasonRetryOn},
		{"a code Meta punishes for, since it is named", []graphretry.Option{graphretry.WithRetryOn(131049, 1)}, 131049, 1, graphretry.ReasonRetryOn},
		{"131000 more often", []graphretry.Option{graphretry.WithRetryOn(131000, 4)}, 131000, 4, graphretry.ReasonRetryOn},
		{"2 less often", []graphretry.Option{graphretry.WithRetryOn(2, 2)}, 2, 2, graphretry.ReasonRetryOn},
		{"2 not at all", []graphretry.Option{graphretry.WithoutRetryOn(2)}, 2, 0, graphretry.ReasonNotRetried},
		{"131000 not at all", []graphretry.Option{graphretry.WithoutRetryOn(2, 131000)}, 131000, 0, graphretry.ReasonNotRetried},
		{"the later option holds", []graphretry.Option{graphretry.WithoutRetryOn(2), graphretry.WithRetryOn(2, 1)}, 2, 1, graphretry.ReasonRetryOn},
		{"here too", []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithoutRetryOn(4, 130429)}, 4, 0, graphretry.ReasonNotRetried},
		{"no retries of any code", []graphretry.Option{graphretry.WithMaxRetries(0)}, 2, 0, graphretry.ReasonRetriesExhausted},
		{"a few retries of any code", []graphretry.Option{graphretry.WithMaxRetries(3)}, 2, 3, graphretry.ReasonTransient},
		{"the lower of two limits", []graphretry.Option{graphretry.WithMaxRetries(2), graphretry.WithRetryOn(1, 9)}, 1, 2, graphretry.ReasonRetryOn},
		{"the lower of two limits, again", []graphretry.Option{graphretry.WithMaxRetries(9), graphretry.WithRetryOn(1, 2)}, 1, 2, graphretry.ReasonRetryOn},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy, e := policyWith(t, test.opts...), &graphretry.Error{Code: test.code}
			for retries := range test.retries {
				decision := decide(policy, e, retries)
				assert.True(t, decision.Retry, "after %d retries", retries)
				assert.Equal(t, test.reason, decision.Reason)
				assert.Positive(t, decision.Wait)
			}
			want := retryDecision{Reason: graphretry.ReasonRetriesExhausted}
			if test.retries == 0 {
				want.Reason = test.reason
			}
			assert.Equal(t, want, decide(policy, e, test.retries))
		})
	}
}

func TestWorkThatWasRetriedEndlesslyIsDecidedAtOnce(t *testing.T) {
	// A queue keeps the number of retries itself, and may hand in anything.
	for name, opts := range map[string][]graphretry.Option{
		"by default":                  nil,
		"constant":                    {graphretry.WithMultiplier(1)},
		"growing as good as never":    {graphretry.WithMultiplier(1 + 1e-9)},
		"tiny, too small to grow":     {graphretry.WithInitialInterval(1), graphretry.WithMultiplier(1.5)},
		"growing without a bound":     {graphretry.WithMaxInterval(math.MaxInt64), graphretry.WithMultiplier(1.0001)},
		"constant, of the caller's":   {graphretry.WithBackOff(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) })},
		"growing, of the caller's":    {graphretry.WithBackOff(func() backoff.BackOff { return backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0)) })},
		"throttled":                   {graphretry.WithThrottleRetries()},
		"marked transient":            {graphretry.WithTransientFlag()},
		"at most often, by an option": {graphretry.WithRetryOn(2, math.MaxInt)},
	} {
		t.Run(name, func(t *testing.T) {
			policy := policyWith(t, opts...)
			for _, retries := range []int{1 << 20, math.MaxInt32 - 1, math.MaxInt - 1} {
				decided := make(chan retryDecision, 1)
				go func() { decided <- decide(policy, &graphretry.Error{Code: 2}, retries) }()
				select {
				case decision := <-decided:
					assert.True(t, decision.Retry, "after %d retries", retries)
					assert.Positive(t, decision.Wait, "after %d retries", retries)
				case <-time.After(patience):
					require.FailNow(t, "Decide takes for ever", "after %d retries", retries)
				}
			}
		})
	}
}

func TestNegativeRetriesCountAsZero(t *testing.T) {
	policy := policyWith(t, graphretry.WithThrottleRetries(), graphretry.WithMaxRetries(1))
	for _, retries := range []int{-1, -1000, math.MinInt} {
		for _, code := range []graphretry.Code{2, 131000, 131056, 1} {
			e := &graphretry.Error{Code: code}
			assert.Equal(t, decide(policy, e, 0), decide(policy, e, retries), "%d after %d retries", code, retries)
		}
	}
}

func TestNoErrorIsNotRetried(t *testing.T) {
	for _, opts := range [][]graphretry.Option{nil, everyOptIn()} {
		assert.Equal(t, retryDecision{Reason: graphretry.ReasonNoGraphError}, decide(policyWith(t, opts...), nil, 0))
	}
}

func TestZeroPolicyRetriesNothing(t *testing.T) {
	for _, policy := range []*graphretry.Policy{nil, {}} {
		for _, code := range []graphretry.Code{2, 131000, 131009, 4} {
			assert.False(t, decide(policy, &graphretry.Error{Code: code, Transient: true}, 0).Retry)
		}
	}
}

func TestDecideDependsOnNothingButItsArguments(t *testing.T) {
	policy := policyWith(t, everyOptIn()...)
	e := &graphretry.Error{Status: 500, Code: 2, RetryAfter: time.Second, Raw: []byte(`{"code":2}`)}
	before := *e
	want := decide(policy, e, 3)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				decide(policy, &graphretry.Error{Code: 131000}, 0)
				assert.Equal(t, want, decide(policy, e, 3))
			}
		})
	}
	group.Wait()
	assert.Equal(t, before, *e)
}

func TestPolicyIgnoresTheElapsedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := policyWith(t, graphretry.WithMaxElapsedTime(time.Second))
		time.Sleep(time.Hour)
		assert.Equal(t, 160*time.Second, decide(policy, &graphretry.Error{Code: 2}, 5).Wait)
	})
}

func TestReasonIsNamedInWords(t *testing.T) {
	seen := map[string]bool{}
	for reason := graphretry.ReasonNotRetried; reason <= graphretry.ReasonWithoutWaiting; reason++ {
		text := reason.String()
		assert.NotEmpty(t, text, "reason %d", int(reason))
		assert.NotContains(t, text, "Reason(", "reason %d", int(reason))
		assert.False(t, seen[text], "two reasons are %q", text)
		seen[text] = true
	}
	for reason, text := range map[graphretry.Reason]string{
		graphretry.ReasonTransient:          "temporary failure",
		graphretry.ReasonNever:              "this code is never retried",
		graphretry.ReasonWithoutWaiting + 1: "Reason(17)",
		0:                                   "Reason(0)",
		-1:                                  "Reason(-1)",
	} {
		assert.Equal(t, text, reason.String())
	}
}
