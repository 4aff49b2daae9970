package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/PuerkitoBio/rehttp"
	"github.com/cenkalti/backoff/v4"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/graphretry/graphretry"
)

// subject is one way to retry. It wraps the next RoundTripper.
type subject struct {
	name string
	wrap func(next http.RoundTripper, retried retried) http.RoundTripper
}

// retried says what every subject retries.
type retried struct {
	codes   []graphretry.Code
	dials   bool                // dials that are refused, too
	options []graphretry.Option // with which graphretry retries the same
}

// byDefault is what graphretry retries by default.
var byDefault = retried{codes: []graphretry.Code{graphretry.CodeAPIService, graphretry.CodeServiceUnavailable}}

// wrapped returns next with the subject around it, which retries what graphretry retries
// by default.
func (s subject) wrapped(next http.RoundTripper) http.RoundTripper { return s.wrap(next, byDefault) }

// The schedule that all subjects follow. It is graphretry's default.
const (
	initialInterval = 5 * time.Second
	multiplier      = 2
	maxInterval     = 3 * time.Minute
	maxElapsedTime  = 15 * time.Minute
	jitter          = 0.5 // on top
)

var (
	plain   = subject{"plain backoff", withPlainBackOff}
	breaker = subject{"failsafe-go with breaker", withBreaker}
	ours    = subject{"graphretry", func(next http.RoundTripper, r retried) http.RoundTripper { return withGraphretry(next, r.options...) }}
)

// tuned are the subjects as a careful user sets them up: they follow the same schedule and
// retry by the code of the Graph error. They are in the order of the columns.
var tuned = []subject{
	plain,
	{"go-retryablehttp", func(next http.RoundTripper, r retried) http.RoundTripper {
		return withinMaxElapsedTime{withRetryable(next, r)}
	}},
	{"rehttp", func(next http.RoundTripper, r retried) http.RoundTripper {
		return withinMaxElapsedTime{withRehttp(next, r)}
	}},
	{"failsafe-go", withFailsafe},
	breaker,
	{"failsafe-go with throttler", withThrottler},
	{"SRE throttle", withSREThrottle},
	ours,
}

// peeking are the subjects with what it costs to read the code of an answer, and with
// nothing else.
var peeking = []subject{
	nextAlone,
	{"rehttp, peek by hand", withRehttp},
	{"go-retryablehttp, peek by hand", withRetryable},
	{"failsafe-go, peek by hand", withFailsafe},
	ours,
}

// atDefaults are the subjects with their defaults. Only their waits are a millisecond, since
// they run in real time. rehttp has no defaults, so it is as in its documentation.
var atDefaults = []subject{
	nextAlone,
	{"go-retryablehttp", func(next http.RoundTripper, _ retried) http.RoundTripper {
		client := retryablehttp.NewClient()
		client.HTTPClient = &http.Client{Transport: next}
		client.Logger = nil
		client.RetryWaitMin, client.RetryWaitMax = time.Millisecond, time.Millisecond
		return &retryablehttp.RoundTripper{Client: client}
	}},
	{"rehttp", func(next http.RoundTripper, _ retried) http.RoundTripper {
		retry := rehttp.RetryAll(rehttp.RetryMaxRetries(3), rehttp.RetryTemporaryErr())
		return rehttp.NewTransport(next, retry, rehttp.ConstDelay(time.Millisecond))
	}},
	{"failsafe-go", func(next http.RoundTripper, _ retried) http.RoundTripper {
		return failsafehttp.NewRoundTripper(next, failsafehttp.NewRetryPolicyBuilder().Build())
	}},
	ours,
	{"graphretry, WithNetworkRetries", func(next http.RoundTripper, _ retried) http.RoundTripper {
		return withGraphretry(next, graphretry.WithNetworkRetries())
	}},
}

// nextAlone shows what the others add.
var nextAlone = subject{"nothing around it", func(next http.RoundTripper, _ retried) http.RoundTripper { return next }}

