package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	ablate       = flag.String("ablate", "", "measure the outage gate without those of its mechanisms that have this in their name, each in turn, and nothing else; all for all. Each is measured in the scenarios that show what it is for, or with -full in all")
	ablationDir  = flag.String("ablation.dir", "", "where the measurements of -ablate keep what they have in common")
	ablationOnly = flag.String("ablation.only", "", "the scenarios that -ablate measures, with a | between their names")
)

// mechanism is a part of the gate's law. Where its source has old, it is without the
// mechanism if it has new instead.
type mechanism struct {
	name           string
	file, old, new string
}

// mechanisms are those of the gate in ../internal/outage.
var mechanisms = []mechanism{
	{"worst run of late", "law.go", "worstRunFactor = 3", "worstRunFactor = 0"},
	{"the run that brought it down is set apart", "run.go", "if again {", "if r.fatal = r.length; true {"},
	{"... and counts if the host fails again", "run.go", "	r.fatal = r.length\n", ""},
	{"late successes shorten a run", "run.go", "r.length -= r.length / 2", ""},
	{"a quarter of the threshold over an interval", "law.go", "slowThreshold = 0.25", "slowThreshold = 1.0"},
	{"a host that fails in part is probed more often", "gate.go", "g.runs.worst > 1", "g.runs.worst > 1e9"},
	{"... after intervals that grow", "law.go", "partialGrowth = 1.1", "partialGrowth = 1.0"},
	{"probes are sent twice as often after some minutes", "law.go", "manyProbes = 12", "manyProbes = 1e6"},
	{"probes before a caller gives up", "law.go", "earlyProbe = 0.49", "earlyProbe = 1e6"},
	{"the probe has the latest deadline", "release.go", "case g.state == Down, g.leavers.early", "case g.leavers.early"},
	{"who waits in vain is refused at a failed probe", "gate.go", "g.inVain = g.early", ""},
	{"... and shortly before the deadline", "law.go", "EarlyRefusal = 50 * time.Millisecond", "EarlyRefusal = 0"},
	{"an abandoned probe is passed on", "probe.go", "	case probe > 0:\n", "	case true:\n		return false\n	case probe > 0:\n"},
	{"headroom before a deadline", "queue.go", "	l.headroom = max(l.headroom, 2*min(now.Sub(w.exit.at), l.headroom+settles))\n", ""},
	{"the latest first where callers cancel", "release.go", ", g.leavers.early >= sure:", ":"},
	{"recovering begins with the rate of arrival", "rate.go", "max(1, arrivals)", "max(3, drain*arrivals)"},
	{"slow start", "rate.go", "r.current+1,", "r.current+1e6,"},
	{"a ceiling of the rate", "rate.go", "max(first, drain*arrivals)", "1e6 + first"},
	{"... that follows those who arrive", "rate.go", "since >= settles && fresh", "false && fresh"},
	{"... and back", "rate.go", "max(r.floor, ", "max(r.ceiling, "},
	{"... with less of a reserve where some fail", "rate.go", "reserve*r.share", "reserve"},
	{"... of whom there must be a few", "rate.go", "fresh >= sure", "fresh >= 1"},
	{"probes have little jitter", "probe.go", "min(interval, c.InitialInterval)", "interval"},
	{"a gate for each path", "paths.go", "func Key(path string) string {", "func Key(path string) string {\n	path = \"\""},
	{"... that goes on with the run", "host.go", "runs{length: of.length, began: of.began, from: of.from}", "runs{began: of.began, from: of.from}"},
	{"... and is told first", "host.go", "if !isGood && own.state == Down {", "if false {"},
	{"a call of another path asks whether the host is up", "host.go", "h.gate.state == Down && h.blamed", "false && h.blamed"},
	{"who waits at the host moves to a path that falls", "host.go", "if g != h.gate || own == nil", "if true || own == nil"},
	{"throttling answers lower the rate", "rate.go", "if r.throttled >= sure", "if false && r.throttled >= sure"},
	{"the rate stays for a while once lowered", "rate.go", "sinceSlowed >= turn", "true"},
	{"the brake", "brake.go", "	case mayTry && w.isBelow(bar):", "	case mayTry && false:"},
	{"... also while the host is up", "brake.go", "if !counts || !w.isOpen {", "if !counts || !w.isOpen || state == Up {"},
	{"... of the host alone", "gate.go", "g.state == Down || g.path != \"\"", "g.state == Down"},
	{"... lets off where less does not help", "brake.go", "case ratio > 0:", "case isKnown:"},
	{"... and tries again after a while", "brake.go", "case now.Before(b.next):", "case !b.next.IsZero():"},
	{"... ever more rarely", "brake.go", "again<<min(b.noes, 2)", "again"},
	{"... and drains what has gathered", "gate.go", "if !g.outage.isDown { //", "if false { //"},
	{"... takes more answers if in doubt", "brake.go", "w.answers < 20*fewestAnswers", "false"},
	{"... counts no long run in full", "brake.go", "return w.bad <= longest", "return true"},
	{"... learns what is normal", "brake.go", "b.normal = (before.good", "_ = (before.good"},
	{"... only if it does so more than once", "brake.go", "ratio > 0 && !isRepeated", "false"},
	{"... not in a slow start", "gate.go", "g.rate.isStarting()", "false"},
	{"... sooner while recovering", "brake.go", "return max(bar, bad)", "return max(bar, badIfUp)"},
	{"... and counts many alike in a second as one", "trial.go", "/ dispersion(before, less)", "/ max(1, 0*dispersion(before, less))"},
	{"... keeps the root of the share", "brake.go", "min(lowered, math.Sqrt((before.good+0.5)/(before.answers+1)))", "0.75*math.Sqrt(1)"},
	{"an answer belongs to the turn in which its call was sent", "gate.go", "p.sentFrom(&g.queue)", "now"},
	{"a turn counts once nearly all is answered", "trial.go", "s.heard < nearly*s.calls || ", ""},
	{"the ends of a turn do not count", "trial.go", "settles <= age && age < turn-settles", "true"},
	{"what has gathered in a trial counts for the outage", "gate.go", "arrived, since = g.outage.arrived, g.outage.since", ""},
}

