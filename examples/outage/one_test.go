package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMessageIsDeliveredAfterTheOutage(t *testing.T) {
	t.Parallel()
	for _, code := range []graphretry.Code{graphretry.CodeAPIService, graphretry.CodeServiceUnavailable} {
		r := inVirtualTime(t, "-one", "-interval", "5s", "-outage", "12s", "-code", fmt.Sprint(int(code)))
		assert.Equal(t, exitDelivered, r.exit)
		requirePlain(t, r.stdout)
		assert.Empty(t, r.stderr)
		assert.Contains(t, flat(r.stdout), fmt.Sprintf("a fake Graph API that is down for 12s with code %d (%s). For the flags: -h.", code, code.Title()))
		assert.Regexp(t, fmt.Sprintf(`attempt 1 HTTP %d, code %d \(%s\)\n +fbtrace_id A\S{22}\n +retrying in [567]\.\d s \(temporary failure\)\n`,
			graphtest.Status(code), code, code.Title()), r.stdout)
		assert.Regexp(t, `attempt 3 HTTP 200, delivered\n +wamid\.\S+\n\n`, r.stdout)
		assert.Regexp(t, `client\.Do returned once, after (?:1[5-9]|2[0-2])\.\d s, with a success\.`, r.stdout)
		assert.Contains(t, r.stdout, "Without graphretry it would have returned after attempt 1, with the failure.")
		assert.Contains(t, flat(r.stdout), "One call alone waits for its own backoff, as a plain loop does.")
	}
}

func TestMessageIsDeliveredAtOnceWithoutAnOutage(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, "-one", "-outage", "0s")
	assert.Equal(t, exitDelivered, r.exit)
	assert.Contains(t, r.stdout, "Delivered at the first attempt")
	assert.NotContains(t, r.stdout, "Without graphretry")
}

func TestCodeThatIsNeverRetriedIsSentOnceAndItsAnswerIsIntact(t *testing.T) {
	t.Parallel()
	for _, code := range []graphretry.Code{graphretry.CodeParameterInvalid, graphretry.CodeUserExperiment} {
		r := inVirtualTime(t, "-one", "-code", fmt.Sprint(int(code)))
		assert.Equal(t, exitNotDelivered, r.exit)
		requirePlain(t, r.stdout)
		assert.Contains(t, r.stdout, "not retried: this code is never retried")
		assert.Contains(t, r.stdout, "The API saw 1 call,")
		assert.Contains(t, flat(r.stdout), "What to do: "+code.Advice())

		_, rest, found := strings.Cut(r.stdout, "\n{")
		require.True(t, found, "the answer itself is shown")
		body, _, _ := strings.Cut("{"+rest, "\n")
		graph, isGraph := graphretry.ParseError(graphtest.Status(code), nil, []byte(body))
		require.True(t, isGraph, body)
		assert.Equal(t, code, graph.Code)
		assert.Contains(t, r.stdout, "fbtrace_id "+graph.TraceID+"\n", "the answer shown is the one that was reported")
	}
}

func TestSomethingWentWrongIsRetriedOnce(t *testing.T) {
	t.Parallel()
	short := inVirtualTime(t, "-one", "-code", "131000", "-outage", "900ms")
	assert.Equal(t, exitDelivered, short.exit)
	assert.Contains(t, short.stdout, "attempt 2 HTTP 200, delivered")

	long := inVirtualTime(t, "-one", "-code", "131000", "-outage", "5m")
	assert.Equal(t, exitNotDelivered, long.exit)
	assert.Contains(t, long.stdout, "gave up: no retries left")
	assert.Contains(t, long.stdout, "The API saw 2 calls,")
	assert.NotContains(t, long.stdout, "attempt 3")
}

func TestInterruptedInAWaitItSaysThatNothingIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := interrupted(t, "retrying in", "-one")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Contains(t, flat(r.stdout), "Interrupted in the wait for attempt 2. The API has refused the message so far (1 attempt), and nothing is on its way: it was not delivered.")
}

// sendOneTo tells of one message to a fake API.
func sendOneTo(t *testing.T, ctx context.Context, s settings, next http.RoundTripper) (exit int, stdout string) {
	t.Helper()
	var out strings.Builder
	s.interval, s.to = time.Second, "16505551234"
	exit = sendOne(ctx, &terminal{out: &out, colours: s.token != ""}, s, destination{fakeDestination.url, s.token}, next)
	return exit, out.String()
}

func TestInterruptedOnTheWayItSaysThatTheOutcomeIsNotKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		exit, stdout := sendOneTo(t, ctx, settings{}, api)
		assert.Equal(t, exitNotDelivered, exit)
		assert.Contains(t, flat(stdout), "Interrupted while attempt 1 was on its way: whether the API took the message is not known.")
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

func TestTokenIsSentAndNeverPrinted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		api.AnswerNext(1, graphtest.Answer{Code: 190, Message: "Malformed access token " + secret, Details: "The token is " + secret})
		var authorization []string
		next := roundTripper(func(request *http.Request) (*http.Response, error) {
			authorization = append(authorization, request.Header.Get("Authorization"))
			return api.RoundTrip(request)
		})
		exit, stdout := sendOneTo(t, t.Context(), settings{token: secret}, next)
		assert.Equal(t, exitNotDelivered, exit)
		assert.Equal(t, []string{"Bearer " + secret, "Bearer " + secret}, authorization)
		assert.Contains(t, stdout, "code 190")
		assert.Contains(t, stdout, "The token is", "what Meta said is told, but for the token")
		assert.NotContains(t, stdout, secret)
	})
}

func TestAnswerWithoutAGraphErrorIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Status: http.StatusBadGateway})
		exit, stdout := sendOneTo(t, t.Context(), settings{}, api)
		assert.Equal(t, exitNotDelivered, exit)
		assert.Contains(t, stdout, "an answer that is no Graph error")
		assert.Contains(t, stdout, "Not delivered: the API answered 502 Bad Gateway.")
	})
}

func TestBrokenConnectionIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
		exit, stdout := sendOneTo(t, t.Context(), settings{}, api)
		assert.Equal(t, exitNotDelivered, exit)
		assert.Contains(t, stdout, "attempt 1 no answer\n"+indent+"not retried: may have been carried out\n")
		assert.Contains(t, flat(stdout), "Not delivered: Post")
	})
}
