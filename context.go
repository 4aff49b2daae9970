package graphretry

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// contextKey is the key of a *callOptions in a context.
type contextKey struct{}

// callOptions is what a context says of the calls made with it.
type callOptions struct {
	bypass bool
	opts   []Option
}

// ContextWithOptions returns a context whose calls have these options in addition to
// the Transport's and to those that ctx already has. [WithHosts],
// [WithOutageThreshold], [WithLogger], [WithObserver] and [WithMaxBufferedBody]
// cannot be set in a context: a call whose context has one of them, or an option
// with an invalid value, fails before anything is sent, with an error that says so.
// Calls to hosts that are not in [WithHosts] pass through without a look at the
// options, and so do those of a [ContextBypass], which stays in effect.
func ContextWithOptions(ctx context.Context, opts ...Option) context.Context {
	set := callOptions{opts: slices.Clone(opts)}
	if outer := optionsOf(ctx); outer != nil {
		set.bypass = outer.bypass
		set.opts = slices.Concat(outer.opts, opts)
	}
	return context.WithValue(ctx, contextKey{}, &set)
}

// ContextBypass returns a context whose calls go straight to the next
// RoundTripper: no retry, no gate, no event.
func ContextBypass(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, &callOptions{bypass: true})
}

// optionsOf returns what ctx says of the calls made with it, nil if nothing.
func optionsOf(ctx context.Context) *callOptions {
	set, _ := ctx.Value(contextKey{}).(*callOptions)
	return set
}

// withCallOptions returns s with the options of one call.
func (s settings) withCallOptions(set *callOptions) (settings, error) {
	var errs []error
	for _, opt := range set.opts {
		if opt.transportOnly != "" {
			errs = append(errs, fmt.Errorf("graphretry: %s cannot be set for one call: give it to NewTransport", opt.transportOnly))
		}
	}
	s, err := s.with(set.opts)
	return s, errors.Join(append(errs, err)...)
}
