package oteloutbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/graphretry/graphretry/outbox"
)

// Register has the gauges of an outbox be exported whenever the meter is read, until the
// Registration is unregistered or the outbox is closed. It asks the outbox then, as the
// package documentation says. It returns an error if the meter refuses the gauges, or o is
// nil.
func (m *Metrics) Register(o *outbox.Outbox) (metric.Registration, error) {
	if o == nil {
		return nil, errors.New("oteloutbox: Register(nil): want an outbox of outbox.Open")
	}
	m.registered.Add(1)
	leave := sync.OnceFunc(func() { m.registered.Add(-1) })
	callback, err := m.meter.RegisterCallback(func(ctx context.Context, observer metric.Observer) error {
		m.observeOutbox(ctx, o, observer, leave)
		return nil // an error would have a periodic reader export nothing of the whole process
	}, m.messages, m.oldestAge, m.held, m.holdAge, m.paused, m.runs)
	if err != nil {
		leave()
		return nil, fmt.Errorf("oteloutbox: cannot register the gauges of the outbox %q: %w", o.Name(), err)
	}
	return registration{callback, leave}, nil
}

// registration is an outbox whose gauges are exported.
type registration struct {
	metric.Registration
	leave func()
}

// Unregister ends the export.
func (r registration) Unregister() error {
	r.leave()
	return r.Registration.Unregister()
}

// observeOutbox exports what is in an outbox, or nothing if that cannot be found out. It calls
// leave if the outbox is closed.
func (m *Metrics) observeOutbox(ctx context.Context, o *outbox.Outbox, observer metric.Observer, leave func()) {
	// The outboxes are asked one after the other, and may all be in the same database.
	ctx, cancel := context.WithTimeout(ctx, m.timeout/time.Duration(max(1, m.registered.Load())))
	defer cancel()
	stats, err := o.Stats(ctx)
	if err != nil {
		if errors.Is(err, outbox.ErrClosed) {
			leave()
		} else {
			otel.Handle(fmt.Errorf("oteloutbox: there are no gauges of the outbox %q: %w", o.Name(), err))
		}
		return
	}
	of := metric.WithAttributes(nameKey.String(o.Name()))
	for name, sum := range m.numbers.sums(stats) {
		number := name.option()
		for state, option := range messageStates {
			observer.ObserveInt64(m.messages, int64(sum.states[state]), of, option, number)
		}
		observer.ObserveFloat64(m.oldestAge, ageOf(sum.waitingSince, stats.Now), of, number)
		observer.ObserveInt64(m.held, sum.held, of, number)
		observer.ObserveFloat64(m.holdAge, ageOf(sum.heldSince, stats.Now), of, number)
		observer.ObserveInt64(m.paused, sum.paused, of, scopeNumber, number)
	}
	observer.ObserveInt64(m.paused, oneIf(stats.Paused), of, scopeAll)
	var live, dead int64
	for _, run := range stats.Runs {
		if run.Dead {
			dead++
		} else {
			live++
		}
	}
	observer.ObserveInt64(m.runs, live, of, runLive)
	observer.ObserveInt64(m.runs, dead, of, runDead)
}

// ageOf returns the seconds since then, 0 for never.
func ageOf(since, now time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since).Seconds())
}
