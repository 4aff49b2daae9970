package main

import (
	"fmt"
	"time"

	"github.com/graphretry/graphretry"
)

// closing returns the closing lines and the exit code. Each figure is measured in
// this run.
func (c *comparison) closing(end moment, interrupted bool) (text []string, exit int) {
	ours, plain := end.ours, end.plain
	if interrupted {
		text = append(text, fmt.Sprintf("Interrupted: %s sent, %d delivered. %d had no answer yet, %d of them in the queue.",
			count(ours.sent, "message"), ours.delivered, ours.open(), end.host.Waiting))
		return text, exitNotDelivered
	}
	duplicates, lost := c.ours.api.Totals().Duplicates, len(c.ours.api.Lost(c.ours.keys...))
	text = append(text, fmt.Sprintf("graphretry: %s sent, %d delivered, %d lost, %d sent twice; %s reached the API while it was down, and %d in the busiest second after.",
		count(ours.sent, "message"), ours.delivered, lost, duplicates, count(ours.whileDown, "call"), c.busiest(c.ours)))
	still := ""
	if plain.open() > 0 {
		still = fmt.Sprintf(" %s still waiting.", count(plain.open(), "message"))
	}
	text = append(text, fmt.Sprintf("Without graphretry, the same messages with a plain backoff loop for each: %s while the API was down, and %d in the busiest second after.%s",
		count(plain.whileDown, "call"), c.busiest(c.plain), still))
	text = append(text, c.afterTheOutage(end)...)
	text = append(text, fmt.Sprintf("Without any retry: %s failed.", count(c.firstRefused, "message")))
	if ours.failed > 0 {
		text = append(text, fmt.Sprintf("%s failed: code %s is not retried, and the sender has Meta's answer. %s", count(ours.failed, "message"), named(c.code), c.code.Advice()))
	}
	if ours.failed > 0 || lost > 0 || duplicates > 0 {
		return text, exitNotDelivered
	}
	return text, exitDelivered
}

// afterTheOutage says who delivered first once the API was back, why, and who was done
// first. It says nothing if graphretry saw no outage.
func (c *comparison) afterTheOutage(end moment) (text []string) {
	ours, plain := end.ours, end.plain
	if len(end.notes) == 0 || ours.last == 0 || plain.again == 0 {
		return nil
	}
	if plain.again < ours.again {
		text = append(text, fmt.Sprintf("Once the API is back, plain backoff delivers first, after %s, because each of its loops tries for itself. "+
			"That puts %s on an API that is coming back, in its first %.0f s. graphretry waits for its next probe and delivers after %s. It puts %s on the API in that time, at a rate that rises.",
			seconds(plain.again), count(c.first(c.plain), "call"), comingBack.Seconds(), seconds(ours.again), count(c.first(c.ours), "call")))
	}
	done := fmt.Sprintf("The last message of the outage is delivered %s after it", seconds(ours.last))
	switch sooner := plain.last - ours.last; {
	case plain.open() > 0:
		done += ". Those of plain backoff that wait come later."
	case sooner < 0:
		done += fmt.Sprintf(", %s later than with plain backoff.", seconds(-sooner))
	default:
		done += fmt.Sprintf(", %s earlier than with plain backoff.", seconds(sooner))
	}
	return append(text, done)
}

// first is how many calls reached the API while it was coming back.
func (c *comparison) first(l *load) (calls int) {
	for i, n := range l.api.CallsPerSecond(l.back) {
		if time.Duration(i)*time.Second < comingBack {
			calls += n
		}
	}
	return calls
}

// busiest is how many calls reached the API in the busiest second after the
// outage.
func (c *comparison) busiest(l *load) (calls int) {
	for _, n := range l.api.CallsPerSecond(l.back) {
		calls = max(calls, n)
	}
	return calls
}

// stateText returns the state of the host as graphretry sees it, and what graphretry
// does. released is how many calls were released in the last second.
func stateText(m moment, released int) string {
	switch m.host.State {
	case graphretry.HostDown:
		probe := "a probe is due"
		if m.nextProbe > 0 {
			probe = "next probe in " + seconds(m.nextProbe.Round(100*time.Millisecond))
		}
		return fmt.Sprintf("down: %s in the queue, %s", count(m.host.Waiting, "call"), probe)
	case graphretry.HostRecovering:
		return fmt.Sprintf("recovering: %s in the queue, release rate %d/s", count(m.host.Waiting, "call"), released)
	default:
		return "up: calls are sent as they come"
	}
}
