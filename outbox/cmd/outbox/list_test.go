package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

func TestStatsCountsEachNumber(t *testing.T) {
	c := newOperator(t, "a", "b")
	require.NoError(t, c.Enqueue(t.Context(), "c", "222", []byte(payload)))
	require.NoError(t, c.Pause(t.Context(), "222"))
	out := c.must("", "stats")
	assert.Regexp(t, `(?m)^all +3 +0 +0 +0 +0  no Run is alive, so nothing is sent$`, out)
	assert.Regexp(t, `(?m)^222 +1 +0 +0 +0 +0  paused by a person$`, out)
	assert.Less(t, strings.Index(out, "\n222"), strings.Index(out, "\n"+number), "what needs a person comes first")
	assert.Regexp(t, `^longest wait: \d+s \(since 20\S+Z\)\n`, out)

	var stats statsDocument
	c.decode(&stats, "stats")
	assert.Equal(t, counts{Queued: 2}, stats.Numbers[number].States)
	assert.True(t, stats.Numbers["222"].Paused)
	assert.Equal(t, 3, stats.States.Queued)
	assert.WithinDuration(t, time.Now(), stats.WaitingSince, patience)
}

func TestMessageForLaterDoesNotWait(t *testing.T) {
	c := newOperator(t)
	require.NoError(t, c.Enqueue(t.Context(), "tonight", number, []byte(payload), outbox.NotBefore(time.Now().Add(12*time.Hour))))
	for _, verb := range []string{"stats", "top"} {
		assert.NotContains(t, c.must("", verb), "longest wait", verb)
		var document map[string]any
		c.decode(&document, verb)
		assert.NotContains(t, document, "waiting_since", verb)
		assert.Contains(t, document, "states", verb)
	}
	c.Add("now")
	for _, verb := range []string{"stats", "top"} {
		assert.Contains(t, c.must("", verb), "longest wait: ", verb)
	}
}

func TestStatsShowTheRuns(t *testing.T) {
	c := newOperator(t)
	assert.NotContains(t, c.must("", "stats"), "heartbeat")
	c.Send()
	require.Eventually(t, func() bool {
		stats, err := c.Stats(t.Context())
		return err == nil && len(stats.Runs) == 1
	}, patience, time.Millisecond)
	assert.Regexp(t, `(?m)^[0-9]+ +[0-9]+s ago +[0-9]+s ago +0$`, c.must("", "stats"))
	var stats statsDocument
	c.decode(&stats, "stats")
	require.Len(t, stats.Runs, 1)
	assert.NotZero(t, stats.Runs[0].ID)
	assert.Equal(t, "the database can be used\n", c.must("", "health"))
}

func TestListPrintsWhatFits(t *testing.T) {
	c := newOperator(t, "a", "b", "c\x1b[2J\u202e")
	out := c.must("", "list")
	assert.Equal(t, 3, strings.Count(out, "\n"), out)
	assert.Regexp(t, `(?m)^queued  \d+s ago +`+number+` +a  +no Run is alive$`, out)
	assert.NotContains(t, out, "\x1b")
	assert.NotContains(t, out, "\u202e")
	assert.Equal(t, 1, strings.Count(c.must("", "list", "-limit", "1"), "\n"))
	assert.Empty(t, c.must("", "list", "-older", "1h"))
	assert.Equal(t, "no message matches\n", c.stderr)
	assert.Empty(t, c.must("", "-json", "list", "-state", "failed,unknown"))
	assert.Empty(t, c.stderr)

	var status messageDocument
	for _, id := range []string{"a", "b"} {
		args := []string{"list", "-limit", "1"}
		if status.ID != "" {
			args = append(args, "-after", status.ID)
		}
		status = messageDocument{}
		c.decode(&status, args...)
		assert.Equal(t, id, status.ID)
	}
}

