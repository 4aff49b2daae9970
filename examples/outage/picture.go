package main

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
)

const (
	// redrawn is how often the picture is drawn. A column of it is as many draws.
	redrawn         = 100 * time.Millisecond
	redrawsInColumn = 3
	columnTime      = redrawsInColumn * redrawn

	// The smallest window that has room for the picture.
	minWidth, minHeight = 60, 20
	// textLines is how many lines of text stand under the charts.
	textLines = 6
	// otherLines is how many lines of a frame are no row of a chart: the headline,
	// three titles, the states, the times, an empty one, and the text.
	otherLines = 7 + textLines
	gutter     = 7 // the width of the scale at the left
)

// picture is the view that is drawn over and over in the same place. It draws on
// the terminal's alternate screen, which is as large as the window whatever happens
// to that; so what was on the terminal before is there again at the end.
type picture struct {
	*terminal
	settings
	columns []column
	drawn   int
	last    []moment // the latest, as many as make a second
	leave   func()
}

// column is what the charts show of columnTime.
type column struct {
	state       graphretry.HostState
	down        bool // the API
	ours, plain int  // calls a second
	queue       int
}

// The alternate screen without a cursor, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

func newPicture(t *terminal, s settings) *picture {
	t.write(enterScreen)
	return &picture{terminal: t, settings: s, leave: sync.OnceFunc(func() { t.write(leaveScreen) })}
}

func (p *picture) close() { p.leave() }

func (p *picture) show(now moment) {
	p.add(now)
	width, height := p.size()
	lines := p.frame(p.status(), width, height)
	// Home; each line without what it had before; and nothing below.
	p.write("\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J")
}

// add takes in a moment, and makes a column of those that fill one.
func (p *picture) add(now moment) {
	p.last = append(p.last, now)
	p.last = p.last[max(0, len(p.last)-1-int(time.Second/redrawn)):]
	if p.drawn++; p.drawn%redrawsInColumn != 0 {
		return
	}
	ours, plain := p.callsASecond()
	p.columns = append(p.columns, column{state: now.host.State, down: now.down, ours: ours, plain: plain, queue: now.host.Waiting})
}

// callsASecond returns how many calls reached the APIs in the last second, or as
// many as it would have been at the beginning, which has less than a second.
func (p *picture) callsASecond() (ours, plain int) {
	first, now := p.last[0], p.last[len(p.last)-1]
	took := (now.at - first.at).Seconds()
	if took == 0 {
		return 0, 0
	}
	rate := func(calls int) int { return int(math.Round(float64(calls) / took)) }
	return rate(now.ours.calls - first.ours.calls), rate(now.plain.calls - first.plain.calls)
}

// finish prints the last frame where it stays, with the closing words under it.
func (p *picture) finish(text []string) {
	width, height := p.size()
	width, height = max(width, minWidth), max(height, minHeight)
	var lines []string
	for _, paragraph := range text {
		lines = append(lines, wrapText(paragraph, width-1)...)
	}
	p.line(p.frame(nil, width, height)...)
	p.line(lines...)
}

// status is the text under the charts.
func (p *picture) status() []string {
	now := p.last[len(p.last)-1]
	released, _ := p.callsASecond()
	api := p.paint(green, "up")
	if now.down {
		api = p.paint(red, "down") + ", every answer is code " + named(p.code)
	}
	lines := []string{
		fmt.Sprintf("%6s  API %s", seconds(now.at), api),
		"        graphretry " + p.paint(stateColours[now.host.State], stateText(now, released)),
		fmt.Sprintf("        delivered %d of %d; plain backoff %d of %d", now.ours.delivered, now.ours.sent, now.plain.delivered, now.plain.sent),
	}
	for _, note := range now.notes[max(0, len(now.notes)-(textLines-len(lines))):] {
		lines = append(lines, p.paint(grey, fmt.Sprintf("%6s  %s", seconds(note.at), note.text)))
	}
	return lines
}

var stateColours = [...]colour{graphretry.HostUp: green, graphretry.HostDown: red, graphretry.HostRecovering: yellow}

