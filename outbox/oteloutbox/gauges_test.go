package oteloutbox_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/oteloutbox"
)

// gauges are those that are exported for an outbox, if any is.
var gauges = []string{
	"graphretry.outbox.messages", "graphretry.outbox.oldest.age", "graphretry.outbox.held",
	"graphretry.outbox.hold.age", "graphretry.outbox.paused", "graphretry.outbox.runs",
}

const (
	microseconds = "(CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))"
	agoMinutes20 = microseconds + " - 20 * 60000000"
)

// An alert on a gauge that is not there cannot fire, so they are all there, and 0.
func TestEmptyOutboxHasGaugesOfZero(t *testing.T) {
	m := newMeasured(t)
	read := m.read()
	for _, gauge := range gauges {
		assert.NotEmpty(t, read[gauge], gauge)
		for labels, value := range read[gauge] {
			assert.Zero(t, value, gauge+" "+labels)
		}
	}
	assert.Len(t, read["graphretry.outbox.messages"], 5)
	assert.Len(t, read, len(gauges))
}

func TestGaugesSayWhatIsInTheDatabase(t *testing.T) {
	m := newMeasured(t)
	m.enqueue("111", "a", "b")
	m.enqueue("222", "c")
	m.execute("UPDATE graphretry_queue SET place = " + agoMinutes20 + " WHERE number = '222'")
	require.NoError(t, m.Enqueue(t.Context(), "later", "333", payload("later"), outbox.NotBefore(time.Now().Add(time.Hour))))
	require.NoError(t, m.Pause(t.Context(), ""))
	require.NoError(t, m.Pause(t.Context(), "111"))
	require.NoError(t, m.Pause(t.Context(), "222"))
	m.execute("UPDATE graphretry_number SET probe_at = 1, held_at = " + agoMinutes20 + " WHERE number = '222'")
	m.execute("UPDATE graphretry_number SET probe_at = 1, held_at = " + microseconds + " WHERE number = '111'")
	m.execute("INSERT INTO graphretry_run (run, beat, started_at, beat_at) SELECT 1, 7, 0, " + agoMinutes20)
	m.execute("INSERT INTO graphretry_run (run, beat, started_at, beat_at) SELECT 2, 7, 0, " + agoMinutes20)
	m.execute("INSERT INTO graphretry_run (run, beat, started_at, beat_at) SELECT 3, 7, 0, " + microseconds)

	read := m.read()
	assert.Equal(t, 4.0, read["graphretry.outbox.messages"]["graphretry.state=queued"])
	assert.Len(t, read["graphretry.outbox.messages"], 5)
	assert.InDelta(t, 20*60, read["graphretry.outbox.oldest.age"][""], patience.Seconds())
	assert.Equal(t, map[string]float64{"": 2}, read["graphretry.outbox.held"])
	assert.InDelta(t, 20*60, read["graphretry.outbox.hold.age"][""], patience.Seconds())
	assert.Equal(t, map[string]float64{"graphretry.scope=all": 1, "graphretry.scope=number": 2}, read["graphretry.outbox.paused"])
	assert.Equal(t, map[string]float64{"graphretry.state=live": 1, "graphretry.state=dead": 2}, read["graphretry.outbox.runs"])
}

// errorsOf has what goes to the handler of OpenTelemetry be kept, until the test ends.
func errorsOf(t *testing.T) (taken func() []string) {
	t.Helper()
	var mu sync.Mutex
	var errs []string
	before := otel.GetErrorHandler()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err.Error())
	}))
	t.Cleanup(func() { otel.SetErrorHandler(before) })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		defer func() { errs = nil }()
		return errs
	}
}

// takePool takes all connections to the database, so that whoever asks it waits.
func (m *measured) takePool() (giveBack func()) {
	m.t.Helper()
	m.db.SetMaxOpenConns(1)
	conn, err := m.db.Conn(m.t.Context())
	require.NoError(m.t, err)
	return func() { assert.NoError(m.t, conn.Close()) }
}

