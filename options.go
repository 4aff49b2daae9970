package graphretry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// WithInitialInterval sets the first wait of the schedule. The default is 5 s.
// It must be above 0 and not above the maximum interval.
//
// It is also the first interval between probes while the API is down
// ([WithOutageThreshold]).
func WithInitialInterval(interval time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.initialInterval = interval
		return positive("WithInitialInterval", interval)
	}}
}

// WithMultiplier sets the factor from one interval of the schedule to the next.
// The default is 2. It must be finite and at least 1.
func WithMultiplier(multiplier float64) Option {
	return Option{apply: func(s *settings) error {
		s.multiplier = multiplier
		if !(multiplier >= 1) || math.IsInf(multiplier, 0) {
			return fmt.Errorf("graphretry: WithMultiplier(%v): want a finite number of at least 1", multiplier)
		}
		return nil
	}}
}

// WithMaxInterval sets the interval above which no schedule grows, that of 131056 in
// [WithThrottleRetries] included. The default is 3 minutes. It must be above 0. It
// bounds the interval and not the wait: jitter is added to the interval, and a
// Retry-After that is longer applies. It also bounds the interval between the probes of
// an outage, to which jitter is added as well.
func WithMaxInterval(interval time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.maxInterval = interval
		return positive("WithMaxInterval", interval)
	}}
}

// WithMaxElapsedTime sets how long a call is retried, from its first failure, or
// from the moment it joined the queue of an outage, to the start of its last
// attempt. The default is 15 minutes; 0 means no limit; a negative time is refused.
// A wait that would pass it is not begun: the call returns its last response at
// once.
func WithMaxElapsedTime(elapsed time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.maxElapsedTime = elapsed
		if elapsed < 0 {
			return fmt.Errorf("graphretry: WithMaxElapsedTime(%v): want 0 (no limit) or more", elapsed)
		}
		return nil
	}}
}

// WithMaxRetries sets the maximum number of retries of a call, whatever the codes
// are: n retries are n+1 attempts. By default only time limits them. 0 switches off
// retries and everything else: the call goes straight to the next RoundTripper, as
// with [ContextBypass]. A negative number is refused.
func WithMaxRetries(retries int) Option {
	return Option{apply: func(s *settings) error {
		s.maxRetries = retries
		if retries < 0 {
			return fmt.Errorf("graphretry: WithMaxRetries(%d): want 0 (no retries) or more", retries)
		}
		return nil
	}}
}

// WithJitter sets the random part of a wait, as a share of its interval that is
// added to it: with 0.5, the default, an interval of 5 s becomes a wait of 5 s to
// 7.5 s. Jitter never shortens a wait, so no retry comes sooner than the schedule
// says, and it comes on top of the maximum interval too: by default a wait is 4.5
// minutes at most. Less than 0.5 keeps calls that failed together close together.
// It must be from 0 to 1.
//
// To an interval between the probes of an outage it adds no more than to the initial
// interval. To the intervals of [WithBackOff] it applies only if WithJitter is given too.
func WithJitter(fraction float64) Option {
	return Option{apply: func(s *settings) error {
		s.jitter = fraction
		if !(fraction >= 0 && fraction <= 1) {
			return fmt.Errorf("graphretry: WithJitter(%v): want 0 to 1", fraction)
		}
		return nil
	}}
}

// WithBackOff replaces the exponential schedule. newBackOff makes a new schedule for
// each call that fails, so it must be safe for concurrent use; a nil function is
// refused. NextBackOff returns the wait before each retry; [backoff.Stop] ends the
// retries, and so does a nil schedule. [WithMaxRetries] and [WithMaxElapsedTime]
// still apply, and a Retry-After still raises a wait; [WithInitialInterval],
// [WithMultiplier] and [WithMaxInterval] do not change it.
func WithBackOff(newBackOff func() backoff.BackOff) Option {
	return Option{apply: func(s *settings) error {
		s.newBackOff = newBackOff
		if newBackOff == nil {
			return errors.New("graphretry: WithBackOff(nil): want a function that makes a schedule")
		}
		return nil
	}}
}

