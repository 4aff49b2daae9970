package otelgraphretry_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/metric/noop"

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
