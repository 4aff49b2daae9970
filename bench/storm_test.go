package bench

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestStorm measures the scenarios, and fails if graphretry misses a target with
// any seed.
func TestStorm(t *testing.T) {
	var measured []subject
	for _, subject := range tuned {
		if subject.wanted() {
			measured = append(measured, subject)
		}
	}
	// Less garbage collection: each goes over the stacks of all goroutines that wait.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	runs := runs{}
	known := map[string]plainFigures{}
	if *ablationDir != "" {
		known = knownPlain(*ablationDir)
	}
	t.Run("run", func(t *testing.T) {
		for _, scenario := range slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !s.wanted() }) {
			for _, subject := range measured {
				n := *peerSeeds
				if subject.name == ours.name || subject.name == plain.name { // which are compared
					n = *seeds
				}
				for seed := range n {
					this := run{scenario.name, subject.name, seed}
					if of, ok := known[this.key()]; ok {
						runs.add(this, result{delivered: of.Delivered, messages: of.Messages, busiest: of.Busiest, meanDelivery: of.MeanDelivery})
						continue
					}
					t.Run(fmt.Sprintf("%s/%s/%d", scenario.name, subject.name, seed+1), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(*testing.T) {
							runs.add(this, scenario.run(subject, uint64(seed+1)))
						})
					})
				}
			}
		}
	})
	if *ablationDir != "" {
		runs.keep(t, *ablationDir)
		return
	}
	var missed []string
	publish := func(section int, rows []row) {
		text, misses := runs.table(rows, measured)
		missed = append(missed, misses...)
		report.publish(section, text)
	}
	publish(inAnOutage, stormRows)
	publish(inPaths, pathRows)
	publish(inOverload, overloadRows)
	publish(inOther, afterRows)
	publish(withImpatience, impatientRows)
	publish(inFlapping, flappingRows)
	publish(inPart, partialRows)
	if *full && *onlyScenario == "" {
		report.publish(missing, listOf(missed))
	}
	require.Empty(t, missed, "targets that graphretry misses")
}

// listOf returns a list in Markdown.
func listOf(items []string) string {
	if len(items) == 0 {
		return "None."
	}
	return "- " + strings.Join(items, "\n- ")
}

// run identifies a result.
type run struct {
	scenario, subject string
	seed              int // from 0
}

// key returns the key of a run in a file of figures.
func (r run) key() string { return fmt.Sprintf("%s/%s/%d", r.scenario, r.subject, r.seed) }

// runs are the results.
type runs struct {
	mu      sync.Mutex
	results map[run]result
}

func (r *runs) add(of run, res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.results == nil {
		r.results = map[run]result{}
	}
	r.results[of] = res
}

// worst returns the worst figure of a row among the seeds of a subject.
func (r *runs) worst(row row, subject subject) (worst float64) {
	for seed := 0; ; seed++ {
		result, ok := r.results[run{row.scenario, subject.name, seed}]
		if !ok {
			return worst
		}
		value := row.measure(result, r.results[run{row.scenario, plain.name, seed % *seeds}])
		if seed == 0 {
			worst = value
		}
		worst = row.worse(worst, value)
	}
}

// table returns the rows that were measured as a table, "" if there are none, and the
// targets that graphretry has missed.
func (r *runs) table(rows []row, measured []subject) (text string, missed []string) {
	header := []string{""}
	for _, subject := range measured {
		header = append(header, subject.name)
	}
	var lines [][]string
	for _, row := range rows {
		first, ok := r.results[run{row.scenario, plain.name, 0}]
		if !ok {
			continue
		}
		line := []string{row.name}
		for _, subject := range measured {
			worst := r.worst(row, subject)
			cell := row.format(worst)
			switch {
			case subject.name == plain.name && row.absolute != nil:
				cell = row.absolute(first)
			case subject.name == ours.name && !row.reached(worst):
				missed = append(missed, fmt.Sprintf("%s: %s, want %s", row.name, cell, row.targetText()))
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	if lines == nil {
		return "", nil
	}
	return table(header, lines), missed
}