// WithRetryOn retries a code on the schedule, at most maxRetries times in a call.
// For a code that is retried by default it sets another limit. maxRetries must be 1
// or more.
//
// A code from 130000 up also matches a subcode. A subcode that an option names takes
// precedence over its code. A subcode that stands for a lasting block does so even
// if no option names it: code 4 with subcode 2207051, "action is blocked", is
// retried only by WithRetryOn(2207051, n), and not by WithThrottleRetries.
//
// Codes of [ClassParameter] and [ClassExperiment] are refused: the same request
// would get the same answer, and Meta enforces against repeated sends to a
// number in an experiment.
func WithRetryOn(code Code, maxRetries int) Option {
	return Option{apply: func(s *settings) error {
		name := fmt.Sprintf("graphretry: WithRetryOn(%d, %d): ", code, maxRetries)
		if why := neverRetried(code); why != "" {
			return fmt.Errorf("%scode %d (%s) is never retried: %s", name, code, code.Title(), why)
		}
		if maxRetries < 1 {
			return fmt.Errorf("%swant at least 1 retry; WithoutRetryOn(%d) is for none", name, code)
		}
		s.rules[code] = rule{maxRetries, ReasonRetryOn}
		return nil
	}}
}

// WithoutRetryOn stops codes from being retried, whether by default or by an option
// before this one. A code from 130000 up also matches a subcode.
func WithoutRetryOn(codes ...Code) Option {
	codes = slices.Clone(codes)
	return Option{apply: func(s *settings) error {
		for _, code := range codes {
			s.rules[code] = rule{forbidden, ReasonNotRetried}
		}
		return nil
	}}
}

// WithThrottleRetries retries the throttling codes: 4, 17, 341, 613, 80007, 80008,
// 130429, 131056, 133015 and 134101. It is off by default: to send more slowly is
// usually better than to wait in a call.
//
// The wait is the longest of the schedule's, Retry-After, the
// estimated_time_to_regain_access in X-Business-Use-Case-Usage (see
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting), and the
// reset_time_duration in X-Ad-Account-Usage. The limit on one sender and one
// recipient, 131056, has its own schedule, as Meta advises in
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes:
// 1 s, 4 s, 16 s, 64 s and so on, up to the maximum interval ([WithMaxInterval]), with
// jitter on top. [WithBackOff] replaces this schedule too. Only time limits the number
// of retries.
//
// It does not retry 32, nor the codes of a block that lasts: 131048, 131049, 131050,
// 131064, 130403, 133016 and 136024.
func WithThrottleRetries() Option {
	return Option{apply: func(s *settings) error {
		for _, code := range throttleRetries {
			s.rules[code] = rule{unlimited, ReasonThrottle}
		}
		return nil
	}}
}

// WithTransientFlag retries every error that Meta marks with is_transient (see
// https://developers.facebook.com/docs/graph-api/guides/error-handling), unless its
// class is [ClassParameter], [ClassExperiment], [ClassPolicy] or [ClassRecipient].
// Only time limits the number of retries. It is off by default. For the codes that
// they name, [WithRetryOn] and [WithoutRetryOn] take precedence.
func WithTransientFlag() Option {
	return Option{apply: func(s *settings) error {
		s.transientFlag = true
		return nil
	}}
}

