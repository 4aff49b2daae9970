package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

// screen prints what a person reads. On a terminal it has colours, and a
// countdown that is rewritten in place; elsewhere it prints plain lines. It may
// be used from many goroutines.
type screen struct {
	colours bool
	inPlace bool // a line may be rewritten

	mu  sync.Mutex // guards all below
	out io.Writer
	// unfinished is the length of the line that is being rewritten, 0 if there
	// is none.
	unfinished int
}

func newScreen(out io.Writer, getenv func(string) string) *screen {
	file, isFile := out.(*os.File)
	if !isFile || getenv("TERM") == "dumb" {
		return &screen{out: out}
	}
	info, err := file.Stat()
	// Some that are no terminals are character devices too, such as /dev/null;
	// nobody reads those.
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{out: out, inPlace: terminal, colours: terminal && getenv("NO_COLOR") == ""}
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

func (s *screen) paint(c colour, text string) string {
	if !s.colours || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// line prints lines as they are.
func (s *screen) line(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	for _, line := range lines {
		fmt.Fprintln(s.out, line)
	}
}

// rewrite prints a line that the next one replaces.
func (s *screen) rewrite(c colour, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	padding := strings.Repeat(" ", max(0, s.unfinished-len(text)))
	fmt.Fprint(s.out, "\r"+s.paint(c, text)+padding)
	s.unfinished = len(text)
}

// wipe makes room for a new line: of the line that was being rewritten, and of
// the ^C that the terminal itself prints.
func (s *screen) wipe() {
	if s.inPlace {
		fmt.Fprint(s.out, "\r"+strings.Repeat(" ", s.unfinished+len("^C"))+"\r")
		s.unfinished = 0
	}
}

// The layout: text no wider than textWidth, and a story whose lines begin with a
// time and a label.
const (
	textWidth = 79
	indent    = "                    "
)

// prose prints each paragraph as lines that fit a terminal.
func (s *screen) prose(paragraphs ...string) {
	for _, paragraph := range paragraphs {
		s.line(wrapText(paragraph, textWidth)...)
	}
}

func (s *screen) headline(text string) {
	for _, line := range wrapText(text, textWidth) {
		s.line(s.paint(bold, line))
	}
	s.line("")
}

// closing prints how it all ended.
func (s *screen) closing(paragraphs ...string) {
	s.line("")
	s.prose(paragraphs...)
}

// at prints what happened at a time of the story.
func (s *screen) at(elapsed time.Duration, label string, c colour, text string) {
	lines := wrapText(text, textWidth-len(indent))
	s.line(s.paint(grey, fmt.Sprintf("%8s", seconds(elapsed))) + fmt.Sprintf("  %-10s", label) + s.paint(c, lines[0]))
	for _, line := range lines[1:] {
		s.more(c, line)
	}
}

// more prints more about what happened last.
func (s *screen) more(c colour, text string) {
	for _, line := range wrapText(text, textWidth-len(indent)) {
		s.line(indent + s.paint(c, line))
	}
}

// failed prints what Meta said to an attempt, and what is done about it.
func (s *screen) failed(elapsed time.Duration, event graphretry.Event, wait time.Duration) {
	label := fmt.Sprintf("attempt %d", event.Attempt)
	c := red
	if event.Kind == graphretry.EventRetrying {
		c = yellow
	}
	switch {
	case event.Graph == nil && event.Err != nil:
		s.at(elapsed, label, c, "no answer")
	case event.Graph == nil:
		s.at(elapsed, label, c, "an answer that is no Graph error")
	default:
		s.at(elapsed, label, c, fmt.Sprintf("HTTP %d, code %s", event.Graph.Status, named(event.Graph.Code)))
		// A text that only repeats the title says nothing new.
		if text := cmp.Or(event.Graph.Details, event.Graph.Message); !strings.HasSuffix(text, event.Graph.Code.Title()) {
			s.more(grey, strconv.QuoteToGraphic(text))
		}
		s.more(grey, "fbtrace_id "+cmp.Or(event.Graph.TraceID, "is missing"))
	}
	switch {
	case event.Kind == graphretry.EventRetrying:
		s.more(grey, fmt.Sprintf("retrying in %s (%v)", seconds(wait), event.Reason))
	case event.Reason == graphretry.ReasonNotRetried:
		s.more(grey, event.Kind.String()) // its reason says the same once more
	default:
		s.more(grey, fmt.Sprintf("%v: %v", event.Kind, event.Reason))
	}
}

func (s *screen) delivered(elapsed time.Duration, attempt int, wamid string) {
	s.at(elapsed, fmt.Sprintf("attempt %d", attempt), green, "HTTP 200, delivered")
	s.more(grey, wamid)
}

// countDown shows how long it is to an attempt, until it is ended. Where a line
// cannot be rewritten it shows nothing.
func (s *screen) countDown(attempt int, wait time.Duration, story func(time.Duration) time.Duration) (end func()) {
	if !s.inPlace {
		return func() {}
	}
	goes := time.Now().Add(wait)
	show := func() {
		if left := time.Until(goes); left > 0 {
			s.rewrite(yellow, fmt.Sprintf("%sattempt %d in %s", indent, attempt, seconds(story(left))))
		} else {
			s.rewrite(yellow, fmt.Sprintf("%sattempt %d is on its way", indent, attempt))
		}
	}
	ended := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			show()
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		showing.Wait()
	})
}

// wrapText breaks a text into lines of at most width, between words.
func wrapText(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// named is a code with its title, if it has one.
func named(code graphretry.Code) string {
	if title := code.Title(); title != "" {
		return fmt.Sprintf("%d (%s)", code, title)
	}
	return fmt.Sprint(int(code))
}

// seconds is a time as in "12.3 s".
func seconds(d time.Duration) string {
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// bar is a bar for n where full stands for width marks. Anything shows.
func bar(n, full, width int) string {
	return strings.Repeat("#", min((n*width+full-1)/full, width))
}
