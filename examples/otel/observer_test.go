package otel_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/otel"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	messagesURL = "https://graph.facebook.com/v23.0/106540352242922/messages"
	message     = `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":"See you at nine."}}`
)

// measured is a client of a fake API whose metrics are read by hand.
type measured struct {
	*http.Client
	api    *graphtest.API
	reader *metric.ManualReader
}

func newMeasured(t *testing.T, opts ...graphretry.Option) *measured {
	t.Helper()
	reader := metric.NewManualReader()
	observe, err := otel.NewObserver(metric.NewMeterProvider(metric.WithReader(reader)).Meter("messages"))
	require.NoError(t, err)
	api := graphtest.New()
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, append(opts, graphretry.WithObserver(observe))...)
	require.NoError(t, err)
	return &measured{client, api, reader}
}

func (m *measured) send(t *testing.T) {
	t.Helper()
	resp, err := m.Post(messagesURL, "application/json", strings.NewReader(message))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

// data is what the metric of that name holds now, nil if nothing.
func (m *measured) data(t *testing.T, name string) metricdata.Aggregation {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			if one.Name == name {
				return one.Data
			}
		}
	}
	return nil
}

func TestRetriesAreCountedByCodeAndClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithNetworkRetries())
		m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
		m.send(t)
		m.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
		resp, err := m.Get("https://graph.facebook.com/v23.0/106540352242922")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())

		metricdatatest.AssertAggregationsEqual(t, metricdata.Sum[int64]{
			Temporality: metricdata.CumulativeTemporality,
			IsMonotonic: true,
			DataPoints: []metricdata.DataPoint[int64]{
				{Attributes: attribute.NewSet(attribute.Int("graph.code", 2), attribute.String("graph.class", "transient")), Value: 2},
				{Attributes: attribute.NewSet(attribute.Int("graph.code", 131000), attribute.String("graph.class", "retry once")), Value: 1},
				{Attributes: attribute.NewSet(attribute.String("graph.class", "network")), Value: 1},
			},
		}, m.data(t, "graphretry.retries"), metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	})
}

func TestWaitsAreMeasuredInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t) // with its jitter, which no bucket splits
		m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, RetryAfter: "300"})
		began := time.Now()
		m.send(t)

		waits, ok := m.data(t, "graphretry.wait").(metricdata.Histogram[float64])
		require.True(t, ok)
		require.Len(t, waits.DataPoints, 1)
		assert.InDelta(t, time.Since(began).Seconds(), waits.DataPoints[0].Sum, 1e-6)
		assert.Equal(t, []float64{1, 6, 12, 24, 48, 96, 216, 900}, waits.DataPoints[0].Bounds)
		assert.Equal(t, []uint64{0, 1, 1, 0, 0, 0, 0, 1, 0}, waits.DataPoints[0].BucketCounts)
	})
}

func TestGaugeTellsWhileTheGateIsShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithOutageThreshold(3))
		gate := func() metricdata.Aggregation { return m.data(t, "graphretry.gate.shut") }
		holds := func(value int64) {
			t.Helper()
			metricdatatest.AssertAggregationsEqual(t, metricdata.Gauge[int64]{
				DataPoints: []metricdata.DataPoint[int64]{
					{Attributes: attribute.NewSet(attribute.String("server.address", "graph.facebook.com")), Value: value},
				},
			}, gate(), metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
		}
		m.send(t)
		assert.Nil(t, gate(), "no outage yet")

		m.api.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			m.send(t)
		}()
		time.Sleep(2 * time.Minute)
		holds(1)

		<-sent
		holds(0)
	})
}

func TestCallThatIsNotRetriedIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter})
		m.send(t)
		m.send(t)

		assert.Nil(t, m.data(t, "graphretry.retries"))
		assert.Nil(t, m.data(t, "graphretry.wait"))
	})
}

// A program has a MeterProvider with an exporter in place of the one here, which
// measures nothing.
func ExampleNewObserver() {
	provider := noop.NewMeterProvider()

	observe, err := otel.NewObserver(provider.Meter("messages"))
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := graphretry.WrapClient(http.DefaultClient, graphretry.WithObserver(observe))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%T\n", client.Transport)
	// Output: *graphretry.Transport
}
