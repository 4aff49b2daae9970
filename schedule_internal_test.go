package graphretry

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A float64 has no largest duration, only the number after it.
func TestWaitsBeyondTheLongestDurationAreTheLongest(t *testing.T) {
	for _, test := range []struct {
		n    float64
		unit time.Duration
		is   time.Duration
	}{
		{1 << 32, 1 << 30, 1 << 62},
		{1 << 32, 1 << 31, math.MaxInt64},
		{1, math.MaxInt64, math.MaxInt64},
		{math.Inf(1), 1, math.MaxInt64},
		{1.5, time.Second, 1500 * time.Millisecond},
	} {
		assert.Equal(t, test.is, times(test.n, test.unit), "%v times %d", test.n, test.unit)
	}
}
