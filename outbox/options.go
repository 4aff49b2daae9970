package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// The defaults.
const (
	defaultName           = "graphretry"
	defaultBaseURL        = "https://graph.facebook.com/v25.0"
	defaultRetention      = 30 * 24 * time.Hour
	defaultMaxAge         = 24 * time.Hour
	defaultAttemptTimeout = time.Minute
	defaultWorkers        = 8
	maxWorkers            = 1000
	defaultRate           = 80
)

// Option changes one setting of an [Outbox]. Where two options set the same
// thing, the later one holds. [Open] refuses an option with a value that cannot
// be, in words that name the option and the value.
//
// The options are this Outbox's alone: give the same on every machine.
type Option struct {
	apply func(*settings) error
}

type settings struct {
	name             string
	withoutMigrate   bool
	retention        time.Duration
	maxAge           time.Duration
	attemptTimeout   time.Duration
	workers          int
	perSecond        float64
	rates            map[string]float64
	baseURL          *url.URL
	accessToken      string
	tokenSource      func(context.Context, string) (string, error)
	recipientOrder   bool
	keepPayload      bool
	maxQueued        int // 0: no limit
	onOutcome        func(context.Context, Outcome) error
	observers        []*observer
	inject           func(context.Context, http.Header)
	extract          func(context.Context, http.Header) context.Context
	transportOptions []graphretry.Option
	logger           *slog.Logger
}

