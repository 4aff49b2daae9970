package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

func TestMoreThanOneMessageIsAskedFor(t *testing.T) {
	c := newOperator(t, "a", "b", "c")
	for _, verb := range []string{"drop", "delete"} {
		for _, args := range [][]string{{"-state", "queued"}, {"a", "b"}} {
			for _, answer := range []string{"", "n\n", "\n", "yo\n"} {
				out, err := c.do(answer, append([]string{verb}, args...)...)
				assert.ErrorContains(t, err, "nothing was done")
				assert.Empty(t, out)
				assert.Regexp(t, verb+` [23] messages\? \[y/N\]`, c.stderr)
			}
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		assert.Equal(t, outbox.StateQueued, c.state(id))
	}
	assert.Equal(t, "drop: 2 of 2 done\n", c.must("y\n", "drop", "a", "b", "a"))
	assert.Equal(t, "drop: 1 of 1 done\n", c.must("", "drop", "-state", "queued"), "one needs no question")
	assert.Equal(t, "drop: 0 of 0 done\n", c.must("", "drop", "-state", "queued"))
	for _, id := range []string{"a", "b", "c"} {
		assert.Equal(t, outbox.StateFailed, c.state(id))
	}
	c.must("YES\n", "resend", "-state", "failed")
	assert.Equal(t, outbox.StateQueued, c.state("a"))
	c.must("", "delete", "-yes", "-older", "0s")
	assert.Empty(t, c.state("a"))
}

func TestResendPutsUnknownAndFailedMessagesBack(t *testing.T) {
	c := newOperator(t)
	c.send()
	c.becomes("sent", outbox.StateSent)
	c.becomes("failed", outbox.StateFailed, refused)
	c.becomes("unknown", outbox.StateUnknown, broken)
	require.NoError(t, c.Pause(t.Context(), number))
	assert.Equal(t, "resend: 1 of 1 done\n", c.must("", "resend", "-code", "131026"))
	assert.Equal(t, outbox.StateQueued, c.state("failed"))
	c.must("", "drop", "failed")

	out := c.must("", "-json", "resend", "-yes", "-number", number)
	var d decision
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	assert.Equal(t, decision{"resend", 2, 2}, d)
	assert.Equal(t, outbox.StateQueued, c.state("failed"))
	assert.Equal(t, outbox.StateQueued, c.state("unknown"))
	_, err := c.do("", "resend", "sent")
	assert.ErrorContains(t, err, `cannot resend message "sent"`)
}

func TestMessageThatIsBeingSentIsRefusedAndTheOthersGoOn(t *testing.T) {
	c := newOperator(t)
	begun, goOn := make(chan bool), make(chan bool)
	c.attempt = func() {
		begun <- true
		<-goOn
	}
	c.send()
	c.enqueue("busy")
	<-begun
	require.NoError(t, c.Pause(t.Context(), number))
	c.enqueue("a", "b")

	for _, args := range [][]string{{"busy", "a", "none"}, {"-state", "sending,queued"}} {
		out, err := c.do("", append([]string{"delete", "-yes"}, args...)...)
		assert.ErrorContains(t, err, "were refused")
		assert.Contains(t, c.stderr, `cannot delete message "busy": it is being sent`)
		assert.Contains(t, out, "delete: 1 of ")
	}
	assert.Empty(t, c.state("a"))
	assert.Empty(t, c.state("b"))
	_, err := c.do("", "delete", "busy")
	assert.ErrorContains(t, err, "it is being sent")
	_, err = c.do("", "delete", "none")
	assert.ErrorIs(t, err, outbox.ErrNotFound)

	close(goOn)
	assert.Equal(t, outbox.StateSent, (<-c.outcomes).Status.State)
	c.must("", "delete", "busy")
}
