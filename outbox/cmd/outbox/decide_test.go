package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
)

func TestManyMessagesAreCountedAndAskedFor(t *testing.T) {
	c := newOperator(t, "a", "b", "c")
	require.NoError(t, c.Park(t.Context(), "c"))
	for _, verb := range []string{"Drop", "Delete"} {
		for _, args := range [][]string{{"-state", "queued,unknown"}, {"-number", number}, {"a", "b", "c"}} {
			for _, answer := range []string{"n\n", "\n", "yo\n", "n"} {
				out, err := c.do(answer, append([]string{strings.ToLower(verb)}, args...)...)
				assert.ErrorContains(t, err, "nothing was done")
				assert.Empty(t, out)
				assert.Contains(t, c.stderr, verb+" 3 messages? [y/N] ")
				assert.Contains(t, c.stderr, "A message that is ")
				if len(args) == 2 {
					assert.Regexp(t, "^3 messages: 2 queued, 1 unknown\n", c.stderr)
				}
			}
		}
	}
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, "2 messages were dropped\n", c.must("y\n", "drop", "a", "b", "a"))
	assert.Equal(t, "1 message was dropped\n", c.must("YES\n", "drop", "-state", "unknown"))
	assert.Equal(t, "0 messages\n", c.must("", "drop", "-state", "queued"), "there is nothing to ask")
	for _, id := range []string{"a", "b", "c"} {
		assert.Equal(t, outbox.StateFailed, c.State(id))
	}
	assert.Equal(t, "3 messages were put back into the queue\n", c.must("y\n", "resend", "-state", "failed"))
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, "3 messages were deleted\n", c.must("", "delete", "-yes", "-older", "0s"))
	assert.Empty(t, c.State("a"))
}

// A script must not hang, and must not do for one message what it does not do for two.
func TestNothingIsDoneWhereNobodyCanBeAsked(t *testing.T) {
	c := newOperator(t, "a", "b")
	for _, args := range []string{"-limit 1", "-number " + number, "a b"} {
		_, err := c.do("", append([]string{"drop"}, strings.Fields(args)...)...)
		assert.ErrorContains(t, err, "standard input is no terminal", args)
		assert.ErrorContains(t, err, "-yes", args)
		assert.Regexp(t, `^[12] messages?`, c.stderr, args)
		assert.NotContains(t, c.stderr, "[y/N]", args)
	}
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, "1 message was dropped\n", c.must("", "drop", "a"), "one that is named")
	assert.Equal(t, "1 message was dropped\n", c.must("", "drop", "-yes", "-limit", "1"))
	assert.Equal(t, outbox.StateFailed, c.State("b"))
}

func TestDryRunCountsAndDoesNothing(t *testing.T) {
	c := newOperator(t, "a", "b", "c")
	require.NoError(t, c.Park(t.Context(), "c"))
	assert.Equal(t, "3 messages: 2 queued, 1 unknown\n", c.must("", "drop", "-dry-run", "-yes", "-number", number))
	assert.Equal(t, "2 messages\n", c.must("", "drop", "-dry-run", "-limit", "2", "-number", number))
	assert.Equal(t, "1 message: 1 unknown\n", c.must("", "resend", "-dry-run", "-number", number))
	assert.Equal(t, "2 messages\n", c.must("", "drop", "-dry-run", "a", "b"))
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, outbox.StateUnknown, c.State("c"))
}

func TestInterruptEndsTheQuestion(t *testing.T) {
	c := newOperator(t, "a", "b")
	never, written := io.Pipe()
	defer written.Close()
	ctx, cancel := context.WithCancel(t.Context())
	asked := between{calls: []func(){cancel}}
	err := run(ctx, []string{"-db", c.where, "drop", "-number", number}, streams{in: never, out: io.Discard, err: &asked, asks: true, size: noTerminal})
	assert.ErrorContains(t, err, "nothing was done")
	assert.Contains(t, asked.String(), "[y/N]")
	assert.Equal(t, outbox.StateQueued, c.State("a"))
}

func TestWhatIsEnqueuedAfterTheCountIsLeftAlone(t *testing.T) {
	for _, verb := range []string{"drop", "delete", "park"} {
		c := newOperator(t, "a", "b")
		asked := between{calls: []func(){func() { c.Add("late") }}}
		var out bytes.Buffer
		require.NoError(t, c.run(streams{in: strings.NewReader("y\n"), out: &out, err: &asked, asks: true, size: noTerminal}, verb, "-number", number, "-older", "0s"))
		assert.Contains(t, out.String(), "2 messages were ", verb)
		assert.Equal(t, outbox.StateQueued, c.State("late"), verb)
		assert.NotEqual(t, outbox.StateQueued, c.State("a"), verb)
	}
}

