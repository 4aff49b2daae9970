package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

func TestParkKeepsWhatMayHaveGoneOutFromBeingSent(t *testing.T) {
	c := newOperator(t, "old", "named")
	at := time.Now().Add(time.Hour)
	require.NoError(t, c.Enqueue(t.Context(), "later", number, []byte(payload), outbox.NotBefore(at)))
	assert.Equal(t, "park: 1 of 1 done\n", c.must("", "park", "named"))
	assert.Equal(t, outbox.StateUnknown, c.state("named"))

	asOf := time.Now().UTC().Add(time.Second).Format(time.RFC3339Nano)
	assert.Contains(t, c.must("", "list", "-changed-after", asOf, "-state", "queued"), "old")
	assert.Equal(t, "park: 1 of 1 done\n", c.must("", "park", "-changed-after", asOf))
	assert.Equal(t, outbox.StateUnknown, c.state("old"))
	assert.Equal(t, outbox.StateQueued, c.state("later"), "it was not due")
	asOf = time.Now().UTC().Add(-time.Hour).Format(time.RFC3339)
	c.must("", "park", "-changed-after", asOf)
	assert.Equal(t, outbox.StateUnknown, c.state("later"), "it has changed since")

	for _, args := range [][]string{{"park"}, {"park", "-changed-after", ""}, {"park", "-changed-after", "yesterday"}, {"park", "-state", "sent"}, {"drop", "-label", ""}} {
		_, err := c.do("", args...)
		assert.ErrorIs(t, err, errUsage, "%q", args)
	}
}

func TestLabelSaysWhichMessagesAreMeant(t *testing.T) {
	c := newOperator(t, "other")
	for _, id := range []string{"a", "b", "c"} {
		c.must(payload, "enqueue", "-label", "june", id, number)
	}
	assert.Regexp(t, `(?m)^june +3 +0 +0 +0 +0$`, c.must("", "stats"))
	out, err := c.do("n\n", "drop", "-label", "june")
	assert.ErrorContains(t, err, "nothing was done")
	assert.Empty(t, out)
	assert.Contains(t, c.stderr, "drop 3 messages?")
	assert.Equal(t, "drop: 3 of 3 done\n", c.must("y\n", "drop", "-label", "june"))
	assert.Equal(t, outbox.StateQueued, c.state("other"))
	assert.Equal(t, "resend: 3 of 3 done\n", c.must("", "resend", "-yes", "-label", "june"))
	assert.Equal(t, "delete: 3 of 3 done\n", c.must("", "delete", "-yes", "-label", "june"))
	assert.Empty(t, c.state("a"))
	var status outbox.Status
	require.NoError(t, json.Unmarshal([]byte(c.must("", "-json", "show", "other")), &status))
	assert.Empty(t, status.Label)
}

func TestStatsShowTheRuns(t *testing.T) {
	c := newOperator(t)
	assert.NotContains(t, c.must("", "stats"), "sign of life")
	c.send()
	require.Eventually(t, func() bool {
		stats, err := c.Stats(t.Context())
		return err == nil && len(stats.Runs) == 1
	}, 20*time.Second, time.Millisecond)
	assert.Regexp(t, `(?m)^[0-9]+ +20\S+Z +0 +[0-9]+s ago$`, c.must("", "stats"))
	assert.Empty(t, c.must("", "health"))
}
