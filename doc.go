// Package graphretry retries calls to Meta's Graph API, the WhatsApp Cloud API
// among them, where Meta says that the failure is temporary, and nowhere else.
//
// It is an [http.RoundTripper]. Put it into the [http.Client] that calls the API
// already, or that an SDK takes, and change nothing else:
//
//	client, err := graphretry.WrapClient(http.DefaultClient, graphretry.WithLogger(slog.Default()))
//	if err != nil {
//		log.Fatal(err)
//	}
//	resp, err := client.Do(req)
//
// Whoever made the request gets what they would have got without this package:
// the same response, byte for byte, or the same error. It only comes later, and
// more often it is a success. [NewTransport] does the same for a RoundTripper.
// Calls to hosts other than graph.facebook.com pass through untouched; see
// [WithHosts].
//
// # What is retried
//
// The field "code" of the error object in the body decides, and not the HTTP
// status: Meta documents a 500 that must not be retried and a 400 that is a mere
// wait. By default it is:
//
//	2       API Service            retried, with exponential backoff
//	131016  Service unavailable    retried, with exponential backoff
//	131000  Something went wrong   retried once in the life of a call
//	every other code               not retried
//
// The other codes need a person ([Code.Advice] says what to do) or a decision
// that only the program can make. [WithRetryOn] adds a code, [WithoutRetryOn]
// takes one away, [WithThrottleRetries] adds the limits that soon pass, and
// [WithTransientFlag] what Meta marks as is_transient.
//
// No option adds a code of [ClassParameter], such as 33, 100, 131008 and 131009,
// since the same request gets the same answer; nor one of [ClassExperiment],
// 130472, since Meta enforces against repeated sends to a number in an
// experiment. This holds for a WhatsApp code in error_subcode too.
//
// # The schedule
//
// The first interval is 5 s, each next one twice as long, and none longer than 3
// minutes. The last attempt begins at most 15 minutes after the first failure.
// Up to 20 % of random jitter comes on top of an interval. A Retry-After header
// lengthens a wait and never shortens it. [WithInitialInterval],
// [WithMultiplier], [WithMaxInterval], [WithMaxElapsedTime], [WithMaxRetries] and
// [WithJitter] change this, and [WithBackOff] takes any schedule of
// [github.com/cenkalti/backoff/v4].
//
// The waits happen inside the call. A goroutine that must answer somebody soon
// should give its call a deadline, or leave the call to a queue; see [Policy].
//
// # At least once
//
// A message is sent again after an answer with a Graph error in it, which this
// package takes to mean "not sent", as Meta's texts for the retried codes do.
// Meta gives no guarantee that a Graph error means not sent, so a message that was
// retried may arrive twice. If that is worse than one that never arrives, use
// [WithoutRetryOn]; 131000, whose cause Meta does not know, is the code to begin
// with.
//
// After a timeout, a broken connection, or an answer without a Graph error, the
// message may be on its way. POST /messages is not idempotent, and the API has no
// idempotency key, so such a call is not sent again: its caller gets the error,
// or the response, and has to decide. [WithNetworkRetries] retries what is safe:
// a request that provably never left, whatever its method, and the methods that
// may be carried out twice.
//
// Nothing is written to disk. A process that ends takes its waiting calls with
// it; the module outbox beside this package keeps them.
//
// # The outage gate
//
// While the API is down, hundreds of calls that each follow the schedule still
// hammer it together, and are back all at once when it is. So the calls of a
// Transport to one host share a gate. [WithOutageThreshold] answers of 2 or
// 131016 in a row, 20 by default, bring the host down: then the calls wait in a
// queue, and one at a time is sent as a probe, after 5, 10 and 20 s, and then
// every 20 s, with jitter on top; more often where the API fails only in part, or
// where the next caller is about to give up, but then every 2.45 s at most. When a
// probe finds the API back, the calls are released at a rate that begins with the
// rate at which they came, 10 a second at most, and rises with each success.
//
// Too much load has the same codes. Where the share of good answers falls, also
// while the host is up, the gate tries for a few seconds whether half as many calls
// help. If they do, the rate stays lower and rises slowly from there; if not, the
// API fails by chance, and calls are sent as before.
//
// The probe is the call with the latest deadline; of the others the one with the
// earliest is released first, as long as there is time to hear the answer. A call
// that cannot wait for the next probe gets its last response, or, if it was never
// sent, a [*WaitError] that wraps [ErrOutage]: at once, without a call to the API.
// A single caller notices nothing: it sees the plain schedule. The gate belongs to
// the Transport, so a program should have one Transport and share it;
// [Transport.Hosts] tells how its hosts are.
//
// # Deadlines
//
// The deadline of the request's context bounds the call with all its attempts
// and waits, and so does [http.Client.Timeout], which is one. A wait that does
// not fit is not begun: the call gets its last response at once. With a Timeout
// of 30 s there is time for 2 retries, so make it minutes, or 0 with a context
// for each call. [WithAttemptTimeout] is what bounds a single attempt.
//
// When the caller cancels the context during a wait, the call ends at once, with
// a [*WaitError]. It wraps the context's error and its cause, and the [*Error]
// that Meta gave last.
//
// # Request bodies
//
// A body can be sent again if the request has GetBody, which [http.NewRequest]
// sets for a [bytes.Buffer], a [bytes.Reader] and a [strings.Reader]. Any other
// body is kept in memory as it is sent, up to 1 MiB; see [WithMaxBufferedBody].
// Nothing is read ahead, so a stream streams. A call whose body is longer than
// that has one attempt, and so has one that was answered before its body had been
// read to the end.
//
// # One call
//
// [ContextWithOptions] changes the options for the calls made with a context, as
// through an SDK whose requests one never sees. [ContextBypass] switches
// everything off for them.
//
// # What happened
//
// [ErrorFromResponse] reads the [Error] out of a response, whose body stays
// readable, and [ParseError] reads it out of a body. An [Event] tells of each
// failed attempt, each success after a retry, and each outage: [WithLogger] logs
// it, [WithObserver] takes it to a program's metrics. Tokens and other secrets of
// the request are blanked in the log, and in an Error, except in its Raw.
//
// # Queues and webhooks
//
// A [Policy] is the decision alone: [Policy.Decide] tells whether work that
// failed is tried again, and when. A worker of a queue asks it instead of waiting
// in a call. Many failures to deliver come by webhook, after the call that sent
// the message has succeeded: [ParseWebhook] reads them, and Decide takes them as
// they are.
//
// Package graphtest beside this one has a fake Graph API for tests.
package graphretry
