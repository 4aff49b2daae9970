package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// drawnOn runs a demo on a terminal whose window has a size that may change with
// each frame.
func drawnOn(t *testing.T, ctx func(context.Context) context.Context, size func() (int, int)) (exit int, out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var screen strings.Builder
		s, err := parse(nil, &screen, func(string) string { return "" })
		require.NoError(t, err)
		exit = sendMany(ctx(t.Context()), func() {
			assert.True(t, strings.HasSuffix(screen.String(), leaveScreen), "a second Ctrl-C finds the terminal as it was")
		}, &terminal{out: &screen, colours: true, size: size}, s)
		out = screen.String()
	})
	return exit, out
}

func toTheEnd(ctx context.Context) context.Context { return ctx }

func sized(width, height int) func() (int, int) {
	return func() (int, int) { return width, height }
}

// frames returns what was drawn on the alternate screen, and what was printed
// after it, both without escape sequences.
func frames(t *testing.T, out string) (frames [][]string, printed string) {
	t.Helper()
	drawing, found := strings.CutPrefix(out, enterScreen)
	require.True(t, found)
	drawing, printed, found = strings.Cut(drawing, leaveScreen)
	require.True(t, found, "the terminal is left as it was")
	require.NotContains(t, printed, enterScreen)
	for _, frame := range strings.Split(drawing, "\x1b[H")[1:] {
		frames = append(frames, strings.Split(escapes.ReplaceAllString(frame, ""), "\r\n"))
	}
	return frames, escapes.ReplaceAllString(printed, "")
}

func requireFits(t *testing.T, out string, width, height int) {
	t.Helper()
	drawn, printed := frames(t, out)
	require.Greater(t, len(drawn), 100)
	for _, frame := range drawn {
		require.Less(t, len(frame), height)
	}
	for _, frame := range append(drawn, strings.Split(printed, "\n")) {
		for _, line := range frame {
			require.Less(t, len(line), width, line)
		}
	}
}

func TestPictureFitsTheWindow(t *testing.T) {
	t.Parallel()
	for _, window := range [][2]int{{minWidth, minHeight}, {120, 40}} {
		exit, out := drawnOn(t, toTheEnd, sized(window[0], window[1]))
		assert.Equal(t, exitDelivered, exit)
		requireFits(t, out, window[0], window[1])
	}
}

func TestPictureOutlivesAWindowThatChanges(t *testing.T) {
	t.Parallel()
	var asked int
	windows := [][2]int{{80, 24}, {20, 50}, {120, 7}, {1, 1}, {0, 0}, {200, 60}}
	exit, out := drawnOn(t, toTheEnd, func() (int, int) {
		window := windows[asked/10%len(windows)]
		asked++
		return window[0], window[1]
	})
	assert.Equal(t, exitDelivered, exit)
	drawn, printed := frames(t, out)
	for i, frame := range drawn {
		window := windows[(i+1)/10%len(windows)] // the first is asked before there is a picture
		assert.LessOrEqual(t, len(frame), max(1, window[1]))
		for _, line := range frame {
			assert.LessOrEqual(t, len(line), max(0, window[0]-1), line)
		}
	}
	assert.Contains(t, flat(printed), "0 lost, 0 sent twice")
}

func TestPictureThatIsInterruptedLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	exit, out := drawnOn(t, func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(6*time.Second+20*time.Millisecond, cancel)
		return ctx
	}, sized(80, 24))
	assert.Equal(t, exitNotDelivered, exit)
	drawn, printed := frames(t, out)
	assert.Len(t, drawn, 60)
	assert.Contains(t, flat(printed), "Interrupted: 121 messages sent, 40 delivered. 81 had no answer yet, ")
	assert.Regexp(t, `graphretry down: \d\d calls in the queue, next probe in \d\.\d s`, strings.Join(drawn[59], "\n"))
}

func TestPictureShowsStatesAndRate(t *testing.T) {
	t.Parallel()
	_, out := drawnOn(t, toTheEnd, sized(80, 24))
	requireFits(t, out, 80, 24)
	drawn, printed := frames(t, out)
	var all strings.Builder
	for _, frame := range drawn {
		all.WriteString(strings.Join(frame, "\n"))
	}
	assert.Contains(t, all.String(), "API down, every answer is code 2 (API Service)")
	assert.Contains(t, all.String(), "graphretry up: calls are sent as they come")
	assert.Regexp(t, `graphretry recovering: \d+ calls in the queue, release rate [1-9]\d/s`, all.String())
	assert.Regexp(t, `\n  host up-+down-+recovering-+up-+\n`, printed)
}

func TestFrameOfEightyByTwentyFour(t *testing.T) {
	t.Parallel()
	p := &picture{terminal: &terminal{}, settings: settings{rate: 30, outage: 3 * time.Second, interval: time.Second}}
	for i := range 20 {
		c := column{state: graphretry.HostUp, ours: 30, plain: 30}
		switch {
		case i >= 14:
			c = column{state: graphretry.HostRecovering, ours: 45, plain: 60, queue: 90 - 15*(i-14)}
		case i >= 7:
			c = column{state: graphretry.HostDown, down: i < 12, plain: 30 + 3*(i-7), queue: 15 * (i - 7)}
		}
		p.columns = append(p.columns, c)
	}
	p.columns[10].ours = 1 // a probe
	assert.Equal(t, strings.TrimPrefix(`
Demo, about 10s: 30 messages a second, a fake API down for 3s. Flags: -h
graphretry: calls a second that reach the API
   60 |              ......
      |:::::::       ######
      |#######   .   ######
graphretry: calls in the queue
   90 |            :##:
      |          :######:
      |        :##########:
plain backoff for each call: calls a second that reach the API
   60 |           ..:######
      |:::::::::###########
      |####################
  host up-----down---recove
       0 s       3 s

one
two`, "\n"), strings.Join(p.frame([]string{"one", "two"}, 80, 24), "\n"))
}
