package bench

import (
	"fmt"
	"math"
	"slices"
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

// reached reports whether a value is good enough.
func (r row) reached(value float64) bool {
	return math.IsNaN(r.target) || float64(r.better)*value >= float64(r.better)*r.target
}

// worse returns the worse of two figures.
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
	{name: "down 5 min", rate: 20, send: 10 * time.Minute, down: 5 * time.Minute, full: true},
	{name: "capacity 4 times", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: graphretry.CodeAPIService},
	{name: "limit 80", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 80, over: throttled},
	{name: "limit 200", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: throttled, full: true},
	{name: "down 14 min", rate: 20, send: 20 * time.Minute, down: 14 * time.Minute},
	{name: "10 % fail", rate: 50, send: 8 * time.Minute, share: 0.1, full: true},
	{name: "30 % fail", rate: 50, send: 8 * time.Minute, share: 0.3},
	{name: "50 % fail", rate: 50, send: 8 * time.Minute, share: 0.5, full: true},
	{name: "70 % fail", rate: 50, send: 8 * time.Minute, share: 0.7},
	{name: "90 % fail", rate: 50, send: 8 * time.Minute, share: 0.9},
	{name: "up 2 s down 10 s", rate: 50, send: 8 * time.Minute, upFor: 2 * time.Second, downFor: 10 * time.Second},
	{name: "callers wait 30 s", rate: 50, send: 8 * time.Minute, down: time.Minute, deadline: 30 * time.Second, answers: 200 * time.Millisecond},
	{name: "callers cancel after 30 s", rate: 50, send: 8 * time.Minute, down: time.Minute, deadline: 30 * time.Second, cancel: true, answers: 200 * time.Millisecond, full: true},
	{name: "late answers", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, lateShare: 0.02, lateUpTo: 8 * time.Second},

	{name: "collapse after 1 min", rate: 50, send: 12 * time.Minute, down: time.Minute, capacity: 60},
	{name: "little after 3 min", rate: 50, send: 12 * time.Minute, down: 3 * time.Minute, limit: 60, over: graphretry.CodeAPIService, full: true},
	{name: "spike", rate: 50, send: 12 * time.Minute, capacity: 60, spike: 3, spikeFor: 30 * time.Second, full: true},
	{name: "brownout", rate: 50, send: 12 * time.Minute, capacity: 40, brownout: 5 * time.Minute},
	brownoutOf(5), brownoutOf(20), brownoutOf(100),
	{name: "slow errors", rate: 50, send: 10 * time.Minute, capacity: 40, brownout: 5 * time.Minute, slowErrors: 20 * time.Second, full: true},
	collapseOf(20), collapseOf(100),

	{name: "up 30 s down 30 s", rate: 50, send: 8 * time.Minute, upFor: 30 * time.Second, downFor: 30 * time.Second},
	{name: "down twice", rate: 50, send: 8 * time.Minute, down: 30 * time.Second, upAgain: 35 * time.Second, downAgain: time.Minute, full: true},
	{name: "70 % fail, 20/s", rate: 20, send: 8 * time.Minute, share: 0.7, full: true},
	{name: "70 % fail, 500/s", rate: 500, send: 4 * time.Minute, share: 0.7, full: true},
	{name: "up 2 s down 10 s, 1/s", rate: 1, send: 8 * time.Minute, upFor: 2 * time.Second, downFor: 10 * time.Second, full: true},
	{name: "up 2 s down 10 s, 5/s", rate: 5, send: 8 * time.Minute, upFor: 2 * time.Second, downFor: 10 * time.Second, full: true},
	{name: "30 % fail, 3/s", rate: 3, send: 8 * time.Minute, share: 0.3, full: true},
	{name: "90 % fail, 100 processes", rate: 50, send: 5 * time.Minute, share: 0.9, processes: 100, full: true},
	{name: "10 processes", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: graphretry.CodeAPIService, processes: 10, full: true},
	{name: "100 processes", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, limit: 200, over: graphretry.CodeAPIService, processes: 100, full: true},

	noisy(50, 0), noisy(80, 0), noisy(95, 0), noisy(80, 30*time.Second),
	{name: "media fails", rate: 20, send: 6 * time.Minute, down: 3 * time.Minute, media: true, failsPath: true, codes: []graphretry.Code{graphretry.CodeAPIService}},
	{name: "100 numbers", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, numbers: 100, noisy: 0.01, full: true},
	{name: "one number", rate: 20, send: 8 * time.Minute, down: 3 * time.Minute, codes: []graphretry.Code{graphretry.CodeServiceUnavailable}, full: true},
	{name: "poison, 5/s", rate: 5, send: 8 * time.Minute, poison: true, full: true},
	{name: "poison, 50/s", rate: 50, send: 8 * time.Minute, poison: true, full: true},
	{name: "brownout of 100 numbers", rate: 50, send: 12 * time.Minute, capacity: 40, brownout: 5 * time.Minute, numbers: 100, noisy: 0.01, full: true},

	{name: "then 50 % fail", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, thenShare: 0.5, full: true},
	{name: "then 70 % fail", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, thenShare: 0.7, full: true},
	{name: "then 90 % fail", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, thenShare: 0.9, full: true},
	{name: "2 min, then 40 % fail", rate: 50, send: 8 * time.Minute, down: 2 * time.Minute, thenShare: 0.4, full: true},
	{name: "a line after 3 min", rate: 50, send: 12 * time.Minute, down: 3 * time.Minute, line: 60, lineMost: 10 * time.Second, full: true},
	{name: "2 and 131000 in turn", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, codes: []graphretry.Code{graphretry.CodeAPIService, graphretry.CodeSomethingWentWrong}, retried: &anything, full: true},
	{name: "no connection", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, noDials: true, retried: &dials, full: true},
	{name: "20 workers", workers: 20, send: 30 * time.Minute, capacity: 200, collapsed: true, full: true},
	{name: "20 workers, down 1 min", workers: 20, send: 4 * time.Minute, down: time.Minute},
	{name: "10,000 at once", atOnce: 10_000, limit: 80, over: throttled, retried: &throttles, full: true},
	{name: "a line", rate: 25, send: 20 * time.Minute, line: 20, lineMost: 10 * time.Second, full: true},
	{name: "Client.Timeout", rate: 50, send: 8 * time.Minute, down: 3 * time.Minute, timeout: 10 * time.Second, late: 40 * time.Millisecond, full: true},

	impatient(20*time.Second, 10*time.Second), impatient(20*time.Second, 20*time.Second), impatient(20*time.Second, 30*time.Second), impatient(20*time.Second, time.Minute),
	impatient(time.Minute, 10*time.Second), impatient(time.Minute, 20*time.Second), impatient(time.Minute, 30*time.Second), impatient(time.Minute, time.Minute),
	impatient(3*time.Minute, 10*time.Second), impatient(3*time.Minute, 20*time.Second), impatient(3*time.Minute, 30*time.Second), impatient(3*time.Minute, time.Minute),
}

