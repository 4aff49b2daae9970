// Package oteloutbox measures an [outbox.Outbox] with OpenTelemetry: what is in the queue
// and how old it is, what becomes of the messages, and whether any Run is alive.
//
//	metrics, err := oteloutbox.New(nil) // nil: the global MeterProvider
//	...
//	o, err := outbox.Open(ctx, database, nil, outbox.WithObserver(metrics.Observe))
//	...
//	registration, err := metrics.Register(o)
//
// # Metrics
//
// What is in the database, with [Metrics.Register]:
//
//	graphretry.outbox.oldest.age  gauge      s          age of the message that waits longest
//	graphretry.outbox.messages    gauge      {message}  messages, by state
//	graphretry.outbox.held        gauge      {number}   phone numbers that are held
//	graphretry.outbox.hold.age    gauge      s          for how long the number is held that is held longest
//	graphretry.outbox.paused      gauge      {pause}    pauses: of all numbers, and of a number by itself
//	graphretry.outbox.runs        gauge      {run}      Runs that are live, and dead ones that were not removed yet
//
// What this process has done, with [Metrics.Observe]:
//
//	graphretry.outbox.outcomes         counter    {outcome}  outcomes, by kind
//	graphretry.outbox.wait             histogram  s          from the enqueueing of a message until it was sent
//	graphretry.outbox.sender.failures  counter    {failure}  failures that every message of the sender would get
//
// The gauges describe the database, so every process that registers an outbox exports the same
// values. Take their max over the processes, never their sum. The counters and the histogram
// describe one process: add them up.
//
// oldest.age is the metric to alert on: whatever goes wrong, messages wait longer. A message
// waits from the time it was enqueued, was resent, or was due by its NotBefore, whichever came
// last. The waits before a retry, an outage, a number that is held and a pause all count. The
// age is 0 while no message waits.
//
// wait begins when the message was first enqueued. It includes the time until NotBefore, and
// the time before a Resend.
//
// sender.failures counts each attempt that Meta refuses with a code of
// [graphretry.Code.AboutSender], such as an expired token. It also counts each webhook
// with such a code that holds a number. The messages stay in the queue, so they have no outcome.
//
// The attributes:
//
//	graphretry.outbox.name  of all: the name of the outbox
//	graphretry.state        of messages: queued, sending, sent, failed or unknown; of runs: live or dead
//	graphretry.scope        of paused: all or number
//	graphretry.outcome      of outcomes: sent, delivered, read, failed or unknown
//	error.type              of failed outcomes and sender.failures: the class of the failure
//	graph.code              of sender.failures: Meta's code
//	graphretry.outbox.phone_number_id  of all but runs and paused for all: the number, with [WithPhoneNumbers]
//
// The class is a [graphretry.Class] with underscores instead of spaces: unknown, transient,
// retry_once, throttle, parameter, permission, policy, recipient or experiment. It is
// no_graph_error if Meta has said nothing of the message, as when it was dropped or grew too
// old.
//
// # Collection
//
// Each collection calls [outbox.Outbox.Stats] once for each outbox that is registered, one
// after the other, and all of them share 5 s. Nothing is asked in between. If a call fails or
// takes longer than its part, the error goes to the handler of
// [go.opentelemetry.io/otel.SetErrorHandler], and no gauge of that outbox is exported: an old
// value, or 0, would end an alert. All other metrics are exported.
// An outbox that is closed has no gauges, and causes no error.
//
// # Cardinality
//
// No attribute contains a recipient, an id of a message, a label or a text, and none a phone
// number without [WithPhoneNumbers], which bounds how many. The codes of sender.failures are
// those of [graphretry.Code.AboutSender].
package oteloutbox