// A person has not agreed to messages that became unknown since: a webhook may be on its way.
// Nor are messages resent that somebody else has decided about since.
func TestResendTouchesOnlyWhatWasCounted(t *testing.T) {
	c := newOperator(t, "a", "late", "dropped", "parked again")
	for _, id := range []string{"a", "dropped", "parked again"} {
		require.NoError(t, c.Park(t.Context(), id))
	}
	asked := between{calls: []func(){func() {
		assert.NoError(t, c.Park(t.Context(), "late"))
		assert.NoError(t, c.Drop(t.Context(), "dropped"))
		assert.NoError(t, c.Resend(t.Context(), "parked again"))
		assert.NoError(t, c.Park(t.Context(), "parked again"))
	}}}
	var out bytes.Buffer
	err := c.run(streams{in: strings.NewReader("y\n"), out: &out, err: &asked, asks: true, size: noTerminal}, "resend", "-state", "unknown")
	assert.ErrorContains(t, err, "2 of 3 messages were left alone, since they have changed meanwhile")
	assert.Contains(t, asked.String(), "3 messages: 3 unknown\n")
	assert.Equal(t, "1 message was put back into the queue\n", out.String())
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, outbox.StateUnknown, c.State("late"))
	assert.Equal(t, outbox.StateFailed, c.State("dropped"))
	assert.Equal(t, outbox.StateUnknown, c.State("parked again"))
}

// What somebody resends after the count is queued, and somebody waits for it.
func TestWhatDoesNotMatchAnyMoreIsLeftAlone(t *testing.T) {
	for verb, after := range map[string]outbox.State{"drop": outbox.StateFailed, "delete": ""} {
		c := newOperator(t, "a", "resent")
		require.NoError(t, c.Park(t.Context(), "a"))
		require.NoError(t, c.Park(t.Context(), "resent"))
		asked := between{calls: []func(){func() { assert.NoError(t, c.Resend(t.Context(), "resent")) }}}
		var out bytes.Buffer
		err := c.run(streams{in: strings.NewReader("y\n"), out: &out, err: &asked, asks: true, size: noTerminal}, verb, "-state", "unknown")
		assert.ErrorContains(t, err, "1 of 2 messages were left alone, since they have changed meanwhile", verb)
		assert.Contains(t, out.String(), "1 message was ", verb)
		assert.Equal(t, after, c.State("a"), verb)
		assert.Equal(t, outbox.StateQueued, c.State("resent"), verb)
	}
}

func TestResendTakesMessagesInTheOrderOfEnqueueing(t *testing.T) {
	c := newOperator(t, "a", "b", "c", "d")
	c.must("", "drop", "-yes", "-number", number)
	assert.Equal(t, "1 message was put back into the queue\n", c.must("", "resend", "-yes", "-after", "a", "-limit", "1"))
	assert.Equal(t, outbox.StateQueued, c.State("b"))
	assert.Equal(t, "3 messages were put back into the queue\n", c.must("", "resend", "-yes", "-number", number))
	assert.Equal(t, outbox.StateQueued, c.State("d"))
}

func TestAgeSaysWhichMessagesAreMeant(t *testing.T) {
	c := newOperator(t, "a")
	assert.Equal(t, "0 messages\n", c.must("", "drop", "-yes", "-older", "1h"))
	assert.Equal(t, outbox.StateQueued, c.State("a"))
}

func TestWhatHasChangedMeanwhileIsSaid(t *testing.T) {
	c := newOperator(t, "a", "b")
	asked := between{calls: []func(){func() { assert.NoError(t, c.Delete(t.Context(), "a")) }}}
	var out bytes.Buffer
	err := c.run(streams{in: strings.NewReader("y\n"), out: &out, err: &asked, asks: true, size: noTerminal}, "drop", "-number", number)
	assert.ErrorContains(t, err, "1 of 2 messages were left alone, since they have changed meanwhile")
	assert.Equal(t, "1 message was dropped\n", out.String())
}

func TestResendPutsUnknownAndFailedMessagesBack(t *testing.T) {
	c := newOperator(t)
	c.Send()
	c.Becomes("sent", outbox.StateSent)
	c.Becomes("failed", outbox.StateFailed, outboxtest.Refused)
	c.Becomes("unknown", outbox.StateUnknown, outboxtest.Broken)
	require.NoError(t, c.Pause(t.Context(), number))
	assert.Equal(t, "1 message was put back into the queue\n", c.must("", "resend", "-yes", "-code", "131026"))
	assert.Equal(t, outbox.StateQueued, c.State("failed"))
	c.must("", "drop", "failed")

	var d decisionDocument
	c.decode(&d, "resend", "-yes", "-number", number)
	assert.Equal(t, decisionDocument{Decision: "resend", Meant: 2, Done: 2}, d)
	assert.Equal(t, outbox.StateQueued, c.State("failed"))
	assert.Equal(t, outbox.StateQueued, c.State("unknown"))
	_, err := c.do("", "resend", "sent")
	assert.ErrorContains(t, err, `cannot resend message "sent"`)
}

