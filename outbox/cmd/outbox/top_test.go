package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// between is a writer that calls a function after each look but the last.
type between struct {
	bytes.Buffer
	calls []func()
}

func (b *between) Write(p []byte) (int, error) {
	n, err := b.Buffer.Write(p)
	if len(b.calls) > 0 {
		call := b.calls[0]
		b.calls = b.calls[1:]
		call()
	}
	return n, err
}

// top runs top with these calls between its looks, and returns what it printed.
func (c *operator) top(asJSON bool, calls ...func()) string {
	c.t.Helper()
	out := between{calls: calls}
	args := []string{"top", "-every", "1ms", "-n", fmt.Sprint(len(calls) + 1)}
	if asJSON {
		args = append([]string{"-json"}, args...)
	}
	require.NoError(c.t, c.run(streams{out: &out, err: io.Discard, size: noTerminal}, args...))
	return out.String()
}

func TestTopShowsWhatHappensBetweenTwoLooks(t *testing.T) {
	c := newOperator(t)
	c.send()
	c.becomes("before", outbox.StateSent)
	c.becomes("wrong", outbox.StateFailed, refused)
	out := c.top(false, func() {
		c.becomes("meanwhile", outbox.StateSent)
		c.becomes("lost", outbox.StateUnknown, broken)
		assert.NoError(t, c.Pause(t.Context(), number))
		c.enqueue("waits")
	})
	assert.NotContains(t, out, "\x1b")
	blocks := strings.Split(out, "\n\noutbox ")
	require.Len(t, blocks, 2, out)
	assert.Regexp(t, `(?m)^all +0 +0 +1 +1 +0 +-$`, blocks[0])
	assert.Regexp(t, `(?m)wrong +`+number+` +failed +0 +\S+Z +131026 +.*Message Undeliverable`, blocks[0])
	assert.NotContains(t, blocks[0], "oldest queued")
	assert.Regexp(t, `(?m)^all +1 +0 +2 +1 +1 +\d*[1-9.]\d*$`, blocks[1])
	assert.Regexp(t, `(?m)^`+number+` +1 +0 +2 +1 +1 +\d+\.\d +paused$`, blocks[1])
	assert.Regexp(t, `(?s)lost .* unknown.*\n.*wrong .* failed`, blocks[1], "the last comes first")
	assert.Contains(t, blocks[1], "oldest queued: ")
}

func TestTopPrintsAnObjectALine(t *testing.T) {
	c := newOperator(t)
	c.send()
	out := c.top(true, func() {
		c.becomes("a", outbox.StateSent)
		c.becomes("b", outbox.StateFailed, refused)
	})
	decoder := json.NewDecoder(strings.NewReader(out))
	var first, second look
	require.NoError(t, decoder.Decode(&first))
	require.NoError(t, decoder.Decode(&second))
	assert.ErrorIs(t, decoder.Decode(&look{}), io.EOF)
	assert.Equal(t, 2, strings.Count(out, "\n"))
	assert.Nil(t, first.PerSecond)
	assert.Empty(t, first.Recent)
	assert.InDelta(t, 1/second.At.Sub(first.At).Seconds(), second.PerSecond[number], 0.1)
	require.Len(t, second.Recent, 1)
	assert.Equal(t, "b", second.Recent[0].ID)
	assert.NotEmpty(t, second.Recent[0].Reason)
}

func TestTopSaysWhyANumberIsHeld(t *testing.T) {
	stats := outbox.Stats{APIDown: true, Numbers: map[string]outbox.NumberStats{"1": {}, "2": {HeldFor: "a blocked account"}}}
	rows := strings.Join(aligned(countRows(stats, nil)), "\n")
	assert.Regexp(t, `(?m)^all .*the API is down$`, rows)
	assert.Regexp(t, `(?m)^1 [^:]*$`, rows)
	assert.Regexp(t, `(?m)^2 .*held: a blocked account$`, rows)
}

