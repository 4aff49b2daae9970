package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// states are the states of a message, in the order of its life.
var states = []outbox.State{outbox.StateQueued, outbox.StateSending, outbox.StateSent, outbox.StateFailed, outbox.StateUnknown}

// filterFlags are the flags that choose messages.
var filterFlags = []string{"state", "number", "label", "code", "older", "changed-after", "after", "limit"}

// defineFilter defines these flags. It returns a function that is to be called after they were
// parsed.
func defineFilter(flags *flag.FlagSet) func() (outbox.Filter, error) {
	stateList := flags.String("state", "", "`states` with commas between them: queued, sending, sent, failed,\nunknown")
	number := flags.String("number", "", "phone number `ID` that they are sent from")
	label := flags.String("label", "", "`label` of a campaign")
	code := flags.Int("code", 0, "`code` or subcode of Meta's last error")
	older := flags.String("older", "", "least `time` since they were enqueued, as in 10m, 2h or 3d")
	changed := flags.String("changed-after", "", "`time` as in 2026-11-27T09:00:00Z: those that changed after it, and\nthose that are due: an older copy of the database cannot show\nwhether these were sent")
	after := flags.String("after", "", "`ID` of a message: those that were enqueued after it")
	limit := flags.Int("limit", 0, "`number` of messages at most, the first that were enqueued; 0 for all")
	return func() (outbox.Filter, error) {
		filter := outbox.Filter{PhoneNumberID: *number, Label: *label, Code: graphretry.Code(*code), After: *after, Limit: *limit}
		wrong := func(format string, args ...any) (outbox.Filter, error) {
			return filter, wrongUsage(flags.Name(), format, args...)
		}
		// A flag that is given has a value: an empty variable of a script must not mean all
		// messages.
		for name, value := range map[string]string{"state": *stateList, "number": *number, "label": *label, "older": *older, "changed-after": *changed, "after": *after} {
			if value == "" && isGiven(flags, name) {
				return wrong("-%s is empty: want a value, or leave it out", name)
			}
		}
		if *stateList != "" {
			for name := range strings.SplitSeq(*stateList, ",") {
				state := outbox.State(strings.TrimSpace(name))
				if !slices.Contains(states, state) {
					return wrong("-state has %q: want some of %s, with commas between them", state, listed(states))
				}
				filter.States = append(filter.States, state)
			}
		}
		if *older != "" {
			age, err := words.ParseAge(*older)
			if err != nil || age < 0 {
				return wrong("-older is %q: want a time such as 90s, 10m, 2h or 3d", *older)
			}
			filter.OlderThan = age
		}
		if *changed != "" {
			at, err := time.Parse(time.RFC3339, *changed)
			if err != nil {
				return wrong("-changed-after is %q: want a time such as 2026-11-27T09:00:00Z", *changed)
			}
			filter.ChangedAfter = at
		}
		switch {
		case isGiven(flags, "code") && *code <= 0:
			return wrong("-code is %d: want a code above 0", *code)
		case *limit < 0:
			return wrong("-limit is %d: want a number that is not negative", *limit)
		}
		return filter, nil
	}
}

// listed returns states with commas between them.
func listed(states []outbox.State) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(states), " ", ", "), "[]")
}
