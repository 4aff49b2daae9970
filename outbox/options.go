package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
)

// The defaults.
const (
	defaultName           = "graphretry-outbox"
	defaultBaseURL        = "https://graph.facebook.com/v23.0"
	defaultReplicas       = 1
	defaultRetention      = 30 * 24 * time.Hour
	defaultMaxAge         = 24 * time.Hour
	defaultAckWait        = 30 * time.Second
	defaultAttemptTimeout = time.Minute
	defaultWorkers        = 8
	maxWorkers            = 1000
	defaultRate           = 80
)

// Option changes one setting of an [Outbox]. Where two options set the same
// thing, the later one holds. [Open] refuses an option with a value that cannot
// be, in words that name the option and the value.
//
// [WithReplicas], [WithRetention] and [WithAckWait] are kept in JetStream. The
// first Open sets them; a later Open that gives the option changes them, for all
// machines, and one that does not takes what it finds.
type Option struct {
	apply func(*settings) error
}

type settings struct {
	name           string
	replicas       int           // 0: as found
	retention      time.Duration // 0: as found
	ackWait        time.Duration // 0: as found
	maxAge         time.Duration
	attemptTimeout time.Duration
	workers        int
	perSecond      float64
	rates          map[string]float64
	baseURL        *url.URL
	accessToken    string
	tokenSource    func(context.Context, string) (string, error)
	recipientOrder bool
	keepPayload    bool
	maxBytes       int64
	onOutcome      func(context.Context, Outcome)
	inject         func(context.Context, http.Header)
	extract        func(context.Context, http.Header) context.Context
	transport      []graphretry.Option
	logger         *slog.Logger
}

