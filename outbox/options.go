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

// Option changes one setting of an [Outbox]. If two options set the same thing, the later one
// applies. [Open] returns an error for an invalid value, which names the option and the value.
//
// An option applies to this Outbox alone: give the same options on every machine.
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

// WithName sets the name of the outbox. The names of its tables begin with it, as in
// graphretry_message, so that one database can have several outboxes. The default is
// "graphretry". The name has 1 to 40 lower-case letters, digits or underscores.
func WithName(name string) Option {
	return Option{func(s *settings) error {
		s.name = name
		if !store.IsName(name) {
			return fmt.Errorf("outbox: WithName(%q): want 1 to 40 lower-case letters, digits or underscores", name)
		}
		return nil
	}}
}

// WithoutMigration has [Open] only check that the tables exist and have the version that this
// program needs. It is for a database user who may not change tables: "outbox schema" prints
// the SQL for migrations of your own. By default Open creates the tables and brings them up to
// date.
func WithoutMigration() Option {
	return Option{func(s *settings) error {
		s.withoutMigrate = true
		return nil
	}}
}

// WithRetention sets how long a message that is sent, failed or unknown is kept after its last
// change. The default is 30 days. Then [Outbox.Run] deletes the message with everything about
// it, also an unknown message that nobody has settled. Its id may be used again.
//
// The retention must be at least a minute, and not below the maximum age. If Runs have
// different retentions the shortest one applies. [Open] logs a warning if the retention is
// shorter than the one before.
func WithRetention(retention time.Duration) Option {
	return Option{func(s *settings) error {
		s.retention = retention
		if retention < time.Minute {
			return fmt.Errorf("outbox: WithRetention(%v): want at least 1m", retention)
		}
		return nil
	}}
}

// WithMaxAge sets how old a message may be when it is sent. The default is 24 hours, counted
// from Enqueue or Resend by the database's clock. A message becomes failed when it is older, or
// when its next attempt would come later. The age must be above 0 and not above the retention.
// It applies to the workers of this Outbox, in place of [graphretry.WithMaxElapsedTime].
func WithMaxAge(age time.Duration) Option {
	return Option{func(s *settings) error {
		s.maxAge = age
		return positive("WithMaxAge", age)
	}}
}

// WithAttemptTimeout bounds one attempt, from connecting to the last byte of the answer. The
// default is 1 minute; it must be above 0. After an attempt that takes longer the message is
// unknown, or queued if the attempt got no connection. It takes the place of
// [graphretry.WithAttemptTimeout].
func WithAttemptTimeout(timeout time.Duration) Option {
	return Option{func(s *settings) error {
		s.attemptTimeout = timeout
		return positive("WithAttemptTimeout", timeout)
	}}
}

// WithWorkers sets how many messages one [Outbox.Run] sends at the same time. An urgent message
// may be sent in addition. The default is 8; it must be 1 to 1000.
//
// If the API hangs for one number that has more than its share of the workers, and another
// number waits, the attempts of the first number that are older than 2 s do not count. So there
// can be up to twice as many attempts.
func WithWorkers(workers int) Option {
	return Option{func(s *settings) error {
		s.workers = workers
		if workers < 1 || workers > maxWorkers {
			return fmt.Errorf("outbox: WithWorkers(%d): want 1 to %d", workers, maxWorkers)
		}
		return nil
	}}
}

// WithRate sets how many messages a second are sent from one phone number at most, by all
// machines together. The default is 80, which is Meta's limit for a number whose throughput was
// not raised. It must be finite and above 0. Give it on every machine. An answer that says that
// this is too much (130429, 4, 80007) lowers the rate for a while. See
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

// WithBaseURL sets the URL before /{phone-number-id}/messages: an http or https URL with the
// API's version and without a query. The default is https://graph.facebook.com/v25.0. The
// outage gate watches its host.
//
// Meta ends a version two years after the next one came out
// (https://developers.facebook.com/docs/graph-api/changelog/versions): set a newer one with
// WithBaseURL.
func WithBaseURL(base string) Option {
	return Option{func(s *settings) error {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			// Not the URL itself, which may have a token.
			return fmt.Errorf("outbox: WithBaseURL: want a URL such as %s, without user, query or fragment", defaultBaseURL)
		}
		u.Path = strings.TrimRight(u.Path, "/")
		s.baseURL = u
		return nil
	}}
}

// WithAccessToken sends the token with every call, as a bearer token in the Authorization
// header. The token is not written to the database. By default there is none: then the next
// [net/http.RoundTripper] must set the header.
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
		return errors.New("want a token of visible ASCII characters: it is empty or has other characters")
	}
	return nil
}