// What is retried where it is not what is by default.
var (
	anything  = retried{codes: []graphretry.Code{graphretry.CodeAPIService, graphretry.CodeServiceUnavailable, graphretry.CodeSomethingWentWrong}}
	dials     = retried{codes: byDefault.codes, dials: true, options: []graphretry.Option{graphretry.WithNetworkRetries()}}
	throttles = retried{codes: []graphretry.Code{graphretry.CodeAPIService, throttled}, options: []graphretry.Option{graphretry.WithThrottleRetries()}}
)

// noisy is one number of 100 that fails alone, for so long as all of them would in an
// outage. So many % of the messages are its own.
func noisy(percent int, deadline time.Duration) scenario {
	name := fmt.Sprintf("one of 100 numbers, %d %%", percent)
	if deadline > 0 {
		name += fmt.Sprintf(", callers wait %v", deadline)
	}
	return scenario{
		name: name, rate: 40, send: 6 * time.Minute, down: 3 * time.Minute, deadline: deadline, full: percent != 80 || deadline > 0,
		numbers: 100, noisy: float64(percent) / 100, failsPath: true, codes: []graphretry.Code{graphretry.CodeServiceUnavailable},
	}
}

// brownoutOf is a brownout that so many processes meet, with as many messages in all.
func brownoutOf(processes int) scenario {
	name := fmt.Sprintf("%d processes in an overload", processes)
	return scenario{name: name, rate: 50, send: 10 * time.Minute, capacity: 40, brownout: 5 * time.Minute, processes: processes, full: true}
}

