package otelgraphretry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	"github.com/graphretry/graphretry/otelgraphretry"
)

const (
	phoneNumberURL = "https://graph.facebook.com/v25.0/106540352242922"
	messagesURL    = phoneNumberURL + "/messages"
	message        = `{"messaging_product":"whatsapp","to":"15550100001","type":"text","text":{"body":"See you at nine."}}`
)

// measured is a client of a fake API whose metrics are read by hand.
type measured struct {
	*http.Client
	api       *graphtest.API
	transport *otelgraphretry.Transport
	metrics   *otelgraphretry.Metrics
	reader    *sdkmetric.ManualReader
}

func newMeasured(t *testing.T, opts ...graphretry.Option) *measured {
	t.Helper()
	m := &measured{api: graphtest.New(), reader: sdkmetric.NewManualReader()}
	var err error
	m.metrics, err = otelgraphretry.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(m.reader)))
	require.NoError(t, err)
	m.transport, err = m.metrics.NewTransport(m.api, opts...)
	require.NoError(t, err)
	m.Client = &http.Client{Transport: m.transport}
	return m
}

func (m *measured) send(t *testing.T) {
	t.Helper()
	resp, err := m.Post(messagesURL, "application/json", strings.NewReader(message))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

// read is what the meter has now: for each metric its values by their attributes,
// without server.address, which is the same for all. A histogram's value is its
// sum. Values of 0 are left out.
func (m *measured) read(t *testing.T) map[string]map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &all))
	read := map[string]map[string]float64{}
	add := func(name string, set attribute.Set, value float64) {
		if value == 0 {
			return
		}
		var labels []string
		for _, label := range set.ToSlice() {
			if label == attribute.String("server.address", "graph.facebook.com") {
				continue
			}
			labels = append(labels, fmt.Sprintf("%s=%s", label.Key, label.Value.String()))
		}
		if read[name] == nil {
			read[name] = map[string]float64{}
		}
		read[name][strings.Join(labels, " ")] = value
	}
	for _, scope := range all.ScopeMetrics {
		assert.Equal(t, otelgraphretry.ScopeName, scope.Scope.Name)
		for _, one := range scope.Metrics {
			switch data := one.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					add(one.Name, point.Attributes, float64(point.Value))
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

func TestAttemptsAreCountedByOutcomeCodeAndClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithNetworkRetries(), graphretry.WithMaxRetries(3))
		m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
		m.send(t)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeUserExperiment})
		m.send(t)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter, Subcode: 130472})
		m.send(t)
		m.api.AnswerNext(4, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		m.send(t)
		m.api.AnswerNext(1, graphtest.Answer{Status: 502})
		m.send(t)
		m.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
		resp, err := m.Get(phoneNumberURL)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())

		read := m.read(t)
		assert.Equal(t, map[string]float64{
			"error.type=transient graph.code=2 graphretry.outcome=retrying":                                       2,
			"error.type=retry_once graph.code=131000 graphretry.outcome=retrying":                                 1,
			"error.type=retry_once graph.code=131000 graphretry.outcome=recovered":                                1,
			"error.type=experiment graph.code=130472 graphretry.outcome=not_retried":                              2,
			"error.type=transient graph.code=131016 graphretry.outcome=retrying":                                  3,
			"error.type=transient graph.code=131016 graphretry.outcome=gave_up graphretry.reason=no retries left": 1,
			"error.type=no_graph_error graphretry.outcome=not_retried":                                            1,
			"error.type=network graphretry.outcome=retrying":                                                      1,
			"error.type=network graphretry.outcome=recovered":                                                     1,
		}, read["graphretry.attempts"])
		assert.Equal(t, map[string]float64{"": 6}, read["graphretry.calls"])
	})
}

func TestFailuresOfTheNetworkAreCountedByWhatTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithAttemptTimeout(time.Second))
		m.api.AnswerNext(2, graphtest.Answer{Fault: graphtest.FaultHang})
		_, err := m.Get(phoneNumberURL)
		require.Error(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, phoneNumberURL, nil)
		require.NoError(t, err)
		_, err = m.Do(req)
		require.ErrorIs(t, err, context.Canceled)

		read := m.read(t)
		assert.Equal(t, map[string]float64{
			"error.type=timeout graphretry.outcome=not_retried":  1,
			"error.type=canceled graphretry.outcome=not_retried": 1,
		}, read["graphretry.attempts"])
		assert.Equal(t, map[string]float64{"": 2}, read["graphretry.calls"])
	})
}

func TestWaitsAreMeasuredInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, RetryAfter: "300"})
		began := time.Now()
		m.send(t)

		waits := m.read(t)["graphretry.wait.duration"]
		require.Contains(t, waits, "error.type=transient")
		assert.InDelta(t, time.Since(began).Seconds(), waits["error.type=transient"], 1e-6)
	})
}

func TestOutageIsMeasuredWhileItLastsAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithOutageThreshold(3))
		state := func() map[string]float64 { return m.read(t)["graphretry.host.state"] }
		m.send(t)
		assert.Equal(t, map[string]float64{"graphretry.state=up": 1}, state())

		m.api.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		sent := make(chan struct{})
		for range 10 {
			go func() {
				m.send(t)
				sent <- struct{}{}
			}()
		}
		time.Sleep(2 * time.Minute)
		read := m.read(t)
		assert.Equal(t, map[string]float64{"graphretry.state=down": 1}, read["graphretry.host.state"])
		assert.Equal(t, float64(m.transport.Hosts()[0].Waiting), read["graphretry.host.waiting"]["graphretry.scope=host"])
		assert.NotZero(t, read["graphretry.host.waiting"]["graphretry.scope=host"])
		assert.Equal(t, map[string]float64{"graphretry.scope=host": 1}, read["graphretry.outages"])
		assert.Empty(t, read["graphretry.outage.duration"])

		for range 10 {
			<-sent
		}
		read = m.read(t)
		assert.Equal(t, map[string]float64{"graphretry.state=up": 1}, read["graphretry.host.state"])
		assert.Empty(t, read["graphretry.host.waiting"])
		assert.Equal(t, map[string]float64{"graphretry.scope=host": 1}, read["graphretry.outages"])
		assert.InDelta(t, 180, read["graphretry.outage.duration"]["graphretry.scope=host"], 60)
		assert.GreaterOrEqual(t, read["graphretry.outage.held"]["graphretry.scope=host"], 10.0)
		assert.Equal(t, map[string]float64{"": 11}, read["graphretry.calls"])
	})
}

func TestStatesOfSeveralTransportsAreSummed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		second, err := m.metrics.NewTransport(m.api, graphretry.WithOutageThreshold(1))
		require.NoError(t, err)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, phoneNumberURL, nil)
		require.NoError(t, err)
		resp, err := second.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())

		assert.Equal(t, map[string]float64{"graphretry.state=up": 1, "graphretry.state=down": 1}, m.read(t)["graphretry.host.state"])

		require.NoError(t, second.Unregister())
		require.NoError(t, second.Unregister(), "twice")
		assert.Equal(t, map[string]float64{"graphretry.state=up": 1}, m.read(t)["graphretry.host.state"])
	})
}

func TestHostsAreDistinguishedByNameAndPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithHosts("graph.facebook.com", "localhost:8080", "[::1]:443", "::1"))
		for _, url := range []string{
			"https://GRAPH.facebook.com:8443/me", "http://localhost:8080/me", "https://[::1]/me", "http://[::1]/me",
			"http://localhost/me", "https://example.com/me", // not ours
		} {
			m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter})
			resp, err := m.Get(url)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}

		read := m.read(t)
		assert.Equal(t, map[string]float64{
			"": 1, "server.address=localhost server.port=8080": 1, "server.address=::1 server.port=443": 1, "server.address=::1": 1,
		}, read["graphretry.calls"])
		assert.Len(t, read["graphretry.attempts"], 4)
		assert.Len(t, read["graphretry.host.state"], 4)
	})
}

