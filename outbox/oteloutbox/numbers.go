package oteloutbox

import (
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/graphretry/graphretry/outbox"
)

// numbers bounds how many phone numbers have a name of their own.
type numbers struct {
	limit int // 0: no number has
	mu    sync.Mutex
	known map[string]bool
}

// numberName is a phone number as the metrics name it, "" if they name none.
type numberName string

// of returns the name of a phone number.
func (n *numbers) of(id string) numberName {
	if n.limit == 0 {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known[id] {
		if len(n.known) >= n.limit {
			return numberName(semconv.ErrorTypeOther.Value.AsString())
		}
		if n.known == nil {
			n.known = make(map[string]bool)
		}
		n.known[id] = true
	}
	return numberName(id)
}

// option returns the attribute of a phone number.
func (n numberName) option() metric.MeasurementOption {
	if n == "" {
		return metric.WithAttributes()
	}
	return metric.WithAttributes(numberKey.String(string(n)))
}

// sum is what the phone numbers with the same name have together.
type sum struct {
	states                  map[outbox.State]int
	waitingSince, heldSince time.Time // the earliest
	held, paused            int64
}

// sums adds up what the phone numbers without a name of their own have.
func (n *numbers) sums(stats outbox.Stats) map[numberName]*sum {
	sums := make(map[numberName]*sum)
	if n.limit == 0 {
		sums[""] = &sum{states: make(map[outbox.State]int)} // there if there is no number yet
	}
	for _, id := range slices.Sorted(maps.Keys(stats.Numbers)) {
		number, name := stats.Numbers[id], n.of(id)
		of := sums[name]
		if of == nil {
			of = &sum{states: make(map[outbox.State]int)}
			sums[name] = of
		}
		for state, count := range number.States {
			of.states[state] += count
		}
		of.waitingSince = earlier(of.waitingSince, number.WaitingSince)
		of.heldSince = earlier(of.heldSince, number.HeldSince)
		of.held += oneIf(!number.HeldSince.IsZero())
		of.paused += oneIf(number.Paused)
	}
	return sums
}

// earlier returns the earlier of two times, of which either may be zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
