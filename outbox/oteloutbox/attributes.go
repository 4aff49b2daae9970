package oteloutbox

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

// The names are those of the log, and of otelgraphretry where that has one.
const (
	nameKey    = attribute.Key("graphretry.outbox.name")
	numberKey  = attribute.Key("graphretry.outbox.phone_number_id")
	stateKey   = attribute.Key("graphretry.state")
	scopeKey   = attribute.Key("graphretry.scope")
	outcomeKey = attribute.Key("graphretry.outcome")
	codeKey    = attribute.Key("graph.code")
)

// messageStates has the attribute of each state.
var messageStates = map[outbox.State]metric.MeasurementOption{
	outbox.StateQueued:  state(string(outbox.StateQueued)),
	outbox.StateSending: state(string(outbox.StateSending)),
	outbox.StateSent:    state(string(outbox.StateSent)),
	outbox.StateFailed:  state(string(outbox.StateFailed)),
	outbox.StateUnknown: state(string(outbox.StateUnknown)),
}

var (
	runLive, runDead      = state("live"), state("dead")
	scopeAll, scopeNumber = metric.WithAttributes(scopeKey.String("all")), metric.WithAttributes(scopeKey.String("number"))
)

func state(of string) metric.MeasurementOption { return metric.WithAttributes(stateKey.String(of)) }

// outcomeAttributes returns the attributes of graphretry.outbox.outcomes.
func outcomeAttributes(event outbox.Event) []attribute.KeyValue {
	attributes := []attribute.KeyValue{outcomeKey.String(string(event.Outcome))}
	if event.Outcome == outbox.OutcomeFailed {
		attributes = append(attributes, errorType(event.Graph))
	}
	return attributes
}

// errorType returns the class of a failure.
func errorType(graph *graphretry.Error) attribute.KeyValue {
	if graph == nil {
		return semconv.ErrorTypeKey.String("no_graph_error")
	}
	return semconv.ErrorTypeKey.String(strings.ReplaceAll(graph.Class().String(), " ", "_"))
}

// mostExact returns the code that [graphretry.Error.AboutSender] is about.
func mostExact(e *graphretry.Error) string {
	const firstWhatsAppCode = 130000
	code := e.Code
	if sub := graphretry.Code(e.Subcode); sub >= firstWhatsAppCode && sub.Title() != "" {
		code = sub
	}
	return strconv.Itoa(int(code))
}