// A number that was true once, or 0, would have an alert end while nobody knows.
func TestGaugesThatCannotBeReadAreNotExported(t *testing.T) {
	taken := errorsOf(t)
	m := newMeasured(t)
	m.enqueue(phoneNumberID, "a")
	m.metrics.Observe(t.Context(), outbox.Event{Kind: outbox.EventOutcome, Outbox: "graphretry", Outcome: outbox.OutcomeSent})
	require.Len(t, m.read(), len(gauges)+2)
	oteloutbox.SetTimeout(m.metrics, 20*time.Millisecond)

	giveBack := m.takePool()
	read := m.read()
	assert.Len(t, read, 2)
	assert.Equal(t, map[string]float64{"graphretry.outcome=sent": 1}, read["graphretry.outbox.outcomes"], "what this process counts is exported as always")
	errs := taken()
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0], `oteloutbox: there are no gauges of the outbox "graphretry": outbox: `)

	giveBack()
	oteloutbox.SetTimeout(m.metrics, patience)
	assert.Equal(t, 1.0, m.read()["graphretry.outbox.messages"]["graphretry.state=queued"], "the database is back")
	assert.Empty(t, taken())

	require.NoError(t, m.db.Close())
	assert.Len(t, m.read(), 2)
	errs = taken()
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0], "database is closed")
}

// Prometheus gives up a scrape after 10 s, and then has nothing of the process.
func TestOutboxesShareTheTimeOfACollection(t *testing.T) {
	taken := errorsOf(t)
	m := newMeasured(t)
	const more = 19
	for range more {
		_, err := m.metrics.Register(m.Outbox)
		require.NoError(t, err)
	}
	oteloutbox.SetTimeout(m.metrics, time.Second)
	defer m.takePool()()
	began := time.Now()
	m.read()
	assert.Less(t, time.Since(began), 10*time.Second, "and not 20 s")
	assert.Len(t, taken(), 1+more)
}

// A reader that exports by itself leaves out all that it has after an error of a callback.
func TestPeriodicReaderExportsTheOthersWithoutADatabase(t *testing.T) {
	taken := errorsOf(t)
	exported := make(exporter, 1)
	reader := sdkmetric.NewPeriodicReader(exported, sdkmetric.WithInterval(time.Hour))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	metrics, err := oteloutbox.New(provider)
	require.NoError(t, err)
	db := openFile(t)
	o, err := outbox.Open(t.Context(), outbox.SQLite(db), nil)
	require.NoError(t, err)
	_, err = metrics.Register(o)
	require.NoError(t, err)
	metrics.Observe(t.Context(), outbox.Event{Kind: outbox.EventOutcome, Outbox: "graphretry", Outcome: outbox.OutcomeSent, Age: time.Second})
	require.NoError(t, db.Close())

	require.NoError(t, provider.ForceFlush(t.Context()))
	assert.Equal(t, map[string]map[string]float64{
		"graphretry.outbox.outcomes": {"graphretry.outcome=sent": 1},
		"graphretry.outbox.wait":     {"": 1},
	}, flat(t, <-exported))
	assert.Len(t, taken(), 1)
}

// exporter has what was exported.
type exporter chan metricdata.ResourceMetrics

func (exporter) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

func (exporter) Aggregation(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(kind)
}

func (e exporter) Export(_ context.Context, all *metricdata.ResourceMetrics) error {
	e <- *all
	return nil
}

func (exporter) ForceFlush(context.Context) error { return nil }
func (exporter) Shutdown(context.Context) error   { return nil }

// Each call of Stats takes a connection, for which it has to wait here.
func TestCollectionAsksStatsOnce(t *testing.T) {
	errorsOf(t)
	m := newMeasured(t, oteloutbox.WithPhoneNumbers(10))
	oteloutbox.SetTimeout(m.metrics, time.Millisecond)
	defer m.takePool()()
	before := m.db.Stats().WaitCount
	for asked := range int64(5) {
		m.read()
		assert.Equal(t, before+asked+1, m.db.Stats().WaitCount)
	}
}

func TestClosedOutboxHasNoGauges(t *testing.T) {
	taken := errorsOf(t)
	m := newMeasured(t)
	require.NoError(t, m.Close())
	assert.Empty(t, m.read())
	assert.Empty(t, taken(), "a program that ends closes its outbox before its meter")
}

func TestUnregisteredOutboxHasNoGauges(t *testing.T) {
	m := newMeasured(t)
	m.reader = sdkmetric.NewManualReader() // for which nothing is registered yet
	var err error
	m.metrics, err = oteloutbox.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(m.reader)))
	require.NoError(t, err)
	registration, err := m.metrics.Register(m.Outbox)
	require.NoError(t, err)
	assert.Len(t, m.read(), len(gauges))
	require.NoError(t, registration.Unregister())
	assert.Empty(t, m.read())
	require.NoError(t, registration.Unregister(), "it may be called again")
}