var controlSequence = regexp.MustCompile(`\x1b\[[?0-9;]*[A-Za-z]`)

func TestTopStaysWithinTheTerminal(t *testing.T) {
	c := newOperator(t)
	c.send()
	for i := range 5 {
		c.becomes(fmt.Sprintf("wrong-%d", i), outbox.StateFailed, refused)
	}
	for i := range 30 {
		require.NoError(t, c.Enqueue(t.Context(), fmt.Sprint(i), fmt.Sprint(900+i), []byte(payload), outbox.NotBefore(time.Now().Add(time.Hour))))
	}
	this := &command{Outbox: c.Outbox, name: "graphretry"}
	seen, err := this.look(t.Context(), look{})
	require.NoError(t, err)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {20, 5}, {5, 2}, {1, 1}} {
		var printed bytes.Buffer
		this.streams = streams{out: &printed, size: func() (int, int) { return size[0], size[1] }}
		s := screen{command: this}
		require.NoError(t, s.show(seen, nil))
		require.NoError(t, s.show(seen, nil))
		s.leave()
		out := printed.String()
		assert.Equal(t, 1, strings.Count(out, clearScreen), "redraws in place")
		assert.True(t, strings.HasSuffix(out, showCursor+"\r\n"))
		frames := strings.Split(out, cursorHome)[1:]
		require.Len(t, frames, 2)
		for _, frame := range frames {
			frame, _, _ = strings.Cut(frame, clearBelow)
			lines := strings.Split(controlSequence.ReplaceAllString(frame, ""), "\r\n")
			assert.LessOrEqual(t, len(lines), size[1], size)
			for _, line := range lines {
				assert.Less(t, len(line), size[0], size)
				assert.NotContains(t, line, "\n")
			}
			if size[1] == 24 {
				assert.Len(t, lines, 24)
				assert.Contains(t, frame, "wrong-4")
				assert.Contains(t, frame, "wrong-2")
				assert.Contains(t, frame, "... and 16 phone numbers more")
			}
			if size[1] == 60 {
				assert.Contains(t, frame, "929")
				assert.Contains(t, frame, "wrong-0")
			}
		}
	}
}

func TestTopEndsWithAnInterruptAndGivesTheTerminalBack(t *testing.T) {
	c := newOperator(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := between{calls: []func(){cancel}}
	size := func() (int, int) { return 80, 24 }
	require.NoError(t, run(ctx, []string{"-sqlite", c.file, "top", "-every", "1h"}, streams{out: &out, err: io.Discard, size: size}))
	assert.Contains(t, out.String(), "all ")
	assert.True(t, strings.HasSuffix(out.String(), showCursor+"\r\n"))
}

func TestTopShowsTheLookBeforeWhileTheDatabaseDoesNotAnswer(t *testing.T) {
	var out, stderr bytes.Buffer
	s := screen{command: &command{streams: streams{out: &out, err: &stderr, size: noTerminal}, name: "o"}}
	trouble := fmt.Errorf("no answer\n: %w", context.DeadlineExceeded)
	require.NoError(t, s.show(look{}, trouble))
	require.NoError(t, s.show(look{At: time.Now()}, trouble))
	assert.Equal(t, 2, strings.Count(out.String(), "cannot look: no answer : context deadline exceeded\n"))
	assert.Equal(t, 1, strings.Count(out.String(), "all "))
	s.asJSON = true
	out.Reset()
	require.NoError(t, s.show(look{}, trouble))
	assert.Empty(t, out.String())
	assert.Contains(t, stderr.String(), "no answer")
}

var errFull = errors.New("the disk is full")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	c := newOperator(t, "a", "b")
	for _, args := range []string{"stats", "list", "show a", "top -n 1", "-json list", "-json top -n 1", "drop -yes a b"} {
		err := c.run(streams{out: fullWriter{}, err: io.Discard, size: noTerminal}, strings.Fields(args)...)
		assert.ErrorIs(t, err, errFull, args)
	}
}