// frame returns the lines of the picture, which fill a window but for its last
// line. What has no room is cut off.
func (p *picture) frame(text []string, width, height int) []string {
	rows := max(1, (height-1-otherLines)/3)
	columns := p.columns
	columns = columns[max(0, len(columns)-max(0, width-gutter-1)):]

	lines := []string{p.paint(bold, headlineOf(p.settings))}
	top := 1
	for _, c := range columns {
		top = max(top, c.ours, c.plain)
	}
	lines = append(lines, "graphretry: calls a second that reach the API")
	lines = append(lines, p.chart(columns, rows, top, func(c column) int { return c.ours })...)
	lines = append(lines, "graphretry: calls in the queue")
	lines = append(lines, p.chart(columns, rows, 0, func(c column) int { return c.queue })...)
	lines = append(lines, "plain backoff for each call: calls a second that reach the API")
	lines = append(lines, p.chart(columns, rows, top, func(c column) int { return c.plain })...)
	lines = append(lines, p.states(columns), p.times(len(columns)), "")
	lines = append(lines, text...)

	for i := range lines {
		lines[i] = cut(lines[i], width-1)
	}
	return lines[:min(len(lines), max(height-1, 1))]
}

// chart returns the rows of a chart. top is the value at its upper edge, 0 for the
// greatest that there is.
func (p *picture) chart(columns []column, rows, top int, value func(column) int) []string {
	if top == 0 {
		for _, c := range columns {
			top = max(top, value(c))
		}
		top = max(top, 1)
	}
	var lines []string
	for row := rows - 1; row >= 0; row-- {
		scale := "      |"
		if row == rows-1 {
			scale = fmt.Sprintf("%5d |", top)
		}
		var line strings.Builder
		for i := 0; i < len(columns); {
			from, c := i, barColour(columns[i])
			marks := ""
			for ; i < len(columns) && barColour(columns[i]) == c; i++ {
				marks += mark(value(columns[i]), row, rows, top)
			}
			if marks = strings.TrimRight(marks, " "); marks != "" {
				line.WriteString(p.paint(c, marks))
			}
			line.WriteString(strings.Repeat(" ", i-from-len(marks)))
		}
		lines = append(lines, strings.TrimRight(scale+line.String(), " "))
	}
	return lines
}

func barColour(c column) colour {
	if c.down {
		return red
	}
	return stateColours[c.state]
}

// mark is what a bar shows in one row, 0 being the lowest. Any value but 0 shows.
func mark(value, row, rows, top int) string {
	switch rest := value*rows*3 - row*top*3; {
	case rest <= 0:
		return " "
	case rest <= top:
		return "."
	case rest <= 2*top:
		return ":"
	default:
		return "#"
	}
}

// states returns the line with the states of the host, as graphretry saw them. Each
// word is where its state began.
func (p *picture) states(columns []column) string {
	line := fmt.Sprintf("%*s", gutter, "host ")
	for i := 0; i < len(columns); {
		from, state := i, columns[i].state
		for i < len(columns) && columns[i].state == state {
			i++
		}
		word := state.String()
		word = word[:min(len(word), i-from)]
		line += p.paint(stateColours[state], word+strings.Repeat("-", i-from-len(word)))
	}
	return line
}

// times returns the line with the seconds since the beginning.
func (p *picture) times(columns int) string {
	const every = 10 // columns
	line := strings.Repeat(" ", gutter)
	for i := len(p.columns) - columns; i < len(p.columns); i++ {
		if i%every == 0 {
			at := strings.Repeat(" ", max(0, gutter+i-(len(p.columns)-columns)-len(line)))
			line += at + fmt.Sprintf("%d s", time.Duration(i)*columnTime/time.Second)
		}
	}
	return line
}

// cut shortens a line to a width, which the escape sequences for colours do not
// count for.
func cut(line string, width int) string {
	var short strings.Builder
	for shown := 0; line != ""; {
		if strings.HasPrefix(line, "\x1b[") {
			end := strings.IndexByte(line, 'm') + 1
			short.WriteString(line[:end])
			line = line[end:]
			continue
		}
		if shown < width {
			short.WriteByte(line[0])
		}
		shown++
		line = line[1:]
	}
	return short.String()
}
