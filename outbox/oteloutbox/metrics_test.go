package oteloutbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/oteloutbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const phoneNumberID = "106540352242922"

// patience bounds what a test waits for and expects within milliseconds.
const patience = 20 * time.Second

// payload is a text message.
func payload(text string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":%q}}`, text)
}

// measured is an outbox whose metrics are read by hand.
type measured struct {
	*outbox.Outbox
	t       *testing.T
	db      *sql.DB
	api     *graphtest.API
	metrics *oteloutbox.Metrics
	reader  *sdkmetric.ManualReader
}

func newMeasured(t *testing.T, opts ...oteloutbox.Option) *measured {
	t.Helper()
	m := &measured{t: t, api: graphtest.New(), reader: sdkmetric.NewManualReader()}
	var err error
	m.metrics, err = oteloutbox.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(m.reader)), opts...)
	require.NoError(t, err)
	m.db = openFile(t)
	m.Outbox = m.open("graphretry")
	return m
}

// openFile opens a file of SQLite that ends with the test.
func openFile(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "outbox.db"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// open opens an outbox that is measured.
func (m *measured) open(name string) *outbox.Outbox {
	m.t.Helper()
	o, err := outbox.Open(m.t.Context(), outbox.SQLite(m.db), m.api, outbox.WithName(name), outbox.WithObserver(m.metrics.Observe),
		outbox.WithTransportOptions(graphretry.WithInitialInterval(10*time.Millisecond), graphretry.WithMaxInterval(50*time.Millisecond)))
	require.NoError(m.t, err)
	m.t.Cleanup(func() { assert.NoError(m.t, o.Close()) })
	registration, err := m.metrics.Register(o)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { assert.NoError(m.t, registration.Unregister()) })
	return o
}

// run runs the outbox until the returned function is called.
func run(t *testing.T, o *outbox.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return func() {
		cancel()
		assert.NoError(t, <-done)
	}
}

func (m *measured) enqueue(number string, ids ...string) {
	m.t.Helper()
	for _, id := range ids {
		require.NoError(m.t, m.Enqueue(m.t.Context(), id, number, payload(id)))
	}
}

// execute changes the tables behind the outbox's back: what a test cannot wait for.
func (m *measured) execute(statement string) {
	m.t.Helper()
	_, err := m.db.ExecContext(m.t.Context(), statement)
	require.NoError(m.t, err)
}

// read is what the meter has now: for each metric its values by their attributes, without
// the name of the outbox if that is the default. A histogram's value is its sum.
func (m *measured) read() map[string]map[string]float64 {
	m.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(m.t, m.reader.Collect(context.Background(), &all))
	return flat(m.t, all)
}

func flat(t *testing.T, all metricdata.ResourceMetrics) map[string]map[string]float64 {
	t.Helper()
	read := map[string]map[string]float64{}
	add := func(name string, set attribute.Set, value float64) {
		var labels []string
		for _, label := range set.ToSlice() {
			if label != attribute.String("graphretry.outbox.name", "graphretry") {
				labels = append(labels, fmt.Sprintf("%s=%s", label.Key, label.Value.String()))
			}
		}
		if read[name] == nil {
			read[name] = map[string]float64{}
		}
		read[name][strings.Join(labels, " ")] = value
	}
	for _, scope := range all.ScopeMetrics {
		assert.Equal(t, oteloutbox.ScopeName, scope.Scope.Name)
		for _, one := range scope.Metrics {
			switch data := one.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					add(one.Name, point.Attributes, float64(point.Value))
				}
			case metricdata.Gauge[int64]:
				for _, point := range data.DataPoints {
					add(one.Name, point.Attributes, float64(point.Value))
				}
			case metricdata.Gauge[float64]:
				for _, point := range data.DataPoints {
					add(one.Name, point.Attributes, point.Value)
				}
			case metricdata.Histogram[float64]:
				for _, point := range data.DataPoints {
					add(one.Name, point.Attributes, point.Sum)
				}
			default:
				require.Failf(t, "a metric that this test cannot read", "%s: %T", one.Name, data)
			}
		}
	}
	return read
}

