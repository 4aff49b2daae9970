package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	// before is how long the API is up before the outage.
	before = 3 * time.Second
	// after is how long the senders go on when the outage is over, so that the
	// last lines of the table are as the first.
	after = 3 * time.Second
)

// load is what many senders send, and what becomes of it.
type load struct {
	settings
	screen  *screen
	api     *graphtest.API
	network *network
	began   time.Time

	mu        sync.Mutex // guards all below
	messages  []message
	delivered int
	failed    int // whose sender got an error or Meta's refusal
	cutShort  int // that were waiting when the program was interrupted
	onTheWay  int // that were on their way to the API when it was

	wasShut, isShut bool          // the outage gate
	opened          time.Duration // when it was last opened
}

// message is a message that was given to client.Do.
type message struct {
	key string
	at  time.Duration // since the beginning
}

// network is an http.Transport that knows how many calls are on their way.
type network struct {
	*http.Transport
	calls atomic.Int64
}

func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	n.calls.Add(1)
	defer n.calls.Add(-1)
	return n.Transport.RoundTrip(request)
}

// sendMany has many senders send a message a second each, before, during and
// after an outage, and prints a line a second. They share one client, and so one
// gate.
func sendMany(ctx context.Context, screen *screen, s settings, to destination, api *graphtest.API) int {
	screen.headline(fmt.Sprintf("%d senders, each with a message every second, share one client. The fake Graph API is up for %v, down for %v with code %s, and up again.",
		s.senders, before, s.outage, named(s.code)))
	if s.speed != 1 {
		screen.prose("With -speed the waits, the outage and the senders are faster, and the times are told as if they were not. But how fast the gate lets calls go is counted in real seconds, so the recovery takes longer here than it would.", "")
	}
	l := &load{settings: s, screen: screen, api: api, network: &network{
		// Enough for any pace, and far from the limit of open files.
		Transport: &http.Transport{MaxIdleConnsPerHost: 200, MaxConnsPerHost: 200},
	}}
	client, err := wrap(&http.Client{Transport: l.network}, s, l.observe)
	if err != nil {
		screen.prose(err.Error())
		return exitWrongUse
	}
	defer client.CloseIdleConnections()

	l.began = time.Now()
	api.DownAfter(s.scaled(before), s.scaled(s.outage), graphtest.Answer{Code: s.code})
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var calls sync.WaitGroup
	for sender := range s.senders {
		calls.Go(func() {
			for number := 0; ; number++ {
				// Spread over the second, as senders are.
				at := time.Duration(number)*time.Second + time.Duration(sender)*time.Second/time.Duration(s.senders)
				if !sleepUntil(l.clock(at), sending.Done()) {
					return
				}
				key := fmt.Sprintf("message %d of sender %d", number+1, sender+1)
				// A sender goes on whether the last message is out or not.
				calls.Go(func() { l.send(ctx, client, to, key) })
			}
		})
	}
	done := make(chan struct{})
	go func() {
		calls.Wait()
		close(done)
	}()

	screen.line(screen.paint(bold, fmt.Sprintf(tableHead, "time", "state", "calls/s", "held", "delivered")))
	seen := 0
	for second := time.Second; ; second += time.Second {
		if !sleepUntil(l.clock(second), done) {
			break // in the midst of a second
		}
		seen = l.row(second, seen)
		if l.isOver(second) {
			stop()
		}
	}
	return l.summary(ctx.Err() != nil)
}

// clock is when a moment of the story is.
func (l *load) clock(at time.Duration) time.Time { return l.began.Add(l.scaled(at)) }

// send sends a message and notes what becomes of it.
func (l *load) send(ctx context.Context, client *http.Client, to destination, key string) {
	l.mu.Lock()
	l.messages = append(l.messages, message{key, l.story(time.Since(l.began))})
	l.mu.Unlock()
	_, err := send(ctx, client, to, textMessage(l.to, "Your parcel is on its way.", key))
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting *graphretry.WaitError
	switch {
	case err == nil:
		l.delivered++
	case ctx.Err() == nil:
		l.failed++
	case errors.As(err, &waiting):
		l.cutShort++
	default:
		l.onTheWay++
	}
}