func withGraphretry(next http.RoundTripper, opts ...graphretry.Option) http.RoundTripper {
	transport, err := graphretry.NewTransport(next, opts...)
	if err != nil {
		panic(err) // the options are fixed
	}
	return transport
}

func withPlainBackOff(next http.RoundTripper, r retried) http.RoundTripper {
	return plainBackOff{next, r}
}

// plainBackOff is a loop by hand. It has a schedule of cenkalti/backoff for each call.
type plainBackOff struct {
	next    http.RoundTripper
	retried retried
}

func (p plainBackOff) RoundTrip(req *http.Request) (*http.Response, error) {
	schedule := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(initialInterval),
		backoff.WithMultiplier(multiplier),
		backoff.WithMaxInterval(maxInterval),
		backoff.WithRandomizationFactor(0), // ours comes on top
		backoff.WithMaxElapsedTime(0),      // judged below, with the wait to come
	)
	start := time.Now()
	for {
		resp, err := p.next.RoundTrip(req)
		if !p.retried.has(resp, err) {
			return resp, err
		}
		wait := withJitter(schedule.NextBackOff())
		if time.Since(start)+wait > maxElapsedTime {
			return resp, err
		}
		if err == nil {
			resp.Body.Close()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-req.Context().Done():
			timer.Stop()
			return nil, req.Context().Err()
		}
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = body
	}
}

func withRetryable(next http.RoundTripper, r retried) http.RoundTripper {
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{Transport: next}
	client.Logger = nil
	client.RetryMax = 1 << 30 // the time is the limit
	client.RetryWaitMin, client.RetryWaitMax = initialInterval, maxInterval
	client.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		return ctx.Err() == nil && r.has(resp, err), ctx.Err()
	}
	client.Backoff = func(_, _ time.Duration, attempt int, _ *http.Response) time.Duration {
		return withJitter(interval(attempt))
	}
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return &retryablehttp.RoundTripper{Client: client}
}

func withRehttp(next http.RoundTripper, r retried) http.RoundTripper {
	return rehttp.NewTransport(next,
		func(attempt rehttp.Attempt) bool { return r.has(attempt.Response, attempt.Error) },
		func(attempt rehttp.Attempt) time.Duration { return withJitter(interval(attempt.Index)) },
	)
}

func withFailsafe(next http.RoundTripper, r retried) http.RoundTripper {
	return failsafehttp.NewRoundTripper(next, failsafeRetry(r.has))
}

// withBreaker is failsafe-go's retry around its circuit breaker. Without
// WithSuccessThreshold each probe would be 20 calls. With a longer delay it loses more
// messages where a share of the calls fails.
func withBreaker(next http.RoundTripper, r retried) http.RoundTripper {
	guard := circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(r.has).
		WithFailureThreshold(20). // in a row, as graphretry's default
		WithSuccessThreshold(1).
		WithDelay(10 * time.Second).
		Build()
	retry := failsafeRetry(func(resp *http.Response, err error) bool {
		return err == circuitbreaker.ErrOpen || r.has(resp, err)
	})
	return failsafehttp.NewRoundTripper(refusalTakesTime{failsafehttp.NewRoundTripper(next, guard)}, retry)
}

// withThrottler is failsafe-go's retry around its adaptive throttler. By default the
// throttler refuses a share of the calls if more than a tenth of them fail.
func withThrottler(next http.RoundTripper, r retried) http.RoundTripper {
	throttler := adaptivethrottler.NewBuilder[*http.Response]().
		HandleIf(r.has).
		WithFailureRateThreshold(0.1, 20, time.Minute).
		Build()
	retry := failsafeRetry(func(resp *http.Response, err error) bool {
		return err == adaptivethrottler.ErrExceeded || r.has(resp, err)
	})
	return failsafehttp.NewRoundTripper(refusalTakesTime{failsafehttp.NewRoundTripper(next, throttler)}, retry)
}