// collapseOf is an API that collapses under what so many processes have to send after an
// outage.
func collapseOf(processes int) scenario {
	name := fmt.Sprintf("collapse of %d processes after 3 min", processes)
	return scenario{name: name, rate: 50, send: 10 * time.Minute, down: 3 * time.Minute, capacity: 100, processes: processes, full: true}
}

// impatient is an outage with callers who give up.
func impatient(down, deadline time.Duration) scenario {
	name := fmt.Sprintf("down %v, callers wait %v", down, deadline)
	return scenario{name: name, rate: 50, send: 8 * time.Minute, down: down, deadline: deadline, full: down != 20*time.Second || deadline != 20*time.Second}
}

// overloadRows are the figures of an API that is asked for too much.
var overloadRows = []row{
	{"50/s, down 1 min, then a capacity of 60/s, collapsing: messages lost of 36,000", "collapse after 1 min", lost, lower, 0},
	{"the same: requests a message", "collapse after 1 min", amplification, lower, 1.3},
	{"the same: busiest second after it is back", "collapse after 1 min", busiest, lower, 150},
	{"the same: as much is served as arrives, after recovery", "collapse after 1 min", recovery, lower, none},
	{"50/s, down 3 min, then a capacity of 60/s: calls for 36,000 messages", "little after 3 min", calls, lower, 40_000},
	{"the same: busiest second after it is back", "little after 3 min", busiest, lower, 200},
	{"50/s, and 150/s for 30 s, capacity of 60/s, collapsing: messages lost of 39,000", "spike", lost, lower, 0},
	{"the same: requests a message", "spike", amplification, lower, 1.3},
	{"the same: as much is served as arrives, after the spike", "spike", recovery, lower, 60},
	{"50/s, capacity of 40/s for 5 min, collapsing: messages served a second meanwhile", "brownout", inTrouble, higher, 30},
	{"the same: requests a message", "brownout", amplification, lower, 1.3},
	{"the same: messages lost of 36,000", "brownout", lost, lower, 0},
	{"the same: as much is served as arrives, after it", "brownout", recovery, lower, none},
	{"5 processes, the same capacity: calls for 30,000 messages", "5 processes in an overload", calls, lower, 35_000},
	{"the same: busiest second", "5 processes in an overload", busiestOfAll, lower, 200},
	{"the same: mean time to deliver, of plain's", "5 processes in an overload", slowdown, lower, 1},
	{"20 processes: calls for 30,000 messages", "20 processes in an overload", calls, lower, 40_000},
	{"the same: busiest second", "20 processes in an overload", busiestOfAll, lower, 200},
	{"the same: mean time to deliver, of plain's", "20 processes in an overload", slowdown, lower, 1},
	{"100 processes: calls for 30,000 messages", "100 processes in an overload", calls, lower, 55_000},
	{"the same: busiest second", "100 processes in an overload", busiestOfAll, lower, 240},
	{"the same: mean time to deliver, of plain's", "100 processes in an overload", slowdown, lower, 1},
	{"one process, errors that take 20 s: calls for 30,000 messages", "slow errors", calls, lower, 40_000},
	{"50/s, down 3 min, then a capacity of 100/s, collapsing, 20 processes: calls for 30,000 messages", "collapse of 20 processes after 3 min", calls, lower, 35_000},
	{"100 processes", "collapse of 100 processes after 3 min", calls, lower, 55_000},
}

