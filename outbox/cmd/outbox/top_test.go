package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// between is a writer that calls a function after each write but the last.
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

// top runs top, calls these functions between its looks, and returns what it printed.
func (c *operator) top(asJSON bool, calls ...func()) string {
	c.T.Helper()
	out := between{calls: calls}
	args := []string{"top", "-every", "1ms", "-n", fmt.Sprint(len(calls) + 1)}
	if asJSON {
		args = append([]string{"-json"}, args...)
	}
	require.NoError(c.T, c.run(streams{out: &out, err: io.Discard, size: noTerminal}, args...))
	return out.String()
}

func TestTopShowsWhatHappensBetweenTwoLooks(t *testing.T) {
	c := newOperator(t)
	c.Send()
	c.Becomes("before", outbox.StateSent)
	c.Becomes("wrong", outbox.StateFailed, outboxtest.Refused)
	first := c.must("", "top")
	assert.NotContains(t, first, "\x1b")
	assert.Regexp(t, `^outbox graphretry  20\S+Z  Runs: 1\n`, first)
	assert.Regexp(t, `(?m)^all +0 +0 +1 +1 +0 +-$`, first)
	assert.Regexp(t, `(?m)^failed  \d+s ago  `+number+`  wrong  Message Undeliverable \(131026\)`, first)
	assert.NotContains(t, first, "longest in the queue")
	assert.Equal(t, 1, strings.Count(first, "outbox graphretry"), "a pipe gets one look")

	// The second is found by its change.
	this := c.command()
	l := looker{command: this, recent: recent{list: this.List}}
	before, err := l.look(t.Context())
	require.NoError(t, err)
	c.Becomes("meanwhile", outbox.StateSent)
	c.Becomes("lost", outbox.StateUnknown, outboxtest.Broken)
	require.NoError(t, c.Pause(t.Context(), number))
	c.Add("waits")
	l.recent.next = time.Time{}
	after, err := l.look(t.Context())
	require.NoError(t, err)
	assert.Nil(t, before.perSecond)
	assert.InDelta(t, 1/after.at.Sub(before.at).Seconds(), after.perSecond[number], 0.1)
	text := strings.Join((&screen{command: l.command}).lines(after, nil, after.at, 0, 0), "\n")
	assert.Regexp(t, `(?m)^all +1 +0 +2 +1 +1 +\d+\.\d$`, text)
	assert.Regexp(t, `(?m)^`+number+` +1 +0 +2 +1 +1 +\d+\.\d  paused by a person$`, text)
	assert.Regexp(t, `(?m)^queued  \d+s ago  `+number+`  waits  its number is paused$`, text)
	assert.Regexp(t, `(?s)unknown  \d+s ago .* lost .*\nfailed   \d+s ago .* wrong `, text, "the last comes first")
	assert.Contains(t, text, "longest wait: ")
}

// command returns the command as run makes it.
func (c *operator) command() *command {
	c.T.Helper()
	p, err := placeOf(c.where)
	require.NoError(c.T, err)
	this := &command{streams: streams{out: io.Discard, err: io.Discard, size: noTerminal}, place: p, name: "graphretry"}
	closeIt, err := this.open(c.T.Context())
	require.NoError(c.T, err)
	c.T.Cleanup(closeIt)
	return this
}

func TestTopPrintsAnObjectALine(t *testing.T) {
	c := newOperator(t)
	c.Send()
	out := c.top(true, func() {
		c.Becomes("a", outbox.StateSent)
		c.Becomes("b", outbox.StateFailed, outboxtest.Refused)
	})
	assert.Contains(t, out, `"oldest_queued":[],"last_failed_or_unknown":[]`, "no list is null")
	decoder := json.NewDecoder(strings.NewReader(out))
	var first, second topDocument
	require.NoError(t, decoder.Decode(&first))
	require.NoError(t, decoder.Decode(&second))
	assert.ErrorIs(t, decoder.Decode(&topDocument{}), io.EOF)
	assert.Equal(t, 2, strings.Count(out, "\n"))
	assert.Nil(t, first.SentPerSecond)
	assert.Empty(t, first.Recent)
	require.NotNil(t, second.SentPerSecond)
	assert.InDelta(t, 1/second.At.Sub(first.At).Seconds(), *second.SentPerSecond, 0.1)
	assert.InDelta(t, *second.SentPerSecond, *second.Numbers[number].SentPerSecond, 1e-9)
	require.Len(t, second.Recent, 1)
	assert.Equal(t, "b", second.Recent[0].ID)
	assert.True(t, strings.HasPrefix(second.Recent[0].Why, "Message Undeliverable (131026)"))
}