// A series for each code that an API can think of would be a leak.
func TestUnknownCodesBeyondFiftyAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		const first = 900_000
		for code := range 60 {
			m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.Code(first + code), Status: 400})
			m.send(t)
			m.send(t)
		}
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter}) // known, so by its number
		m.send(t)

		want := map[string]float64{
			"error.type=unknown graph.code=_OTHER graphretry.outcome=not_retried": 20,
			"error.type=parameter graph.code=100 graphretry.outcome=not_retried":  1,
		}
		for code := range 50 {
			want["error.type=unknown graph.code="+strconv.Itoa(first+code)+" graphretry.outcome=not_retried"] = 2
		}
		assert.Equal(t, want, m.read(t)["graphretry.attempts"])
	})
}

// One number fails while another one does not.
func TestOutageOfAPathHasAScopeOfItsOwnAndANameIfAskedFor(t *testing.T) {
	for limit, want := range []string{
		"graphretry.scope=path",
		"graphretry.outage.path=/1001/messages graphretry.scope=path",
	} {
		synctest.Test(t, func(t *testing.T) {
			var opts []otelgraphretry.Option
			if limit > 0 {
				opts = append(opts, otelgraphretry.WithPaths(limit))
			}
			reader := sdkmetric.NewManualReader()
			metrics, err := otelgraphretry.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), opts...)
			require.NoError(t, err)
			m := measured{reader: reader, metrics: metrics}
			until := time.Now().Add(time.Minute)
			transport, err := metrics.NewTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				if time.Now().Before(until) && !strings.Contains(req.URL.Path, "/1000/") {
					w.WriteHeader(http.StatusBadRequest)
					_, _ = w.Write(graphtest.ErrorBody(graphretry.CodeServiceUnavailable))
				}
				return w.Result(), nil
			}), graphretry.WithOutageThreshold(3))
			require.NoError(t, err)
			var senders sync.WaitGroup
			for _, number := range []string{"1001", "1002"} {
				for range 3 {
					for _, path := range []string{number, "1000"} {
						senders.Go(func() {
							req, err := http.NewRequest(http.MethodGet, "https://graph.facebook.com/v25.0/"+path+"/messages", nil)
							require.NoError(t, err)
							resp, err := transport.RoundTrip(req)
							require.NoError(t, err)
							resp.Body.Close()
						})
						time.Sleep(time.Second)
					}
				}
			}
			time.Sleep(10 * time.Second)
			read := m.read(t)
			name := strings.TrimSuffix(strings.TrimSuffix(want, "graphretry.scope=path"), " ")
			other := ""
			if limit > 0 {
				other = "graphretry.outage.path=_OTHER graphretry.scope=path"
				assert.Equal(t, map[string]float64{want: 1, other: 1}, read["graphretry.outages"])
				assert.Equal(t, map[string]float64{name + " graphretry.state=down": 1, "graphretry.outage.path=_OTHER graphretry.state=down": 1}, read["graphretry.path.state"])
			} else {
				assert.Equal(t, map[string]float64{want: 2}, read["graphretry.outages"])
				assert.Equal(t, map[string]float64{"graphretry.state=down": 2}, read["graphretry.path.state"])
			}
			assert.Equal(t, map[string]float64{"graphretry.state=up": 1}, read["graphretry.host.state"])
			assert.Positive(t, read["graphretry.host.waiting"][want])
			assert.Empty(t, read["graphretry.host.waiting"]["graphretry.scope=host"])
			senders.Wait()
			read = m.read(t)
			assert.Empty(t, read["graphretry.path.state"])
			assert.Positive(t, read["graphretry.outage.held"][want])
			assert.Positive(t, read["graphretry.outage.duration"][want])
		})
	}
}

func TestPathsWithoutALimitAreRefused(t *testing.T) {
	_, err := otelgraphretry.New(noop.NewMeterProvider(), otelgraphretry.WithPaths(0))
	assert.ErrorContains(t, err, "WithPaths(0): want 1 path or more")
}