// WithNetworkRetries retries network failures where that cannot send a message
// twice. It is off by default.
//
// A request that was certainly not carried out is retried whatever its method. It got
// no connection: the dial failed, a proxy answered its CONNECT with 502, 503 or 504,
// or the TLS handshake broke. Or the server said that it did not process it, with
// REFUSED_STREAM or a GOAWAY below its stream over HTTP/2 (RFC 9113, section 8.7), with
// H3_REQUEST_REJECTED (RFC 9114, section 4.1.1) or a refused 0-RTT over the HTTP/3 of
// quic-go.
//
// Any other failure that is certainly one of the network, such as a timeout, a reset
// of a connection or a stream, or another GOAWAY, is retried for GET, HEAD, OPTIONS,
// PUT and DELETE only, which may be carried out twice (RFC 9110, section 9.2.2). So is
// a 502, 503 or 504 whose body is no Graph error.
//
// Nothing else is retried: certificate errors, another answer of a proxy such as
// 403 or 407, the error of a RoundTripper that sends nothing, the 504 of a cache for a
// GET or HEAD with Cache-Control: only-if-cached (RFC 9111, section 5.2.1.7), and the
// caller's own cancellation.
//
// A dial that is refused is as sure a sign of an outage as code 2: enough of them in a row
// bring the host down ([WithOutageThreshold]). Such an outage has no Graph error, and the
// [*WaitError] of a call that cannot wait for its end says that there is no connection.
//
// It adds a trace ([net/http/httptrace]) to each attempt, to learn whether the
// request got a connection. That costs about 6 small allocations. A RoundTripper that
// calls no hook of it is told by its errors alone.
func WithNetworkRetries() Option {
	return Option{apply: func(s *settings) error {
		s.networkRetries = true
		return nil
	}}
}

// WithHosts sets the hosts whose calls are retried, in place of graph.facebook.com.
// A call to any other host passes through untouched, so a test that runs its own
// server must name it here, or it sees no retries. Each is a "host", which means all
// its ports, or a "host:port", without a scheme, a path or a wildcard; case does not
// matter. At least one is needed. It cannot be set in a context.
func WithHosts(hosts ...string) Option {
	hosts = slices.Clone(hosts)
	return Option{transportOnly: "WithHosts", apply: func(s *settings) error {
		if len(hosts) == 0 {
			return errors.New("graphretry: WithHosts(): want at least one host")
		}
		s.hosts = nil
		var errs []error
		for _, name := range hosts {
			host, ok := parseHost(name)
			if !ok {
				errs = append(errs, fmt.Errorf(`graphretry: WithHosts(%q): want "host" or "host:port", as in %q`, name, defaultHost))
			}
			if !slices.Contains(s.hosts, host) {
				s.hosts = append(s.hosts, host)
			}
		}
		return errors.Join(errs...)
	}}
}

// WithMaxBufferedBody sets how much of a request body without GetBody is kept
// in memory for a retry, in bytes. The default is 1 MiB; 0 means that nothing is
// kept; a negative number is refused. A call whose body is longer has one
// attempt. Bodies with GetBody, which [http.NewRequest] sets for the readers of
// package bytes and strings, are never kept. It cannot be set in a context.
func WithMaxBufferedBody(bytes int64) Option {
	return Option{transportOnly: "WithMaxBufferedBody", apply: func(s *settings) error {
		s.maxBufferedBody = bytes
		if bytes < 0 {
			return fmt.Errorf("graphretry: WithMaxBufferedBody(%d): want 0 (never buffer) or more bytes", bytes)
		}
		return nil
	}}
}

// WithAttemptTimeout limits how long each attempt may take: up to the headers of its
// response and, if it failed, to the end of its body. There is no limit by default,
// and none for reading the body of a success. An attempt that times out may have
// sent the message, so it is retried only as [WithNetworkRetries] says. Its error
// has a method Timeout that reports true, and is not [context.DeadlineExceeded]. The
// timeout must be above 0. An upload whose reader stalls can take a quarter of a
// second longer over HTTP/1.1.
func WithAttemptTimeout(timeout time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.attemptTimeout = timeout
		return positive("WithAttemptTimeout", timeout)
	}}
}

// WithoutWaiting has a call make one attempt and never wait, for a job queue that waits
// itself: see [Policy.Next]. By default a call waits and is retried.
//
// While the host is down the call returns a [*WaitError] with [ErrOutage] at once, whose
// Wait says when the next probe may be sent; the call that comes when a probe is due is
// the probe. While the host is recovering, the call is sent if the rate allows it, and
// else returns ErrOutage at once. Where the policy would retry a failure, the call
// returns it, and the event is an [EventGaveUp] with [ReasonWithoutWaiting], which
// [WithLogger] logs at [slog.LevelWarn].
//
// It adds a trace to the attempt, as [WithNetworkRetries] does, so that [NeverSent] knows
// more. WithMaxRetries(0) takes precedence: such a call knows no outage.
func WithoutWaiting() Option {
	return Option{apply: func(s *settings) error {
		s.withoutWaiting = true
		return nil
	}}
}

