package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// graphText finds Meta's error in a reason, as Error.Error and Decision.Cause write it.
var graphText = regexp.MustCompile(`Graph error (\d+)(?:, subcode (\d+))?`)

// implied are reasons that say no more than the state does.
var implied = []string{graphretry.ReasonNotRetried.String(), graphretry.ReasonNever.String()}

// why returns why a message is in its state.
func why(s outbox.Status, stats outbox.Stats, now time.Time) string {
	if s.State == outbox.StateQueued {
		return whyQueued(s, stats, now)
	}
	return whyMessage(s)
}

// whyMessage returns why a message is in its state: Meta's title and code first, then the rest.
// It is "" if nothing has happened to the message.
func whyMessage(s outbox.Status) string {
	head, said := headOf(s)
	return strings.TrimSuffix(head+": "+said, ": ")
}

// headOf returns why a message is in its state in few words, and what else Meta said.
func headOf(s outbox.Status) (head, said string) {
	reason := clean(s.Reason)
	if s.Graph == nil {
		return titled(reason)
	}
	said = words.Line(s.Graph.Details)
	if said == "" {
		said = words.Line(s.Graph.Message)
	}
	if strings.EqualFold(strings.TrimSuffix(said, "."), words.Title(s.Graph)) {
		said = ""
	}
	before, _ := around(reason)
	return withTitle(s.Graph, before), said
}

// titled returns the same as headOf, from the text of a reason alone. Without an error of Meta
// in it, head is its beginning.
func titled(reason string) (head, said string) {
	found := graphText.FindStringSubmatch(reason)
	if found == nil {
		head, said, _ = strings.Cut(reason, ": ")
		return head, said
	}
	before, after := around(reason)
	code, _ := strconv.Atoi(found[1])
	subcode, _ := strconv.Atoi(found[2])
	e := &graphretry.Error{Code: graphretry.Code(code), Subcode: subcode}
	return withTitle(e, before), strings.TrimPrefix(strings.TrimPrefix(after, " ("+words.Title(e)+")"), ": ")
}

// withTitle returns Meta's title and code, and then what decided.
func withTitle(e *graphretry.Error, before string) string {
	text := fmt.Sprintf("%s (%d)", words.Title(e), e.Code)
	before = strings.Trim(before, " :")
	for _, reason := range implied {
		before = strings.Trim(strings.TrimSuffix(before, reason), " :")
	}
	if before != "" {
		text += ", " + strings.ReplaceAll(before, ": ", ", ")
	}
	return text
}

// around returns the parts of a reason before Meta's error and after its code. before is the
// whole reason if it has no such error.
func around(reason string) (before, after string) {
	at := graphText.FindStringIndex(reason)
	if at == nil {
		return reason, ""
	}
	return reason[:at[0]], reason[at[1]:]
}

// traceID is the end of what Meta said. show prints it separately.
var traceID = regexp.MustCompile(` \[fbtrace_id [^]]*\]$`)

// clean returns a reason on one line, without the prefix of the package.
func clean(reason string) string {
	return traceID.ReplaceAllString(strings.ReplaceAll(words.Line(reason), "graphretry: ", ""), "")
}

// whyHeld returns why a number, or all numbers, are held, "" if they are not.
func whyHeld(heldFor string, nextProbe, now time.Time) string {
	if heldFor == "" {
		return ""
	}
	head, said := titled(clean(heldFor))
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
	head, said := headOf(s)
	var then string
	switch alive, _ := runsOf(stats); {
	case stats.Paused:
		then = "all numbers are paused"
	case n.Paused:
		then = "its number is paused"
	case n.HeldFor != "":
		then = "its number is held"
		if head == "" {
			head, said = titled(clean(n.HeldFor))
		}
	case stats.HeldFor != "":
		then = "all numbers are held"
		if head == "" {
			head, said = titled(clean(stats.HeldFor))
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