// Each change is of a text that the source has once.
func TestMechanismsAreOfTheGateAsItIs(t *testing.T) {
	for _, m := range mechanisms {
		source, err := os.ReadFile(m.path())
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.old), "%s: %q", m.name, m.old)
	}
}

func (m mechanism) path() string { return filepath.Join("..", "internal", "outage", m.file) }

// TestAblation runs TestStorm without each mechanism in turn, and prints what is missed
// then. It fails if a mechanism is not needed in the scenarios that are to show it.
func TestAblation(t *testing.T) {
	if *ablate == "" {
		t.Skip("for -ablate")
	}
	chosen := slices.DeleteFunc(slices.Clone(mechanisms), func(m mechanism) bool {
		return *ablate != "all" && !strings.Contains(m.name, *ablate)
	})
	everywhere := *full || *onlyScenario != ""
	var together []string
	for _, m := range chosen {
		together = append(together, purposes[m.name].scenarios...)
	}
	slices.Sort(together)
	together = slices.Compact(together)

	dir := t.TempDir()
	var whole map[string]float64
	if everywhere || len(together) > 0 {
		var err error
		whole, err = figuresWithout(t, dir, nil, together)
		require.NoError(t, err)
	}
	var lines [][]string
	for _, m := range chosen {
		purpose := purposes[m.name]
		line := []string{m.name, purpose.text()}
		if everywhere || len(purpose.scenarios) > 0 {
			measured := purpose.scenarios
			if everywhere {
				measured = nil
			}
			figures, err := figuresWithout(t, dir, &m, measured)
			worse := whatIsWorse(whole, figures, measured)
			switch {
			case err != nil:
				line[1] = "it does not end"
			case worse != "":
				line[1] = worse
			default:
				assert.True(t, everywhere, "without %q no target is missed in %q: want another purpose, or no such mechanism", m.name, purpose.scenarios)
			}
		}
		lines = append(lines, line)
		t.Logf("without %q: %s", line[0], line[1])
	}
	report.publish(ablated, "Each line is the gate without one of its mechanisms, and the targets that graphretry then misses: "+
		"the figure without the mechanism and, in brackets, with it.\n\n"+strings.Replace(table([]string{"without", "misses"}, lines), "---:|", "---|", 1))
}

