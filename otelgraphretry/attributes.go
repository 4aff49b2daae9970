package otelgraphretry

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/graphretry/graphretry"
)

const (
	outcomeKey = attribute.Key("graphretry.outcome")
	stateKey   = attribute.Key("graphretry.state")
	waitKey    = attribute.Key("graphretry.wait_s")
	reasonKey  = attribute.Key("graphretry.reason")
	lastedKey  = attribute.Key("graphretry.lasted_s")
	heldKey    = attribute.Key("graphretry.held")
	codeKey    = attribute.Key("graph.code")
	subcodeKey = attribute.Key("graph.subcode")
	traceIDKey = attribute.Key("graph.fbtrace_id")
)

// hostStates are the attribute of each state.
var hostStates = map[graphretry.HostState]metric.MeasurementOption{
	graphretry.HostUp:         state(graphretry.HostUp),
	graphretry.HostDown:       state(graphretry.HostDown),
	graphretry.HostRecovering: state(graphretry.HostRecovering),
}

func state(of graphretry.HostState) metric.MeasurementOption {
	return metric.WithAttributes(stateKey.String(of.String()))
}

// underscored is a name of graphretry's as an attribute has it.
func underscored(name string) string { return strings.ReplaceAll(name, " ", "_") }

// server is a host of a Transport, with its attributes.
type server struct {
	name, port string // port "": every port
	attributes []attribute.KeyValue
	option     metric.MeasurementOption
}

// serverOf reads a host as [graphretry.HostStatus] has it: a name, or a name and a
// port.
func serverOf(host string) server {
	s := server{name: host}
	if name, port, err := net.SplitHostPort(host); err == nil {
		s.name, s.port = name, port
	}
	s.attributes = []attribute.KeyValue{semconv.ServerAddress(s.name)}
	if port, err := strconv.Atoi(s.port); err == nil {
		s.attributes = append(s.attributes, semconv.ServerPort(port))
	}
	s.option = metric.WithAttributeSet(attribute.NewSet(s.attributes...))
	return s
}

// errorType is the class of a failure.
func errorType(event graphretry.Event) attribute.KeyValue {
	var class string
	var timeout interface{ Timeout() bool }
	switch {
	case event.Graph != nil:
		class = underscored(event.Graph.Class().String())
	case event.Err == nil:
		class = "no_graph_error"
	case errors.Is(event.Err, context.Canceled):
		class = "canceled"
	case errors.As(event.Err, &timeout) && timeout.Timeout():
		class = "timeout"
	default:
		class = "network"
	}
	return semconv.ErrorTypeKey.String(class)
}

// mostExact is the code that [graphretry.Error.Class] is the class of.
func mostExact(e *graphretry.Error) graphretry.Code {
	const firstWhatsAppCode = 130000
	if sub := graphretry.Code(e.Subcode); sub >= firstWhatsAppCode && sub.Title() != "" {
		return sub
	}
	return e.Code
}

// codes bounds how many codes that are not in the catalogue have a name of their
// own, each of which is a time series.
type codes struct {
	mu      sync.Mutex
	unknown map[graphretry.Code]bool
}

const maxUnknownCodes = 50

// name is the code in digits, or _OTHER for an unknown one that came too late.
func (c *codes) name(code graphretry.Code) string {
	if code.Title() == "" && !c.known(code) {
		return semconv.ErrorTypeOther.Value.AsString()
	}
	return strconv.Itoa(int(code))
}

func (c *codes) known(code graphretry.Code) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.unknown[code] && len(c.unknown) < maxUnknownCodes {
		if c.unknown == nil {
			c.unknown = make(map[graphretry.Code]bool)
		}
		c.unknown[code] = true
	}
	return c.unknown[code]
}

// attemptAttributes are what graphretry.attempts tells of an event.
func (c *codes) attemptAttributes(event graphretry.Event) []attribute.KeyValue {
	attributes := []attribute.KeyValue{outcomeKey.String(underscored(event.Kind.String())), errorType(event)}
	if event.Kind == graphretry.EventGaveUp {
		// A call that leaves the next attempt to a queue is no loss, and no alert counts it.
		attributes = append(attributes, reasonKey.String(event.Reason.String()))
	}
	if event.Graph != nil {
		attributes = append(attributes, codeKey.String(c.name(mostExact(event.Graph))))
	}
	return attributes
}

// spanAttributes are what a span tells of an event. A span is no time series, so
// each code is there by its number.
func spanAttributes(event graphretry.Event, server server) []attribute.KeyValue {
	attributes := append([]attribute.KeyValue{errorType(event)}, server.attributes...)
	if event.Attempt > 1 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(event.Attempt-1))
	}
	switch event.Kind {
	case graphretry.EventOutageEnded:
		attributes = append(attributes, lastedKey.Float64(event.Lasted.Seconds()), heldKey.Int(event.Held))
	case graphretry.EventRetrying:
		attributes = append(attributes, waitKey.Float64(event.Wait.Seconds()))
	}
	if event.Path != "" {
		attributes = append(attributes, pathKey.String(event.Path))
	}
	if event.Reason != 0 {
		attributes = append(attributes, reasonKey.String(event.Reason.String()))
	}
	if graph := event.Graph; graph != nil {
		attributes = append(attributes, codeKey.String(strconv.Itoa(int(mostExact(graph)))))
		if graph.Subcode != 0 {
			attributes = append(attributes, subcodeKey.Int(graph.Subcode))
		}
		if graph.TraceID != "" {
			attributes = append(attributes, traceIDKey.String(graph.TraceID))
		}
		if graph.Status != 0 {
			attributes = append(attributes, semconv.HTTPResponseStatusCode(graph.Status))
		}
	}
	return attributes
}
