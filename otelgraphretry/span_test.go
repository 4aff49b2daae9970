package otelgraphretry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// sendInSpan sends a message with a span in its context, and returns its events.
func (m *measured) sendInSpan(t *testing.T) []sdktrace.Event {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	ctx, span := tracer.Start(t.Context(), "send")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, messagesURL+"?access_token=secret-token", strings.NewReader(message))
	require.NoError(t, err)
	resp, err := m.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	span.End()
	return recorder.Ended()[0].Events()
}

func attributesOf(event sdktrace.Event) map[attribute.Key]any {
	attributes := map[attribute.Key]any{}
	for _, one := range event.Attributes {
		attributes[one.Key] = one.Value.AsInterface()
	}
	return attributes
}

func TestEachRetryIsAnEventOnTheSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithJitter(0))
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter, Subcode: 131016})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable, Status: 503})
		events := m.sendInSpan(t)
		require.Len(t, events, 1, "131016 in the subcode of 100 is not retried")
		assert.Equal(t, "graphretry.not_retried", events[0].Name)
		assert.Equal(t, int64(131016), attributesOf(events[0])["graph.subcode"])

		began := time.Now()
		events = m.sendInSpan(t)
		require.Len(t, events, 2)
		assert.Equal(t, "graphretry.retrying", events[0].Name)
		assert.Equal(t, began, events[0].Time)
		attributes := attributesOf(events[0])
		assert.NotEmpty(t, attributes["graph.fbtrace_id"])
		delete(attributes, "graph.fbtrace_id")
		assert.Equal(t, map[attribute.Key]any{
			"server.address":            "graph.facebook.com",
			"graphretry.wait_s":         5.0,
			"graphretry.reason":         "temporary failure",
			"error.type":                "transient",
			"graph.code":                "131016",
			"http.response.status_code": int64(503),
		}, attributes)
		assert.Equal(t, "graphretry.recovered", events[1].Name)
		assert.Equal(t, int64(1), attributesOf(events[1])["http.request.resend_count"])
	})
}

func TestOutageIsAnEventOnTheSpanOfTheCallThatSawIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, graphretry.WithOutageThreshold(1))
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		var names []string
		for _, event := range m.sendInSpan(t) {
			names = append(names, event.Name)
			if event.Name == "graphretry.outage_ended" {
				assert.GreaterOrEqual(t, attributesOf(event)["graphretry.lasted_s"], 5.0)
				assert.Equal(t, int64(1), attributesOf(event)["graphretry.held"])
			}
		}
		assert.ElementsMatch(t, []string{
			"graphretry.outage_began", "graphretry.retrying", "graphretry.outage_ended", "graphretry.recovered",
		}, names)
	})
}

func TestSpanEventsHoldNoTextOfAnErrorAndNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t)
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService, Message: "secret-token of 15550100001"})
		for _, event := range m.sendInSpan(t) {
			for key, value := range attributesOf(event) {
				if text, ok := value.(string); ok {
					assert.NotContains(t, text, "secret-token", key)
					assert.NotContains(t, text, "15550100001", key)
				}
			}
		}
	})
}

// Whoever goes from a span to the log finds the same names there.
func TestSpanHasTheNamesOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := newMeasured(t, graphretry.WithOutageThreshold(1), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		m.api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService, Subcode: 7})
		m.api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter})
		events := m.sendInSpan(t)
		names := map[string]bool{}
		for line := range strings.Lines(log.String()) {
			var record map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &record))
			for name := range record {
				names[name] = true
			}
		}
		require.NotEmpty(t, events)
		for _, event := range events {
			for name := range attributesOf(event) {
				assert.True(t, names[string(name)], "%s of %s is not in the log", name, event.Name)
			}
		}
	})
}