func newSettings(opts []Option) (settings, error) {
	s := settings{
		name:           defaultName,
		retention:      defaultRetention,
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
	if s.maxAge > s.retention {
		errs = append(errs, fmt.Errorf("outbox: WithMaxAge(%v) is above WithRetention(%v): a record must outlive its message", s.maxAge, s.retention))
	}
	return s, errors.Join(errs...)
}

// perSecondOf returns the rate of a number.
func (s *settings) perSecondOf(number string) float64 {
	if perSecond, ok := s.rates[number]; ok {
		return perSecond
	}
	return s.perSecond
}

// WithName sets the name of the outbox, of which one database can hold several. It is what
// the names of its tables begin with, as in graphretry_message. The default is "graphretry".
// It must have 1 to 40 lower-case letters, digits or underscores.
func WithName(name string) Option {
	return Option{func(s *settings) error {
		s.name = name
		if !store.IsName(name) {
			return fmt.Errorf("outbox: WithName(%q): want 1 to 40 lower-case letters, digits or underscores", name)
		}
		return nil
	}}
}

// WithoutMigration has [Open] only check that the tables are there and have the version
// that this program needs, for a user who may not change them. "outbox schema" prints
// the SQL for migrations of your own. By default Open makes the tables and brings them
// up to date.
func WithoutMigration() Option {
	return Option{func(s *settings) error {
		s.withoutMigrate = true
		return nil
	}}
}

// WithRetention sets how long a message that is sent, failed or unknown is kept after it
// last changed. The default is 30 days. After that [Outbox.Run] deletes it with all that is
// known of it, its id may be used again, and an unknown message that nobody has settled is
// forgotten. It must be at least a minute, and not below the maximum age. The shortest that
// any Run has holds for all: [Open] logs a warning if it is shorter than one before.
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
// hours, counted from Enqueue or Resend by the database's clock. One that is older, or whose
// next attempt would come later, becomes failed. It must be above 0 and not above the
// retention. It holds for the workers of this Outbox, and takes the place of
// [graphretry.WithMaxElapsedTime].
func WithMaxAge(age time.Duration) Option {
	return Option{func(s *settings) error {
		s.maxAge = age
		return positive("WithMaxAge", age)
	}}
}

// WithAttemptTimeout bounds one attempt, from connecting to the last byte of the answer.
// The default is 1 minute; it must be above 0. An attempt that takes longer leaves the
// message unknown, or queued if it got no connection. It takes the place of
// [graphretry.WithAttemptTimeout].
func WithAttemptTimeout(timeout time.Duration) Option {
	return Option{func(s *settings) error {
		s.attemptTimeout = timeout
		return positive("WithAttemptTimeout", timeout)
	}}
}

// WithWorkers sets how many messages one [Outbox.Run] sends at the same time, beside
// one that is urgent. The default is 8; it must be 1 to 1000. While a number whose API hangs
// has more than its share of them, and another one waits, its attempts that are older
// than 2 s do not count, so that there can be up to twice as many.
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
		if !message.IsNumber(phoneNumberID) {
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
// https://graph.facebook.com/v25.0. Want an http or https URL with the API's
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
// a bearer token. It is not written to the database. There is none by default, for
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
// must be safe for concurrent use, and has 15 s. If it fails or gives no token, nothing is
// sent, and the number is held: it is asked again after 5, 10, 20 s and so on.
func WithTokenSource(source func(ctx context.Context, phoneNumberID string) (string, error)) Option {
	return Option{func(s *settings) error {
		s.tokenSource = source
		if source == nil {
			return errors.New("outbox: WithTokenSource(nil): want a function")
		}
		return nil
	}}
}

// WithRecipientOrder has each recipient get the messages of a phone number in the order in
// which they were enqueued: while one is being sent, or waits for its retry, those behind
// it wait. The recipient is the "to" of the payload, or else its "recipient"; the order is
// that of [NotBefore] or of enqueueing. A message for tomorrow stops nobody today, and an
// urgent one waits for its turn, too. Give it on every machine that runs [Outbox.Run].
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

// WithMaxQueued sets how many messages may be queued or being sent. While there are as
// many, Enqueue fails with [ErrFull]. They are counted once a second at most, so there can
// be a few more, by what others enqueue in that time. By default there is no limit. It must
// be above 0.
func WithMaxQueued(messages int) Option {
	return Option{func(s *settings) error {
		s.maxQueued = messages
		if messages < 1 {
			return fmt.Errorf("outbox: WithMaxQueued(%d): want 1 or more", messages)
		}
		return nil
	}}
}

// WithOutcome has tell called for each [Outcome] of each message: when it was sent, was
// delivered or read as a webhook says, has failed, or is unknown. It is told at least once,
// also where a process dies in between, and the outcomes of one message come in their order.
// So what tell does must be safe to repeat: it can be told the same once more, after a crash
// or a timeout.
//
// tell is called by [Outbox.Run], one outcome at a time, in any process that was given this
// option; it need not be the one that sent the message or had the webhook. If it returns an
// error or panics, the message's outcomes are told again after 5, 10, 20 s and so on up to 1
// minute, while it is told of others. It has 15 s, and ctx ends with Run. An outcome that
// nobody has told is kept for as long as its message ([WithRetention]): whoever adds this
// option later is told of all of them.
func WithOutcome(tell func(context.Context, Outcome) error) Option {
	return Option{func(s *settings) error {
		s.onOutcome = tell
		if tell == nil {
			return errors.New("outbox: WithOutcome(nil): want a function")
		}
		return nil
	}}
}

// WithObserver has observe called for each [Event] in this process: for metrics. What nobody
// may miss is for [WithOutcome]. It is called at once, by whoever does the work, and must be
// safe for concurrent use and return soon; it has 1 s, and one that takes longer is not
// called again until it has returned. A panic in it is logged. WithObserver may be given
// more than once.
func WithObserver(observe func(context.Context, Event)) Option {
	return Option{func(s *settings) error {
		if observe == nil {
			return errors.New("outbox: WithObserver(nil): want a function")
		}
		s.observers = append(s.observers, &observer{observe: observe})
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
		s.transportOptions = append(s.transportOptions, opts...)
		return nil
	}}
}

// WithLogger logs what somebody should know: a message that is parked or has
// failed, a number that is held, and a Run that is taken for dead at [slog.LevelWarn],
// trouble with the database and what cannot be read at [slog.LevelError]. No payload and no token is logged. By default nothing is.
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
