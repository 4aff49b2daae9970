package page

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// shownRows is how many phone numbers, or labels, the overview has at most.
const shownRows = 100

type overviewPage struct {
	frame
	States     []stateCount
	Waiting    moment // since when the message that waits longest has waited
	Paused     bool
	APIDown    bool
	HeldFor    string
	NextProbe  moment
	Live, Dead int
	Runs       []runRow
	Numbers    []numberRow
	Labels     []labelRow
	// MoreNumbers and MoreLabels are how many are left out.
	MoreNumbers, MoreLabels int
	// Number is the phone number that the user has asked for.
	Number string
	Queued int
}

type stateCount struct {
	State outbox.State
	N     int
}

type numberRow struct {
	ID string
	outbox.NumberStats
	NextProbe moment
	// Rate is how many messages are sent a second, "" if that is not known yet.
	Rate string
	// Slowed is the part of its rate that the number uses after Meta's answers, "" for all of
	// it.
	Slowed string
}

func (r numberRow) Queued() int { return r.States[outbox.StateQueued] }

type labelRow struct {
	Label  string
	States map[outbox.State]int
}

func (r labelRow) Queued() int { return r.States[outbox.StateQueued] }

type runRow struct {
	outbox.RunStats
	Began moment
}

func (p *pages) overview(w http.ResponseWriter, r *http.Request) error {
	wanted := strings.TrimSpace(r.FormValue("number"))
	if strings.Trim(wanted, "0123456789") != "" {
		return wrong{http.StatusBadRequest, "This filter is not valid", fmt.Sprintf("The phone number ID is %q: want digits.", wanted)}
	}
	stats, err := p.outbox.Stats(r.Context())
	if err != nil {
		return err
	}
	now := p.outbox.Now()
	page := overviewPage{
		frame: p.frame(r, "Overview", now), Waiting: newMoment(stats.WaitingSince, now),
		Paused: stats.Paused, APIDown: stats.APIDown, HeldFor: words.Why(stats.HeldFor, nil), NextProbe: newMoment(stats.NextProbe, now),
		Number: wanted, Queued: stats.States[outbox.StateQueued],
	}
	for _, state := range states {
		page.States = append(page.States, stateCount{state, stats.States[state]})
	}
	perSecond, _ := p.rates.perSecond(now, stats)
	for number, s := range stats.Numbers {
		if wanted != "" && number != wanted {
			continue
		}
		row := numberRow{ID: number, NumberStats: s, NextProbe: newMoment(s.NextProbe, now)}
		row.HeldFor = words.Why(s.HeldFor, nil)
		if perSecond != nil {
			row.Rate = fmt.Sprintf("%.1f", perSecond[number])
		}
		if s.Share < 0.995 {
			row.Slowed = fmt.Sprintf("%.0f %%", 100*s.Share)
		}
		page.Numbers = append(page.Numbers, row)
	}
	if wanted != "" && len(page.Numbers) == 0 {
		return wrong{http.StatusNotFound, "There is no such number", "The outbox has no message from the phone number " + wanted + ", and it is not paused."}
	}
	// Numbers that need a person come first.
	slices.SortFunc(page.Numbers, func(a, b numberRow) int {
		rank := func(r numberRow) int {
			switch {
			case r.HeldFor != "":
				return 0
			case r.Paused:
				return 1
			case r.Slowed != "":
				return 2
			}
			return 3
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Queued(), a.Queued()), cmp.Compare(a.ID, b.ID))
	})
	page.Numbers, page.MoreNumbers = first(page.Numbers, shownRows)
	for label, counts := range stats.Labels {
		page.Labels = append(page.Labels, labelRow{label, counts})
	}
	slices.SortFunc(page.Labels, func(a, b labelRow) int {
		return cmp.Or(cmp.Compare(b.Queued(), a.Queued()), cmp.Compare(a.Label, b.Label))
	})
	page.Labels, page.MoreLabels = first(page.Labels, shownRows)
	for _, run := range stats.Runs {
		if run.Dead {
			page.Dead++
		} else {
			page.Live++
		}
		page.Runs = append(page.Runs, runRow{run, newMoment(run.Began, now)})
	}
	return p.show(w, http.StatusOK, "overview", page)
}

// first returns the first rows, and how many more there are.
func first[T any](rows []T, most int) ([]T, int) {
	shown := min(len(rows), most)
	return rows[:shown], len(rows) - shown
}
