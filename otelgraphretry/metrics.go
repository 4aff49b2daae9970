package otelgraphretry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/graphretry/graphretry"
)

// ScopeName is the name of the instrumentation scope.
const ScopeName = "github.com/graphretry/graphretry/otelgraphretry"

// Metrics holds the instruments, and makes Transports that they measure. A program
// needs only one. [New] makes one; it is safe for concurrent use.
type Metrics struct {
	meter                          metric.Meter
	calls, attempts, outages, held metric.Int64Counter
	waitDuration, outageDuration   metric.Float64Histogram
	hostState, hostWaiting         metric.Int64ObservableUpDownCounter
	pathState                      metric.Int64ObservableUpDownCounter
	codes                          codes
	paths                          paths
}

// Option changes what [New] makes.
type Option struct{ apply func(*Metrics) error }

// WithPaths gives the metrics of outages of a path the attribute
// graphretry.outage.path, for so many paths at most, 1 or more: the first that are down.
// The others are _OTHER. A path has an id in it, such as that of a phone number, and each
// path is 16 time series and more. Without WithPaths no metric names a path.
func WithPaths(limit int) Option {
	return Option{func(m *Metrics) error {
		m.paths.limit = limit
		if limit < 1 {
			return fmt.Errorf("otelgraphretry: WithPaths(%d): want 1 path or more", limit)
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
	m := &Metrics{meter: provider.Meter(ScopeName)}
	errs := make([]error, 9)
	m.calls, errs[0] = m.meter.Int64Counter("graphretry.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls to the Graph API that have ended, however they did."))
	m.attempts, errs[1] = m.meter.Int64Counter("graphretry.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts that failed, by what came of it, and successes after a retry."))
	m.waitDuration, errs[2] = m.meter.Float64Histogram("graphretry.wait.duration", metric.WithUnit("s"),
		metric.WithDescription("Waits before a retry, without the time in the queue of an outage."),
		// The waits of the default schedule with their jitter, 5 s to 7.5 s, 10 s
		// to 15 s and so on, have a bucket each. Above the last of them is Retry-After.
		metric.WithExplicitBucketBoundaries(1, 7.5, 15, 30, 60, 120, 270, 900))
	m.outages, errs[3] = m.meter.Int64Counter("graphretry.outages", metric.WithUnit("{outage}"),
		metric.WithDescription("Outages of the Graph API that began."))
	m.outageDuration, errs[4] = m.meter.Float64Histogram("graphretry.outage.duration", metric.WithUnit("s"),
		metric.WithDescription("How long an outage lasted, until its last call was released."),
		metric.WithExplicitBucketBoundaries(10, 30, 60, 120, 300, 600, 1200, 3600, 14400))
	m.held, errs[5] = m.meter.Int64Counter("graphretry.outage.held", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that waited in the queue of an outage, counted when it ended."))
	m.hostState, errs[6] = m.meter.Int64ObservableUpDownCounter("graphretry.host.state", metric.WithUnit("{host}"),
		metric.WithDescription("1 for the state a host is in, and 0 for the others."))
	m.hostWaiting, errs[7] = m.meter.Int64ObservableUpDownCounter("graphretry.host.waiting", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that wait in the queue of an outage."))
	m.pathState, errs[8] = m.meter.Int64ObservableUpDownCounter("graphretry.path.state", metric.WithUnit("{path}"),
		metric.WithDescription("Paths that are not up while their host is, by the state they are in."))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("otelgraphretry: cannot make the instruments: %w", err)
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

// Observe records an event. Give it to [graphretry.WithObserver] if other code makes
// the Transport:
//
//	box, err := outbox.Open(ctx, outbox.Postgres(db), nil,
//		outbox.WithTransportOptions(graphretry.WithObserver(metrics.Observe)))
//
// Then there are no graphretry.calls, graphretry.host.state, graphretry.path.state and
// graphretry.host.waiting, and no server.port. A Transport of [Metrics.NewTransport]
// observes by itself.
func (m *Metrics) Observe(ctx context.Context, event graphretry.Event) {
	m.observe(ctx, event, serverOf(event.Request.URL.Hostname()))
}

func (m *Metrics) observe(ctx context.Context, event graphretry.Event, server server) {
	switch event.Kind {
	case graphretry.EventOutageBegan:
		m.outages.Add(ctx, 1, server.option, m.paths.scopeOf(event.Path))
	case graphretry.EventOutageEnded:
		scope := m.paths.scopeOf(event.Path)
		m.outageDuration.Record(ctx, event.Lasted.Seconds(), server.option, scope)
		m.held.Add(ctx, int64(event.Held), server.option, scope)
	default:
		m.attempts.Add(ctx, 1, server.option, metric.WithAttributes(m.codes.attemptAttributes(event)...))
		if event.Kind == graphretry.EventRetrying {
			m.waitDuration.Record(ctx, event.Wait.Seconds(), server.option, metric.WithAttributes(errorType(event)))
		}
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent("graphretry."+underscored(event.Kind.String()),
			trace.WithTimestamp(event.Time), trace.WithAttributes(spanAttributes(event, server)...))
	}
}

// Transport is a [graphretry.Transport] that is measured. [Metrics.NewTransport]
// makes one.
type Transport struct {
	*graphretry.Transport
	metrics      *Metrics
	servers      []server
	registration metric.Registration
}

// NewTransport returns a Transport of [graphretry.NewTransport] with the metrics and
// the span events of this package. It returns the errors of that function, and one
// if the meter refuses the metrics of the hosts.
func (m *Metrics) NewTransport(next http.RoundTripper, opts ...graphretry.Option) (*Transport, error) {
	t := &Transport{metrics: m}
	observed := append([]graphretry.Option{graphretry.WithObserver(t.observe)}, opts...)
	var err error
	if t.Transport, err = graphretry.NewTransport(next, observed...); err != nil {
		return nil, err
	}
	for _, host := range t.Hosts() {
		t.servers = append(t.servers, serverOf(host.Host))
	}
	t.registration, err = m.meter.RegisterCallback(t.observeHosts, m.hostState, m.hostWaiting, m.pathState)
	if err != nil {
		return nil, fmt.Errorf("otelgraphretry: cannot register the metrics of the hosts: %w", err)
	}
	t.addZeros()
	return t, nil
}

// addZeros begins the counters that the alerts look at. A counter whose first
// value is 1 has not increased, as Prometheus sees it.
func (t *Transport) addZeros() {
	ctx, m := context.Background(), t.metrics
	for _, server := range t.servers {
		m.calls.Add(ctx, 0, server.option)
		for _, scope := range []metric.MeasurementOption{hostScope, pathScope} {
			m.outages.Add(ctx, 0, server.option, scope)
			m.held.Add(ctx, 0, server.option, scope)
		}
		for code, kind := range map[graphretry.Code]graphretry.EventKind{
			graphretry.CodeAPIService:         graphretry.EventGaveUp,
			graphretry.CodeServiceUnavailable: graphretry.EventGaveUp,
			graphretry.CodeSomethingWentWrong: graphretry.EventGaveUp,
			graphretry.CodeUserExperiment:     graphretry.EventNotRetried,
		} {
			event := graphretry.Event{Kind: kind, Graph: &graphretry.Error{Code: code}}
			m.attempts.Add(ctx, 0, server.option, metric.WithAttributes(m.codes.attemptAttributes(event)...))
		}
	}
}

// RoundTrip does as [graphretry.Transport.RoundTrip], and counts the call.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	if server, ok := t.server(req); ok {
		t.metrics.calls.Add(req.Context(), 1, server.option)
	}
	return resp, err
}

// Unregister removes this Transport from the metrics of its hosts, for a program
// that stops using it before the program ends. The Transport still works, and its
// calls are counted. Unregister may be called more than once.
func (t *Transport) Unregister() error {
	if t.registration == nil {
		return nil // the zero Transport
	}
	return t.registration.Unregister()
}

func (t *Transport) observe(ctx context.Context, event graphretry.Event) {
	server, ok := t.server(event.Request)
	if !ok {
		server = serverOf(event.Request.URL.Hostname())
	}
	t.metrics.observe(ctx, event, server)
}

// server finds the host that the request is for. As in graphretry, the first of
// several that match is it.
func (t *Transport) server(req *http.Request) (server, bool) {
	if req.URL == nil {
		return server{}, false
	}
	for _, s := range t.servers {
		if s.port == "" && req.URL.Host == s.name {
			return s, true // what nearly every call has, without taking it apart
		}
		port := req.URL.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[req.URL.Scheme]
		}
		if strings.EqualFold(req.URL.Hostname(), s.name) && (s.port == "" || s.port == port) {
			return s, true
		}
	}
	return server{}, false
}

// observeHosts is called by the meter whenever it is read.
func (t *Transport) observeHosts(_ context.Context, observer metric.Observer) error {
	m := t.metrics
	for i, host := range t.Hosts() {
		server := t.servers[i]
		observer.ObserveInt64(m.hostWaiting, int64(host.Waiting), server.option, hostScope)
		for state, option := range hostStates {
			var is int64
			if state == host.State {
				is = 1
			}
			observer.ObserveInt64(m.hostState, is, server.option, option)
		}
		waiting, states := m.paths.sums(host.Paths)
		for scope, sum := range waiting {
			observer.ObserveInt64(m.hostWaiting, sum, server.option, scope.option())
		}
		for of, sum := range states {
			observer.ObserveInt64(m.pathState, sum, server.option, hostStates[of.state], of.scope.name())
		}
	}
	return nil
}