// Prometheus sees no increase in a counter whose first value is 1.
func TestCountersOfTheAlertsBeginAtZero(t *testing.T) {
	m := newMeasured(t)
	var all metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &all))
	zeros := map[string]int{}
	for _, one := range all.ScopeMetrics[0].Metrics {
		if sum, ok := one.Data.(metricdata.Sum[int64]); ok && sum.IsMonotonic {
			for _, point := range sum.DataPoints {
				assert.Zero(t, point.Value)
				zeros[one.Name]++
			}
		}
	}
	assert.Equal(t, map[string]int{
		"graphretry.calls": 1, "graphretry.outages": 2, "graphretry.outage.held": 2, "graphretry.attempts": 4,
	}, zeros)
}

func TestObserverAloneCountsAttemptsAndOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		transport, err := graphretry.NewTransport(m.api, graphretry.WithObserver(m.metrics.Observe))
		require.NoError(t, err)
		m.Transport = transport
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		m.send(t)

		read := m.read(t)
		assert.Equal(t, map[string]float64{
			"error.type=transient graph.code=2 graphretry.outcome=retrying":  1,
			"error.type=transient graph.code=2 graphretry.outcome=recovered": 1,
		}, read["graphretry.attempts"])
		assert.Empty(t, read["graphretry.calls"])
	})
}

func TestBadOptionsAreRefusedAsByGraphretry(t *testing.T) {
	metrics, err := otelgraphretry.New(noop.NewMeterProvider())
	require.NoError(t, err)
	transport, err := metrics.NewTransport(nil, graphretry.WithMaxRetries(-1))
	assert.Nil(t, transport)
	assert.ErrorContains(t, err, "WithMaxRetries(-1)")
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
	metrics, err := otelgraphretry.New(refusing{counter: errRefused})
	assert.Nil(t, metrics)
	require.ErrorIs(t, err, errRefused)
	assert.ErrorContains(t, err, "otelgraphretry: cannot make the instruments")

	metrics, err = otelgraphretry.New(refusing{})
	require.NoError(t, err)
	transport, err := metrics.NewTransport(graphtest.New())
	assert.Nil(t, transport)
	require.ErrorIs(t, err, errRefused)
	assert.ErrorContains(t, err, "otelgraphretry: cannot register the metrics of the hosts")
}

func TestNilProviderIsTheGlobalOne(t *testing.T) {
	metrics, err := otelgraphretry.New(nil)
	require.NoError(t, err)
	transport, err := metrics.NewTransport(graphtest.New())
	require.NoError(t, err)
	require.NoError(t, transport.Unregister())
}

func TestZeroTransportRefusesCallsAndUnregisters(t *testing.T) {
	var transport otelgraphretry.Transport
	req, err := http.NewRequest(http.MethodGet, phoneNumberURL, nil)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	assert.ErrorContains(t, err, "graphretry: ")
	assert.NoError(t, transport.Unregister())
	assert.Empty(t, transport.Hosts())
}

// answers always gives the same success, so that what is measured is ours.
type answers struct{ resp *http.Response }

func (a answers) RoundTrip(*http.Request) (*http.Response, error) { return a.resp, nil }

func TestSuccessAllocatesOnceMoreThanWithAnObserver(t *testing.T) {
	next := answers{&http.Response{StatusCode: 200, Body: http.NoBody}}
	metrics, err := otelgraphretry.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
	require.NoError(t, err)
	observed, err := graphretry.NewTransport(next, graphretry.WithObserver(metrics.Observe))
	require.NoError(t, err)
	measured, err := metrics.NewTransport(next)
	require.NoError(t, err)
	allocations := func(transport http.RoundTripper) float64 {
		req, err := http.NewRequest(http.MethodGet, phoneNumberURL, nil)
		require.NoError(t, err)
		return testing.AllocsPerRun(1000, func() { _, _ = transport.RoundTrip(req) })
	}
	assert.LessOrEqual(t, allocations(measured), allocations(observed)+1)
}

// No value of a metric may tell of a call: each is a time series, and a path or a
// recipient is nobody else's business.
func TestNoAttributeIdentifiesACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, Message: "15550100001"})
		m.send(t)
		var texts []string
		for _, values := range m.read(t) {
			for labels := range values {
				texts = append(texts, labels)
			}
		}
		slices.Sort(texts)
		assert.NotContains(t, strings.Join(texts, "\n"), "15550100001")
		assert.NotContains(t, strings.Join(texts, "\n"), "106540352242922")
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
