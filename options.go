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

// Option changes one setting of a [Transport], a [Policy] or, through
// [ContextWithOptions], a single call. Where two options set the same thing, the
// later one holds. An option with an invalid value is refused by the function it
// is given to, with an error that names the option and the value. The zero Option
// sets nothing.
type Option struct {
	// transportOnly names the option if a context must not set it.
	transportOnly string
	apply         func(*settings) error
}

// WithInitialInterval sets the first wait of the schedule. The default is 5 s.
// It must be above 0 and not above the maximum interval.
//
// While the API is down ([WithOutageThreshold]) it is the first interval
// between probes too.
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

// WithMaxInterval sets the interval above which the schedule does not grow. The
// default is 3 minutes. It must be above 0. Jitter and Retry-After come on top.
// It bounds the interval between the probes of an outage too.
func WithMaxInterval(interval time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.maxInterval = interval
		return positive("WithMaxInterval", interval)
	}}
}

// WithMaxElapsedTime sets how long a call is retried, from its first failure, or
// from the moment it joined the queue of an outage, to the start of its last
// attempt. The default is 15 minutes; 0 means no limit; a negative time is
// refused. A wait that would pass it is not begun: the call gets its last
// response at once.
func WithMaxElapsedTime(elapsed time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.maxElapsedTime = elapsed
		if elapsed < 0 {
			return fmt.Errorf("graphretry: WithMaxElapsedTime(%v): want 0 (no limit) or more", elapsed)
		}
		return nil
	}}
}

// WithMaxRetries sets how many times a call is retried at most, for whatever
// code: n retries are n+1 attempts. The default is no limit but time. 0 switches
// retries off, and with them all else: the call goes straight to the next
// RoundTripper, as with [ContextBypass]. A negative number is refused.
func WithMaxRetries(retries int) Option {
	return Option{apply: func(s *settings) error {
		s.maxRetries = retries
		if retries < 0 {
			return fmt.Errorf("graphretry: WithMaxRetries(%d): want 0 (no retries) or more", retries)
		}
		return nil
	}}
}

// WithJitter sets the random part of a wait, as a share of its interval that
// comes on top: with 0.2, the default, an interval of 5 s becomes a wait of 5 s
// to 6 s. Jitter never shortens a wait, so no retry comes sooner than the
// schedule says. It must be from 0 to 1.
//
// It holds for the intervals between the probes of an outage too. The intervals
// of a [WithBackOff] are taken as they come unless WithJitter is given as well.
func WithJitter(fraction float64) Option {
	return Option{apply: func(s *settings) error {
		s.jitter = fraction
		if !(fraction >= 0 && fraction <= 1) {
			return fmt.Errorf("graphretry: WithJitter(%v): want 0 to 1", fraction)
		}
		return nil
	}}
}

// WithBackOff sets another schedule than the exponential one, which is the
// default. newBackOff makes a new one for each call that fails, so it must be safe
// for concurrent use; a nil function is refused. NextBackOff returns the wait before
// each retry; [backoff.Stop] ends the retries, and so does a nil schedule.
// [WithMaxRetries] and [WithMaxElapsedTime] still hold, and a Retry-After still
// raises a wait; [WithInitialInterval], [WithMultiplier] and [WithMaxInterval]
// have no part in it.
func WithBackOff(newBackOff func() backoff.BackOff) Option {
	return Option{apply: func(s *settings) error {
		s.newBackOff = newBackOff
		if newBackOff == nil {
			return errors.New("graphretry: WithBackOff(nil): want a function that makes a schedule")
		}
		return nil
	}}
}

// WithRetryOn retries a code, at most maxRetries times in the life of a call, on
// the schedule. It can also limit, or raise, how often a code is retried that is
// retried by default. maxRetries must be 1 or more.
//
// A code from 130000 up also means a subcode, and a subcode that is named goes
// before its code. One of a lasting block overrules its code even if it is not
// named: code 4 with subcode 2207051, "action is blocked", is not retried by
// WithThrottleRetries, and only by WithRetryOn(2207051, n).
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

// WithoutRetryOn stops codes from being retried, whether by default or by an
// option before this one. A code from 130000 up also means a subcode.
func WithoutRetryOn(codes ...Code) Option {
	codes = slices.Clone(codes)
	return Option{apply: func(s *settings) error {
		for _, code := range codes {
			s.rules[code] = rule{0, ReasonNotRetried}
		}
		return nil
	}}
}

// WithThrottleRetries retries the throttling codes: 4, 17, 341, 613, 80007,
// 80008, 130429, 131056, 133015 and 134101. It is off by default, since waiting
// in a call is seldom the best answer to sending too fast.
//
// The wait is the longest of the schedule's, Retry-After, the
// estimated_time_to_regain_access in X-Business-Use-Case-Usage (see
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting), and the
// reset_time_duration in X-Ad-Account-Usage. The
// limit on one sender and one recipient, 131056, has a schedule of its own in
// place of ours, as Meta advises in
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes:
// 1 s, 4 s, 16 s, 64 s and on by the factor 4. A schedule of the caller's
// ([WithBackOff]) stays in force for it. Each of these codes is retried without
// limit but time.
//
// Not among these are 32, and the codes of a block or a refusal that lasts:
// 131048, 131049, 131050, 131064, 130403 and 133016.
func WithThrottleRetries() Option {
	return Option{apply: func(s *settings) error {
		for _, code := range throttleRetries {
			s.rules[code] = rule{unlimited, ReasonThrottle}
		}
		return nil
	}}
}

