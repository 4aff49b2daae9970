package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// What was read before a worker was free may be old by then.
func TestWhatWasReadAheadMayBeOld(t *testing.T) {
	b := newHarness(t)
	for name, test := range map[string]struct {
		meanwhile func(id string) error
		verdict   string
		calls     int
	}{
		"nothing":        {func(string) error { return nil }, "done", 1},
		"written anew":   {func(id string) error { return outbox.Touch(b.Outbox, id) }, "again", 0},
		"dropped":        {func(id string) error { return b.Drop(t.Context(), id) }, "done", 0},
		"deleted":        {func(id string) error { return b.Delete(t.Context(), id) }, "done", 0},
		"sent by others": {func(id string) error { _, err := outbox.Handle(b.Outbox, id, 0, 1); return err }, "done", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b.enqueue(name)
			before := b.api.Totals().Calls
			verdict, read, err := outbox.HandleAhead(b.Outbox, name, phoneNumberID, func() { require.NoError(t, test.meanwhile(name)) })
			require.NoError(t, err)
			assert.True(t, read)
			assert.Equal(t, test.verdict, verdict)
			assert.Equal(t, test.calls, b.api.Totals().Calls-before)
		})
	}
}

// What cannot be read ahead is read by the worker.
func TestWhatWasNotReadAheadIsReadByTheWorker(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	verdict, err := outbox.Handle(b.Outbox, "a", 0, 1)
	require.NoError(t, err)
	assert.Equal(t, "done", verdict)
	assert.Equal(t, 1, b.api.Totals().Accepted)
}
