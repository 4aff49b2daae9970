package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

const payload = `{"messaging_product":"whatsapp","to":"1","type":"text","text":{"body":"hello"}}`

// operator runs the command on an outbox with messages "a" to "c".
func operator(t *testing.T) func(in string, args ...string) (string, error) {
	t.Helper()
	server, err := outbox.Embedded(t.TempDir(), outbox.WithListen("127.0.0.1:0"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	o, err := outbox.Open(t.Context(), server.JetStream(), nil)
	require.NoError(t, err)
	defer o.Close()
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, o.Enqueue(t.Context(), id, "106540352242922", []byte(payload)))
	}
	return func(in string, args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"-nats", server.URL()}, args...), strings.NewReader(in), &out)
		return out.String(), err
	}
}

func TestOperatorSeesAndDecides(t *testing.T) {
	do := operator(t)

	out, err := do("", "list")
	require.NoError(t, err)
	assert.Equal(t, 4, strings.Count(out, "\n"), out)
	assert.Contains(t, out, "106540352242922")

	var status outbox.Status
	for _, id := range []string{"a", "b"} {
		out, err = do("", "-json", "list", "-limit", "1", "-after", fmt.Sprint(status.Revision))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal([]byte(out), &status))
		assert.Equal(t, id, status.ID)
	}

	out, err = do("", "show", "a")
	require.NoError(t, err)
	assert.Contains(t, out, `"State": "queued"`)

	_, err = do("", "drop", "a")
	require.NoError(t, err)
	out, err = do("n\n", "drop", "-state", "queued")
	assert.ErrorContains(t, err, "nothing was done")
	assert.Contains(t, out, "drop 2 messages?")
	out, err = do("y\n", "drop", "-state", "queued")
	require.NoError(t, err)
	assert.Contains(t, out, "2 of 2: drop")
	_, err = do("", "resend", "-yes", "-state", "failed")
	require.NoError(t, err)

	_, err = do(payload, "enqueue", "-urgent", "-expires-at", "2126-11-27T09:00:00Z", "d", "222")
	require.NoError(t, err)
	for _, args := range [][]string{{"pause"}, {"pause", "222"}, {"resume", "222"}, {"resume"}} {
		_, err = do("", args...)
		require.NoError(t, err)
	}
	out, err = do("", "stats")
	require.NoError(t, err)
	assert.Regexp(t, `222 +1 +0`, out)
	assert.Regexp(t, `all +4 +0`, out)
	assert.Contains(t, out, "oldest queued:")
}

func TestWrongCommandLineIsSaidSo(t *testing.T) {
	do := operator(t)
	for _, args := range [][]string{
		{}, {"fly"}, {"-fly"}, {"show"}, {"show", "a", "b"}, {"drop"}, {"drop", "-yes"}, {"drop", "a", "b"}, {"list", "-code", "x"},
		{"pause", "1", "2"}, {"enqueue", "a"}, {"enqueue", "-not-before", "soon", "a", "1"},
	} {
		_, err := do("", args...)
		assert.ErrorIs(t, err, errUsage, fmt.Sprint(args))
	}
	_, err := do("", "-name", "other", "list")
	assert.ErrorContains(t, err, `there is no outbox "other"`)
	_, err = do("", "show", "x")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}