// impatientRows are the figures of outages with callers who give up.
var impatientRows = func() (rows []row) {
	for _, s := range scenarios {
		if s.failsPath || s.deadline == 0 || s.cancel {
			continue
		}
		if s.name != "callers wait 30 s" {
			rows = append(rows, row{"50/s, " + s.name + ": messages lost, against plain", s.name, lostMore, lower, 0})
		}
		if s.down == 3*time.Minute {
			rows = append(rows, row{"the same: calls while down", s.name, whileDown, lower, 95})
		}
	}
	return rows
}()

// flappingRows are the figures of an API that comes and goes, and of many processes.
var flappingRows = []row{
	{"50/s, up 30 s and down 30 s, over and over: mean time to deliver", "up 30 s down 30 s", mean, lower, 20},
	{"the same: calls while down", "up 30 s down 30 s", whileDown, lower, 500},
	{"50/s, down 30 s, up 35 s, down 1 min: calls in the second outage", "down twice", whileDownAgain, lower, 50},
	{"up 2 s and down 10 s, over and over, 1/s: delivered against plain", "up 2 s down 10 s, 1/s", delivered, higher, 0.75},
	{"the same, 5/s", "up 2 s down 10 s, 5/s", delivered, higher, 0.75},
	{"10 processes, 50/s in all, down 3 min, capacity 200/s: calls while down", "10 processes", whileDown, lower, none},
	{"the same: busiest second after it is back", "10 processes", busiest, lower, none},
	{"100 processes: calls while down", "100 processes", whileDown, lower, 1_500},
	{"the same: busiest second after it is back", "100 processes", busiest, lower, 250},
	{"the same: messages lost of 24,000", "100 processes", lost, lower, 0},
}

// pathRows are the figures of one path that fails while others do not.
var pathRows = []row{
	{"100 numbers, one fails, half of 40/s: mean time to deliver those of the others", "one of 100 numbers, 50 %", othersMean, lower, 0.1},
	{"the same: 99 % of them in", "one of 100 numbers, 50 %", othersMost, lower, 1},
	{"the same: calls of the number that fails", "one of 100 numbers, 50 %", whileDown, lower, 35},
	{"80 % of 40/s: mean of the others", "one of 100 numbers, 80 %", othersMean, lower, 0.1},
	{"the same: 99 % of them in", "one of 100 numbers, 80 %", othersMost, lower, 1},
	{"the same: calls of the number that fails", "one of 100 numbers, 80 %", whileDown, lower, 35},
	{"95 % of 40/s: mean of the others", "one of 100 numbers, 95 %", othersMean, lower, 0.1},
	{"the same: 99 % of them in", "one of 100 numbers, 95 %", othersMost, lower, 1},
	{"the same: calls of the number that fails", "one of 100 numbers, 95 %", whileDown, lower, 35},
	{"80 % of 40/s, nobody waits longer than 30 s: lost of the others, some 2,880", "one of 100 numbers, 80 %, callers wait 30s", othersLost, lower, 0},
	{"media fails, 10/s beside 10/s of messages: mean of the messages", "media fails", othersMean, lower, 0.1},
	{"the same: calls of media while it fails", "media fails", whileDown, lower, 35},
	{"100 numbers, 50/s, all down 3 min: calls while down", "100 numbers", whileDown, lower, 40},
	{"one number, 20/s, down 3 min: calls while down", "one number", whileDown, lower, 35},
	{"one of ten messages always gets code 2, 5/s: mean of the others", "poison, 5/s", othersMean, lower, 0.5},
	{"50/s", "poison, 50/s", othersMean, lower, 0.5},
	{"100 numbers, capacity of 40/s for 5 min, collapsing: messages served a second meanwhile", "brownout of 100 numbers", inTrouble, higher, 30},
	{"the same: requests a message", "brownout of 100 numbers", amplification, lower, 1.3},
}