func TestOutcomesAreCountedByKindAndClass(t *testing.T) {
	m := newMeasured(t)
	for _, event := range []outbox.Event{
		{Outcome: outbox.OutcomeSent, Age: 2 * time.Second},
		{Outcome: outbox.OutcomeSent, Age: time.Hour},
		{Outcome: outbox.OutcomeDelivered, Age: 2 * time.Hour},
		{Outcome: outbox.OutcomeRead, Age: 3 * time.Hour},
		{Outcome: outbox.OutcomeFailed, Graph: &graphretry.Error{Code: graphretry.CodeUserExperiment}},
		{Outcome: outbox.OutcomeFailed, Graph: &graphretry.Error{Code: graphretry.CodeInvalidParameter, Subcode: 131000}},
		{Outcome: outbox.OutcomeFailed},
		{Outcome: outbox.OutcomeUnknown},
	} {
		event.Kind, event.Outbox, event.PhoneNumberID = outbox.EventOutcome, "graphretry", phoneNumberID
		m.metrics.Observe(t.Context(), event)
	}
	read := m.read()
	assert.Equal(t, map[string]float64{
		"graphretry.outcome=sent":                             2,
		"graphretry.outcome=delivered":                        1,
		"graphretry.outcome=read":                             1,
		"error.type=experiment graphretry.outcome=failed":     1,
		"error.type=retry_once graphretry.outcome=failed":     1,
		"error.type=no_graph_error graphretry.outcome=failed": 1,
		"graphretry.outcome=unknown":                          1,
	}, read["graphretry.outbox.outcomes"])
	assert.Equal(t, map[string]float64{"": 3602}, read["graphretry.outbox.wait"], "of those that were sent")
}

func TestFailuresOfTheSenderAreCountedByCode(t *testing.T) {
	m := newMeasured(t)
	for _, event := range []outbox.Event{
		{Kind: outbox.EventAttempted, Graph: &graphretry.Error{Code: 190}},
		{Kind: outbox.EventAttempted, Graph: &graphretry.Error{Code: 190, Subcode: 460}}, // no code by itself
		{Kind: outbox.EventAttempted, Graph: &graphretry.Error{Code: 1, Subcode: 131031}},
		{Kind: outbox.EventAttempted, Graph: &graphretry.Error{Code: 131026}}, // the recipient's
		{Kind: outbox.EventAttempted},
		{Kind: outbox.EventHeld, Graph: &graphretry.Error{Code: 131042}}, // by webhook
		{Kind: outbox.EventHeld, Reason: "407"},
		{Kind: outbox.EventReleased},
		{Kind: outbox.EventClaimed},
		{Kind: outbox.EventOutcome, Outcome: outbox.OutcomeFailed, Graph: &graphretry.Error{Code: 190}}, // its attempts were counted
	} {
		event.Outbox, event.PhoneNumberID = "graphretry", phoneNumberID
		m.metrics.Observe(t.Context(), event)
	}
	assert.Equal(t, map[string]float64{
		"error.type=permission graph.code=190": 2,
		"error.type=policy graph.code=131031":  1,
		"error.type=policy graph.code=131042":  1,
	}, m.read()["graphretry.outbox.sender.failures"])
}

// All of it at once, by an outbox that sends.
func TestWhatAnOutboxDoesIsCounted(t *testing.T) {
	m := newMeasured(t)
	m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeUserExperiment})
	m.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	m.api.AnswerNext(1, graphtest.Answer{Code: 190})
	m.enqueue(phoneNumberID, "failed")
	m.enqueue("111", "unknown")
	m.enqueue("222", "sent, in the end")
	stop := run(t, m.Outbox)
	deadline := time.Now().Add(patience)
	for count := 0; count < 3; {
		require.True(t, time.Now().Before(deadline), "waited for three outcomes")
		time.Sleep(5 * time.Millisecond)
		count = 0
		for _, n := range m.read()["graphretry.outbox.outcomes"] {
			count += int(n)
		}
	}
	stop()
	read := m.read()
	assert.Equal(t, map[string]float64{
		"graphretry.outcome=sent":                         1,
		"error.type=experiment graphretry.outcome=failed": 1,
		"graphretry.outcome=unknown":                      1,
	}, read["graphretry.outbox.outcomes"])
	assert.Equal(t, map[string]float64{"error.type=permission graph.code=190": 1}, read["graphretry.outbox.sender.failures"])
	assert.Positive(t, read["graphretry.outbox.wait"][""])
	assert.Equal(t, map[string]float64{
		"graphretry.state=queued": 0, "graphretry.state=sending": 0,
		"graphretry.state=sent": 1, "graphretry.state=failed": 1, "graphretry.state=unknown": 1,
	}, read["graphretry.outbox.messages"])
}

