package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/words"
)

// screen is where top prints: a terminal, in which it draws in place, or anything else.
type screen struct {
	*command
	drawn [2]int // the size of the terminal at the last frame, zero if there was none
	shown bool   // whether anything was printed
}

// These are the control sequences that top needs. All are in ECMA-48, except the private modes,
// which are those of DEC and xterm.
const (
	clearScreen = "\x1b[2J"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K" // to the end of the line
	clearBelow  = "\x1b[J"
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
	noWrap      = "\x1b[?7l"
	wrap        = "\x1b[?7h"
	reverse     = "\x1b[7m"
	normal      = "\x1b[m"
)

// show prints a look. If there is none it prints the reason, and the look before again.
func (s *screen) show(l look, trouble error, now time.Time) error {
	columns, most := s.size()
	switch {
	case s.asJSON || columns == 0 && trouble != nil:
		if trouble != nil {
			_, err := fmt.Fprintln(s.err, "outbox: cannot look:", text(trouble))
			return err
		}
		return s.encode(l.document())
	case columns == 0:
		if s.shown {
			fmt.Fprintln(s.out)
		}
		s.shown = true
		return s.print(nil, s.lines(l, nil, now, 0, 0)...)
	}
	// One write, so that nothing flickers.
	var frame bytes.Buffer
	if size := [2]int{columns, most}; s.drawn != size {
		frame.WriteString(clearScreen)
		s.drawn = size
	}
	frame.WriteString(hideCursor + noWrap + cursorHome)
	// Not the last column: clearing the rest of a line would clear that column too.
	columns--
	for i, line := range s.lines(l, trouble, now, columns, most) {
		if i > 0 {
			frame.WriteString("\r\n")
		}
		line = firstColumns(line, columns)
		if i == 0 {
			line = reverse + line + normal
		}
		frame.WriteString(line + clearLine)
	}
	frame.WriteString(clearBelow + wrap)
	_, err := s.out.Write(frame.Bytes())
	return err
}

// leave restores the terminal. The last look stays on it.
func (s *screen) leave() {
	if s.drawn != [2]int{} {
		fmt.Fprint(s.out, showCursor+"\r\n")
	}
}

// firstColumns returns the first columns of a line.
func firstColumns(line string, columns int) string {
	runes := []rune(line)
	return string(runes[:min(len(runes), columns)])
}

const (
	// leastMessages is how many lines a terminal keeps for each kind of messages, with the
	// heading, however many phone numbers there are.
	leastMessages = 4
	// troubleLines is how many lines it has at most for the reason that there is no look.
	troubleLines = 4
)

// lines returns a look as lines of at most so many columns, and at most so many; 0 stands for
// as many as it takes. The first is the title.
func (s *screen) lines(l look, trouble error, now time.Time, columns, most int) []string {
	asOf := ""
	if trouble != nil {
		asOf = ", " + words.Away(l.at, now)
	}
	lines := []string{s.title(l, asOf, columns)}
	if trouble != nil {
		lines = append(lines, first(wrapped("", "cannot look: "+text(trouble), columns), troubleLines)...)
	}
	if l.at.IsZero() {
		return lines
	}
	numbers := numberTable(l.stats, l.at, l.rate, columns)
	var oldest, recent []string
	if len(l.oldest) > 0 {
		oldest = append([]string{"", "longest in the queue:"}, messageTable(l.oldest, l.stats, l.at, columns, true)...)
	}
	if len(l.recent) > 0 {
		recent = append([]string{"", "failed or unknown, the last first:"}, messageTable(l.recent, l.stats, l.at, columns, true)...)
	}
	if most == 0 {
		most = 1 << 30
	}
	room := most - len(lines)
	kept := min(len(oldest), leastMessages) + min(len(recent), leastMessages)
	shown := firstEntries(numbers, room-kept)
	room -= len(shown)
	oldest = firstMessages(oldest, max(min(len(oldest), room-len(recent)), room/2))
	recent = firstMessages(recent, room-len(oldest))
	for _, block := range [][]string{shown, oldest, recent} {
		lines = append(lines, block...)
	}
	return first(lines, most)
}

// title returns the first line of a look, with its age. On a terminal it leaves out the day.
func (s *screen) title(l look, asOf string, columns int) string {
	layout := "15:04:05Z"
	if columns == 0 {
		layout = time.RFC3339
	}
	parts := []string{"outbox " + s.name}
	if !l.at.IsZero() {
		parts = append(parts, l.at.UTC().Format(layout)+asOf)
		alive, dead := runsOf(l.stats)
		runs := fmt.Sprintf("Runs: %d", alive)
		if dead > 0 {
			runs += fmt.Sprintf(" and %d dead", dead)
		}
		parts = append(parts, runs)
	}
	if wait := longestWait(l.stats, l.at); wait != "" {
		parts = append(parts, wait)
	}
	return strings.Join(parts, gap)
}

// firstEntries returns the heading, the line for all, and the lines of the first phone numbers,
// at most that many lines. The last one says how many numbers are left out.
func firstEntries(entries [][]string, most int) []string {
	var lines []string
	for i, entry := range entries {
		after := 0
		if i < len(entries)-1 {
			after = 1 // the line that says how many are left out
		}
		if i >= 2 && len(lines)+len(entry)+after > most {
			return append(lines, fmt.Sprintf("... and %d phone numbers more", len(entries)-i))
		}
		lines = append(lines, entry...)
	}
	return lines
}

// firstMessages returns the first lines of a block of a blank line, a heading and messages, or
// nothing if no message would be seen.
func firstMessages(lines []string, most int) []string {
	if most < 3 {
		return nil
	}
	return first(lines, most)
}

// first returns the first lines.
func first(lines []string, most int) []string {
	return lines[:max(0, min(len(lines), most))]
}

// sizeOr returns the size of a terminal. A terminal that does not know its size, such as a
// serial line, has that of COLUMNS and LINES, or 80 by 24.
func sizeOr(columns, lines int) (int, int) {
	or := func(size int, variable string, fallback int) int {
		if size <= 0 {
			size, _ = strconv.Atoi(os.Getenv(variable))
		}
		if size <= 0 {
			size = fallback
		}
		return size
	}
	return or(columns, "COLUMNS", 80), or(lines, "LINES", 24)
}
