package otelgraphretry_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/otelgraphretry"
)

// The provider here measures nothing. A program uses a MeterProvider with an
// exporter, or sets the global one and gives New nil.
func Example() {
	provider := noop.NewMeterProvider()

	metrics, err := otelgraphretry.New(provider)
	if err != nil {
		log.Fatal(err)
	}
	transport, err := metrics.NewTransport(nil, graphretry.WithLogger(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}

	fmt.Printf("%T\n", client.Transport)
	// Output: *otelgraphretry.Transport
}

// A program that Prometheus can scrape.
func Example_prometheus() {
	// These lines stand in the README.
	exporter, err := prometheus.New() // go.opentelemetry.io/otel/exporters/prometheus
	if err != nil {
		log.Fatal(err)
	}
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))) // go.opentelemetry.io/otel/sdk/metric
	http.Handle("/metrics", promhttp.Handler())                                       // github.com/prometheus/client_golang/prometheus/promhttp
	// They end here.

	metrics, err := otelgraphretry.New(nil) // nil: the global MeterProvider
	if err != nil {
		log.Fatal(err)
	}
	if _, err := metrics.NewTransport(nil); err != nil {
		log.Fatal(err)
	}
	scrape := httptest.NewRecorder() // in place of http.ListenAndServe and of Prometheus
	http.DefaultServeMux.ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(scrape.Body.String()) {
		if strings.HasPrefix(line, "graphretry_host_state{") && strings.Contains(line, `graphretry_state="up"`) {
			fmt.Println("graphretry_host_state up", line[strings.LastIndex(line, " ")+1:])
		}
	}
	// Output: graphretry_host_state up 1
}

func TestReadmeHasTheLinesOfTheExample(t *testing.T) {
	_, lines, _ := strings.Cut(readFile(t, "example_test.go"), "// These lines stand in the README.\n")
	lines, _, found := strings.Cut(lines, "\t// They end here.\n")
	assert.True(t, found)
	assert.Contains(t, readFile(t, "README.md"), "```go"+strings.ReplaceAll("\n"+lines, "\n\t", "\n")+"```\n")
}

// For a Transport that other code makes.
func ExampleMetrics_Observe() {
	metrics, err := otelgraphretry.New(noop.NewMeterProvider())
	if err != nil {
		log.Fatal(err)
	}
	client, err := graphretry.WrapClient(nil, graphretry.WithObserver(metrics.Observe))
	if err != nil {
		log.Fatal(err)
	}

	fmt.Printf("%T\n", client.Transport)
	// Output: *graphretry.Transport
}
