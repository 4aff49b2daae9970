package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// The senders begin before the outage and go on after it for so long.
const (
	before = 3 * time.Second
	after  = 10 * time.Second
)

// load has many senders send a message a second each, before, during and after
// an outage, and prints a line a second. All of them share one client, and so
// one gate.
func load(ctx context.Context, screen *screen, s settings, api *graphtest.API, url string) int {
	screen.headline(fmt.Sprintf("%d senders, each a message a second; the API goes down after %v, for %v, with code %d (%s)",
		s.senders, before, s.outage, s.code, s.code.Title()))
	if s.speed != 1 {
		screen.line("(after an outage the line is let go at a pace of real time, whatever -speed says)", "")
	}
	began := time.Now()
	down := func() bool {
		elapsed := s.story(time.Since(began))
		return elapsed >= before && elapsed < before+s.outage
	}
	api.DownAfter(s.scaled(before), s.scaled(s.outage), graphtest.Answer{Code: s.code})

	var notes events
	client, err := s.client(notes.observe)
	if err != nil {
		screen.line(err.Error())
		return wrongUse
	}
	defer client.CloseIdleConnections()

	var sent, waiting, arrived, lost atomic.Int64
	var messages sync.WaitGroup
	var senders sync.WaitGroup
	for sender := range s.senders {
		senders.Go(func() {
			// Spread over the second, as senders are.
			next := time.Duration(sender) * time.Second / time.Duration(s.senders)
			for number := 0; next < before+s.outage+after; number++ {
				if !sleepUntil(ctx, began.Add(s.scaled(next))) {
					return
				}
				next += time.Second
				sent.Add(1)
				waiting.Add(1)
				key := fmt.Sprintf("sender-%d-message-%d", sender, number)
				messages.Go(func() {
					defer waiting.Add(-1)
					_, err := send(ctx, client, destination{url: url, message: textMessage(s.to, "hello", key)})
					if err != nil {
						lost.Add(1)
						return
					}
					arrived.Add(1)
				})
			}
		})
	}

	screen.line(screen.paint(grey, "  time  API    calls/s  waiting  delivered"))
	done := make(chan struct{})
	go func() {
		senders.Wait()
		messages.Wait()
		close(done)
	}()
	calls := 0
	for second := 1; ; second++ {
		ended := false
		select {
		case <-done:
			ended = true
		case <-time.After(time.Until(began.Add(s.scaled(time.Duration(second) * time.Second)))):
		}
		for _, note := range notes.take() {
			screen.line(note)
		}
		totals := api.Totals()
		state := screen.paint(green, "up  ")
		if down() {
			state = screen.paint(red, "DOWN")
		}
		screen.line(fmt.Sprintf("%5ds  %s  %8d %8d %10d  %s", second, state, totals.Calls-calls, waiting.Load(), arrived.Load(), bar(totals.Calls-calls, 4*s.senders, 30)))
		calls = totals.Calls
		if ended {
			break
		}
	}
	totals := api.Totals()
	screen.line("", fmt.Sprintf("%d messages sent, %d delivered, %d lost, %d twice; %s reached the API while it was down",
		sent.Load(), arrived.Load(), lost.Load(), totals.Duplicates, count(totals.WhileDown, "call")))
	switch {
	case ctx.Err() != nil:
		screen.line("interrupted: the messages that waited were given up")
		return notDelivered
	case lost.Load() > 0 || totals.Duplicates > 0:
		return notDelivered
	}
	return delivered
}

// events collects what there is to say of the outage.
type events struct {
	mu    sync.Mutex
	notes []string
}

func (e *events) observe(_ context.Context, event graphretry.Event) {
	var note string
	switch event.Kind {
	case graphretry.EventOutageBegan:
		note = fmt.Sprintf("        the gate is shut: %v", event.Graph)
	case graphretry.EventOutageEnded:
		note = "        the gate is open again"
	default:
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = append(e.notes, note)
}

// take gives the notes since the last time.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	notes := e.notes
	e.notes = nil
	return notes
}

// sleepUntil waits for a moment. It reports false if the program is to end.
func sleepUntil(ctx context.Context, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