func newSettings(opts []Option) (settings, error) {
	s := settings{
		name:           defaultName,
		maxAge:         defaultMaxAge,
		attemptTimeout: defaultAttemptTimeout,
		workers:        defaultWorkers,
		perSecond:      defaultRate,
		rates:          make(map[string]float64),
		logger:         slog.New(slog.DiscardHandler),
	}
	var errs []error
	for _, opt := range slices.Concat([]Option{WithBaseURL(defaultBaseURL)}, opts) {
		// The zero Option sets nothing.
		if opt.apply != nil {
			errs = append(errs, opt.apply(&s))
		}
	}
	if s.retention != 0 && s.maxAge > s.retention {
		errs = append(errs, fmt.Errorf("outbox: WithMaxAge(%v) is above WithRetention(%v): a record must outlive its message", s.maxAge, s.retention))
	}
	return s, errors.Join(errs...)
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// WithName sets the name of the outbox in JetStream, where one account can hold
// several. The default is "graphretry-outbox". It is the stream of that
// name, with the subjects that begin with it. It must
// have 1 to 64 letters, digits, dashes or underscores.
func WithName(name string) Option {
	return Option{func(s *settings) error {
		s.name = name
		if !namePattern.MatchString(name) {
			return fmt.Errorf("outbox: WithName(%q): want 1 to 64 letters, digits, dashes or underscores", name)
		}
		return nil
	}}
}

// WithReplicas sets on how many servers of a cluster each message and each
// record is kept, 1 to 5. The default is 1; in a cluster of three or more want
// 3, which outlives the loss of one server.
func WithReplicas(replicas int) Option {
	return Option{func(s *settings) error {
		s.replicas = replicas
		if replicas < 1 || replicas > 5 {
			return fmt.Errorf("outbox: WithReplicas(%d): want 1 to 5", replicas)
		}
		return nil
	}}
}

// WithRetention sets how long a record is kept after it last changed. The
// default is 30 days. After that its id may be used again, Status knows nothing
// of it, and an unknown message that nobody has settled is forgotten. It must be
// at least a minute, and not below the maximum age.
func WithRetention(retention time.Duration) Option {
	return Option{func(s *settings) error {
		s.retention = retention
		if retention < time.Minute {
			return fmt.Errorf("outbox: WithRetention(%v): want at least 1m", retention)
		}
		return nil
	}}
}

// WithMaxAge sets how old a message may be when it is sent. The default is 24
// hours, counted from Enqueue or Resend. One that is older, or whose next
// attempt would come later, becomes failed. It must be above 0 and not above the
// retention. It holds for the workers of this Outbox, and takes the place of
// [graphretry.WithMaxElapsedTime].
func WithMaxAge(age time.Duration) Option {
	return Option{func(s *settings) error {
		s.maxAge = age
		return positive("WithMaxAge", age)
	}}
}

// WithAckWait sets after what time without a sign of life from its worker a
// message is given to another. The default is 30 s. Workers give a sign three
// times as often, and every second at least, so it bounds neither an attempt nor the
// wait for an outage to end; it is how long the messages of a worker that was killed lie
// idle. Other machines hear of a change within a minute; until then one that has fewer
// than 3 s may take a healthy attempt of theirs for abandoned. It must be at least 100
// ms.
func WithAckWait(wait time.Duration) Option {
	return Option{func(s *settings) error {
		s.ackWait = wait
		if wait < 100*time.Millisecond {
			return fmt.Errorf("outbox: WithAckWait(%v): want at least 100ms", wait)
		}
		return nil
	}}
}

// WithAttemptTimeout bounds one attempt, from connecting to the last
// byte of the answer. The default is 1 minute; it must be above 0. An attempt
// that takes longer leaves the message unknown, or queued if it got no connection. It takes the place of
// [graphretry.WithAttemptTimeout].
func WithAttemptTimeout(timeout time.Duration) Option {
	return Option{func(s *settings) error {
		s.attemptTimeout = timeout
		return positive("WithAttemptTimeout", timeout)
	}}
}

// WithWorkers sets how many messages one [Outbox.Run] sends at the same time, beside
// one that is urgent.
// The default is 8; it must be 1 to 1000.
func WithWorkers(workers int) Option {
	return Option{func(s *settings) error {
		s.workers = workers
		if workers < 1 || workers > maxWorkers {
			return fmt.Errorf("outbox: WithWorkers(%d): want 1 to %d", workers, maxWorkers)
		}
		return nil
	}}
}

// WithRate sets how many messages a second are sent from one phone number
// at most, by all machines together. The default is 80, which is what Meta lets a number
// send if it has not raised its throughput. Give it on every machine. It must be finite
// and above 0. An answer that says that it is too much (130429, 4, 80007) lowers the rate
// for a while. See
// https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput.
func WithRate(perSecond float64) Option {
	return Option{func(s *settings) error {
		s.perSecond = perSecond
		return positiveRate("WithRate(%v)", perSecond)
	}}
}

// WithRateFor is [WithRate] for one phone number.
func WithRateFor(phoneNumberID string, perSecond float64) Option {
	return Option{func(s *settings) error {
		s.rates[phoneNumberID] = perSecond
		if !phoneNumberIDPattern.MatchString(phoneNumberID) {
			return fmt.Errorf("outbox: WithRateFor(%q, %v): want the digits of the phone number's id", phoneNumberID, perSecond)
		}
		return positiveRate("WithRateFor("+phoneNumberID+", %v)", perSecond)
	}}
}

func positiveRate(option string, perSecond float64) error {
	if !(perSecond > 0) || math.IsInf(perSecond, 0) {
		return fmt.Errorf("outbox: "+option+": want a finite number of messages a second, above 0", perSecond)
	}
	return nil
}

// WithBaseURL sets what comes before /{phone-number-id}/messages. The default is
// https://graph.facebook.com/v23.0. Want an http or https URL with the API's
// version and without a query. The outage gate watches over its host.
func WithBaseURL(base string) Option {
	return Option{func(s *settings) error {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			// Not the URL itself, which may hold a token.
			return fmt.Errorf("outbox: WithBaseURL: want a URL such as %s, without user, query or fragment", defaultBaseURL)
		}
		u.Path = strings.TrimRight(u.Path, "/")
		s.baseURL = u
		return nil
	}}
}

// WithAccessToken has every call carry the token in its Authorization header, as
// a bearer token. It is not written to JetStream. There is none by default, for
// a next [net/http.RoundTripper] that sets the header itself, as one must that
// has a token for each phone number.
func WithAccessToken(token string) Option {
	return Option{func(s *settings) error {
		s.accessToken = token
		if err := checkToken(token); err != nil {
			return fmt.Errorf("outbox: WithAccessToken: %w", err)
		}
		return nil
	}}
}

func checkToken(token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("want a token of visible ASCII characters; it is empty or has others")
	}
	return nil
}

