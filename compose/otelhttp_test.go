package compose

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// traced wraps next in otelhttp, whose spans go to the recorder.
func traced(next http.RoundTripper, recorder *tracetest.SpanRecorder) http.RoundTripper {
	return otelhttp.NewTransport(next,
		otelhttp.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))),
		otelhttp.WithPropagators(propagation.TraceContext{}),
	)
}

// statusOf is the HTTP status that a span tells.
func statusOf(span sdktrace.ReadOnlySpan) int {
	for _, attribute := range span.Attributes() {
		if attribute.Key == "http.response.status_code" {
			return int(attribute.Value.AsInt64())
		}
	}
	return 0
}

func lengthOf(span sdktrace.ReadOnlySpan) time.Duration { return span.EndTime().Sub(span.StartTime()) }

// Outside is right for what a caller went through: one span a call, as long as
// the call with all its waits, and with the status that the caller got.
func TestOtelhttpOutsideMakesOneSpanPerCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spans := newWire(), tracetest.NewSpanRecorder()
		w.failTwice()

		status, _ := send(t.Context(), t, traced(retrying(t, w), spans))

		require.Equal(t, 200, status)
		require.Len(t, spans.Ended(), 1)
		assert.Equal(t, 200, statusOf(spans.Ended()[0]))
		assert.GreaterOrEqual(t, lengthOf(spans.Ended()[0]), 15*time.Second, "waits of 5 s and 10 s")
		traceparents := w.values("Traceparent")
		assert.NotEmpty(t, traceparents[0])
		assert.Equal(t, []string{traceparents[0], traceparents[0], traceparents[0]}, traceparents)
	})
}

// Inside is right for what the API did: one span an attempt, with the status of
// the attempt, and over before the wait begins.
func TestOtelhttpInsideMakesOneSpanPerAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spans := newWire(), tracetest.NewSpanRecorder()
		w.SetLatency(50 * time.Millisecond)
		w.failTwice()

		status, _ := send(t.Context(), t, retrying(t, traced(w, spans)))

		require.Equal(t, 200, status)
		require.Len(t, spans.Ended(), 3)
		for i, status := range []int{503, 503, 200} {
			assert.Equal(t, status, statusOf(spans.Ended()[i]))
			assert.Equal(t, 50*time.Millisecond, lengthOf(spans.Ended()[i]))
			assert.Contains(t, w.values("Traceparent")[i], spans.Ended()[i].SpanContext().SpanID().String())
		}
	})
}

// Both is right for who wants both: the attempts are the call's children.
func TestOtelhttpOnBothSidesMakesAttemptsChildrenOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spans := newWire(), tracetest.NewSpanRecorder()
		w.failTwice()

		status, _ := send(t.Context(), t, traced(retrying(t, traced(w, spans)), spans))

		require.Equal(t, 200, status)
		require.Len(t, spans.Ended(), 4)
		call := spans.Ended()[3]
		for _, attempt := range spans.Ended()[:3] {
			assert.Equal(t, call.SpanContext().SpanID(), attempt.Parent().SpanID())
			assert.Equal(t, call.SpanContext().TraceID(), attempt.SpanContext().TraceID())
		}
	})
}