// More messages have failed than can be listed each second, most of them long ago.
func TestTopFindsTheLastOfManyFailures(t *testing.T) {
	c := newOperator(t)
	var messages []outbox.Message
	for i := range 1500 {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: number, Payload: []byte(payload)})
	}
	require.NoError(t, c.EnqueueAll(t.Context(), messages))
	_, err := c.DropAll(t.Context(), outbox.Filter{})
	require.NoError(t, err)
	db := openSQL(t, c.where)
	// The first changed an hour ago, the second two hours, and so on.
	_, err = db.Exec("UPDATE graphretry_record SET changed_at = changed_at - 3600000000 * (1 + (SELECT CAST(id AS bigint) FROM graphretry_message AS m WHERE m.seq = graphretry_record.seq))")
	require.NoError(t, err)
	var asked []time.Time // after when
	r := recent{list: func(ctx context.Context, filter outbox.Filter) ([]outbox.Status, error) {
		asked = append(asked, filter.ChangedAfter)
		return c.List(ctx, filter)
	}}
	look := func() (ids []string) {
		t.Helper()
		stats, err := c.Stats(t.Context())
		require.NoError(t, err)
		r.next, asked = time.Time{}, nil
		found, err := r.look(t.Context(), stats, c.Now())
		require.NoError(t, err)
		for _, s := range found {
			ids = append(ids, s.ID)
		}
		return ids
	}
	first := look()
	require.Len(t, first, shownMessages)
	assert.Equal(t, []string{"0", "1", "2"}, first[:3])
	assert.Len(t, asked, 5, "it looks 1, 8, 64, 512 and 4096 minutes back, and no further")
	c.Add("now")
	require.NoError(t, c.Drop(t.Context(), "now"))
	assert.Equal(t, []string{"now", "0", "1"}, look()[:3])
	assert.Len(t, asked, 1, "it knows how far")
	require.NoError(t, c.Resend(t.Context(), "0"))
	again := look()
	assert.Equal(t, []string{"now", "1", "2"}, again[:3])
	assert.Len(t, again, shownMessages, "it looks further back")
	r.next = time.Now().Add(time.Hour)
	require.NoError(t, c.Drop(t.Context(), "0"))
	stats, err := c.Stats(t.Context())
	require.NoError(t, err)
	found, err := r.look(t.Context(), stats, c.Now())
	require.NoError(t, err)
	assert.Equal(t, "now", found[0].ID, "a search that takes long is not repeated at once")
}

func TestTopShowsFirstWhatNothingElseExplains(t *testing.T) {
	c := newOperator(t)
	require.NoError(t, c.Enqueue(t.Context(), "later", number, []byte(payload), outbox.NotBefore(time.Now().Add(14*time.Hour))))
	require.NoError(t, c.Enqueue(t.Context(), "paused", "222", []byte(payload)))
	require.NoError(t, c.Pause(t.Context(), "222"))
	c.Add("now")
	out := c.must("", "top")
	assert.Regexp(t, `(?s)longest in the queue:\n[^\n]* now +no Run is alive\n[^\n]* paused +its number is paused\n[^\n]* later `, out)
}

// looks are the looks that top gets.
func someLook(now time.Time) look {
	l := look{at: now, stats: outbox.Stats{
		States: map[outbox.State]int{outbox.StateQueued: 4812, outbox.StateSent: 120331},
		Runs:   []outbox.RunStats{{ID: 1}}, WaitingSince: now.Add(-3 * time.Hour), Numbers: make(map[string]outbox.NumberStats),
	}}
	for i := range 30 {
		l.stats.Numbers[fmt.Sprint(106540352242900+i)] = outbox.NumberStats{States: map[outbox.State]int{outbox.StateQueued: 100 - i}, Share: 1}
	}
	held := l.stats.Numbers["106540352242929"]
	held.HeldFor, held.NextProbe = "Graph error 190 (Access token has expired): Error validating access token: Session has expired", now.Add(2*time.Minute)
	l.stats.Numbers["106540352242929"] = held
	for i := range 20 {
		l.oldest = append(l.oldest, outbox.Status{ID: fmt.Sprintf("5f0c2a9e-8a0e-4a1a-9c1f-2f5f7f6a0b%02d", i), State: outbox.StateQueued, PhoneNumberID: "106540352242929", Enqueued: now.Add(-3 * time.Hour)})
		l.recent = append(l.recent, outbox.Status{ID: fmt.Sprintf("order-%d", i), State: outbox.StateFailed, PhoneNumberID: "106540352242901", Changed: now.Add(-12 * time.Second),
			Reason: "x", Graph: &graphretry.Error{Code: 131042, Details: "a text that is longer than any line of a terminal that has 200 columns, " + strings.Repeat("and so on ", 20)}})
	}
	return l
}

