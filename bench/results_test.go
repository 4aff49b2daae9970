package bench

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var results = flag.String("results", "", "the page to write the tables to, RESULTS.md; what is not measured stays in it as it is")

const resultsHead = `# Figures

These tables are written by the tests of this folder, and by nobody else: see [README.md](README.md), which says what each
figure is.
`

// written returns a page with the sections that are measured, and of the others what the
// page had before.
func (s *sections) written(page string) string {
	before := map[string]string{}
	for _, section := range strings.Split(page, "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		before[heading] = strings.TrimSpace(text)
	}
	var b strings.Builder
	b.WriteString(resultsHead)
	for i, text := range s {
		if text = strings.TrimSpace(text); text == "" {
			text = before[headings[i]]
		} else {
			text = measuredWith() + "\n\n" + text
		}
		if text != "" {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n", headings[i], text)
		}
	}
	return b.String()
}

// write writes the page of -results.
func (s *sections) write(path string) error {
	page, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(s.written(string(page))), 0o644)
}

func TestPageOfResultsKeepsWhatIsNotMeasured(t *testing.T) {
	first := sections{inAnOutage: "| a |\n", costs: "| b |\n"}
	page := first.written("")
	require.True(t, strings.HasPrefix(page, resultsHead+"\n## Calls in an outage\n\nMeasured with `go test"), page)
	second := sections{costs: "| c |\n", ablated: "| d |\n"}
	page = second.written(page)
	require.Equal(t, 1, strings.Count(page, "# Figures\n"))
	require.Contains(t, page, "\n\n| a |\n\n## What a call costs\n")
	require.Contains(t, page, "\n\n| c |\n\n## What each mechanism is for\n")
	require.NotContains(t, page, "| b |")
	require.True(t, strings.HasSuffix(page, "\n\n| d |\n"), page)
	nothing := sections{}
	require.Equal(t, page, nothing.written(page))
}
