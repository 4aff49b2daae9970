package graphretry

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The attributes of logs, spans and metrics: one vocabulary for all three. The names are
// OpenTelemetry's where it has one
// (https://opentelemetry.io/docs/specs/semconv/registry/attributes/), those under graph. are
// Meta's fields and this package's catalogue, and those under graphretry. are this package's
// own. No name is one that a pipeline has as an object or a severity, such as host, error,
// message or status: Elasticsearch refuses such a line, and Datadog takes a status of 503
// for a severity.
const (
	attributeMethod       = "http.request.method"
	attributeResendCount  = "http.request.resend_count" // attempts before this one; left out for the first
	attributeStatusCode   = "http.response.status_code"
	attributeAddress      = "server.address"
	attributePort         = "server.port" // only where the URL has one
	attributePath         = "url.path"
	attributeErrorType    = "error.type"    // the class of the failure: see errorType
	attributeErrorMessage = "error.message" // of an attempt without an answer

	graphPrefix          = "graph."
	attributeCode        = "graph.code"
	attributeSubcode     = "graph.subcode"
	attributeClass       = "graph.class"
	attributeTitle       = "graph.title"
	attributeMessage     = "graph.message"
	attributeDetails     = "graph.details"
	attributeUserTitle   = "graph.user_title"
	attributeUserMessage = "graph.user_message"
	attributeTraceID     = "graph.fbtrace_id"
	attributeAdvice      = "graph.advice"

	attributeWait       = "graphretry.wait_s"   // seconds, with a fraction
	attributeLasted     = "graphretry.lasted_s" // seconds, with a fraction
	attributeReason     = "graphretry.reason"
	attributeHeld       = "graphretry.held"
	attributeOutagePath = "graphretry.outage.path" // that is down alone; left out for the host's outage
	attributeAfterCode  = "graphretry.after_code"
	attributeAfterError = "graphretry.after_error"
)

// LogValue returns the error as a group for a [slog.Logger]: code, subcode, class, title,
// message, details, user_title, user_message, fbtrace_id, advice and status. Class, title
// and advice come from this package's catalogue. Empty fields are left out. Under the key
// "graph" the names are those that [WithLogger] uses.
func (e *Error) LogValue() slog.Value {
	if e == nil {
		return slog.Value{}
	}
	group := append(e.attributes(""), slog.Int("status", e.Status))
	return slog.GroupValue(withValue(group)...)
}

// attributes returns what Meta said, and what the catalogue says of it, each name behind a
// prefix. What has no value is left out, and a nil Error has none.
func (e *Error) attributes(prefix string) []slog.Attr {
	if e == nil {
		return nil
	}
	name := func(attribute string) string { return prefix + strings.TrimPrefix(attribute, graphPrefix) }
	return append([]slog.Attr{slog.Int(name(attributeCode), int(e.Code))}, withValue([]slog.Attr{
		slog.Int(name(attributeSubcode), e.Subcode),
		slog.String(name(attributeClass), underscored(e.Class().String())),
		slog.String(name(attributeTitle), e.title()),
		slog.String(name(attributeMessage), e.Message),
		slog.String(name(attributeDetails), e.Details),
		slog.String(name(attributeUserTitle), e.UserTitle),
		slog.String(name(attributeUserMessage), e.UserMessage),
		slog.String(name(attributeTraceID), e.TraceID),
		slog.String(name(attributeAdvice), e.specificCode().Advice()),
	})...)
}

// withValue returns the attributes that have a value.
func withValue(all []slog.Attr) []slog.Attr {
	return slices.DeleteFunc(all, func(a slog.Attr) bool {
		return a.Value.Equal(slog.IntValue(0)) || a.Value.Equal(slog.StringValue(""))
	})
}

// underscored returns a name as an attribute's value: the same in logs and in metrics.
func underscored(name string) string { return strings.ReplaceAll(name, " ", "_") }

// errorType returns the class of a failure: that of its Graph error, or timeout, canceled,
// network for any other error, and no_graph_error for an answer without one.
func errorType(graph *Error, err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case graph != nil:
		return underscored(graph.Class().String())
	case err == nil:
		return "no_graph_error"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "network"
	}
}

// serverAttributes returns the address in a URL, and its port if it has one.
func serverAttributes(u *url.URL) []slog.Attr {
	port, _ := strconv.Atoi(u.Port())
	return withValue([]slog.Attr{slog.String(attributeAddress, u.Hostname()), slog.Int(attributePort, port)})
}
