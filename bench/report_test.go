package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var (
	seeds        = flag.Int("seeds", 1, "with how many seeds to measure graphretry and plain backoff; the worst counts")
	peerSeeds    = flag.Int("peer-seeds", 1, "with how many seeds to measure the others; the worst counts")
	full         = flag.Bool("full", false, "measure every scenario; without it, those that take a few seconds")
	onlyScenario = flag.String("scenario", "", "measure only the scenarios that have this in their name")
	onlySubject  = flag.String("subject", ours.name, "measure, beside plain backoff, only those who have this in their name; all for everybody")
	pictures     = flag.String("pictures", "", "the folder to write the pictures to; without it, they are drawn and dropped")
)

// TestMain prints what the tests have measured, after them and in a fixed order, and
// writes it to the page of -results.
func TestMain(m *testing.M) {
	flag.Parse()
	if problem := checkFlags(); problem != "" {
		fmt.Fprintln(os.Stderr, "bench: "+problem)
		os.Exit(2)
	}
	if *ablate != "" {
		runAlone("^TestAblation$")
	}
	if *scale != "" {
		runAlone("^TestScale$")
	}
	status := m.Run()
	report.print()
	if *results != "" {
		if err := report.write(*results); err != nil {
			fmt.Fprintln(os.Stderr, "bench: "+err.Error())
			status = 1
		}
	}
	os.Exit(status)
}

// runAlone has one test run that takes long.
func runAlone(test string) {
	_ = flag.Set("test.run", test)
	_ = flag.Set("test.timeout", "12h")
	_ = flag.Set("test.v", "true")
}

func checkFlags() string {
	switch {
	case *seeds < 1 || *peerSeeds < 1:
		return fmt.Sprintf("-seeds=%d -peer-seeds=%d: want 1 or more", *seeds, *peerSeeds)
	case *results != "" && (*onlyScenario != "" || *ablate != "all" && (*ablate != "" || !*full)):
		return "-results: its tables are whole: want it with -full or -ablate=all, and without -scenario"
	case !slices.ContainsFunc(scenarios, scenario.wanted):
		return fmt.Sprintf("-scenario=%q: no scenario has that in its name; see row.go", *onlyScenario)
	case !slices.ContainsFunc(tuned, subject.wanted):
		return fmt.Sprintf("-subject=%q: nobody has that in their name; see subject.go", *onlySubject)
	}
	return ""
}

func (s scenario) wanted() bool {
	if *ablationOnly != "" {
		return slices.Contains(strings.Split(*ablationOnly, "|"), s.name)
	}
	return strings.Contains(s.name, *onlyScenario) && (*full || !s.full || *onlyScenario != "")
}

func (s subject) wanted() bool {
	return s.name == plain.name || *onlySubject == "all" || strings.Contains(s.name, *onlySubject)
}

// sections are the texts that the tests publish. Each has its heading.
type sections [14]string

// The headings, in the order of the report. Tests that publish do not run in
// parallel.
const (
	inAnOutage = iota
	inPaths
	inOverload
	inOther
	withImpatience
	inFlapping
	inPart
	costs
	uploads
	duplicated
	waiting
	missing
	ablated
	scaled
)

var headings = sections{
	inAnOutage:     "Calls in an outage",
	inPaths:        "One path that fails, and others that do not",
	inOverload:     "An API that is asked for too much",
	inOther:        "An API that is not well after an outage, or says it in other words",
	withImpatience: "Callers who give up",
	inFlapping:     "An API that comes and goes, and many processes",
	inPart:         "An API that fails in part",
	costs:          "What a call costs",
	uploads:        "An upload of 64 MiB without GetBody",
	duplicated:     "A connection that breaks after the message was taken",
	waiting:        "100,000 calls that wait",
	missing:        "Targets that graphretry misses",
	ablated:        "What each mechanism is for",
	scaled:         "What each constant is for",
}

var report sections

func (s *sections) publish(section int, text string) { s[section] = text }

func (s *sections) print() {
	printed := false
	for i, text := range s {
		if text == "" {
			continue
		}
		if !printed {
			fmt.Println(measuredWith())
			printed = true
		}
		fmt.Printf("\n### %s\n\n%s\n", headings[i], strings.TrimSpace(text))
	}
	if printed {
		fmt.Println()
	}
}

// measuredWith says with which command the tables were measured, and on what machine.
func measuredWith() string {
	return fmt.Sprintf("Measured with `%s`, %s, %s/%s, %d cores.", command(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}

// command returns the command that measures the same again.
func command() string {
	command := "go test -count=1"
	flag.Visit(func(f *flag.Flag) {
		switch value := f.Value.String(); f.Name {
		case "test.run":
			command += fmt.Sprintf(" -run='%s'", value)
		case "seeds", "peer-seeds", "subject", "scenario", "pictures", "full", "ablate", "scale":
			if strings.ContainsAny(value, " %") {
				value = "'" + value + "'"
			}
			command += fmt.Sprintf(" -%s=%s", f.Name, value)
		}
	})
	return command
}

// table is a Markdown table whose first column is words and the others figures.
func table(header []string, lines [][]string) string {
	var b strings.Builder
	write := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	write(header)
	b.WriteString("|---|" + strings.Repeat("---:|", len(header)-1) + "\n")
	for _, line := range lines {
		write(line)
	}
	return b.String()
}
