// Package otel is an example: it turns graphretry's events into three
// OpenTelemetry metrics, and is short enough to copy.
//
//	observe, err := otel.NewObserver(provider.Meter("messages"))
//	client, err := graphretry.WrapClient(nil, graphretry.WithObserver(observe))
package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/graphretry/graphretry"
)

// NewObserver makes an observer for [graphretry.WithObserver]. It fails if the
// meter cannot make an instrument.
//
//   - graphretry.retries counts the retries, by graph.code and graph.class. One
//     for which Meta has given no error has the class "network" and no code.
//   - graphretry.wait is a histogram of the waits before them, in seconds. Time in
//     the line of an outage comes on top and is not in it.
//   - graphretry.gate.shut is 1 while the outage gate of a host, server.address,
//     is shut or its line is let go, and 0 when it is open again. It has no value
//     before the first outage. Where several Transports share a meter, the last
//     to change tells.
//
// No attribute holds a path or a recipient: each value of an attribute is a time
// series of its own.
func NewObserver(meter metric.Meter) (func(context.Context, graphretry.Event), error) {
	retries, err1 := meter.Int64Counter("graphretry.retries",
		metric.WithUnit("{retry}"), metric.WithDescription("Retries of calls to the Graph API."))
	waits, err2 := meter.Float64Histogram("graphretry.wait",
		metric.WithUnit("s"), metric.WithDescription("Waits before retries of calls to the Graph API."),
		// The waits of the default schedule with their jitter, 5 to 6 s, 10 to 12 s
		// and so on, in a bucket each; above the last of them, Retry-After.
		metric.WithExplicitBucketBoundaries(1, 6, 12, 24, 48, 96, 216, 900))
	gate, err3 := meter.Int64Gauge("graphretry.gate.shut",
		metric.WithDescription("Whether calls to a host wait for the end of an outage."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return func(ctx context.Context, event graphretry.Event) {
		host := metric.WithAttributes(attribute.String("server.address", event.Request.URL.Hostname()))
		switch event.Kind {
		case graphretry.EventRetrying:
			retries.Add(ctx, 1, metric.WithAttributes(failure(event)...))
			waits.Record(ctx, event.Wait.Seconds())
		case graphretry.EventOutageBegan:
			gate.Record(ctx, 1, host)
		case graphretry.EventOutageEnded:
			gate.Record(ctx, 0, host)
		}
	}, nil
}

// failure is what failed, for the counter.
func failure(event graphretry.Event) []attribute.KeyValue {
	if event.Graph == nil {
		return []attribute.KeyValue{attribute.String("graph.class", "network")}
	}
	return []attribute.KeyValue{
		attribute.Int("graph.code", int(event.Graph.Code)),
		attribute.String("graph.class", event.Graph.Class().String()),
	}
}