// whatIsWorse returns the rows of some scenarios, nil for all, whose targets are met with all
// mechanisms and missed without one. A row that was measured and has no figure is missed.
func whatIsWorse(whole, without map[string]float64, measured []string) string {
	var worse []string
	under := ""
	for _, row := range allRows() {
		if !strings.HasPrefix(row.name, "the same") && len(row.name) > 5 {
			under = row.name
		}
		if measured != nil && !slices.Contains(measured, row.scenario) {
			continue
		}
		before, after := of(whole, row), of(without, row)
		if row.reached(before) && !row.reached(after) {
			name := row.name
			if name != under {
				name = under + "; " + name
			}
			figure := "no figure"
			if !math.IsNaN(after) {
				figure = row.format(after)
			}
			worse = append(worse, fmt.Sprintf("%s: %s (%s)", name, figure, row.format(before)))
		}
	}
	return strings.Join(worse, "<br>")
}

// of returns the figure of a row, NaN if it has none.
func of(figures map[string]float64, row row) float64 {
	if figure, ok := figures[row.key()]; ok {
		return figure
	}
	return math.NaN()
}

// figuresWithout returns the figures of the rows of some scenarios, by their keys, with a
// mechanism taken out of the source. With -full or -scenario the scenarios are those of
// these flags.
func figuresWithout(t *testing.T, dir string, m *mechanism, scenarios []string) (map[string]float64, error) {
	t.Helper()
	args := []string{"test", "-count=1", "-timeout=20m", "-run=^TestStorm$", "-ablation.dir=" + dir, fmt.Sprintf("-seeds=%d", *seeds), fmt.Sprintf("-full=%v", *full), "-scenario=" + *onlyScenario}
	if !*full && *onlyScenario == "" {
		args = append(args, "-ablation.only="+strings.Join(scenarios, "|"))
	}
	if m != nil {
		source, err := os.ReadFile(m.path())
		require.NoError(t, err)
		changed, overlay := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json")
		require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o644))
		path, err := filepath.Abs(m.path())
		require.NoError(t, err)
		replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(overlay, replace, 0o644))
		args = append([]string{args[0], "-vet=off", "-overlay=" + overlay}, args[1:]...)
	}
	_ = os.Remove(filepath.Join(dir, "figures.json"))
	output, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	figures := map[string]float64{}
	content, readErr := os.ReadFile(filepath.Join(dir, "figures.json"))
	if readErr != nil {
		t.Logf("%v: %s", err, output)
		return nil, readErr
	}
	return figures, json.Unmarshal(content, &figures)
}

// plainFigures are the figures of plain backoff with which rows compare. They do not change
// with the gate, so they are measured once.
type plainFigures struct {
	Delivered, Messages, Busiest int
	MeanDelivery                 time.Duration
}

// knownPlain returns the figures of plain backoff that an earlier run has written.
func knownPlain(dir string) map[string]plainFigures {
	known := map[string]plainFigures{}
	if content, err := os.ReadFile(filepath.Join(dir, "plain.json")); err == nil {
		if json.Unmarshal(content, &known) != nil {
			return nil
		}
	}
	return known
}

// keep writes the figures of all rows, and those of plain backoff.
func (r *runs) keep(t *testing.T, dir string) {
	t.Helper()
	known, figures := knownPlain(dir), map[string]float64{}
	for of, result := range r.results {
		if of.subject == plain.name {
			known[of.key()] = plainFigures{result.delivered, result.messages, result.busiest, result.meanDelivery}
		}
	}
	for _, row := range allRows() {
		if _, ok := r.results[run{row.scenario, ours.name, 0}]; ok {
			if worst := r.worst(row, ours); !math.IsNaN(worst) {
				figures[row.key()] = worst
			}
		}
	}
	for name, content := range map[string]any{"plain.json": known, "figures.json": figures} {
		encoded, err := json.Marshal(content)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), encoded, 0o644))
	}
}

// key returns the key of a row in a file of figures.
func (r row) key() string { return r.scenario + ": " + r.name }