// throttleRetries are the codes of WithThrottleRetries.
var throttleRetries = []Code{
	CodeAPITooManyCalls, CodeAPIUserTooManyCalls, CodeApplicationLimitReached, CodeCustomRateLimit,
	CodeRateLimitIssues, CodeBusinessAccountTooManyCalls, CodeRateLimitHit, CodePairRateLimitHit,
	CodeRegistrationWaitAFewMinutes, CodeTemplateStillSyncing,
}

// WithTransientFlag retries every error that Meta marks with is_transient (see
// https://developers.facebook.com/docs/graph-api/guides/error-handling), without
// limit but time, unless its class is [ClassParameter], [ClassExperiment],
// [ClassPolicy] or [ClassRecipient]. It is off by default. A code named in
// [WithRetryOn] or [WithoutRetryOn] follows those.
func WithTransientFlag() Option {
	return Option{apply: func(s *settings) error {
		s.transientFlag = true
		return nil
	}}
}

// WithNetworkRetries retries network failures where that cannot send a message
// twice. It is off by default.
//
// A request that got no connection was never sent, and is retried whatever its
// method: the dial failed, a proxy answered its CONNECT with 502, 503 or 504, or
// the TLS handshake broke. Any other failure that is positively one of the
// network, such as a timeout, a reset or a GOAWAY, is retried for GET, HEAD,
// OPTIONS, PUT and DELETE only, which may be carried out twice (RFC 9110, section
// 9.2.2). So is a 502, 503 or 504 whose body is no Graph error.
//
// Nothing else is retried: certificate errors, another answer of a proxy such as
// 403 or 407, the error of a RoundTripper that sends nothing, and the caller's own
// cancellation.
//
// To learn whether a request gets a connection takes a trace
// ([net/http/httptrace]), and with it some 6 small allocations for each attempt.
func WithNetworkRetries() Option {
	return Option{apply: func(s *settings) error {
		s.networkRetries = true
		return nil
	}}
}

// WithHosts sets the hosts whose calls are retried, in place of
// graph.facebook.com. A call to any other host passes through untouched, so a test
// against a server of its own must name that server here, or it will see no
// retries. Each is
// a "host", which means every port of it, or a "host:port", without a scheme, a
// path or a wildcard; case does not matter. At least one is needed. It cannot be
// set in a context.
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

// WithAttemptTimeout bounds each attempt, up to its response's headers and, for
// a failed one, its body. There is no bound by default. The body of a success
// can be read at leisure. An attempt that times out is a network failure in
// which the message may have been taken, so it is retried only as
// [WithNetworkRetries] says; its error has a method Timeout that reports true,
// and is not [context.DeadlineExceeded]. The timeout must be above 0. An upload
// whose reader stalls can take a quarter of a second longer over HTTP/1.1.
func WithAttemptTimeout(timeout time.Duration) Option {
	return Option{apply: func(s *settings) error {
		s.attemptTimeout = timeout
		return positive("WithAttemptTimeout", timeout)
	}}
}

// WithOutageThreshold sets how many answers in a row with the codes 2 or 131016
// bring a host down. The default is 20; 0 means no outage gate; a negative number
// is refused. If they take as long as the initial interval, a quarter of them is
// enough. For an API that fails in part it takes more: three times the longest run
// of late, which counts half as much every 30 s. See the package's documentation
// for what the gate does. It cannot be set in a context.
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
// [slog.LevelWarn], giving up at [slog.LevelError], all else at
// [slog.LevelInfo]. By default nothing is logged; a nil logger is refused. The
// attributes are method, host, path and attempt; wait, for a retry; reason, for what
// is or is not retried; lasted and held, for the end of an outage; those of
// [Error.LogValue]; and error. A success after a retry has after_code and
// after_error in place of these. What has no value is left out. Wait and lasted are
// durations, which slog's JSON has in nanoseconds. No secret of the request is logged. It
// cannot be set in a context.
func WithLogger(logger *slog.Logger) Option {
	return Option{transportOnly: "WithLogger", apply: func(s *settings) error {
		if logger == nil {
			return errors.New("graphretry: WithLogger(nil): want a logger, such as slog.Default()")
		}
		s.observers = append(s.observers, logTo(logger))
		return nil
	}}
}

// WithObserver has observe called with every [Event], in the goroutine of the
// call and outside every lock, so it may use the Transport itself; the call
// waits for it. It must be safe for concurrent use. The context is that of the
// request. By default there is none; a nil function is refused. It may be given
// more than once. With an observer each attempt has a trace, as with
// [WithNetworkRetries], so that an event can say whether anything was sent. It
// cannot be set in a context.
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
