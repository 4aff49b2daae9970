// Package graphretry retries calls to Meta's Graph API, the WhatsApp Cloud API
// among them, where Meta says that the failure is temporary, and nowhere else.
//
// It is an [http.RoundTripper]. Wrap the [http.Client] that calls the API, and
// share the result:
//
//	client, err := graphretry.WrapClient(http.DefaultClient, graphretry.WithLogger(slog.Default()))
//	if err != nil {
//		log.Fatal(err)
//	}
//	resp, err := client.Do(req) // req's context should have a deadline
//
// The caller gets a response of the API unchanged, byte for byte, or the error of
// the next RoundTripper. A call that waits can also return a [*WaitError]. A call
// may block for 15 minutes by default; the deadline of its context bounds it. Calls
// to hosts other than graph.facebook.com pass through; see [WithHosts].
//
// # What is retried
//
// The field "code" in the body decides, not the HTTP status. Codes 2 and 131016
// are retried with exponential backoff from 5 s, and 131000 once. Options add
// codes ([WithRetryOn], [WithThrottleRetries], [WithTransientFlag]) or take them
// away ([WithoutRetryOn]). No option adds a code of [ClassParameter] or
// [ClassExperiment]: the same request gets the same answer, and Meta enforces
// against repeated sends to a number in an experiment.
//
// Anything but a Graph error is not retried by default. After a timeout or a
// broken connection the message may be on its way, and POST /messages is not
// idempotent. [WithNetworkRetries] retries what is safe.
//
// # At least once
//
// A Graph error is taken to mean that nothing was done, as Meta's texts for the
// retried codes say. Meta gives no guarantee, so a message that was retried may
// arrive more than once. Outside /messages it is known to happen: a photo POSTed
// to a page was answered with code 2 and posted each time. For such a call use
// [ContextBypass], or [ContextWithOptions] with [WithoutRetryOn].
//
// # Outages
//
// The calls of a [Transport] to one host share an outage gate, a circuit breaker
// with a queue. While the API is down, calls wait in the queue, earliest deadline
// first, and one at a time goes out as a probe. When the API is back they are
// released at the rate at which they came, which rises from there. A call whose time
// ends before the next probe returns at once: its last response, or a [*WaitError]
// that wraps [ErrOutage] if it was never sent. See [WithOutageThreshold] and [Transport.Hosts].
//
// A phone number or an endpoint can fail while others do not. So a path that fails has
// a gate of its own, in front of the host's, for as long as another path of the host is
// well: its calls wait, and the others are sent. The version of the API tells no paths
// apart. Where all fail, it is the host that is down, and there is one outage. See
// [PathStatus].
//
// # Job queues
//
// A worker of a job queue does not wait in a call. Its client has [WithoutWaiting], and
// [Policy.Next] says what becomes of the job: sent, to be tried again, failed, or to be
// parked because nobody knows whether it was sent.
//
// # More
//
// [ErrorFromResponse] reads the [Error] out of a response. [NeverSent] reports whether an
// error proves that nothing was done. [ParseWebhook] reads failures out of webhooks. [WithLogger]
// and [WithObserver] report what happens. Package graphtest is a fake API for tests.
// The guide in docs/guide.md has the chapters: timeouts, bodies, composition, logs.
package graphretry
