package oteloutbox_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/oteloutbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

// A program whose outbox Prometheus can scrape.
func Example() {
	// These lines stand in the README.
	exporter, err := prometheus.New() // go.opentelemetry.io/otel/exporters/prometheus
	if err != nil {
		log.Fatal(err)
	}
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))) // go.opentelemetry.io/otel/sdk/metric
	http.Handle("/metrics", promhttp.Handler())                                       // github.com/prometheus/client_golang/prometheus/promhttp
	// They end here.

	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(filepath.Join(dir, "outbox.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	// And these.
	metrics, err := oteloutbox.New(nil) // nil: the global MeterProvider
	if err != nil {
		log.Fatal(err)
	}
	o, err := outbox.Open(ctx, outbox.SQLite(db), nil, outbox.WithObserver(metrics.Observe))
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	if _, err := metrics.Register(o); err != nil {
		log.Fatal(err)
	}
	// They end here.

	payload := []byte(`{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"Your table is booked."}}`)
	if err := o.Enqueue(ctx, "booking-4711", "106540352242922", payload); err != nil {
		log.Fatal(err)
	}
	scrape := httptest.NewRecorder() // in place of http.ListenAndServe and of Prometheus
	http.DefaultServeMux.ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for lines := bufio.NewScanner(scrape.Body); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		if name == "graphretry_outbox_messages" && strings.Contains(rest, `graphretry_state="queued"`) {
			fmt.Println(name, "queued", rest[strings.LastIndex(rest, " ")+1:])
		}
	}
	// Output: graphretry_outbox_messages queued 1
}

// Each phone number has its own series, for as many numbers as the program is meant to have.
func ExampleWithPhoneNumbers() {
	metrics, err := oteloutbox.New(sdkmetric.NewMeterProvider(), oteloutbox.WithPhoneNumbers(20))
	if err != nil {
		log.Fatal(err)
	}

	fmt.Printf("%T\n", metrics)
	// Output: *oteloutbox.Metrics
}

// For what else is to be told of an event, outbox.WithObserver may be given more than once.
func ExampleMetrics_Observe() {
	metrics, err := oteloutbox.New(sdkmetric.NewMeterProvider())
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(filepath.Join(dir, "outbox.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx, cancel := context.WithCancel(context.Background())
	o, err := outbox.Open(ctx, outbox.SQLite(db), graphtest.New(), // in place of Meta's API
		outbox.WithObserver(metrics.Observe),
		outbox.WithObserver(func(_ context.Context, event outbox.Event) {
			if event.Kind == outbox.EventOutcome {
				fmt.Println(event.ID, event.Outcome)
				cancel()
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	payload := []byte(`{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"Your table is booked."}}`)
	if err := o.Enqueue(ctx, "booking-4711", "106540352242922", payload); err != nil {
		log.Fatal(err)
	}
	if err := o.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: booking-4711 sent
}

func TestReadmeHasTheLinesOfTheExample(t *testing.T) {
	blocks := strings.Split(readFile(t, "example_test.go"), "// They end here.\n")
	readme := readFile(t, "README.md")
	for i, marker := range []string{"// These lines stand in the README.\n", "// And these.\n"} {
		_, lines, found := strings.Cut(blocks[i], marker)
		assert.True(t, found)
		lines = strings.ReplaceAll("\n"+strings.TrimSuffix(lines, "\t"), "\n\t", "\n")
		assert.Contains(t, readme, "```go"+lines+"```\n")
	}
}
