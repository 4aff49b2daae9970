package outage

import (
	"math"
	"time"
)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// times returns n units, or the longest duration there is.
func times(n float64, unit time.Duration) time.Duration {
	product := n * float64(unit)
	if product >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(product)
}
