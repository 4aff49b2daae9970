// Package otelgraphretry measures [graphretry] with OpenTelemetry: metrics of its
// calls, retries and outages, and an event on the current span for each retry. It is
// used together with otelhttp.
//
//	metrics, err := otelgraphretry.New(nil) // nil: the global MeterProvider
//	...
//	transport, err := metrics.NewTransport(nil, graphretry.WithLogger(slog.Default()))
//	...
//	client := &http.Client{Transport: otelhttp.NewTransport(transport)}
//
// # Metrics
//
//	graphretry.calls            counter        {call}     calls that have ended
//	graphretry.attempts         counter        {attempt}  attempts that failed, and the success after a retry
//	graphretry.wait.duration    histogram      s          waits before a retry
//	graphretry.outages          counter        {outage}   outages that began
//	graphretry.outage.duration  histogram      s          how long each outage lasted
//	graphretry.outage.held      counter        {call}     calls that waited in the queue of an outage
//	graphretry.host.state       updowncounter  {host}     1 for the state a host is in, 0 for the others
//	graphretry.host.waiting     updowncounter  {call}     calls that wait in the queue of an outage now
//	graphretry.path.state       updowncounter  {path}     paths that are not up while their host is, by state
//
// wait.duration does not include the time in the queue of an outage. outage.duration
// and outage.held are recorded when the outage ends. host.state and host.waiting are
// summed over the Transports of a program: if one of two Transports finds the host
// down, the values are 1 up and 1 down.
//
// The attributes:
//
//	server.address      of all: the host, as WithHosts has it
//	server.port         of all: the port, if WithHosts has one
//	graphretry.outcome  of attempts: retrying, not_retried, gave_up or recovered
//	graphretry.reason   of attempts that gave up: why, as in "no time left"
//	graph.code          of attempts: Meta's code, if Meta gave one
//	error.type          of attempts and wait.duration: the class of the failure
//	graphretry.state    of host.state: up, down or recovering; of path.state: down or recovering
//	graphretry.scope    of outages, outage.duration, outage.held and host.waiting: host, or path for those of a
//	                    phone number or an endpoint that fails while others do not
//	graphretry.outage.path  of those of a path, and of path.state: the path, with [WithPaths]
//
// If Meta sends a WhatsApp code in error_subcode, graph.code is that code. The class
// is a [graphretry.Class] with underscores instead of spaces: unknown, transient,
// retry_once, throttle, parameter, permission, policy, recipient or experiment. For
// a failure without a Graph error it is timeout, canceled, network for any other
// error, or no_graph_error for an answer.
//
// A call that gives up in the queue of an outage counts twice among the attempts: as
// retrying when its attempt failed, and as gave_up. So not_retried and gave_up count
// the calls that failed. A call that gives up with the reason "without waiting" leaves
// its next attempt to a job queue, so no alert counts it. All other calls succeeded or were canceled in a wait, and
// retrying counts the retries.
//
// # Cardinality
//
// No attribute of a metric has a recipient or a text in it, and none has a path without
// [WithPaths], which bounds how many. Hosts are
// those of [graphretry.WithHosts]. Codes are those of the catalogue, of which an API
// uses few, and the first 50 others that occur; every further code is _OTHER. A code
// has one class, and there are four outcomes.
//
// # Span events
//
// Each [graphretry.Event] of a call adds an event to the span in the context of its
// request, if that is recording: graphretry.retrying, graphretry.gave_up,
// graphretry.not_retried, graphretry.recovered, graphretry.outage_began and
// graphretry.outage_ended. With otelhttp around the Transport, that span is the one
// of the call. An event has these attributes in addition to those above:
//
//	http.request.resend_count  attempts before this one; left out for the first
//	graphretry.wait_s          seconds until the next attempt
//	graphretry.reason          why the failure is, or is not, retried
//	graphretry.lasted_s        seconds that the outage lasted
//	graphretry.held            calls that the outage held
//	graphretry.outage.path     the path that is down alone, with secrets blanked
//	graph.subcode              Meta's error_subcode, if not 0
//	graph.fbtrace_id           for Meta's support
//	http.response.status_code  of the failed answer
//
// The names are those of the log of [graphretry.WithLogger].
//
// The texts of an error are not included, since they can name a recipient.
package otelgraphretry
