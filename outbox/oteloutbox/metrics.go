package oteloutbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/graphretry/graphretry/outbox"
)

// ScopeName is the name of the instrumentation scope.
const ScopeName = "github.com/graphretry/graphretry/outbox/oteloutbox"

// statsTimeout bounds what a collection waits for the database. Prometheus gives up a
// scrape after 10 s by default, and then has nothing of the process.
const statsTimeout = 5 * time.Second

// Metrics has the instruments. A program needs only one, however many outboxes it has. [New]
// returns one. It is safe for concurrent use.
type Metrics struct {
	meter                    metric.Meter
	outcomes, senderFailures metric.Int64Counter
	wait                     metric.Float64Histogram
	messages, held           metric.Int64ObservableGauge
	paused, runs             metric.Int64ObservableGauge
	oldestAge, holdAge       metric.Float64ObservableGauge
	numbers                  numbers
	timeout                  time.Duration // of asking for the gauges of all outboxes
	registered               atomic.Int64  // how many outboxes have gauges
}

// Option changes what [New] makes.
type Option struct{ apply func(*Metrics) error }

// WithPhoneNumbers gives the metrics the attribute graphretry.outbox.phone_number_id for the
// first limit phone numbers, 1 or more. The other numbers share the value _OTHER: their
// messages, holds and pauses are added up, and the longest of their ages counts. Each number
// has 25 time series or more. Without WithPhoneNumbers no metric names a number.
func WithPhoneNumbers(limit int) Option {
	return Option{func(m *Metrics) error {
		m.numbers.limit = limit
		if limit < 1 {
			return fmt.Errorf("oteloutbox: WithPhoneNumbers(%d): want 1 phone number or more", limit)
		}
		return nil
	}}
}

// New makes the instruments with a meter of the provider. A nil provider means the
// global one, [otel.GetMeterProvider]. It returns an error if the meter cannot make
// an instrument, or an option is bad.
func New(provider metric.MeterProvider, opts ...Option) (*Metrics, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	m := &Metrics{meter: provider.Meter(ScopeName), timeout: statsTimeout}
	errs := make([]error, 9)
	m.outcomes, errs[0] = m.meter.Int64Counter("graphretry.outbox.outcomes", metric.WithUnit("{outcome}"),
		metric.WithDescription("Outcomes of messages that this process has written down."))
	m.senderFailures, errs[1] = m.meter.Int64Counter("graphretry.outbox.sender.failures", metric.WithUnit("{failure}"),
		metric.WithDescription("Failures that every message of the sender would get, by answer or by webhook."))
	m.wait, errs[2] = m.meter.Float64Histogram("graphretry.outbox.wait", metric.WithUnit("s"),
		metric.WithDescription("From when a message was first enqueued until it was sent."),
		// From messages that need no wait to the default maximum age. 900 s is the bound of an
		// alert.
		metric.WithExplicitBucketBoundaries(1, 5, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 21600, 86400))
	m.messages, errs[3] = m.meter.Int64ObservableGauge("graphretry.outbox.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages in the database, by their state."))
	m.oldestAge, errs[4] = m.meter.Float64ObservableGauge("graphretry.outbox.oldest.age", metric.WithUnit("s"),
		metric.WithDescription("Age of the message in the queue that waits longest, 0 if none waits."))
	m.held, errs[5] = m.meter.Int64ObservableGauge("graphretry.outbox.held", metric.WithUnit("{number}"),
		metric.WithDescription("Phone numbers that are held."))
	m.holdAge, errs[6] = m.meter.Float64ObservableGauge("graphretry.outbox.hold.age", metric.WithUnit("s"),
		metric.WithDescription("For how long the phone number is held that is held longest, 0 if none is."))
	m.paused, errs[7] = m.meter.Int64ObservableGauge("graphretry.outbox.paused", metric.WithUnit("{pause}"),
		metric.WithDescription("Whether all phone numbers are paused, and how many are by themselves."))
	m.runs, errs[8] = m.meter.Int64ObservableGauge("graphretry.outbox.runs", metric.WithUnit("{run}"),
		metric.WithDescription("Runs of all machines that are live, and dead ones that were not removed yet."))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("oteloutbox: cannot make the instruments: %w", err)
	}
	for _, opt := range opts {
		if opt.apply != nil {
			if err := opt.apply(m); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// Observe counts an event. Give it to [outbox.WithObserver]. One Metrics may observe any
// number of outboxes.
func (m *Metrics) Observe(ctx context.Context, event outbox.Event) {
	of := metric.WithAttributes(nameKey.String(event.Outbox))
	number := m.numbers.of(event.PhoneNumberID).option()
	switch event.Kind {
	case outbox.EventOutcome:
		m.outcomes.Add(ctx, 1, of, number, metric.WithAttributes(outcomeAttributes(event)...))
		if event.Outcome == outbox.OutcomeSent {
			m.wait.Record(ctx, event.Age.Seconds(), of, number)
		}
	case outbox.EventAttempted, outbox.EventHeld: // a hold has a Graph error if a webhook had it
		if event.Graph.AboutSender() {
			m.senderFailures.Add(ctx, 1, of, number, metric.WithAttributes(
				codeKey.String(mostExact(event.Graph)), errorType(event.Graph)))
		}
	}
}