// afterRows are the figures of an API that is not well after an outage, or says it in
// other words.
var afterRows = []row{
	{"50/s, down 3 min, then 50 % fail: busiest second, of plain's", "then 50 % fail", busiestOfPlain, lower, 1.1},
	{"70 %", "then 70 % fail", busiestOfPlain, lower, 1.1},
	{"90 %", "then 90 % fail", busiestOfPlain, lower, 1.1},
	{"50/s, down 2 min, then 40 % fail: busiest second, of plain's", "2 min, then 40 % fail", busiestOfPlain, lower, 1.1},
	{"50/s, down 3 min, then an API that takes 60/s one after the other and code 2 above 10 s: busiest second", "a line after 3 min", busiest, lower, 150},
	{"50/s, code 2 and 131000 in turn for 3 min: messages lost of 24,000", "2 and 131000 in turn", lost, lower, 0},
	{"the same: calls while down", "2 and 131000 in turn", whileDown, lower, 100},
	{"50/s, no connection for 3 min: dials", "no connection", whileDown, lower, 60},
	{"20 workers in a loop, capacity of 200/s, collapsing: delivered, of plain's", "20 workers", deliveredOfPlain, higher, 0.97},
	{"20 workers in a loop, down 1 min: calls in the second that is 50 s after", "20 workers, down 1 min", soonAfter, higher, 400},
	{"10,000 at once, limit of 80/s that answers 130429, which is retried: mean time to deliver, of plain's", "10,000 at once", slowdown, lower, 1.1},
	{"25/s, an API that takes 20/s one after the other and code 2 above 10 s: messages lost, against plain", "a line", lostMore, lower, 0},
	{"the same: busiest second", "a line", busiest, lower, 150},
	{"Client.Timeout of 10 s on a machine that is 40 ms late, 50/s, down 3 min: errors of calls that were not sent and are not ErrOutage", "Client.Timeout", withoutReason, lower, 0},
}

// stormRows are the figures of an outage.
var stormRows = []row{
	{"50/s, down 3 min: calls while down", "down 3 min", whileDown, lower, 35},
	{"50/s, down 20 s: calls while down", "down 20 s", whileDown, lower, 30},
	{"20/s, down 5 min: calls while down", "down 5 min", whileDown, lower, 40},
	{"2 % of answers come up to 8 s late, 50/s, down 3 min: calls while down", "late answers", whileDown, lower, 60},
	{"50/s, down 3 min, capacity 200/s with code 2 above: busiest second after it is back", "capacity 4 times", busiest, lower, 200},
	{"the same: last message that had to wait is out, after recovery", "capacity 4 times", lastOut, lower, 270},
	{"the same: messages lost of 24,000", "capacity 4 times", lost, lower, 0},
	{"50/s, down 3 min, any capacity: messages lost of 24,000", "down 3 min", lost, lower, 0},
	{"50/s, down 3 min, then a limit of 80/s that answers 130429: messages lost of 24,000", "limit 80", lost, lower, 300},
	{"the same, limit 200/s", "limit 200", lost, lower, 0},
	{"20/s, down 14 min: messages lost of 24,000", "down 14 min", lost, lower, 20},
	{"50/s, answers take 0.2 s, nobody waits longer than 30 s, down 1 min: messages lost of 24,000", "callers wait 30 s", lost, lower, 3_000},
	{"the same: messages taken when their callers had left", "callers wait 30 s", inVain, lower, 20},
	{"50/s, answers take 0.2 s, everybody cancels after 30 s, down 1 min: messages lost of 24,000", "callers cancel after 30 s", lost, lower, 3_500},
	{"the same: messages taken when their callers had left", "callers cancel after 30 s", inVain, lower, 100},
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
	{"70 %, 20/s: mean time to deliver against plain", "70 % fail, 20/s", slowdown, lower, 1.25},
	{"the same: delivered against plain", "70 % fail, 20/s", delivered, higher, 0.97},
	{"70 %, 500/s: mean time to deliver against plain", "70 % fail, 500/s", slowdown, lower, 1.25},
	{"the same: delivered against plain", "70 % fail, 500/s", delivered, higher, 0.97},
	{"30 %, 3/s: mean time to deliver against plain", "30 % fail, 3/s", slowdown, lower, 1.25},
	{"90 %, 50/s of 100 processes: delivered against plain", "90 % fail, 100 processes", delivered, higher, 0.75},
}