var controlSequence = regexp.MustCompile(`\x1b\[[?0-9;]*[A-Za-z]`)

func TestTopStaysWithinTheTerminal(t *testing.T) {
	now := time.Date(2026, 11, 29, 20, 3, 11, 0, time.UTC)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {40, 9}, {20, 5}, {5, 2}, {1, 1}} {
		var printed bytes.Buffer
		s := screen{command: &command{name: "graphretry", streams: streams{out: &printed, size: func() (int, int) { return size[0], size[1] }}}}
		require.NoError(t, s.show(someLook(now), nil, now))
		require.NoError(t, s.show(someLook(now), errors.New(strings.Repeat("a long error ", 50)), now.Add(12*time.Second)))
		s.leave()
		out := printed.String()
		assert.Equal(t, 1, strings.Count(out, clearScreen), "redraws in place")
		assert.True(t, strings.HasSuffix(out, showCursor+"\r\n"))
		frames := strings.Split(out, cursorHome)[1:]
		require.Len(t, frames, 2)
		for i, frame := range frames {
			frame, _, _ = strings.Cut(frame, clearBelow)
			text := controlSequence.ReplaceAllString(frame, "")
			lines := strings.Split(text, "\r\n")
			assert.LessOrEqual(t, len(lines), size[1], size)
			for j, line := range lines {
				assert.Less(t, len(line), size[0], size)
				assert.NotContains(t, line, "\n")
				if strings.HasPrefix(line, "longest in") || strings.HasPrefix(line, "failed or unknown,") {
					assert.Regexp(t, "^(queued|failed) ", append(lines, "")[j+1], "%v: a heading has a message", size)
				}
			}
			if i == 1 && size[1] >= 24 {
				assert.Contains(t, first(lines, 2+troubleLines)[1+troubleLines], "phone number", "an error leaves room for what is known")
			}
			switch {
			case i == 1 && size[0] >= 80:
				assert.Contains(t, text, "outbox graphretry  20:03:11Z, 12s ago  Runs: 1  longest wait: 3h\r\ncannot look: a long error")
			case size[1] == 24:
				assert.Len(t, lines, 24)
				assert.Contains(t, text, "\r\n106540352242929      71        0        0       0        0       -\r\n  Access token has expired (190); held, next probe in 2m: Error validating...\r\n")
				assert.Contains(t, text, "queued  3h ago  5f0c2a9e-8a...f5f7f6a0b00  Access token has expired (190)...\r\n")
				assert.Contains(t, text, "failed  12s ago  order-0   Business eligibility payment issue (131042), x: a...")
				assert.Regexp(t, `\.\.\. and \d+ phone numbers more`, text)
			case size[1] == 60:
				assert.Contains(t, text, "  Access token has expired (190); held, next probe in 2m: Error validating access token: Session has expired\r\n")
				assert.Contains(t, text, "  5f0c2a9e-8a0e-4a1a-9c1f-2f5f7f6a0b00  ")
			}
		}
	}
}

// fakeWatch is a watch on a terminal, with looks that a test makes.
func fakeWatch(out io.Writer, looks ...func(context.Context) (look, error)) *watch {
	size := func() (int, int) { return 80, 24 }
	return &watch{
		screen: screen{command: &command{name: "graphretry", streams: streams{out: out, err: io.Discard, size: size}}},
		now:    time.Now,
		look: func(ctx context.Context) (look, error) {
			this := looks[0]
			looks = looks[1:]
			return this(ctx)
		},
	}
}

func TestTopGoesOnWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := func(context.Context) (look, error) { return someLook(time.Now()), nil }
		away := func(context.Context) (look, error) { return look{}, errors.New("connection refused") }
		hangs := func(ctx context.Context) (look, error) {
			select {
			case <-time.After(5 * time.Second):
				return someLook(time.Now()), nil
			case <-ctx.Done():
				return look{}, ctx.Err()
			}
		}
		var out bytes.Buffer
		require.NoError(t, fakeWatch(&out, away, seen, away, hangs, seen).run(t.Context(), time.Second, 5))
		frames := strings.Split(controlSequence.ReplaceAllString(out.String(), ""), "outbox graphretry")[1:]
		require.Len(t, frames, 7)
		assert.Contains(t, frames[0], "cannot look: connection refused")
		assert.NotContains(t, frames[1], "cannot look")
		assert.Contains(t, frames[2], "01Z, 1s ago  Runs: 1  longest wait: 3h\r\ncannot look: connection refused")
		assert.Contains(t, frames[2], "order-0")
		assert.Contains(t, frames[3], ", 4s ago  Runs: 1  longest wait: 3h\r\ncannot look: the database has not answered for 2s\r\n")
		assert.Contains(t, frames[4], "cannot look: the database has not answered for 4s\r\n")
		assert.NotContains(t, frames[5], "cannot look")

		var piped, stderr bytes.Buffer
		w := fakeWatch(&piped, seen, away)
		w.size, w.err = noTerminal, &stderr
		assert.ErrorContains(t, w.run(t.Context(), time.Second, 2), "connection refused", "the last look is the one that counts")
		assert.Equal(t, 1, strings.Count(piped.String(), "outbox graphretry"))

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var left bytes.Buffer
		assert.NoError(t, fakeWatch(&left, hangs).run(ctx, time.Second, 0), "an interrupt ends it while it waits")
		assert.NotContains(t, left.String(), "context")
	})
}

func TestTopDrawsAnewWhenTheTerminalHasAnotherSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := fakeWatch(&out, func(context.Context) (look, error) { return someLook(time.Now()), nil })
		resized := make(chan os.Signal)
		w.resized = resized
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { assert.NoError(t, w.run(ctx, time.Hour, 0)) })
		synctest.Wait()
		w.size = func() (int, int) { return 40, 10 }
		resized <- os.Interrupt
		synctest.Wait()
		cancel()
		ended.Wait()
		frames := strings.Split(out.String(), clearScreen)
		require.Len(t, frames, 3, "it is cleared for each size")
		assert.Equal(t, 10, strings.Count(frames[2], "\r\n"))
	})
}

func TestTopEndsWithAnInterruptAndGivesTheTerminalBack(t *testing.T) {
	c := newOperator(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := between{calls: []func(){cancel}}
	size := func() (int, int) { return 80, 24 }
	require.NoError(t, run(ctx, []string{"-db", c.where, "top", "-every", "1h"}, streams{out: &out, err: io.Discard, size: size}))
	assert.Contains(t, out.String(), "all ")
	assert.True(t, strings.HasSuffix(out.String(), showCursor+"\r\n"))
}

// TestTopSurvivesItsDatabase stops a real database, and starts it again.
func TestTopSurvivesItsDatabase(t *testing.T) {
	where, away, back := "", func() {}, func() {}
	if pgtest.IsChosen() {
		server := pgtest.Start(t)
		where = server.Schema(t)
		away, back = func() { server.Crash(t) }, func() { server.Go(t) }
	} else {
		where = newDatabase(t)
		away = func() { assert.NoError(t, os.Rename(where, where+".away")) }
		back = func() { assert.NoError(t, os.Rename(where+".away", where)) }
	}
	o, err := outbox.Open(t.Context(), open(t, where), nil)
	require.NoError(t, err)
	require.NoError(t, o.Close())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out frames
	out.on = func(frame string) {
		switch trouble := strings.Contains(frame, "cannot look: "); {
		case out.step == 0 && !trouble:
			out.step++
			away()
		case out.step == 1 && trouble && strings.Contains(frame, " ago"):
			out.step++
			back()
		case out.step == 2 && !trouble:
			out.step++
			cancel()
		}
	}
	size := func() (int, int) { return 80, 24 }
	require.NoError(t, run(ctx, []string{"-db", where, "top", "-every", "10ms"}, streams{out: &out, err: io.Discard, size: size}))
	assert.Equal(t, 3, out.step)
}

// frames is a terminal that keeps what is drawn.
type frames struct {
	step int
	on   func(string)
}

func (f *frames) Write(p []byte) (int, error) {
	f.on(string(p))
	return len(p), nil
}

func TestAnotherFileInThePlaceOfTheDatabaseIsNoticed(t *testing.T) {
	if pgtest.IsChosen() {
		t.Skip("it is about files")
	}
	c := newOperator(t)
	this := c.command()
	require.NoError(t, this.place.alive(t.Context()))
	require.NoError(t, os.Rename(c.where, c.where+".old"))
	assert.ErrorContains(t, this.place.alive(t.Context()), "is gone")
	require.NoError(t, os.WriteFile(c.where, nil, 0o600))
	assert.ErrorContains(t, this.place.alive(t.Context()), "another file has taken the place of the database")
}

var errFull = errors.New("the disk is full")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }
