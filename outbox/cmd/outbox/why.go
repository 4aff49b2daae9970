package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// why returns why a message is in its state.
func why(s outbox.Status, stats outbox.Stats, now time.Time) string {
	if s.State == outbox.StateQueued {
		return whyQueued(s, stats, now)
	}
	return whyMessage(s)
}

// whyMessage returns why a message is in its state: Meta's title and code first, then the rest.
// It is "" if nothing has happened to the message.
func whyMessage(s outbox.Status) string { return words.Why(s.Reason, s.Graph) }

// whyHeld returns why a number, or all numbers, are held, "" if they are not.
func whyHeld(heldFor string, nextProbe, now time.Time) string {
	if heldFor == "" {
		return ""
	}
	head, said := words.Reason(heldFor, nil)
	head += "; held"
	if nextProbe.After(now) {
		head += ", next probe " + words.Away(nextProbe, now)
	}
	return strings.TrimSuffix(head+": "+said, ": ")
}

// whyNumber returns why the messages of a number wait, "" if they only wait for their turn.
func whyNumber(n outbox.NumberStats, now time.Time) string {
	var parts []string
	if n.Paused {
		parts = append(parts, "paused by a person")
	}
	if held := whyHeld(n.HeldFor, n.NextProbe, now); held != "" {
		parts = append(parts, held)
	}
	if n.Share > 0 && n.Share < 0.995 {
		parts = append(parts, fmt.Sprintf("at %.0f %% of its rate, since Meta has asked for less", 100*n.Share))
	}
	return strings.Join(parts, "; ")
}

// whyAll returns why all messages wait, "" if they do not.
func whyAll(stats outbox.Stats, now time.Time) string {
	var parts []string
	if stats.Paused {
		parts = append(parts, "paused by a person")
	}
	if held := whyHeld(stats.HeldFor, stats.NextProbe, now); held != "" {
		parts = append(parts, held)
	}
	if alive, _ := runsOf(stats); alive == 0 && stats.States[outbox.StateQueued] > 0 {
		parts = append(parts, "no Run is alive, so nothing is sent")
	}
	return strings.Join(parts, "; ")
}

// whyQueued returns why a queued message waits: what has happened to it, and what stops it, its
// number or all numbers.
func whyQueued(s outbox.Status, stats outbox.Stats, now time.Time) string {
	n := stats.Numbers[s.PhoneNumberID]
	head, said := words.Reason(s.Reason, s.Graph)
	var then string
	switch alive, _ := runsOf(stats); {
	case stats.Paused:
		then = "all numbers are paused"
	case n.Paused:
		then = "its number is paused"
	case n.HeldFor != "":
		then = "its number is held"
		if head == "" {
			head, said = words.Reason(n.HeldFor, nil)
		}
	case stats.HeldFor != "":
		then = "all numbers are held"
		if head == "" {
			head, said = words.Reason(stats.HeldFor, nil)
		}
	case alive == 0:
		then = "no Run is alive"
	case s.NotBefore.After(now) && head == "":
		then = "due " + words.Away(s.NotBefore, now)
	case s.NotBefore.After(now):
		then = "next attempt " + words.Away(s.NotBefore, now)
	default:
		then = "waits for its turn"
	}
	text := strings.TrimPrefix(head+"; "+then, "; ")
	return strings.TrimSuffix(text+": "+said, ": ")
}

// runsOf returns how many Runs are alive, and how many are dead.
func runsOf(stats outbox.Stats) (alive, dead int) {
	for _, run := range stats.Runs {
		if run.Dead {
			dead++
		} else {
			alive++
		}
	}
	return alive, dead
}