// WithTokenSource calls source before every attempt for the access token of the phone number,
// which is sent as by [WithAccessToken]. The token is not written anywhere. source must be safe
// for concurrent use, and must return within 15 s. If it fails or returns no token, nothing is
// sent, and the number is held: source is called again after 5, 10, 20 s and so on.
func WithTokenSource(source func(ctx context.Context, phoneNumberID string) (string, error)) Option {
	return Option{func(s *settings) error {
		s.tokenSource = source
		if source == nil {
			return errors.New("outbox: WithTokenSource(nil): want a function")
		}
		return nil
	}}
}

// WithRecipientOrder sends the messages from a phone number to one recipient one after the
// other, in the order of [NotBefore], or else of enqueueing. While a message is being sent or
// waits for its retry, the later ones wait. A message for tomorrow delays nothing today. An
// urgent message waits for its turn too. The recipient is the "to" of the payload, or else its
// "recipient". Give this option on every machine that calls [Outbox.Run].
func WithRecipientOrder() Option {
	return Option{func(s *settings) error {
		s.recipientOrder = true
		return nil
	}}
}

// WithKeepPayload keeps the payload of a message for as long as its record. By default the
// payload is deleted when a webhook says that the message was delivered.
func WithKeepPayload() Option {
	return Option{func(s *settings) error {
		s.keepPayload = true
		return nil
	}}
}

// WithMaxQueued sets how many messages may be queued or being sent. When there are as many,
// Enqueue fails with [ErrFull]. The messages are counted once a second at most, so others can
// enqueue a few more in that time. It must be above 0. By default there is no limit.
func WithMaxQueued(messages int) Option {
	return Option{func(s *settings) error {
		s.maxQueued = messages
		if messages < 1 {
			return fmt.Errorf("outbox: WithMaxQueued(%d): want 1 or more", messages)
		}
		return nil
	}}
}

// WithOutcome calls report for each [Outcome] of each message: when it was sent, when a webhook
// says that it was delivered or read, when it has failed, and when it is unknown. report is
// called at least once for each outcome, also if a process dies, and in order for the outcomes
// of one message. After a crash or a timeout it can be called twice for the same outcome, so it
// must be safe to repeat.
//
// [Outbox.Run] calls report for one outcome at a time, in any process that has this option. That
// can be another process than the one that sent the message or received the webhook. If report
// returns an error or panics, it is called for this message again after 5, 10, 20 s and so on
// up to 1 minute, and for other messages meanwhile. It has 15 s, and ctx ends with Run.
//
// An outcome that was not reported is kept for as long as its message ([WithRetention]). So if
// you add this option later, report is called for all of these.
func WithOutcome(report func(context.Context, Outcome) error) Option {
	return Option{func(s *settings) error {
		s.onOutcome = report
		if report == nil {
			return errors.New("outbox: WithOutcome(nil): want a function")
		}
		return nil
	}}
}

// WithObserver calls observe for each [Event] in this process. It is for metrics; for events
// that must not be missed use [WithOutcome]. The goroutine that does the work calls observe at
// once. observe must be safe for concurrent use and return within 1 s: if it takes longer it is
// not called again until it has returned. A panic in it is logged. WithObserver may be given
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

// WithPropagation carries the trace of a caller with a message. inject writes the trace into
// headers when the message is enqueued. extract reads it into the context of each attempt. With
// OpenTelemetry they are the methods of a go.opentelemetry.io/otel/propagation.TraceContext,
// whose headers are those of https://www.w3.org/TR/trace-context/:
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

// WithTransportOptions sets the options of the graphretry transport and policy that the workers
// use. They mean the same as there, with these exceptions. Messages wait in the queue, so
// [graphretry.WithMaxElapsedTime] and [graphretry.WithAttemptTimeout] have no effect: see
// [WithMaxAge] and [WithAttemptTimeout]. An observer or a logger sees each attempt as a call of
// its own, and EventGaveUp says that the queue retries later.
func WithTransportOptions(opts ...graphretry.Option) Option {
	opts = slices.Clone(opts)
	return Option{func(s *settings) error {
		s.transportOptions = append(s.transportOptions, opts...)
		return nil
	}}
}

// WithLogger sets the logger. At [slog.LevelWarn] it gets a message that has failed or is
// unknown, a number that is held, and a Run that is taken for dead. At [slog.LevelError] it
// gets failures of the database and data that cannot be read. No payload and no token is
// logged. By default nothing is logged.
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
