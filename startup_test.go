package graphretry_test

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program that imports the package pays nothing for what only a failure needs.
func TestNothingIsComputedAtStart(t *testing.T) {
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no process can be started here")
	}
	if testing.CoverMode() != "" {
		t.Skip("the counters of the coverage are set up at start")
	}
	command := exec.Command(os.Args[0], "-test.run=^$")
	command.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	trace, err := command.CombinedOutput()
	require.NoError(t, err)
	inits := regexp.MustCompile(`(?m)^init (github\.com/graphretry/graphretry(?:/internal/\S+)?) @.*, (\d+) allocs$`).FindAllSubmatch(trace, -1)
	for _, init := range inits {
		assert.Equal(t, "0", string(init[2]), "allocations of %s", init[1])
	}
	assert.Contains(t, string(trace), "init net/http ", "that it is traced")
}
