package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

const (
	// lookTimeout bounds one look. A database that does not answer is said to, and asked
	// again.
	lookTimeout = 30 * time.Second
	// leastMessages is how many lines a terminal keeps for messages, however many phone
	// numbers there are.
	leastMessages = 3
)

// look is what top sees at once, as -json prints it.
type look struct {
	At time.Time
	outbox.Stats
	// PerSecond is how many messages a second were sent since the look before, of each
	// phone number; it is nil the first time.
	PerSecond map[string]float64
	// Recent are messages that are failed or unknown, the one that changed last first.
	Recent []outbox.Status

	all float64 // messages a second of all numbers
}

// rate returns the messages a second of a phone number, or with "" of all, as a text.
func (l *look) rate(number string) string {
	switch {
	case l.PerSecond == nil:
		return "-"
	case number == "":
		return fmt.Sprintf("%.1f", l.all)
	}
	return fmt.Sprintf("%.1f", l.PerSecond[number])
}

func (c *command) top(ctx context.Context, args []string) error {
	flags := newFlags("top", c.streams)
	every := flags.Duration("every", time.Second, "time between two looks")
	n := flags.Int("n", 0, "how many looks; 0: until an interrupt")
	if err := parseArguments(flags, args, 0, 0, "flags alone"); err != nil {
		return err
	}
	if *every <= 0 || *n < 0 {
		return wrongUsage("top has -every %v and -n %d: want a time above 0, and a number that is not negative", *every, *n)
	}
	s := screen{command: c}
	if !c.asJSON {
		defer s.leave()
	}
	ticker := time.NewTicker(*every)
	defer ticker.Stop()
	var last look
	for i := 1; ; i++ {
		next, err := c.look(ctx, last)
		switch {
		case ctx.Err() != nil:
			return nil // as an interrupt ends it
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		case err == nil:
			last = next
		}
		if err := s.show(last, err); err != nil {
			return err
		}
		if i == *n {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look looks once, after the last look.
func (c *command) look(ctx context.Context, last look) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stats, err := c.Stats(ctx)
	if err != nil {
		return look{}, err
	}
	next := look{At: time.Now().UTC(), Stats: stats}
	if next.Recent, err = recent(ctx, c.Outbox, stats); err != nil {
		return look{}, err
	}
	if seconds := next.At.Sub(last.At).Seconds(); !last.At.IsZero() && seconds > 0 {
		next.PerSecond = make(map[string]float64)
		for number, now := range stats.Numbers {
			// Fewer than before: records went with the retention, or by delete.
			sent := max(0, now.States[outbox.StateSent]-last.Numbers[number].States[outbox.StateSent])
			next.PerSecond[number] = float64(sent) / seconds
			next.all += next.PerSecond[number]
		}
	}
	return next, nil
}

// screen is where top prints: a terminal, in which it draws in place, or anything else.
type screen struct {
	*command
	drawn bool // whether the terminal was drawn on
	shown bool // whether anything was printed
}

// The control sequences of a terminal that top needs; all are in ECMA-48 but for the
// private modes, which are those of DEC and xterm.
const (
	clearScreen = "\x1b[2J"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K" // to its end
	clearBelow  = "\x1b[J"
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
	noWrap      = "\x1b[?7l"
	wrap        = "\x1b[?7h"
	reverse     = "\x1b[7m"
	normal      = "\x1b[m"
)

// show prints a look, or why there is none; then it prints the one before once more.
func (s *screen) show(l look, trouble error) error {
	columns, lines := s.size()
	switch {
	case s.asJSON:
		if trouble != nil {
			fmt.Fprintln(s.err, oneLine(trouble.Error()))
			return nil
		}
		return json.NewEncoder(s.out).Encode(l)
	case columns <= 0 || lines <= 0:
		text := strings.Join(s.lines(l, trouble, 0), "\n") + "\n"
		if s.shown {
			text = "\n" + text
		}
		s.shown = true
		_, err := fmt.Fprint(s.out, text)
		return err
	}
	var frame bytes.Buffer // one write for all of it, so that nothing flickers
	if !s.drawn {
		frame.WriteString(clearScreen)
		s.drawn = true
	}
	frame.WriteString(hideCursor + noWrap + cursorHome)
	for i, line := range s.lines(l, trouble, lines) {
		if i > 0 {
			frame.WriteString("\r\n")
		}
		// Not the last column: what clears the rest of a line would clear it, too.
		line = cut(line, columns-1)
		if i == 0 {
			line = reverse + line + normal
		}
		frame.WriteString(line + clearLine)
	}
	frame.WriteString(clearBelow + wrap)
	_, err := s.out.Write(frame.Bytes())
	return err
}

// leave gives the terminal back, the last look on it.
func (s *screen) leave() {
	if s.drawn {
		fmt.Fprint(s.out, showCursor+"\r\n")
	}
}

// cut returns the first columns of a line.
func cut(line string, columns int) string {
	for i := range line {
		if columns == 0 {
			return line[:i]
		}
		columns--
	}
	return line
}

// lines returns a look as at most so many lines, or with 0 as many as it takes. The first
// is the title.
func (s *screen) lines(l look, trouble error, most int) []string {
	title := "outbox " + s.name
	if !l.At.IsZero() {
		title += "  " + l.At.Format(time.RFC3339)
	}
	if !l.OldestQueued.IsZero() {
		// By two clocks: one may be a little ahead.
		age := max(0, l.At.Sub(l.OldestQueued)).Round(time.Second)
		title += fmt.Sprintf("  oldest queued: %v", age)
	}
	lines := []string{title}
	if trouble != nil {
		lines = append(lines, "cannot look: "+oneLine(trouble.Error()))
	}
	if l.At.IsZero() {
		return lines
	}
	numbers := aligned(countRows(l.Stats, l.rate))
	messages := len(l.Recent)
	if most > 0 {
		room := most - len(lines) - 2 // less the blank line and the heading of the messages
		if keep := min(messages, leastMessages); len(numbers) > room-keep {
			// One line for how many are left out.
			shown := max(2, room-keep-1)
			if shown < len(numbers) {
				numbers = append(numbers[:shown], fmt.Sprintf("... and %d phone numbers more", len(numbers)-shown))
			}
		}
		messages = max(0, min(messages, room-len(numbers)))
	}
	lines = append(lines, numbers...)
	if messages > 0 {
		rows := []string{"id\tphone number\tstate\tretries\tchanged\tcode\treason"}
		for _, s := range l.Recent[:messages] {
			rows = append(rows, messageRow(s, s.Changed))
		}
		lines = append(append(lines, ""), aligned(rows)...)
	}
	if most > 0 && len(lines) > most {
		lines = lines[:most]
	}
	return lines
}

// sizeOr returns the size of a terminal. One that does not know it, such as a serial
// line, has that of COLUMNS and LINES, or 80 by 24.
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