// observe prints when an outage begins and ends.
func (l *load) observe(_ context.Context, event graphretry.Event) {
	if event.Kind != graphretry.EventOutageBegan && event.Kind != graphretry.EventOutageEnded {
		return
	}
	now := l.story(event.Time.Sub(l.began))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isShut = event.Kind == graphretry.EventOutageBegan
	if l.isShut {
		l.wasShut = true
		l.screen.line(fmt.Sprintf("%7s  ", seconds(now)) + l.screen.paint(red, "OUTAGE BEGAN") +
			"  the gate is shut: one call probes, the others wait")
		return
	}
	l.opened = now
	l.screen.line(fmt.Sprintf("%7s  ", seconds(now)) + l.screen.paint(green, "OUTAGE ENDED") +
		fmt.Sprintf("  after %s: the line is empty, the gate is open", seconds(l.story(event.Lasted))))
}

// isDown tells whether the API is down at a moment of the story.
func (l *load) isDown(at time.Duration) bool { return before <= at && at < before+l.outage }

// isOver tells whether the outage and the recovery are over, and have been for
// long enough.
func (l *load) isOver(at time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.isShut && at >= max(before+l.outage, l.opened)+after
}

const (
	tableHead = "%7s  %-10s %8s %6s %10s"
	tableRow  = "%5d s  %s %8d %6d %10d  %s"
)

// row prints the line of the second that ends at a moment of the story. It takes
// and gives how many calls the API had seen by then.
func (l *load) row(at time.Duration, before int) (calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.screen.paint(green, "up        ")
	switch {
	case l.isDown(at - 1):
		state = l.screen.paint(red, "DOWN      ")
	case l.isShut:
		state = l.screen.paint(yellow, "recovering")
	}
	calls = l.api.Totals().Calls
	held := len(l.messages) - l.delivered - l.failed - l.cutShort - l.onTheWay - int(l.network.calls.Load())
	row := fmt.Sprintf(tableRow, at/time.Second, state, calls-before, max(0, held), l.delivered, bar(calls-before, 4*l.senders, 30))
	l.screen.line(strings.TrimRight(row, " "))
	return calls
}

// summary prints how it ended. It gives the exit code.
func (l *load) summary(interrupted bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	totals := l.api.Totals()
	sent := fmt.Sprintf("%s sent, %d delivered", count(len(l.messages), "message"), l.delivered)
	if interrupted {
		l.screen.closing(fmt.Sprintf("Interrupted: %s, %s.", sent, count(totals.Duplicates, "duplicate")),
			fmt.Sprintf("%s waiting, and given up.", count(l.cutShort, "message")))
		if l.onTheWay > 0 {
			l.screen.prose(fmt.Sprintf("%s on the way: whether the API took them, nobody here can know.", count(l.onTheWay, "message")))
		}
		return exitNotDelivered
	}

	var keys []string
	var whileDown int
	for _, m := range l.messages {
		keys = append(keys, m.key)
		if l.isDown(m.at) {
			whileDown++
		}
	}
	lost := len(l.api.Lost(keys...))
	l.screen.closing(fmt.Sprintf("%s, %d lost, %s.", sent, lost, count(totals.Duplicates, "duplicate")))
	reached := fmt.Sprintf("%s reached the API while it was down", count(totals.WhileDown, "call"))
	if l.wasShut {
		l.screen.prose(fmt.Sprintf("%s. With a backoff for each call and no gate: %d (computed, for the same messages and schedule).",
			reached, l.withoutGate()))
	} else {
		l.screen.prose(reached + ". The gate stayed open: 20 answers in a row of 2 or 131016 shut it.")
	}
	l.screen.prose(fmt.Sprintf("Without graphretry: %s, one for each message that was sent meanwhile.", count(whileDown, "failed send")))
	if l.failed > 0 {
		l.screen.closing(fmt.Sprintf("%s failed, and Meta's answer is with the sender. What to do about code %s: %s",
			count(l.failed, "message"), named(l.code), l.code.Advice()))
	}
	if l.failed > 0 || lost > 0 || totals.Duplicates > 0 {
		return exitNotDelivered
	}
	return exitDelivered
}

// withoutGate computes how many calls would have reached the API while it was
// down, had each message followed the schedule by itself: every attempt while it
// is down fails, and the next comes after the wait that the policy gives.
func (l *load) withoutGate() (calls int) {
	policy, err := graphretry.NewPolicy()
	if err != nil {
		return 0 // it has no options that could be wrong
	}
	for _, m := range l.messages {
		at := m.at
		for retries := 0; l.isDown(at); retries++ {
			calls++
			decision := policy.Decide(&graphretry.Error{Code: l.code}, retries)
			if at += decision.Wait; !decision.Retry || at-m.at > 15*time.Minute {
				break
			}
		}
	}
	return calls
}

// sleepUntil waits for a moment. It reports false if it is interrupted before.
func sleepUntil(moment time.Time, interrupted <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-interrupted:
		return false
	}
}