// The phone number is an attribute by an option alone, and of no more numbers than it says.
func TestPhoneNumberIsAnAttributeWithinItsLimit(t *testing.T) {
	fill := func(m *measured) map[string]map[string]float64 {
		m.enqueue("111", "a", "b")
		m.read() // 111 is the first
		m.enqueue("222", "c")
		m.enqueue("333", "d")
		require.NoError(t, m.Pause(t.Context(), "222"))
		require.NoError(t, m.Pause(t.Context(), "333"))
		m.execute("UPDATE graphretry_number SET probe_at = 1, held_at = 1 WHERE number = '333'")
		for _, number := range []string{"111", "222", "333"} {
			m.metrics.Observe(t.Context(), outbox.Event{Kind: outbox.EventOutcome, Outbox: "graphretry", Outcome: outbox.OutcomeSent, PhoneNumberID: number, Age: time.Second})
			m.metrics.Observe(t.Context(), outbox.Event{Kind: outbox.EventAttempted, Outbox: "graphretry", Graph: &graphretry.Error{Code: 190}, PhoneNumberID: number})
		}
		return m.read()
	}
	const first, other = "graphretry.outbox.phone_number_id=111", "graphretry.outbox.phone_number_id=_OTHER"

	read := fill(newMeasured(t, oteloutbox.WithPhoneNumbers(1)))
	assert.Equal(t, 2.0, read["graphretry.outbox.messages"][first+" graphretry.state=queued"])
	assert.Equal(t, 2.0, read["graphretry.outbox.messages"][other+" graphretry.state=queued"])
	assert.Len(t, read["graphretry.outbox.messages"], 2*5)
	assert.Equal(t, map[string]float64{first: 0, other: 1}, read["graphretry.outbox.held"])
	assert.Zero(t, read["graphretry.outbox.hold.age"][first])
	assert.Positive(t, read["graphretry.outbox.hold.age"][other])
	assert.Equal(t, map[string]float64{first + " graphretry.scope=number": 0, other + " graphretry.scope=number": 2, "graphretry.scope=all": 0}, read["graphretry.outbox.paused"])
	assert.Len(t, read["graphretry.outbox.oldest.age"], 2)
	assert.Greater(t, read["graphretry.outbox.oldest.age"][first], read["graphretry.outbox.oldest.age"][other])
	assert.Equal(t, map[string]float64{first + " graphretry.outcome=sent": 1, other + " graphretry.outcome=sent": 2}, read["graphretry.outbox.outcomes"])
	assert.Equal(t, map[string]float64{first: 1, other: 2}, read["graphretry.outbox.wait"])
	assert.Equal(t, map[string]float64{"error.type=permission graph.code=190 " + first: 1, "error.type=permission graph.code=190 " + other: 2}, read["graphretry.outbox.sender.failures"])

	for name, values := range fill(newMeasured(t)) {
		for labels := range values {
			assert.NotContains(t, labels, "phone_number", name)
			for _, secret := range []string{"111", "222", "333", "15550100001"} {
				assert.NotContains(t, labels, secret, name)
			}
		}
	}
}

func TestOutboxesAreToldApartByTheirName(t *testing.T) {
	m := newMeasured(t)
	other := m.open("campaign")
	m.enqueue(phoneNumberID, "a")
	require.NoError(t, other.Enqueue(t.Context(), "b", phoneNumberID, payload("b")))
	require.NoError(t, other.Enqueue(t.Context(), "c", phoneNumberID, payload("c")))
	m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeUserExperiment})
	read := m.read()["graphretry.outbox.messages"]
	assert.Equal(t, 1.0, read["graphretry.state=queued"])
	assert.Equal(t, 2.0, read["graphretry.outbox.name=campaign graphretry.state=queued"])
}

func TestBadArgumentsAreRefused(t *testing.T) {
	_, err := oteloutbox.New(noop.NewMeterProvider(), oteloutbox.WithPhoneNumbers(0))
	assert.ErrorContains(t, err, "oteloutbox: WithPhoneNumbers(0): want 1 phone number or more")
	metrics, err := oteloutbox.New(noop.NewMeterProvider(), oteloutbox.Option{})
	require.NoError(t, err)
	_, err = metrics.Register(nil)
	assert.ErrorContains(t, err, "oteloutbox: Register(nil): want an outbox")
}

// refusing is a provider whose meter refuses callbacks, and counters with counter.
type refusing struct {
	noop.MeterProvider
	counter error
}

var errRefused = errors.New("refused")

func (r refusing) Meter(string, ...metric.MeterOption) metric.Meter {
	return refusingMeter{counter: r.counter}
}

type refusingMeter struct {
	noop.Meter
	counter error
}

func (m refusingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return noop.Int64Counter{}, m.counter
}

func (refusingMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, errRefused
}

func TestMeterThatRefusesIsAnError(t *testing.T) {
	metrics, err := oteloutbox.New(refusing{counter: errRefused})
	assert.Nil(t, metrics)
	require.ErrorIs(t, err, errRefused)
	assert.ErrorContains(t, err, "oteloutbox: cannot make the instruments")

	metrics, err = oteloutbox.New(refusing{})
	require.NoError(t, err)
	registration, err := metrics.Register(newMeasured(t).Outbox)
	assert.Nil(t, registration)
	require.ErrorIs(t, err, errRefused)
	assert.ErrorContains(t, err, `oteloutbox: cannot register the gauges of the outbox "graphretry"`)
}

func TestNilProviderIsTheGlobalOne(t *testing.T) {
	metrics, err := oteloutbox.New(nil)
	require.NoError(t, err)
	registration, err := metrics.Register(newMeasured(t).Outbox)
	require.NoError(t, err)
	require.NoError(t, registration.Unregister())
}
