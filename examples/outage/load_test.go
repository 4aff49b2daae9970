package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/graphretry/graphretry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMessagesThatMeetAnOutageAreDeliveredOnceAndComparedWithPlainBackoff(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t)
	assert.Equal(t, exitDelivered, r.exit)
	assert.Empty(t, r.stderr)
	requirePlain(t, r.stdout)
	first, _, _ := strings.Cut(r.stdout, "\n")
	assert.Equal(t, "Demo, about 20s: 20 messages a second, a fake API down for 7s. Flags: -h", first)
	assert.Regexp(t, ` 1 s  up    up +0 +\d+ +(19|2[01]) +(19|2[01])\n`, r.stdout)
	assert.Regexp(t, ` 6 s  down  down +[1-9]\d +40 +[01] +[3-9]\d\n`, r.stdout)
	assert.Regexp(t, ` 9 s  up    down +[1-9]\d\d +40 +[01] `, r.stdout, "the API is back, and nobody has asked it yet")
	assert.Regexp(t, ` s  up    recovering +[1-9]`, r.stdout)
	began := strings.Index(r.stdout, " s  outage began: ")
	probe := strings.Index(r.stdout, " s  a probe was sent; if it fails, the next follows in ")
	released := strings.Index(r.stdout, " s  a probe succeeded: the queue is released, soonest deadline first")
	ended := strings.Index(r.stdout, " s  outage ended after ")
	assert.IsIncreasing(t, []int{0, began, probe, released, ended}, r.stdout)

	var sent, delivered int
	_, closing, _ := strings.Cut(r.stdout, "\ngraphretry: ")
	n, err := fmt.Sscanf(closing, "%d messages sent, %d delivered, 0 lost, 0 sent twice;", &sent, &delivered)
	require.NoError(t, err, r.stdout)
	require.Equal(t, 2, n)
	assert.Equal(t, sent, delivered)

	// 140 messages meet the outage of 7 s. Each of the plain loops tries again after
	// 1 s to 1.5 s, after twice that, and so on.
	closing = flat(r.stdout)
	figures := regexp.MustCompile(`sent twice; (\d+) calls reached the API while it was down, .* each: (\d+) calls while the API was down, .* Without any retry: (\d+) messages failed\.$`).FindStringSubmatch(closing)
	require.NotNil(t, figures, closing)
	calls := func(i int) (n int) {
		_, err := fmt.Sscan(figures[i], &n)
		require.NoError(t, err)
		return n
	}
	assert.InDelta(t, 22, calls(1), 3, "20 answers that bring the host down, and the probes")
	assert.InDelta(t, 140+20*(7-1.25)+20*(7-3.75), calls(2), 10, "the attempts of plain backoff")
	assert.InDelta(t, 140, calls(3), 1, "those who are sent while the API is down")
}

func TestDemoSaysWhyPlainBackoffDeliversFirst(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t)
	closing := flat(r.stdout)
	why := regexp.MustCompile(`plain backoff delivers first, after ([\d.]+) s, because each of its loops tries for itself\. ` +
		`That puts (\d+) calls on an API that is coming back, in its first 5 s\. ` +
		`graphretry waits for its next probe and delivers after ([\d.]+) s\. It puts (\d+) calls on the API in that time, at a rate that rises\. ` +
		`The last message of the outage is delivered ([\d.]+) s after it, [\d.]+ s (?:earlier|later) than with plain backoff\.`).FindStringSubmatch(closing)
	require.NotNil(t, why, closing)
	figure := func(i int) float64 {
		f, err := strconv.ParseFloat(why[i], 64)
		require.NoError(t, err)
		return f
	}
	assert.Less(t, figure(1), figure(3))
	assert.Greater(t, figure(2), figure(4))
	assert.Greater(t, figure(5), figure(3))
	probe := regexp.MustCompile(`the API is back: a plain loop finds out at once, graphretry in ([\d.]+) s`).FindStringSubmatch(closing)
	require.NotNil(t, probe, closing)
	after, err := strconv.ParseFloat(probe[1], 64)
	require.NoError(t, err)
	assert.InDelta(t, figure(3), after, 0.2, "with that probe, whose answer takes 0.05 s")
}

func TestDemoComparesNobodyWhereNothingIsRetried(t *testing.T) {
	t.Parallel()
	assert.NotContains(t, inVirtualTime(t, "-code", "131009").stdout, "delivers first")
	assert.NotContains(t, inVirtualTime(t, "-outage", "0s").stdout, "delivers first")
}

// 2 messages a second make a short queue. A loop whose sixth attempt fails waits 32 s or
// more for its seventh.
func TestClosingLinesCountPlainLoopsThatStillWait(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, "-outage", "50s", "-rate", "2")
	assert.Equal(t, exitDelivered, r.exit)
	assert.Regexp(t, `in the busiest second after\. [1-9]\d* messages still waiting\.`, flat(r.stdout))
}

func TestErrorThatIsNotRetriedIsTheSendersAtOnce(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, "-code", "131009")
	assert.Equal(t, exitNotDelivered, r.exit)
	requirePlain(t, r.stdout)
	assert.Regexp(t, "8[01] delivered, 140 lost, 0 sent twice; 140 calls reached the API while it was down,", flat(r.stdout), "each was sent once")
	assert.Contains(t, flat(r.stdout), "140 messages failed: code 131009 (Parameter value is not valid) is not retried, and the sender has Meta's answer. "+graphretry.CodeParameterInvalid.Advice())
	assert.NotContains(t, r.stdout, "outage began")
}

func TestInterruptedSendersSayWhatHadNoAnswer(t *testing.T) {
	t.Parallel()
	r := interrupted(t, " 7 s  down", "-outage", "1h")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Regexp(t, `Interrupted: 1[34]\d messages sent, 40 delivered\. (?:9|10)\d had no answer yet, [1-9]\d+ of them in the queue\.\s*$`, flat(r.stdout))
}
