package graphretry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// The defaults. The interval, the multiplier and the two maxima are the words
// of cenkalti/backoff; the values are this package's.
const (
	defaultHost            = "graph.facebook.com"
	defaultInitialInterval = 5 * time.Second
	defaultMultiplier      = 2
	defaultMaxInterval     = 3 * time.Minute
	defaultMaxElapsedTime  = 15 * time.Minute
	defaultJitter          = 0.5
	defaultMaxBufferedBody = 1 << 20
	defaultOutageThreshold = 20
	unset                  = -1
)

// Option changes one setting of a [Transport], a [Policy] or, through
// [ContextWithOptions], a single call. If two options set the same thing, the later
// one applies. A function that is given an option with an invalid value returns an
// error that names the option and the value. The zero Option sets nothing.
type Option struct {
	// transportOnly names the option if a context must not set it.
	transportOnly string
	apply         func(*settings) error
}

// settings is what the options set. It is not changed once it is in use.
type settings struct {
	initialInterval time.Duration
	multiplier      float64
	maxInterval     time.Duration
	maxElapsedTime  time.Duration // 0: no limit
	maxRetries      int
	jitter          float64 // unset: the default, or none for a schedule of the caller's
	newBackOff      func() backoff.BackOff

	rules          rules
	transientFlag  bool
	networkRetries bool

	maxBufferedBody int64
	attemptTimeout  time.Duration // 0: none
	withoutWaiting  bool

	hosts           []host
	outageThreshold int
	observers       []func(context.Context, Event)

	// What follows from the others is kept beside them, since every call asks.

	recordLimit       int64 // of a request body without GetBody, in bytes
	watchesConnection bool  // whether an attempt gets one; that allocates
}

func defaultSettings() settings {
	return settings{
		initialInterval: defaultInitialInterval,
		multiplier:      defaultMultiplier,
		maxInterval:     defaultMaxInterval,
		maxElapsedTime:  defaultMaxElapsedTime,
		maxRetries:      unlimited,
		jitter:          unset,
		rules: rules{
			CodeAPIService:         {unlimited, ReasonTransient},
			CodeServiceUnavailable: {unlimited, ReasonTransient},
			CodeSomethingWentWrong: {1, ReasonRetryOnce},
		},
		maxBufferedBody: defaultMaxBufferedBody,
		hosts:           []host{{name: defaultHost}},
		outageThreshold: defaultOutageThreshold,
	}
}

// with returns a copy of s with the options applied. Invalid options are reported
// together in one error.
func (s settings) with(opts []Option) (settings, error) {
	s.rules = maps.Clone(s.rules)
	s.observers = slices.Clip(s.observers)
	var errs []error
	for _, opt := range opts {
		if opt.apply != nil {
			errs = append(errs, opt.apply(&s))
		}
	}
	if s.initialInterval > s.maxInterval {
		errs = append(errs, fmt.Errorf("graphretry: %s is above %s: want an initial interval of at most the maximum",
			intervalOption("WithInitialInterval", s.initialInterval, defaultInitialInterval),
			intervalOption("WithMaxInterval", s.maxInterval, defaultMaxInterval)))
	}
	s.recordLimit = s.maxBufferedBody
	if s.withoutWaiting {
		s.recordLimit = 0 // it is never sent again
	}
	s.watchesConnection = s.networkRetries || s.withoutWaiting || s.attemptTimeout > 0 || len(s.observers) > 0
	return s, errors.Join(errs...)
}

// intervalOption names an option and its value, and says if that is the default:
// who never gave the option would look for it in vain.
func intervalOption(option string, interval, byDefault time.Duration) string {
	text := fmt.Sprintf("%s(%v)", option, interval)
	if interval == byDefault {
		text += " (the default)"
	}
	return text
}

// jitterOr is the jitter that was set, or else the fallback.
func (s *settings) jitterOr(fallback float64) float64 {
	if s.jitter == unset {
		return fallback
	}
	return s.jitter
}
