package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	// before is how long the API is up before the outage.
	before = 2 * time.Second
	// after is how long messages are sent once all is as it was before.
	after = 2 * time.Second
	// latency is how long the API takes for an answer.
	latency = 50 * time.Millisecond
	// comingBack is how long the API counts as coming back, in whole seconds.
	comingBack = 5 * time.Second
)

// load is many messages, and a fake API of its own for them.
type load struct {
	api  *graphtest.API
	send func(ctx context.Context, message []byte) error
	back time.Time // when the API is back

	mu        sync.Mutex // guards all below
	keys      []string
	delivered int
	failed    int           // whose sender got an error or Meta's refusal
	again     time.Duration // from back to the first message that was delivered after it; 0 if there is none
	last      time.Duration // from back to the last delivery of a message from before it; 0 if there is none
}

// newLoad returns a load whose API goes down as the settings say.
func newLoad(s settings) *load {
	l := &load{api: graphtest.New(), back: time.Now().Add(before + s.outage)}
	l.api.SetLatency(latency)
	l.api.DownAfter(before, s.outage, graphtest.Answer{Code: s.code})
	return l
}

// begin notes that a message is to be sent.
func (l *load) begin(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(l.keys, key)
}

// deliver sends a message and notes what becomes of it.
func (l *load) deliver(ctx context.Context, to, key string) {
	began := time.Now()
	err := l.send(ctx, textMessage(to, "Your parcel is on its way.", key))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.delivered++
		if since := time.Since(l.back); since > 0 {
			l.again = cmp.Or(l.again, since)
			if began.Before(l.back) {
				l.last = since
			}
		}
	case ctx.Err() == nil:
		l.failed++
	}
}

// progress is how far a load has come.
type progress struct {
	sent, delivered, failed int
	calls, whileDown        int // that reached the API
	again, last             time.Duration
}

// open is how many messages have no outcome yet.
func (p progress) open() int { return p.sent - p.delivered - p.failed }

func (l *load) progress() progress {
	totals := l.api.Totals()
	l.mu.Lock()
	defer l.mu.Unlock()
	return progress{len(l.keys), l.delivered, l.failed, totals.Calls, totals.WhileDown, l.again, l.last}
}

// comparison is the same load twice: through graphretry, and with a plain backoff
// loop for each call.
type comparison struct {
	settings
	began       time.Time
	transport   *graphretry.Transport
	ours, plain *load

	mu           sync.Mutex // guards all below
	notes        []note
	firstRefused int // how many of the first attempts of the plain loops failed
}

// note is something that happened.
type note struct {
	at   time.Duration
	text string
}

func (c *comparison) note(at time.Duration, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, note{at, fmt.Sprintf(format, args...)})
}

func newComparison(s settings) (*comparison, error) {
	c := &comparison{settings: s, began: time.Now(), ours: newLoad(s), plain: newLoad(s)}
	transport, err := wrap(c.ours.api, s, c.observe)
	if err != nil {
		return nil, err
	}
	c.transport = transport
	wrapped := &http.Client{Transport: transport}
	c.ours.send = func(ctx context.Context, message []byte) error {
		_, err := send(ctx, wrapped, fakeDestination, message)
		return err
	}
	bare := &http.Client{Transport: c.plain.api}
	c.plain.send = func(ctx context.Context, message []byte) error {
		attempts := 0
		return sendWithPlainBackoff(ctx, s, func() error {
			_, err := send(ctx, bare, fakeDestination, message)
			if attempts++; attempts == 1 && err != nil && ctx.Err() == nil {
				c.mu.Lock()
				c.firstRefused++
				c.mu.Unlock()
			}
			return err
		})
	}
	return c, nil
}

// observe notes the beginning and the end of an outage.
func (c *comparison) observe(_ context.Context, event graphretry.Event) {
	at := event.Time.Sub(c.began)
	switch event.Kind {
	case graphretry.EventOutageBegan:
		c.note(at, "outage began: calls wait in the queue, but for one probe at a time")
	case graphretry.EventOutageEnded:
		c.note(at, "outage ended after %s: the last of %s is released", seconds(event.Lasted), count(event.Held, "queued call"))
	}
}

// sendAll sends a message at each tick of the rate, by both loads, until sending
// ends. The calls are added to the group.
func (c *comparison) sendAll(ctx, sending context.Context, calls *sync.WaitGroup) {
	for number := 0; sleepUntil(c.began.Add(time.Duration(number)*time.Second/time.Duration(c.rate)), sending.Done()); number++ {
		key := fmt.Sprintf("message %d", number+1)
		for _, l := range []*load{c.ours, c.plain} {
			l.begin(key)
			calls.Go(func() { l.deliver(ctx, c.to, key) })
		}
	}
}

// moment is all that is shown of one moment.
type moment struct {
	at          time.Duration
	down        bool // the API
	host        graphretry.HostStatus
	nextProbe   time.Duration // from now, for a host that is down
	ours, plain progress
	notes       []note
}

func (c *comparison) look() moment {
	now := time.Now()
	m := moment{at: now.Sub(c.began), host: c.transport.Hosts()[0], ours: c.ours.progress(), plain: c.plain.progress()}
	m.down = before <= m.at && m.at < before+c.outage
	m.nextProbe = max(0, m.host.NextProbe.Sub(now))
	c.mu.Lock()
	defer c.mu.Unlock()
	m.notes = c.notes[:len(c.notes):len(c.notes)]
	return m
}

// compareStates notes the changes from one moment to the next that have no event.
func (c *comparison) compareStates(last, now moment) {
	if last.down && !now.down && now.host.State == graphretry.HostDown {
		c.note(now.at, "the API is back: a plain loop finds out at once, graphretry in %s", seconds(now.nextProbe))
	}
	switch {
	case last.host.State == graphretry.HostDown && now.host.State == graphretry.HostRecovering:
		c.note(now.at, "a probe succeeded: the queue is released, soonest deadline first")
	case last.host.State == graphretry.HostDown && now.host.State == graphretry.HostDown && now.host.NextProbe.After(last.host.NextProbe):
		c.note(now.at, "a probe was sent; if it fails, the next follows in %s", seconds(now.nextProbe))
	}
}

// sendMany sends many messages before, during and after an outage, and shows it.
// It returns the exit code.
func sendMany(ctx context.Context, stopSignals func(), terminal *terminal, s settings) int {
	c, err := newComparison(s)
	if err != nil {
		terminal.prose(err.Error())
		return exitWrongUse
	}
	view := terminal.view(s)
	defer view.close() // also if this panics: the terminal is left as it was

	// What is told at the end of an interrupt is looked at before the calls end.
	calling, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	sending, stopSending := context.WithCancel(calling)
	defer stopSending()
	var sender, calls sync.WaitGroup
	sender.Go(func() { c.sendAll(calling, sending, &calls) })

	end := before + s.outage + after
	last := c.look()
	for tick := 1; ; tick++ {
		if !sleepUntil(c.began.Add(time.Duration(tick)*redrawn), ctx.Done()) {
			break
		}
		now := c.look()
		c.compareStates(last, now)
		view.show(now)
		if now.host.State != graphretry.HostUp {
			end = max(end, now.at+after)
		}
		if last = now; now.at < end {
			continue
		}
		stopSending()
		sender.Wait()
		// Those of the plain loops may wait for minutes yet; they get a moment.
		if last = c.look(); last.ours.open() == 0 && (last.plain.open() == 0 || now.at >= end+time.Second) {
			break
		}
	}
	last = c.look()
	view.close()
	interrupted := ctx.Err() != nil
	if interrupted {
		stopSignals()
	}
	endCalls()
	sender.Wait()
	calls.Wait()
	text, exit := c.closing(last, interrupted)
	view.finish(text)
	return exit
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