// WithOutageThreshold sets how many answers in a row with the codes 2 or 131016
// bring a host down. The default is 20; 0 means no outage gate; a negative number is
// refused. A quarter of them is enough if they come over at least the initial
// interval. An API that fails in part has a higher threshold: three times the
// longest recent run of such answers, where the length of a run halves every 30 s.
// It applies to a path that fails alone, too. With [WithNetworkRetries] a dial that is
// refused counts as such an answer, for the host. See the package's documentation for
// what the gate does. It cannot be set in a context.
func WithOutageThreshold(answers int) Option {
	return Option{transportOnly: "WithOutageThreshold", apply: func(s *settings) error {
		s.outageThreshold = answers
		if answers < 0 {
			return fmt.Errorf("graphretry: WithOutageThreshold(%d): want 0 (no gate) or more answers", answers)
		}
		return nil
	}}
}

// WithLogger logs every [Event]: retries and the beginning of an outage at
// [slog.LevelWarn], giving up at [slog.LevelError], everything else at
// [slog.LevelInfo]. By default nothing is logged; a nil logger is refused. It cannot be set
// in a context. No secret of the request is logged.
//
// The names of the attributes are OpenTelemetry's where it has one, those under graph. are
// Meta's fields and this package's catalogue, and those under graphretry. are this package's
// own. Attributes without a value are left out.
//
//	http.request.method        as in "POST"
//	http.request.resend_count  how many attempts came before this one
//	http.response.status_code  of the answer, if there was one
//	server.address             the host, as in "graph.facebook.com"
//	server.port                the port, if the URL has one
//	url.path                   the path, without the query
//	error.type                 the class of the Graph error, as in "retry_once"; without one
//	                           "timeout", "canceled", "network" or "no_graph_error"
//	error.message              the error of an attempt without an answer
//	graph.code, graph.subcode, graph.message, graph.details, graph.user_title,
//	graph.user_message, graph.fbtrace_id
//	                           what Meta said
//	graph.class, graph.title, graph.advice
//	                           what the catalogue says of the code
//	graphretry.reason          why it is, or is not, retried
//	graphretry.wait_s          of a retry: the wait in seconds
//	graphretry.lasted_s, graphretry.held
//	                           of the end of an outage: its length in seconds, and how many
//	                           calls waited
//	graphretry.outage.path     of an outage of one path: the path, without the version of the
//	                           API; left out for that of the host
//	graphretry.after_code, graphretry.after_error
//	                           of what is over, a success after a retry or the end of an
//	                           outage: the code or the error before it
func WithLogger(logger *slog.Logger) Option {
	return Option{transportOnly: "WithLogger", apply: func(s *settings) error {
		if logger == nil {
			return errors.New("graphretry: WithLogger(nil): want a logger, such as slog.Default()")
		}
		s.observers = append(s.observers, logTo(logger))
		return nil
	}}
}

// WithObserver calls observe with every [Event], in the goroutine of the call, which
// waits for it. No lock is held, so observe may use the Transport. It must be safe
// for concurrent use. The context is that of the request. By default there is no
// observer; a nil function is refused. It may be given more than once. It adds a
// trace to each attempt, as [WithNetworkRetries] does, so that an event can say
// whether anything was sent. It cannot be set in a context.
func WithObserver(observe func(context.Context, Event)) Option {
	return Option{transportOnly: "WithObserver", apply: func(s *settings) error {
		if observe == nil {
			return errors.New("graphretry: WithObserver(nil): want a function")
		}
		s.observers = append(s.observers, observe)
		return nil
	}}
}

// positive refuses a duration that is not above zero.
func positive(option string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("graphretry: %s(%v): want more than 0", option, d)
	}
	return nil
}