func TestMessageThatIsBeingSentIsLeftAloneAndTheOthersGoOn(t *testing.T) {
	c := newOperator(t)
	begun, goOn := make(chan bool), make(chan bool)
	c.attempt = func() {
		begun <- true
		<-goOn
	}
	c.Send()
	c.Add("busy")
	<-begun
	require.NoError(t, c.Pause(t.Context(), number))
	c.Add("a", "b")

	out, err := c.do("", "delete", "-yes", "busy", "a", "none")
	assert.ErrorContains(t, err, "2 of 3 messages were refused")
	assert.Contains(t, c.stderr, `cannot delete message "busy": it is being sent`)
	assert.Contains(t, c.stderr, `"none"`)
	assert.Equal(t, "1 message was deleted\n", out)
	assert.Empty(t, c.State("a"))
	out, err = c.do("n\n", "delete", "-number", number)
	assert.Error(t, err)
	assert.Empty(t, out)
	assert.Contains(t, c.stderr, "1 message: 1 queued; 1 more is being sent, and is left alone\n")
	var d decisionDocument
	c.decode(&d, "delete", "-yes", "-number", number)
	assert.Equal(t, decisionDocument{Decision: "delete", Meant: 1, Sending: 1, Done: 1}, d)
	assert.Empty(t, c.State("b"))
	_, err = c.do("", "delete", "busy")
	assert.ErrorContains(t, err, "it is being sent")
	_, err = c.do("", "delete", "none")
	assert.ErrorIs(t, err, outbox.ErrNotFound)

	close(goOn)
	assert.Equal(t, outbox.StateSent, (<-c.Outcomes).Status.State)
	c.must("", "delete", "busy")
}

func TestParkKeepsWhatMayHaveGoneOutFromBeingSent(t *testing.T) {
	c := newOperator(t, "old", "named")
	at := time.Now().Add(time.Hour)
	require.NoError(t, c.Enqueue(t.Context(), "later", number, []byte(payload), outbox.NotBefore(at)))
	assert.Equal(t, "1 message was parked\n", c.must("", "park", "named"))
	assert.Equal(t, outbox.StateUnknown, c.State("named"))

	asOf := time.Now().UTC().Add(time.Second).Format(time.RFC3339Nano)
	assert.Contains(t, c.must("", "list", "-changed-after", asOf, "-state", "queued"), "old")
	assert.Equal(t, "1 message was parked\n", c.must("", "park", "-yes", "-changed-after", asOf))
	assert.Equal(t, outbox.StateUnknown, c.State("old"))
	assert.Equal(t, outbox.StateQueued, c.State("later"), "it was not due")
	asOf = time.Now().UTC().Add(-time.Hour).Format(time.RFC3339)
	c.must("", "park", "-yes", "-changed-after", asOf)
	assert.Equal(t, outbox.StateUnknown, c.State("later"), "it has changed since")
}

func TestLabelSaysWhichMessagesAreMeant(t *testing.T) {
	c := newOperator(t, "other")
	for _, id := range []string{"a", "b", "c"} {
		assert.Equal(t, id+" is queued\n", c.must(payload, "enqueue", "-label", "june", id, number))
	}
	assert.Regexp(t, `(?m)^june +3 +0 +0 +0 +0$`, c.must("", "stats"))
	_, err := c.do("n\n", "drop", "-label", "june")
	assert.ErrorContains(t, err, "nothing was done")
	assert.Contains(t, c.stderr, "Drop 3 messages?")
	assert.Equal(t, "3 messages were dropped\n", c.must("y\n", "drop", "-label", "june"))
	assert.Equal(t, outbox.StateQueued, c.State("other"))
	assert.Equal(t, "3 messages were put back into the queue\n", c.must("", "resend", "-yes", "-label", "june"))
	assert.Equal(t, "3 messages were parked\n", c.must("", "park", "-yes", "-label", "june"))
	assert.Equal(t, "3 messages were deleted\n", c.must("", "delete", "-yes", "-label", "june"))
	assert.Empty(t, c.State("a"))
	assert.NotContains(t, c.must("", "-json", "show", "other"), "label")
}

func TestPersonIsToldHowFarALongDecisionIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := deciding{ids: []string{"a", "b", "c", "d"}, decision: decision{one: func(*outbox.Outbox, context.Context, string) error {
			time.Sleep(600 * time.Millisecond)
			return nil
		}}}
		for asks, want := range map[bool]string{true: "2 of 4 messages\n", false: ""} {
			var stderr bytes.Buffer
			done, err := (&command{streams: streams{err: &stderr, asks: asks}}).oneByOne(t.Context(), slow)
			require.NoError(t, err)
			assert.Equal(t, 4, done)
			assert.Equal(t, want, stderr.String())
		}
	})
}