// A heading or an ID that is shortened could not be copied.
func TestListOnATerminalCutsTheReasonAlone(t *testing.T) {
	id := "5f0c2a9e-8a0e-4a1a-9c1f-2f5f7f6a0b7d"
	c := newOperator(t, id)
	require.NoError(t, c.Pause(t.Context(), ""))
	assert.Regexp(t, `^queued  \d+s ago  `+id+`  all numbers are paused\n$`, c.on(80, "list"))
	assert.Regexp(t, `^queued  \d+s ago  `+number+`  `+id+`  all numbers are paused\n$`, c.on(120, "list"))
	assert.Regexp(t, `^queued  \d+s ago  `+id+`  all numbers are paused\n$`, c.on(20, "list"))
}

func TestListPrintsMoreThanAPage(t *testing.T) {
	c := newOperator(t)
	var messages []outbox.Message
	for i := range pageSize + 2 {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: number, Payload: []byte(payload)})
	}
	require.NoError(t, c.EnqueueAll(t.Context(), messages))
	for args, want := range map[string]int{
		"list":                           pageSize + 2,
		"list -limit 1001":               pageSize + 1,
		"list -limit 1000":               pageSize,
		"list -limit 999 -state queued":  pageSize - 1,
		"list -state unknown,queued":     pageSize + 2,
		"list -limit 5000 -state queued": pageSize + 2,
	} {
		lines := strings.Split(strings.TrimSpace(c.must("", strings.Fields("-json "+args)...)), "\n")
		seen := make(map[string]bool)
		for _, line := range lines {
			var status messageDocument
			require.NoError(t, json.Unmarshal([]byte(line), &status))
			seen[status.ID] = true
		}
		assert.Len(t, lines, want, args)
		assert.Len(t, seen, want, args)
	}
	assert.Equal(t, pageSize+2, strings.Count(c.must("", "list"), "\n"))
}

func TestShowLeavesOutWhatIsEmpty(t *testing.T) {
	c := newOperator(t, "a", "-b")
	out := c.must("", "show", "a")
	assert.Regexp(t, `^a is queued\n  no Run is alive\n\nphone number ID  `+number+`\n\nhistory\n  20\S+Z  \d+s ago: enqueued\n$`, out)
	assert.Contains(t, c.must("", "-json", "show", "--", "-b"), `"id":"-b"`)
	_, err := c.do("", "show", "x")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}

func TestShowSaysWhatMetaSaidAndWhen(t *testing.T) {
	c := newOperator(t)
	c.Send()
	c.Becomes("gone", outbox.StateFailed, graphtest.Answer{Code: 131026, Details: strings.TrimSpace(strings.Repeat("a long text of Meta's ", 20))})
	out := c.on(80, "show", "gone")
	assert.Regexp(t, `^gone is failed\n  Message Undeliverable \(131026\): a long text`, out)
	assert.Regexp(t, `(?m)^  20\S+Z  \d+s ago: enqueued\n  20\S+Z  \d+s ago: last change$`, out)
	for _, want := range []string{"what Meta said", "title ", "code ", "131026", "HTTP status ", "fbtrace_id ", "what to do "} {
		assert.Contains(t, out, want)
	}
	for _, empty := range []string{"label", "Meta's ID", "retries", "0001-01-01", "delivered", "title for the user"} {
		assert.NotContains(t, out, empty)
	}
	for line := range strings.Lines(out) {
		assert.LessOrEqual(t, len(line), 81, line)
	}
	assert.Regexp(t, regexp.MustCompile(`(?m)^  details +a long text of Meta's( a long text of Meta's){19}$`), c.must("", "show", "gone"), "nothing is wrapped in a pipe")

	var message messageDocument
	c.decode(&message, "show", "gone")
	assert.Equal(t, "Message Undeliverable", message.Graph["title"])
	assert.EqualValues(t, 131026, message.Graph["code"])
	assert.True(t, strings.HasPrefix(message.Why, "Message Undeliverable (131026)"), message.Why)
	assert.Equal(t, outbox.StateFailed, message.State)
}

