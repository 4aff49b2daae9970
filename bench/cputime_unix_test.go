//go:build unix

package bench

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cpuTimer returns a function that returns the processor time of this process since then,
// on all cores together.
func cpuTimer(t *testing.T) func() time.Duration {
	t.Helper()
	total := func() time.Duration {
		var usage syscall.Rusage
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	start := total()
	return func() time.Duration { return total() - start }
}