// allRows are the rows of all tables.
func allRows() []row {
	return slices.Concat(stormRows, pathRows, overloadRows, afterRows, impatientRows, flappingRows, partialRows)
}

var (
	whileDown = figure{func(r, _ result) float64 { return float64(r.whileDown) }, count, nil}
	busiest   = figure{func(r, _ result) float64 { return float64(r.busiest) }, count, nil}
	inVain    = figure{func(r, _ result) float64 { return float64(r.inVain) }, count, nil}
	lost      = figure{func(r, _ result) float64 { return float64(r.lost()) }, count, nil}
	soonAfter = figure{func(r, _ result) float64 { return float64(r.soonAfter) }, count, nil}

	lastOut   = figure{func(r, _ result) float64 { return r.lastOut.Seconds() }, clock, nil}
	calls     = figure{func(r, _ result) float64 { return float64(r.calls) }, count, nil}
	mean      = figure{func(r, _ result) float64 { return r.meanDelivery.Seconds() }, clock, nil}
	recovery  = figure{func(r, _ result) float64 { return r.recovered.Seconds() }, clock, nil}
	inTrouble = figure{func(r, _ result) float64 { return r.inTrouble }, tenths, nil}

	othersMean = figure{func(r, _ result) float64 { return r.others.mean().Seconds() }, seconds, nil}
	othersMost = figure{func(r, _ result) float64 { return r.others.percentile(0.99).Seconds() }, seconds, nil}
	othersLost = figure{func(r, _ result) float64 { return float64(r.others.lost()) }, count, nil}

	withoutReason  = figure{func(r, _ result) float64 { return float64(r.withoutReason - r.inVain) }, count, nil}
	busiestOfPlain = figure{
		func(r, plain result) float64 { return float64(r.busiest) / float64(plain.busiest) },
		ratio,
		func(r result) string { return count(float64(r.busiest)) },
	}
	deliveredOfPlain = figure{
		func(r, plain result) float64 { return float64(r.delivered) / float64(plain.delivered) },
		ratio,
		func(r result) string { return count(float64(r.delivered)) },
	}

	amplification  = figure{func(r, _ result) float64 { return float64(r.calls) / float64(r.messages) }, ratio, nil}
	busiestOfAll   = figure{func(r, _ result) float64 { return float64(slices.Max(r.perSecond)) }, count, nil}
	whileDownAgain = figure{func(r, _ result) float64 { return float64(r.whileDownAgain) }, count, nil}

	lostMore = figure{
		func(r, plain result) float64 { return float64(r.lost() - plain.lost()) },
		difference,
		func(r result) string { return count(float64(r.lost())) },
	}
	slowdown = figure{
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

// difference prints a number with its sign.
func difference(f float64) string {
	if f < 0 {
		return "-" + count(-f)
	}
	return "+" + count(f)
}

// seconds prints them, with two places.
func seconds(f float64) string { return fmt.Sprintf("%.2f s", f) }

func tenths(f float64) string { return fmt.Sprintf("%.1f", f) }

// clock prints seconds as minutes and seconds.
func clock(seconds float64) string {
	s := int(math.Ceil(seconds))
	if seconds >= never.Seconds() {
		return "never"
	}
	if s < 60 {
		return fmt.Sprintf("%d s", s)
	}
	return fmt.Sprintf("%d min %d s", s/60, s%60)
}

func ratio(f float64) string { return fmt.Sprintf("%.2f", f) }
