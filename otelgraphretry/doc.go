// Package otelgraphretry measures [graphretry] with OpenTelemetry: metrics of its
// calls, retries and outages, and an event on the current span for each retry. It
// is the sibling of otelhttp.
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
//
// A wait is the one that [graphretry.Event] tells: the time in the queue of an
// outage comes on top. An outage is counted as held and measured when it ends. The
// two of a host are summed over the Transports of a program, so that two
// Transports of which one finds the host down are 1 up and 1 down.
//
// The attributes:
//
//	server.address      of all: the host, as WithHosts has it
//	server.port         beside it, if WithHosts has a port
//	graphretry.outcome  of attempts: retrying, not_retried, gave_up or recovered
//	graph.code          of attempts: Meta's code, if Meta gave one
//	error.type          of attempts and wait.duration: the class of the failure
//	graphretry.state    of host.state: up, down or recovering
//
// Where Meta set a WhatsApp code in error_subcode, graph.code is that one. The
// class is that of [graphretry.Class] with an underscore for a space: unknown,
// transient, retry_once, throttle, parameter, permission, policy, recipient or
// experiment. A failure without a Graph error is a timeout, canceled, network
// for any other error, or no_graph_error for an answer that says nothing.
//
// A call that gives up in the queue of an outage counts twice among the attempts:
// as retrying when its attempt failed, and as gave_up. So not_retried, gave_up and
// the calls that remain are what became of the calls, and retrying is what it took.
//
// # Cardinality
//
// No attribute of a metric holds a path, a recipient, an id or a text. Hosts are
// those of [graphretry.WithHosts]. Codes are the catalogue's, of which an API uses
// a few, and the first 50 others that occur; each further one is _OTHER. A code
// has one class, and there are four outcomes.
//
// # Span events
//
// Each [graphretry.Event] of a call adds an event to the span in the context of
// its request, if that is recording: graphretry.retrying, graphretry.gave_up,
// graphretry.not_retried, graphretry.recovered, graphretry.outage_began and
// graphretry.outage_ended. Put otelhttp around the Transport, and that span is the
// one of the call. The attributes of an event are the above, and:
//
//	graphretry.attempt         the number of the attempt, from 1; 0 if nothing was sent
//	graphretry.wait            seconds until the next attempt
//	graphretry.reason          why it is, or is not, retried
//	graphretry.lasted          seconds that the outage lasted
//	graphretry.held            calls that the outage held
//	graph.subcode              Meta's error_subcode, if not 0
//	graph.fbtrace_id           what Meta's support asks for
//	http.response.status_code  of the failed answer
//
// The texts of an error are not among them, since they can name a recipient.
package otelgraphretry
