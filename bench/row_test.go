package bench

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTargetIsReachedUpToItsLastGoodValue(t *testing.T) {
	atMost := row{figure: whileDown, better: lower, target: 35}
	require.True(t, atMost.reached(35))
	require.False(t, atMost.reached(36))
	atLeast := row{figure: delivered, better: higher, target: 0.98}
	require.True(t, atLeast.reached(0.98))
	require.False(t, atLeast.reached(0.97))
	require.False(t, atLeast.reached(math.NaN()), "nothing delivered")
	require.True(t, row{target: none}.reached(1e9))
}

func TestWorseFigureIsKept(t *testing.T) {
	require.EqualValues(t, 9, row{better: lower}.worse(3, 9))
	require.EqualValues(t, 9, row{better: lower}.worse(9, 3))
	require.EqualValues(t, 3, row{better: higher}.worse(3, 9))
	require.True(t, math.IsNaN(row{better: higher}.worse(3, math.NaN())))
	require.True(t, math.IsNaN(row{better: higher}.worse(math.NaN(), 3)))
}

func TestEveryRowHasItsScenario(t *testing.T) {
	named := map[string]bool{}
	for _, s := range scenarios {
		require.False(t, named[s.name], "two scenarios %q", s.name)
		named[s.name] = true
	}
	for _, row := range allRows() {
		require.True(t, named[row.scenario], "row %q wants scenario %q", row.name, row.scenario)
	}
}

func TestFiguresArePrintedForReaders(t *testing.T) {
	require.Equal(t, "0", count(0))
	require.Equal(t, "999", count(999))
	require.Equal(t, "24,005", count(24005))
	require.Equal(t, "1,000,001", count(1000001))
	require.Equal(t, "42 s", clock(41.2))
	require.Equal(t, "never", clock(never.Seconds()))
	require.Equal(t, "-1,042", difference(-1042))
	require.Equal(t, "+0", difference(0))
	require.Equal(t, "34.6", tenths(34.61))
	require.Equal(t, "4 min 30 s", clock(270))
	require.Equal(t, "0.98", ratio(0.977))
	require.Equal(t, "35 at most", row{figure: whileDown, better: lower, target: 35}.targetText())
	require.Equal(t, "0.75 at least", row{figure: delivered, better: higher, target: 0.75}.targetText())
	require.Equal(t, "0", row{figure: lost, better: lower}.targetText())
}