// WithTokenSource has every attempt ask for the access token of its phone number,
// and carry it as [WithAccessToken] would. The token is not written anywhere. source
// must be safe for concurrent use; its context ends with Run. If it fails, nothing is
// sent, and the message is tried again a second later.
func WithTokenSource(source func(ctx context.Context, phoneNumberID string) (string, error)) Option {
	return Option{func(s *settings) error {
		s.tokenSource = source
		if source == nil {
			return errors.New("outbox: WithTokenSource(nil): want a function")
		}
		return nil
	}}
}

// WithRecipientOrder has the messages that this Outbox enqueues reach a recipient in the
// order in which they were enqueued: of each phone number and recipient (the "to" of the
// payload) one message is in the queue at a time, and the next comes after it was sent,
// has failed, or is unknown. Give it on every machine that enqueues. An urgent message
// waits for its turn, too.
func WithRecipientOrder() Option {
	return Option{func(s *settings) error {
		s.recipientOrder = true
		return nil
	}}
}

// WithKeepPayload keeps the payload of a message for as long as its record. By default it
// goes once a webhook says that the message was delivered.
func WithKeepPayload() Option {
	return Option{func(s *settings) error {
		s.keepPayload = true
		return nil
	}}
}

// WithMaxBytes sets how many bytes the outbox may have in JetStream, on each replica.
// While it has as many, Enqueue fails with [ErrFull]; what is in the queue is sent. It
// may get a little larger, by what is enqueued within a second. By default there is no
// limit but those of the server. It must be at least 1 MiB.
func WithMaxBytes(bytes int64) Option {
	return Option{func(s *settings) error {
		s.maxBytes = bytes
		if bytes < 1<<20 {
			return fmt.Errorf("outbox: WithMaxBytes(%d): want at least 1048576, 1 MiB", bytes)
		}
		return nil
	}}
}

// WithOutcome has a function called when a message was sent, was delivered or read as a
// webhook says, has failed, or is unknown. It is called in the process in which that
// became known, after it was written down, and must be safe for concurrent use; the
// message's worker waits for it. If the process dies just then it is not called:
// [Outbox.Status] always knows. A panic in it is logged.
func WithOutcome(tell func(context.Context, Outcome)) Option {
	return Option{func(s *settings) error {
		s.onOutcome = tell
		if tell == nil {
			return errors.New("outbox: WithOutcome(nil): want a function")
		}
		return nil
	}}
}

// WithPropagation has the trace of a caller travel with a message: inject writes it into
// headers when the message is enqueued, and extract reads it into the context of each
// attempt. With OpenTelemetry they are the methods of a
// go.opentelemetry.io/otel/propagation.TraceContext, whose headers are those of
// https://www.w3.org/TR/trace-context/:
//
//	trace := propagation.TraceContext{}
//	outbox.WithPropagation(
//		func(ctx context.Context, h http.Header) { trace.Inject(ctx, propagation.HeaderCarrier(h)) },
//		func(ctx context.Context, h http.Header) context.Context {
//			return trace.Extract(ctx, propagation.HeaderCarrier(h))
//		})
func WithPropagation(inject func(context.Context, http.Header), extract func(context.Context, http.Header) context.Context) Option {
	return Option{func(s *settings) error {
		s.inject, s.extract = inject, extract
		if inject == nil || extract == nil {
			return errors.New("outbox: WithPropagation: want two functions, one of them is nil")
		}
		return nil
	}}
}

// WithTransportOptions sets the options of the graphretry transport and policy
// that workers send and decide with. They mean what they mean there, but for
// these: the waits are spent in the queue, so [graphretry.WithMaxElapsedTime]
// and [graphretry.WithAttemptTimeout] have no part in it (see [WithMaxAge] and
// [WithAttemptTimeout]), and an observer or a logger sees each attempt as a call
// of its own, whose EventGaveUp says that the queue is to try again later.
func WithTransportOptions(opts ...graphretry.Option) Option {
	opts = slices.Clone(opts)
	return Option{func(s *settings) error {
		s.transport = append(s.transport, opts...)
		return nil
	}}
}

// WithLogger logs what somebody should know: a message that is parked or has
// failed at [slog.LevelWarn], trouble with JetStream and what cannot be read at
// [slog.LevelError]. No payload and no token is logged. By default nothing is.
func WithLogger(logger *slog.Logger) Option {
	return Option{func(s *settings) error {
		if logger == nil {
			return errors.New("outbox: WithLogger(nil): want a logger, such as slog.Default()")
		}
		s.logger = logger
		return nil
	}}
}

func positive(option string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("outbox: %s(%v): want more than 0", option, d)
	}
	return nil
}