func TestHistoryIsInTheOrderInWhichItHappened(t *testing.T) {
	now := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	lines := strings.Join(messageLines(outbox.Status{
		ID: "a", State: outbox.StateSent, MessageID: "wamid.x", Retries: 2, Label: "june",
		Enqueued: now.Add(-3 * time.Hour), Changed: now.Add(-10 * time.Second), Delivered: now.Add(-12 * time.Second), Read: now.Add(-11 * time.Second),
		ParticipantFailures: 2, ParticipantGraph: &graphretry.Error{Code: 131026},
	}, outbox.Stats{}, now, 0), "\n")
	assert.True(t, strings.HasPrefix(lines, "a is sent\n\n"), lines)
	assert.Contains(t, lines, `history
  2026-11-29T17:00:00Z  3h ago: enqueued
  2026-11-29T19:59:48Z  12s ago: delivered, by Meta's clock
  2026-11-29T19:59:49Z  11s ago: read, by Meta's clock
  2026-11-29T19:59:50Z  10s ago: last change`)
	assert.Contains(t, lines, "label      june\nMeta's ID  wamid.x\nretries    2\n")
	assert.Contains(t, lines, "what Meta said of the last of 2 participants who did not get it\n  title")
	retried := outbox.Status{State: outbox.StateQueued, NotBefore: now.Add(3 * time.Minute), Changed: now.Add(-5 * time.Second), Enqueued: now.Add(-time.Minute)}
	assert.Contains(t, strings.Join(messageLines(retried, outbox.Stats{}, now, 0), "\n"), `
  2026-11-29T19:59:00Z  1m ago: enqueued
  2026-11-29T19:59:55Z  5s ago: last change
  2026-11-29T20:03:00Z  in 3m: is due`)
}

func TestShowSaysAReasonOnce(t *testing.T) {
	lines := strings.Join(messageLines(outbox.Status{State: outbox.StateUnknown, Reason: "may have been carried out: EOF"}, outbox.Stats{}, time.Time{}, 0), "\n")
	assert.Equal(t, 1, strings.Count(lines, "EOF"), lines)
	lines = strings.Join(messageLines(outbox.Status{State: outbox.StateFailed, Reason: "this failure is not retried", Graph: &graphretry.Error{Code: 131026}}, outbox.Stats{}, time.Time{}, 0), "\n")
	assert.Contains(t, lines, "reason  this failure is not retried", "the title stands for it")
}

func TestPauseAndResume(t *testing.T) {
	c := newOperator(t, "a")
	for _, step := range []struct {
		args, says string
		all, this  bool
	}{
		{"pause " + number, number + " is paused\n", false, true}, {"pause", "all phone numbers are paused\n", true, true},
		{"resume " + number, number + " is resumed\n", true, false}, {"resume", "all phone numbers are resumed\n", false, false},
	} {
		assert.Equal(t, step.says, c.must("", strings.Fields(step.args)...))
		stats, err := c.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, step.all, stats.Paused, step.args)
		assert.Equal(t, step.this, stats.Numbers[number].Paused, step.args)
	}
}

func TestEnqueueTakesThePayloadFromStandardInput(t *testing.T) {
	c := newOperator(t)
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	c.must(payload, "enqueue", "-urgent", "-not-before", soon.Format(time.RFC3339), "-expires-at", soon.Add(time.Hour).Format(time.RFC3339), "d", "222")
	status, err := c.Status(t.Context(), "d")
	require.NoError(t, err)
	assert.Equal(t, "222", status.PhoneNumberID)
	assert.True(t, soon.Equal(status.NotBefore))
	c.must("", "drop", "d")
	assert.Equal(t, "d is failed\n", c.must(payload, "enqueue", "d", "222"), "it is the message that it was")
	c.must("", "delete", "d")
	_, err = c.do(payload, "enqueue", "d", "222")
	assert.ErrorContains(t, err, "was deleted")
	_, err = c.do("no JSON", "enqueue", "e", "222")
	assert.ErrorContains(t, err, "JSON object")
}
