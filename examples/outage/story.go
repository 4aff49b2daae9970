package main

import (
	"fmt"
	"time"
)

// story is the view without a picture: a line a second, and one for each thing
// that happens.
type story struct {
	*terminal
	last moment // that of the last line
	told int    // how many of the notes
}

const (
	storyHead = "%6s  %-4s  %-10s  %6s %9s  %10s %9s"
	storyRow  = "%4d s  %-4s  %-10s  %6d %9d  %10d %9d"
)

func newStory(t *terminal, s settings) *story {
	t.headline(headlineOf(s))
	t.line(fmt.Sprintf(storyHead, "", "", "graphretry", "in the", "", "calls a s,", "calls a s"))
	t.line(fmt.Sprintf(storyHead, "time", "API", "says", "queue", "delivered", "graphretry", "plain"))
	return &story{terminal: t}
}

func (s *story) show(now moment) {
	s.tell(now)
	if now.at/time.Second == s.last.at/time.Second {
		return
	}
	api, c := "up", green
	if now.down {
		api, c = "down", red
	}
	s.line(s.paint(c, fmt.Sprintf(storyRow, now.at/time.Second, api, now.host.State, now.host.Waiting,
		now.ours.delivered, now.ours.calls-s.last.ours.calls, now.plain.calls-s.last.plain.calls)))
	s.last = now
}

func (s *story) tell(now moment) {
	for _, note := range now.notes[s.told:] {
		s.line(fmt.Sprintf("%8s  ", seconds(note.at)) + s.paint(bold, note.text))
	}
	s.told = len(now.notes)
}

func (s *story) close() {}

func (s *story) finish(text []string) { s.closing(text...) }
