package graphretry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// answer is a response as http.Client.Do returns it.
func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
}

func TestWhatGraphErrorsBecome(t *testing.T) {
	const sec = time.Second
	for name, test := range map[string]struct {
		e       graphretry.Error
		h       graphretry.History
		opts    []graphretry.Option
		outcome graphretry.Outcome
		wait    time.Duration
		reason  graphretry.Reason
	}{
		"retried":                       {e: graphretry.Error{Code: 2}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonTransient},
		"131000":                        {e: graphretry.Error{Code: 131000}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonRetryOnce},
		"131000 after a 2":              {e: graphretry.Error{Code: 131000}, h: after(2, 1), outcome: graphretry.OutcomeRetry, wait: 10 * sec, reason: graphretry.ReasonRetryOnce},
		"131000 after a network retry":  {e: graphretry.Error{Code: 131000}, h: graphretry.History{Network: 1}, outcome: graphretry.OutcomeRetry, wait: 10 * sec, reason: graphretry.ReasonRetryOnce},
		"131000 again":                  {e: graphretry.Error{Code: 131000}, h: after(131000, 1), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonRetriesExhausted},
		"no retries left of any code":   {e: graphretry.Error{Code: 2}, h: after(131016, 3), opts: []graphretry.Option{graphretry.WithMaxRetries(3)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonRetriesExhausted},
		"held waits are no retries":     {e: graphretry.Error{Code: 2}, h: graphretry.History{Held: 9}, opts: []graphretry.Option{graphretry.WithMaxRetries(3)}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonTransient},
		"never":                         {e: graphretry.Error{Code: 130472}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNever},
		"taken away":                    {e: graphretry.Error{Code: 2}, opts: []graphretry.Option{graphretry.WithoutRetryOn(2)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"taken away, a limit":           {e: graphretry.Error{Code: 130429}, opts: []graphretry.Option{graphretry.WithoutRetryOn(130429)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"taken away, the sender's":      {e: graphretry.Error{Code: 190}, opts: []graphretry.Option{graphretry.WithoutRetryOn(190)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"the sender's":                  {e: graphretry.Error{Code: 190}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNotRetried},
		"the sender's, held before":     {e: graphretry.Error{Code: 190}, h: graphretry.History{Held: 2}, outcome: graphretry.OutcomeHeld, wait: 20 * sec, reason: graphretry.ReasonNotRetried},
		"the sender's, retried before":  {e: graphretry.Error{Code: 190}, h: after(2, 4), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNotRetried},
		"the sender's, named":           {e: graphretry.Error{Code: 131042}, opts: []graphretry.Option{graphretry.WithRetryOn(131042, 2)}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonRetryOn},
		"the sender's, named, used up":  {e: graphretry.Error{Code: 131042}, h: after(131042, 2), opts: []graphretry.Option{graphretry.WithRetryOn(131042, 2)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonRetriesExhausted},
		"the sender's, in the subcode":  {e: graphretry.Error{Code: 1, Subcode: 131031}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNotRetried},
		"a limit":                       {e: graphretry.Error{Code: 130429}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNotRetried},
		"a limit that says when":        {e: graphretry.Error{Code: 80007, RetryAfter: time.Hour}, outcome: graphretry.OutcomeHeld, wait: time.Hour, reason: graphretry.ReasonNotRetried},
		"a limit, by option":            {e: graphretry.Error{Code: 130429}, opts: []graphretry.Option{graphretry.WithThrottleRetries()}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonThrottle},
		"131056":                        {e: graphretry.Error{Code: 131056}, outcome: graphretry.OutcomeHeld, wait: sec, reason: graphretry.ReasonNotRetried},
		"131056, held before":           {e: graphretry.Error{Code: 131056}, h: graphretry.History{Held: 2}, outcome: graphretry.OutcomeHeld, wait: 16 * sec, reason: graphretry.ReasonNotRetried},
		"an account's maintenance":      {e: graphretry.Error{Code: 131057}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNotRetried},
		"368":                           {e: graphretry.Error{Code: 368}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"131048":                        {e: graphretry.Error{Code: 131048}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"131064":                        {e: graphretry.Error{Code: 131064}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"133007":                        {e: graphretry.Error{Code: 133007}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"133016":                        {e: graphretry.Error{Code: 133016}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"131048, a short schedule":      {e: graphretry.Error{Code: 131048}, opts: []graphretry.Option{graphretry.WithMaxInterval(time.Minute)}, outcome: graphretry.OutcomeHeld, wait: time.Minute, reason: graphretry.ReasonNotRetried},
		"held, and the schedule stops":  {e: graphretry.Error{Code: 190}, opts: []graphretry.Option{graphretry.WithBackOff(stopAtOnce)}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"retry, and the schedule stops": {e: graphretry.Error{Code: 2}, opts: []graphretry.Option{graphretry.WithBackOff(stopAtOnce)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonRetriesExhausted},
		"held, a schedule of no wait":   {e: graphretry.Error{Code: 190}, opts: []graphretry.Option{graphretry.WithBackOff(noWait)}, outcome: graphretry.OutcomeHeld, wait: 1, reason: graphretry.ReasonNotRetried},
		"under 100, the sender's":       {e: graphretry.Error{Code: 100, Subcode: 131031}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNever},
		"under 100, a limit":            {e: graphretry.Error{Code: 100, Subcode: 130429}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNever},
		"100":                           {e: graphretry.Error{Code: 100}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNever},
		"never, in the subcode":         {e: graphretry.Error{Code: 2, Subcode: 131009}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNever},
		"a lasting block, as a subcode": {e: graphretry.Error{Code: 1, Subcode: 131048}, outcome: graphretry.OutcomeHeld, wait: 180 * sec, reason: graphretry.ReasonNotRetried},
		"taken away, above a block":     {e: graphretry.Error{Code: 1, Subcode: 131031}, opts: []graphretry.Option{graphretry.WithoutRetryOn(1)}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"marked is_transient":           {e: graphretry.Error{Code: 1, Transient: true}, opts: []graphretry.Option{graphretry.WithTransientFlag()}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonTransientFlag},
		"a recipient":                   {e: graphretry.Error{Code: 131026}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"a code nobody knows":           {e: graphretry.Error{Code: 999999}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
		"1":                             {e: graphretry.Error{Code: 1}, outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNotRetried},
	} {
		policy := policyWith(t, test.opts...)
		decision := policy.Decide(&test.e, test.h)
		assert.Equal(t, test.outcome, decision.Outcome, name)
		assert.Equal(t, test.wait, decision.Wait, name)
		assert.Equal(t, test.reason, decision.Reason, name)
		assert.Equal(t, test.outcome == graphretry.OutcomeRetry, decision.Retry, name)
		assert.Equal(t, test.e.Code, decision.Graph.Code, name)
		assert.Contains(t, decision.Cause, fmt.Sprintf("Graph error %d", test.e.Code), name)

		resp := answer(500, fmt.Sprintf(`{"error":{"code":%d,"error_subcode":%d,"is_transient":%v}}`, test.e.Code, test.e.Subcode, test.e.Transient))
		if test.e.RetryAfter > 0 {
			resp.Header.Set("Retry-After", fmt.Sprint(int(test.e.RetryAfter.Seconds())))
		}
		next := policy.Next(resp, nil, test.h)
		assert.Equal(t, []any{decision.Outcome, decision.Wait, decision.Reason, decision.History},
			[]any{next.Outcome, next.Wait, next.Reason, next.History}, "%s: Next and Decide differ", name)
	}
}

func stopAtOnce() backoff.BackOff { return &backoff.StopBackOff{} }
func noWait() backoff.BackOff     { return &backoff.ZeroBackOff{} }

// after is the history of work that was retried so often for a code.
func after(code graphretry.Code, retries int) graphretry.History {
	return graphretry.History{Retries: map[graphretry.Code]int{code: retries}}
}

func TestWhatTheRestBecomes(t *testing.T) {
	const sec = time.Second
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	outage := fmt.Errorf("graphretry: %w: %w", graphretry.ErrOutage, context.DeadlineExceeded)
	for name, test := range map[string]struct {
		resp    *http.Response
		err     error
		opts    []graphretry.Option
		outcome graphretry.Outcome
		wait    time.Duration
		reason  graphretry.Reason
	}{
		"200":                  {resp: answer(200, ""), outcome: graphretry.OutcomeSent},
		"299":                  {resp: answer(299, `{"error":{"code":2}}`), outcome: graphretry.OutcomeSent},
		"304":                  {resp: answer(304, ""), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNoGraphError},
		"302 and an error":     {resp: answer(302, ""), err: errors.New("no redirects"), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNoGraphError},
		"200 and an error":     {resp: answer(200, ""), err: errors.New("odd"), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNoGraphError},
		"404":                  {resp: answer(404, "no page"), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNoGraphError},
		"400":                  {resp: answer(400, ""), outcome: graphretry.OutcomeFailed, reason: graphretry.ReasonNoGraphError},
		"401":                  {resp: answer(401, ""), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNoGraphError},
		"403":                  {resp: answer(403, "<html>"), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNoGraphError},
		"407":                  {resp: answer(407, ""), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNoGraphError},
		"408":                  {resp: answer(408, ""), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNoGraphError},
		"429":                  {resp: answer(429, ""), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNoGraphError},
		"500":                  {resp: answer(500, ""), outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"502 in HTML":          {resp: answer(502, "<html>Bad gateway</html>"), opts: []graphretry.Option{graphretry.WithNetworkRetries()}, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"101":                  {resp: answer(101, ""), outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"neither":              {outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"nothing sent":         {err: &url.Error{Op: "Post", URL: messagesURL, Err: refused}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNetwork},
		"nothing sent, twice":  {err: errors.Join(refused, refused), outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonNetwork},
		"perhaps sent":         {err: errors.Join(refused, io.EOF), opts: []graphretry.Option{graphretry.WithNetworkRetries()}, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"broken":               {err: &url.Error{Op: "Post", URL: messagesURL, Err: io.ErrUnexpectedEOF}, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"a cancel":             {err: context.Canceled, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"a timeout":            {err: context.DeadlineExceeded, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
		"an outage":            {err: &url.Error{Op: "Post", URL: messagesURL, Err: &graphretry.WaitError{Err: outage, Wait: 7 * sec}}, outcome: graphretry.OutcomeHeld, wait: 7 * sec, reason: graphretry.ReasonOutage},
		"an outage's code":     {err: &graphretry.WaitError{Err: outage, Wait: 7 * sec, Graph: &graphretry.Error{Code: 2}}, outcome: graphretry.OutcomeHeld, wait: 7 * sec, reason: graphretry.ReasonOutage},
		"an outage, no time":   {err: graphretry.ErrOutage, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonOutage},
		"canceled, never sent": {err: &graphretry.WaitError{Err: context.Canceled, Graph: &graphretry.Error{Code: 2}}, opts: []graphretry.Option{graphretry.WithoutRetryOn(2)}, outcome: graphretry.OutcomeHeld, wait: 5 * sec, reason: graphretry.ReasonOutage},
		"canceled in a queue":  {err: &graphretry.WaitError{Err: context.Canceled, Wait: 3 * sec, Graph: &graphretry.Error{Code: 2}}, outcome: graphretry.OutcomeHeld, wait: 3 * sec, reason: graphretry.ReasonOutage},
		"canceled after a 2":   {err: &graphretry.WaitError{Err: context.Canceled, Attempts: 1, Graph: &graphretry.Error{Code: 2}}, outcome: graphretry.OutcomeRetry, wait: 5 * sec, reason: graphretry.ReasonTransient},
		"canceled, no code":    {err: &graphretry.WaitError{Err: context.Canceled, Attempts: 1}, outcome: graphretry.OutcomeUnknown, reason: graphretry.ReasonAmbiguous},
	} {
		decision := policyWith(t, test.opts...).Next(test.resp, test.err, graphretry.History{})
		assert.Equal(t, test.outcome, decision.Outcome, name)
		assert.Equal(t, test.wait, decision.Wait, name)
		assert.Equal(t, test.reason, decision.Reason, name)
		assert.Equal(t, test.outcome == graphretry.OutcomeSent, decision.Cause == "", "%s: %s", name, decision.Cause)
		assert.NotContains(t, decision.Cause, "\n", name)
		want := graphretry.History{}
		if test.outcome == graphretry.OutcomeHeld {
			want.Held = 1
		}
		if test.outcome == graphretry.OutcomeRetry {
			want = after(2, 1)
		}
		assert.Equal(t, want, decision.History, name)
	}
}

func TestAnswerStaysReadableAndASuccessIsNotRead(t *testing.T) {
	policy := policyWith(t)
	body := &watchedBody{from: io.NopCloser(strings.NewReader(`{"messages":[{"id":"wamid.1"}]}`))}
	resp := answer(200, "")
	resp.Body = body
	policy.Next(resp, nil, graphretry.History{})
	assert.Empty(t, body.text())
	assert.Zero(t, body.closed())

	failed := string(graphtest.ErrorBody(2))
	resp = answer(503, failed)
	policy.Next(resp, nil, graphretry.History{})
	left, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, failed, string(left))
}

// 1,000 jobs that one outage has refused must not come back in one second.
func TestJobsThatAnOutageHeldComeBackApart(t *testing.T) {
	policy, err := graphretry.NewPolicy()
	require.NoError(t, err)
	for _, untilProbe := range []time.Duration{300 * time.Millisecond, 20 * time.Second} {
		seconds := map[int]int{}
		for range 1000 {
			wait := policy.Next(nil, &graphretry.WaitError{Err: graphretry.ErrOutage, Wait: untilProbe}, graphretry.History{}).Wait
			assert.GreaterOrEqual(t, wait, untilProbe)
			seconds[int(wait.Seconds())]++
		}
		// Evenly over the schedule's interval of 5 s, or the time to the probe if that is longer.
		assert.GreaterOrEqual(t, len(seconds), int(max(5, untilProbe.Seconds())), "%v", seconds)
	}
	// The longest waits there are stay waits.
	for range 100 {
		assert.Positive(t, policy.Next(nil, &graphretry.WaitError{Err: graphretry.ErrOutage, Wait: math.MaxInt64}, graphretry.History{}).Wait)
	}
}

func TestHeldWaitsHaveJitter(t *testing.T) {
	policy, err := graphretry.NewPolicy()
	require.NoError(t, err)
	waits := map[time.Duration]bool{}
	for range 100 {
		wait := policy.Decide(&graphretry.Error{Code: 190}, graphretry.History{}).Wait
		assert.GreaterOrEqual(t, wait, 5*time.Second)
		assert.LessOrEqual(t, wait, 10*time.Second)
		waits[wait] = true
	}
	assert.Greater(t, len(waits), 90)
}

func TestNilAndZeroPolicyFailWhatFailed(t *testing.T) {
	for _, policy := range []*graphretry.Policy{nil, {}} {
		assert.Equal(t, graphretry.OutcomeFailed, policy.Decide(&graphretry.Error{Code: 2}, graphretry.History{}).Outcome)
		assert.Equal(t, graphretry.OutcomeFailed, policy.Next(answer(503, string(graphtest.ErrorBody(2))), nil, graphretry.History{}).Outcome)
		assert.Equal(t, graphretry.OutcomeFailed, policy.Next(nil, graphretry.ErrOutage, graphretry.History{}).Outcome)
		assert.Equal(t, graphretry.OutcomeSent, policy.Next(answer(200, ""), nil, graphretry.History{}).Outcome)
	}
	decision := policyWith(t).Decide(nil, after(2, 1))
	assert.Equal(t, graphretry.Decision{
		Outcome: graphretry.OutcomeFailed, Reason: graphretry.ReasonNoGraphError, Cause: "no Graph error in the answer", History: after(2, 1),
	}, decision)
}

func TestHistoryThatWasGivenIsNotChanged(t *testing.T) {
	policy := policyWith(t)
	given := after(2, 3)
	decision := policy.Decide(&graphretry.Error{Code: 2}, given)
	assert.Equal(t, after(2, 4), decision.History)
	assert.Equal(t, after(2, 3), given)
	again := policy.Decide(&graphretry.Error{Code: 2}, decision.History)
	assert.Equal(t, after(2, 4), decision.History)
	assert.Equal(t, after(2, 5), again.History)
}

func TestCountsOfAHistoryMayBeAnyNumber(t *testing.T) {
	policy := policyWith(t)
	for _, n := range []int{math.MinInt, -1, 0, math.MaxInt - 1, math.MaxInt} {
		h := graphretry.History{Retries: map[graphretry.Code]int{2: n, 131016: n}, Network: n, Held: n}
		retry, held := policy.Decide(&graphretry.Error{Code: 2}, h), policy.Decide(&graphretry.Error{Code: 190}, h)
		if n <= 0 {
			assert.Equal(t, 5*time.Second, retry.Wait)
			assert.Equal(t, 5*time.Second, held.Wait)
			assert.Equal(t, 1, retry.History.Retries[2])
			assert.Equal(t, 1, held.History.Held)
			continue
		}
		assert.Equal(t, graphretry.OutcomeFailed, retry.Outcome, "%d: as many as there can be", n)
		assert.Equal(t, 3*time.Minute, held.Wait)
		assert.Positive(t, held.History.Held)
	}
}

func TestDecisionGoesThroughJSONAndDecidesOn(t *testing.T) {
	policy := policyWith(t)
	h := graphretry.History{}
	for i, code := range []graphretry.Code{2, 190, 131000, 2, 131000} {
		e := &graphretry.Error{Status: 500, Code: code, Message: "m", Raw: []byte(`{"code":2,"message":"EAAGtoken"}`)}
		decision := policy.Decide(e, h)
		text, err := json.Marshal(decision)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "EAAG")
		assert.Contains(t, string(text), `"Outcome":"`+decision.Outcome.String()+`"`)
		assert.Contains(t, string(text), `"Reason":"`+decision.Reason.String()+`"`)
		assert.Contains(t, string(text), fmt.Sprintf(`"Wait":%d`, decision.Wait.Nanoseconds()))
		var read graphretry.Decision
		require.NoError(t, json.Unmarshal(text, &read))
		decision.Graph.Raw = nil
		assert.Equal(t, decision, read)
		h = read.History
		if i == 4 {
			assert.Equal(t, graphretry.OutcomeFailed, read.Outcome, "131000 has had its retry")
		}
	}
	assert.Equal(t, graphretry.History{Retries: map[graphretry.Code]int{2: 2, 131000: 1}, Held: 1}, h)

	text, err := json.Marshal(graphretry.Decision{})
	require.NoError(t, err)
	var read graphretry.Decision
	require.NoError(t, json.Unmarshal(text, &read))
	assert.Equal(t, graphretry.Decision{}, read)
	assert.ErrorContains(t, json.Unmarshal([]byte(`{"Outcome":"lost"}`), &read), `"lost" is no Outcome`)
	assert.ErrorContains(t, json.Unmarshal([]byte(`{"Reason":"none"}`), &read), `"none" is no Reason`)
	_, err = json.Marshal(graphretry.Decision{Outcome: 42})
	assert.ErrorContains(t, err, "Outcome(42)")
	_, err = json.Marshal(graphretry.Decision{Reason: -1})
	assert.ErrorContains(t, err, "Reason(-1)")
}

func TestCauseAndGraphHoldNoSecret(t *testing.T) {
	policy := policyWith(t)
	const token = "EAAGsecretsecretsecret"
	req := message(t, t.Context())
	req.Header.Set("Authorization", "Bearer abc.def.ghi")
	resp := answer(400, `{"error":{"code":190,"message":"Malformed access token abc.def.ghi\nor `+token+`"}}`)
	resp.Request = req
	fromError := &url.Error{Op: "Post", URL: messagesURL + "?access_token=" + token, Err: io.EOF}
	for _, decision := range []graphretry.Decision{
		policy.Next(resp, nil, graphretry.History{}),
		policy.Next(nil, fromError, graphretry.History{}),
		policy.Next(answer(302, ""), fromError, graphretry.History{}),
		policy.Decide(&graphretry.Error{Code: 190, Message: "Malformed access token " + token}, graphretry.History{}),
	} {
		text, err := json.Marshal(decision)
		require.NoError(t, err)
		assert.NotContains(t, string(text), token)
		assert.NotContains(t, string(text), "abc.def.ghi")
		assert.NotContains(t, decision.Cause, "\n")
		assert.Contains(t, decision.Cause, "[REDACTED]")
	}
}

func TestDecideDoesNotChangeItsError(t *testing.T) {
	e := &graphretry.Error{Code: 190, Message: "Malformed access token EAAGsecretsecretsecret"}
	before := *e
	policyWith(t).Decide(e, graphretry.History{})
	assert.Equal(t, before, *e)
}

// For a Graph error the Transport and the Policy are one: the calls of a worker whose client
// makes one attempt go out when those of a Transport that waits by itself do.
func TestTransportAndPolicyDecideAlike(t *testing.T) {
	codes := []graphretry.Code{2, 131016, 131000, 130429, 131056, 4, 1, 131026}
	options := map[string][]graphretry.Option{
		"by default": nil,
		"throttle":   {graphretry.WithThrottleRetries()},
		"few":        {graphretry.WithMaxRetries(3), graphretry.WithThrottleRetries()},
		"named":      {graphretry.WithRetryOn(1, 2), graphretry.WithRetryOn(131000, 3), graphretry.WithoutRetryOn(131016)},
		"schedule":   {graphretry.WithBackOff(func() backoff.BackOff { return backoff.WithMaxRetries(backoff.NewConstantBackOff(time.Second), 4) })},
		"growing":    {graphretry.WithMaxInterval(15 * time.Second), graphretry.WithMultiplier(3), graphretry.WithRetryOn(131026, 9)},
	}
	random := rand.New(rand.NewPCG(18, 18))
	for name, opts := range options {
		opts = append(opts, graphretry.WithJitter(0), graphretry.WithMaxElapsedTime(0), graphretry.WithOutageThreshold(0))
		for range 40 {
			var replies []reply
			for range 12 {
				replies = append(replies, fails(codes[random.IntN(len(codes))]))
			}
			replies = append(replies, success)
			synctest.Test(t, func(t *testing.T) {
				w := &witness{next: script(replies...)}
				sentStatus(t, newTransport(t, w, opts...), t.Context())
				byTransport := w.waits()

				policy := policyWith(t, opts...)
				w = &witness{next: script(replies...)}
				worker := newTransport(t, w, append(opts, graphretry.WithoutWaiting())...)
				h := graphretry.History{}
				for {
					resp, err := worker.RoundTrip(message(t, t.Context()))
					decision := policy.Next(resp, err, h)
					if !decision.Retry {
						break
					}
					resp.Body.Close()
					before := maps.Clone(h.Retries)
					time.Sleep(decision.Wait)
					assert.Equal(t, before, h.Retries)
					h = decision.History
				}
				assert.Equal(t, byTransport, w.waits(), name)
			})
		}
	}
}