// withSREThrottle is failsafe-go's retry around the throttle of
// https://sre.google/sre-book/handling-overload/.
func withSREThrottle(next http.RoundTripper, r retried) http.RoundTripper {
	retry := failsafeRetry(func(resp *http.Response, err error) bool {
		return err == errThrottled || r.has(resp, err)
	})
	return failsafehttp.NewRoundTripper(refusalTakesTime{&sreThrottle{next: next, retried: r}}, retry)
}

// sreThrottle sends twice as many calls as were accepted in the last two minutes. It chooses
// them at random, and refuses the others. A call that it refuses counts as a call.
type sreThrottle struct {
	next    http.RoundTripper
	retried retried

	mu                sync.Mutex
	began             time.Time
	requests, accepts [120]float64 // of each second
	second            int          // up to which they are right
}

var errThrottled = errors.New("refused by the throttle")

func (s *sreThrottle) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	requests, accepts, now := s.counts()
	s.requests[now]++
	refused := rand.Float64() < (requests-2*accepts)/(requests+1)
	s.mu.Unlock()
	if refused {
		return nil, errThrottled
	}
	resp, err := s.next.RoundTrip(req)
	if !s.retried.has(resp, err) {
		s.mu.Lock()
		_, _, now := s.counts()
		s.accepts[now]++
		s.mu.Unlock()
	}
	return resp, err
}

// counts returns the sums of the last two minutes, and the place of the present second.
func (s *sreThrottle) counts() (requests, accepts float64, now int) {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	second := int(time.Since(s.began) / time.Second)
	for ; s.second < second; s.second++ {
		next := (s.second + 1) % len(s.requests)
		s.requests[next], s.accepts[next] = 0, 0
	}
	for i := range s.requests {
		requests += s.requests[i]
		accepts += s.accepts[i]
	}
	return requests, accepts, second % len(s.requests)
}

// refusalTakesTime lets a refusal take a moment of virtual time. failsafe-go retries a call
// once more at the end of its maximum duration. If the refusal took no time, it would retry
// for ever.
type refusalTakesTime struct{ next http.RoundTripper }

func (r refusalTakesTime) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err == circuitbreaker.ErrOpen || err == adaptivethrottler.ErrExceeded || err == errThrottled {
		time.Sleep(time.Microsecond)
	}
	return resp, err
}

func failsafeRetry(retried func(*http.Response, error) bool) failsafe.Policy[*http.Response] {
	return retrypolicy.NewBuilder[*http.Response]().
		HandleIf(retried).
		WithMaxRetries(-1).
		WithMaxDuration(maxElapsedTime).
		WithDelayFunc(func(exec failsafe.ExecutionAttempt[*http.Response]) time.Duration {
			return withJitter(interval(exec.Retries()))
		}).
		ReturnLastFailure().
		Build()
}

// withinMaxElapsedTime bounds the calls of a subject that has no maximum of its own.
type withinMaxElapsedTime struct{ next http.RoundTripper }

func (w withinMaxElapsedTime) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), maxElapsedTime)
	resp, err := w.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &cancelOnClose{resp.Body, cancel}
	return resp, nil
}

// cancelOnClose keeps a context alive for as long as a body is read.
type cancelOnClose struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c *cancelOnClose) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// interval returns the interval before a retry. The first retry is number 0.
func interval(retry int) time.Duration {
	d := initialInterval
	for range retry {
		d = min(multiplier*d, maxInterval)
	}
	return d
}

// withJitter lengthens an interval by up to a half.
func withJitter(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 + jitter*rand.Float64()))
}

// has reports whether an answer has one of the codes in its Graph error, or whether a dial
// was refused. It leaves the body as it was. The other subjects need this, and graphretry
// has it.
func (r retried) has(resp *http.Response, err error) bool {
	if err != nil {
		var dial *net.OpError
		return r.dials && errors.As(err, &dial) && dial.Op == "dial"
	}
	if resp.StatusCode < http.StatusBadRequest {
		return false
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return false
	}
	var answer struct {
		Error struct {
			Code graphretry.Code `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return false
	}
	return slices.Contains(r.codes, answer.Error.Code)
}
