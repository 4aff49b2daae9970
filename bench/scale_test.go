package bench

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var scale = flag.String("scale", "", "measure the outage gate with those constants of its law that have this in their name halved and doubled, each in turn, and nothing else; all for all")

// constant is one of the law's.
type constant struct{ name, declaration, value string }

var declaration = regexp.MustCompile(`(?m)^(?:\t|const )(\w+) *= (.+)$`)

// constants are those of ../internal/outage/law.go.
func constants(t *testing.T) (all []constant) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "internal", "outage", "law.go"))
	require.NoError(t, err)
	for _, found := range declaration.FindAllStringSubmatch(string(source), -1) {
		all = append(all, constant{found[1], found[0], found[2]})
	}
	return all
}

// times is the constant halved or doubled. A share is not more than all, and what is
// counted is counted in whole numbers.
func (c constant) times(factor float64) mechanism {
	value := fmt.Sprintf("(%s) * 2", c.value)
	if factor < 1 {
		value = fmt.Sprintf("(%s) / 2", c.value)
	}
	if share, err := strconv.ParseFloat(c.value, 64); err == nil && factor > 1 && share >= 0.5 && share < 1 {
		value = "1.0"
	}
	declared := strings.TrimSuffix(c.declaration, c.value)
	return mechanism{name: fmt.Sprintf("%s times %v", c.name, factor), file: "law.go", old: c.declaration + "\n", new: declared + value + "\n"}
}

// The law has few constants, and each is declared once, on a line of its own.
func TestConstantsAreOfTheLawAsItIs(t *testing.T) {
	all := constants(t)
	source, err := os.ReadFile(filepath.Join("..", "internal", "outage", "law.go"))
	require.NoError(t, err)
	require.Equal(t, strings.Count(string(source), " = "), len(all))
	require.LessOrEqual(t, len(all), mostConstants)
	for _, c := range all {
		require.NotEmpty(t, worseIn[c.name], c.name)
		require.Equal(t, 1, strings.Count(string(source), c.times(2).old), c.name)
	}
}

// mostConstants is how many the law may have. Who needs another finds one to remove.
const mostConstants = 21

func TestConstantIsHalvedAndDoubled(t *testing.T) {
	interval := constant{"turn", "\tturn  = 10 * time.Second", "10 * time.Second"}
	require.Equal(t, "\tturn  = (10 * time.Second) / 2\n", interval.times(0.5).new)
	require.Equal(t, "\tturn  = (10 * time.Second) * 2\n", interval.times(2).new)
	share := constant{"kept", "\tkept = 0.75", "0.75"}
	require.Equal(t, "\tkept = (0.75) / 2\n", share.times(0.5).new)
	require.Equal(t, "\tkept = 1.0\n", share.times(2).new)
}

// worseIn are the scenarios in which a figure gets worse if a constant is halved or doubled.
// Those two are measured, or with -full and -scenario what these say.
var worseIn = map[string][]string{
	"EarlyRefusal":   {"Client.Timeout"},
	"slowThreshold":  {"100 processes"},
	"worstRunFactor": {"up 2 s down 10 s, 5/s", "90 % fail, 100 processes"},
	"longestProbe":   {"100 processes"},
	"manyProbes":     {"down 3 min", "down 5 min"},
	"partialProbe":   {"90 % fail, 100 processes", "up 30 s down 30 s", "down twice"},
	"partialGrowth":  {"up 30 s down 30 s"},
	"earlyProbe":     {"down 20s, callers wait 20s", "down 3m0s, callers wait 10s"},
	"drain":          {"capacity 4 times", "limit 80"},
	"reserve":        {"20 workers, down 1 min", "a line after 3 min"},
	"lowered":        {"brownout", "limit 80"},
	"increase":       {"brownout"},
	"fewestAnswers":  {"100 processes in an overload", "30 % fail, 3/s"},
	"bad":            {"collapse of 20 processes after 3 min"},
	"badIfUp":        {"30 % fail, 3/s", "20 processes in an overload"},
	"sure":           {"100 processes in an overload", "30 % fail, 3/s"},
	"trialRate":      {"5 processes in an overload"},
	"turn":           {"100 processes in an overload", "30 % fail, 3/s"},
	"settles":        {"100 processes in an overload", "limit 80"},
	"nearly":         {"little after 3 min"},
	"again":          {"up 2 s down 10 s, 5/s", "100 processes in an overload"},
}

// TestScale runs TestStorm with each constant halved and doubled in turn, and prints what
// is missed then, or worse by a tenth.
func TestScale(t *testing.T) {
	if *scale == "" {
		t.Skip("for -scale")
	}
	dir := t.TempDir()
	var chosen []constant
	var together []string
	for _, c := range constants(t) {
		if *scale == "all" || strings.Contains(c.name, *scale) {
			chosen, together = append(chosen, c), append(together, worseIn[c.name]...)
		}
	}
	whole, err := figuresWithout(t, dir, nil, together)
	require.NoError(t, err)
	var lines [][]string
	for _, c := range chosen {
		line := []string{c.name, c.value}
		for _, factor := range []float64{0.5, 2} {
			changed := c.times(factor)
			figures, err := figuresWithout(t, dir, &changed, worseIn[c.name])
			switch worse := whatGetsWorse(whole, figures, worseIn[c.name]); {
			case err != nil:
				line = append(line, "it does not end")
			case len(worse) == 0:
				line = append(line, "nothing")
			default:
				line = append(line, strings.Join(worse, "<br>"))
			}
		}
		lines = append(lines, line)
		t.Logf("%s", strings.Join(line, " | "))
	}
	report.publish(scaled, table([]string{"constant", "value", "worse if halved: the figure then, and as it is", "worse if doubled"}, lines))
}

// whatGetsWorse names the rows of some scenarios that are missed only in the second of two
// sets of figures, and those that are worse there by a tenth of the first or of what is to be
// reached.
func whatGetsWorse(whole, changed map[string]float64, scenarios []string) (worse []string) {
	under := ""
	for _, row := range allRows() {
		if !strings.HasPrefix(row.name, "the same") && len(row.name) > 5 {
			under = row.name
		}
		if !*full && *onlyScenario == "" && !slices.Contains(scenarios, row.scenario) {
			continue
		}
		before, after := of(whole, row), of(changed, row)
		isMissed := row.reached(before) && !row.reached(after)
		tenth := math.Abs(before) / 10
		if !math.IsNaN(row.target) {
			tenth = min(tenth, math.Abs(row.target)/10)
		}
		if !isMissed && !(row.target != 0 && float64(row.better)*(before-after) > tenth) {
			continue
		}
		name := row.name
		if name != under {
			name = under + "; " + name
		}
		text := fmt.Sprintf("%s: %s (%s)", name, row.format(after), row.format(before))
		if isMissed {
			text = "**missed**: " + text
			worse = slices.Insert(worse, 0, text)
		} else {
			worse = append(worse, text)
		}
	}
	return worse
}
