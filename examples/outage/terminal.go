package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

// screen prints lines: coloured, with a countdown that is rewritten in place, on
// a terminal, and plain lines elsewhere.
type screen struct {
	terminal bool

	mu       sync.Mutex
	out      io.Writer
	ended    chan struct{} // ends the countdown; nil: there is none
	finished sync.WaitGroup
}

func newScreen(out io.Writer, getenv func(string) string) *screen {
	file, isFile := out.(*os.File)
	terminal := false
	if isFile {
		info, err := file.Stat()
		terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &screen{out: out, terminal: terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// The colours, by what they stand for.
const (
	red, green, yellow, grey, bold = "31", "32", "33", "90", "1"
)

func (s *screen) paint(colour, text string) string {
	if !s.terminal {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// line prints lines as they are.
func (s *screen) line(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		fmt.Fprintln(s.out, line)
	}
}

func (s *screen) headline(text string) { s.line(s.paint(bold, text), "") }

// at prints a line that begins with the time.
func (s *screen) at(elapsed time.Duration, text string) {
	s.line(s.paint(grey, clock(elapsed)) + "  " + text)
}

func (s *screen) success(elapsed time.Duration, text string) {
	s.at(elapsed, s.paint(green, text))
}

// failed prints what Meta said to an attempt, and what is done about it.
func (s *screen) failed(elapsed time.Duration, event graphretry.Event) {
	s.endCountDown()
	colour := yellow
	if event.Kind != graphretry.EventRetrying {
		colour = red
	}
	s.at(elapsed, s.paint(colour, fmt.Sprintf("attempt %d failed: HTTP %d, code %d %s", event.Attempt, event.Graph.Status, event.Graph.Code, event.Graph.Code.Title())))
	s.line(s.paint(grey, "        fbtrace_id "+event.Graph.TraceID))
	if event.Kind != graphretry.EventRetrying {
		s.line("        " + event.Kind.String() + ": " + event.Reason.String())
	}
}

// countDown shows how long it is to the next attempt, until endCountDown.
func (s *screen) countDown(ctx context.Context, wait time.Duration, story func(time.Duration) time.Duration) {
	until := time.Now().Add(wait)
	text := func() string {
		return fmt.Sprintf("        next attempt in %.1f s", max(0, story(time.Until(until)).Seconds()))
	}
	if !s.terminal {
		s.line(text())
		return
	}
	s.ended = make(chan struct{})
	s.finished.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			s.mu.Lock()
			fmt.Fprint(s.out, "\r"+s.paint(grey, text())+" \x1b[K")
			s.mu.Unlock()
			select {
			case <-ticker.C:
			case <-s.ended:
				return
			case <-ctx.Done():
				return
			}
		}
	})
}

// endCountDown wipes the countdown out.
func (s *screen) endCountDown() {
	if s.ended == nil {
		return
	}
	close(s.ended)
	s.finished.Wait()
	s.ended = nil
	fmt.Fprint(s.out, "\r\x1b[K")
}

// clock is a time since the beginning, as in "  12.3s".
func clock(elapsed time.Duration) string {
	return fmt.Sprintf("%6s", fmt.Sprintf("%.1fs", elapsed.Seconds()))
}

// bar is a bar of as many marks as n of most are of width.
func bar(n, most, width int) string {
	if most == 0 {
		return ""
	}
	length := (n*width + most - 1) / most
	return strings.Repeat("#", min(length, width))
}
