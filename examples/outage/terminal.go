package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// terminal prints what a person reads. It may be used from many goroutines.
type terminal struct {
	colours bool
	// size is the size of the window now, 0 by 0 where there is none.
	size func() (width, height int)

	mu  sync.Mutex // guards out
	out io.Writer
}

// newTerminal returns a terminal for out. Whatever is no terminal, or is asked not
// to be one (TERM=dumb, NO_COLOR), gets plain lines.
func newTerminal(out io.Writer, getenv func(string) string) *terminal {
	file, isFile := out.(*os.File)
	none := func() (int, int) { return 0, 0 }
	if !isFile || getenv("TERM") == "dumb" || getenv("NO_COLOR") != "" {
		return &terminal{out: out, size: none}
	}
	size := func() (int, int) { return windowSize(file) }
	width, _ := size()
	return &terminal{out: out, size: size, colours: width > 0}
}

// view returns a picture if the window has room for one, and a story otherwise.
func (t *terminal) view(s settings) view {
	if width, height := t.size(); width >= minWidth && height >= minHeight {
		return newPicture(t, s)
	}
	return newStory(t, s)
}

// view shows a comparison.
type view interface {
	show(moment)
	// close leaves the terminal as it was. It may be called more than once.
	close()
	// finish says how it ended. Nothing is shown after it.
	finish(text []string)
}

// headlineOf says what the demo does. How long it takes depends on when a probe is
// sent, and on the queue, which takes at most about as long as the outage.
func headlineOf(s settings) string {
	takes := (before + 2*s.outage + 3*s.interval + after).Round(10 * time.Second)
	return fmt.Sprintf("Demo, about %v: %d messages a second, a fake API down for %v. Flags: -h", takes, s.rate, s.outage)
}

// colour is the number of an ANSI colour.
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	grey   colour = "90"
)

func (t *terminal) paint(c colour, text string) string {
	if !t.colours || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// write prints text in one piece.
func (t *terminal) write(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.out, text) // nobody is left to tell
}

// line prints lines as they are.
func (t *terminal) line(lines ...string) {
	t.write(strings.Join(lines, "\n") + "\n")
}

// prose prints each paragraph as lines that fit a window.
func (t *terminal) prose(paragraphs ...string) {
	for _, paragraph := range paragraphs {
		t.line(wrapText(paragraph, textWidth)...)
	}
}

func (t *terminal) headline(text string) {
	for _, line := range wrapText(text, textWidth) {
		t.line(t.paint(bold, line))
	}
	t.line("")
}

// closing prints how it all ended.
func (t *terminal) closing(paragraphs ...string) {
	t.line("")
	t.prose(paragraphs...)
}
