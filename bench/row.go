package bench

import (
	"fmt"
	"math"
	"time"

	"github.com/graphretry/graphretry"
)

// row is one figure of the outage gate, measured in a scenario.
type row struct {
	name     string
	scenario string
	figure
	// better is which way is better, and target the last value that is good
	// enough, or none.
	better direction
	target float64
}

// figure is what is measured of a result, and how it is printed. The result of
// plain backoff in the same scenario is there for those that are measured
// against it; then absolute is what is printed for plain itself.
type figure struct {
	measure  func(r, plain result) float64
	format   func(float64) string
	absolute func(r result) string
}

type direction int

const (
	lower  direction = -1
	higher direction = +1
)

// none is no target.
var none = math.NaN()

// reached tells whether a value is good enough.
func (r row) reached(value float64) bool {
	return math.IsNaN(r.target) || float64(r.better)*value >= float64(r.better)*r.target
}

// worse gives the worse of two figures.
func (r row) worse(a, b float64) float64 {
	if math.IsNaN(b) || float64(r.better)*b < float64(r.better)*a {
		return b
	}
	return a
}

// targetText is the target in words.
func (r row) targetText() string {
	switch {
	case math.IsNaN(r.target):
		return ""
	case r.better == higher:
		return r.format(r.target) + " at least"
	case r.target == 0:
		return r.format(0)
	default:
		return r.format(r.target) + " at most"
	}
}

const throttled = graphretry.CodeRateLimitHit

var scenarios = []scenario{
	{name: "down 3 min", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute},
	{name: "down 20 s", rate: 50, send: 8 * time.Minute, down: 20 * time.Second},
	{name: "down 5 min", rate: 20, send: 10 * time.Minute, down: 5 * time.Minute},
	{name: "capacity 4 times", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: graphretry.CodeAPIService},
	{name: "limit 80", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 80, over: throttled},
	{name: "limit 200", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: throttled},
	{name: "down 14 min", rate: 20, send: 20 * time.Minute, down: 14 * time.Minute},
	{name: "10 % fail", rate: 50, send: 8 * time.Minute, share: 0.1},
	{name: "30 % fail", rate: 50, send: 8 * time.Minute, share: 0.3},
	{name: "50 % fail", rate: 50, send: 8 * time.Minute, share: 0.5},
	{name: "70 % fail", rate: 50, send: 8 * time.Minute, share: 0.7},
	{name: "90 % fail", rate: 50, send: 8 * time.Minute, share: 0.9},
	{name: "up 2 s down 10 s", rate: 50, send: 8 * time.Minute, upFor: 2 * time.Second, downFor: 10 * time.Second},
	{name: "callers wait 30 s", rate: 50, send: 8 * time.Minute, down: time.Minute, deadline: 30 * time.Second},
	{name: "late answers", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, lateShare: 0.02, lateUpTo: 8 * time.Second},
}

// stormRows are the figures of an outage.
var stormRows = []row{
	{"50/s, down 3 min: calls while down", "down 3 min", whileDown, lower, 35},
	{"50/s, down 20 s: calls while down", "down 20 s", whileDown, lower, 30},
	{"20/s, down 5 min: calls while down", "down 5 min", whileDown, lower, 40},
	{"2 % of answers come up to 8 s late, 50/s, down 3 min: calls while down", "late answers", whileDown, lower, 60},
	{"50/s, down 3 min, capacity 200/s with code 2 above: busiest second after it is back", "capacity 4 times", busiest, lower, 200},
	{"the same: last message that was held up is out, after recovery", "capacity 4 times", lastOut, lower, 270},
	{"the same: messages lost of 24,000", "capacity 4 times", lost, lower, 0},
	{"50/s, down 3 min, any capacity: messages lost of 24,000", "down 3 min", lost, lower, 0},
	{"50/s, down 3 min, then a limit of 80/s that answers 130429: messages lost of 24,000", "limit 80", lost, lower, 400},
	{"the same, limit 200/s", "limit 200", lost, lower, 0},
	{"20/s, down 14 min: messages lost of 24,000", "down 14 min", lost, lower, 20},
	{"50/s, nobody waits longer than 30 s, down 1 min: messages lost of 24,000", "callers wait 30 s", lost, lower, 3_000},
	{"the same: messages taken when their callers had left", "callers wait 30 s", inVain, lower, 20},
	{"up 2 s and down 10 s, over and over: delivered against plain", "up 2 s down 10 s", delivered, higher, 0.75},
}

// partialRows are the figures of an API that fails in part.
var partialRows = []row{
	{"10 % of calls fail at random: mean time to deliver against plain", "10 % fail", slowdown, lower, 1.25},
	{"30 %", "30 % fail", slowdown, lower, 1.25},
	{"50 %", "50 % fail", slowdown, lower, 1.25},
	{"70 %", "70 % fail", slowdown, lower, 1.25},
	{"90 %", "90 % fail", slowdown, lower, none},
	{"10 % of calls fail at random: delivered against plain", "10 % fail", delivered, higher, 0.98},
	{"30 %", "30 % fail", delivered, higher, 0.98},
	{"50 %", "50 % fail", delivered, higher, 0.98},
	{"70 %", "70 % fail", delivered, higher, 0.98},
	{"90 %", "90 % fail", delivered, higher, 0.75},
}

var (
	whileDown = figure{func(r, _ result) float64 { return float64(r.whileDown) }, count, nil}
	busiest   = figure{func(r, _ result) float64 { return float64(r.busiest) }, count, nil}
	inVain    = figure{func(r, _ result) float64 { return float64(r.inVain) }, count, nil}
	lost      = figure{func(r, _ result) float64 { return float64(r.lost()) }, count, nil}
	lastOut   = figure{func(r, _ result) float64 { return r.lastOut.Seconds() }, clock, nil}
	slowdown  = figure{
		func(r, plain result) float64 { return float64(r.meanDelivery) / float64(plain.meanDelivery) },
		ratio,
		func(r result) string { return fmt.Sprintf("%.1f s", r.meanDelivery.Seconds()) },
	}
	delivered = figure{
		func(r, plain result) float64 { return float64(r.delivered) / float64(plain.delivered) },
		ratio,
		func(r result) string { return fmt.Sprintf("%.1f %%", 100*float64(r.delivered)/float64(r.messages)) },
	}
)

// count prints a number with its thousands set apart.
func count(f float64) string {
	n := int(f)
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", count(float64(n/1000)), n%1000)
}

// clock prints seconds as minutes and seconds.
func clock(seconds float64) string {
	s := int(math.Ceil(seconds))
	if s < 60 {
		return fmt.Sprintf("%d s", s)
	}
	return fmt.Sprintf("%d min %d s", s/60, s%60)
}

func ratio(f float64) string { return fmt.Sprintf("%.2f", f) }
