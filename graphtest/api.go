package graphtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graphretry/graphretry"
)

// An API is a fake Graph API. It is an [http.Handler] and an [http.RoundTripper];
// calls of both kinds follow the same script and are in the same record. [New] makes
// one. Every method may be called at any moment from any goroutine.
//
// # The script
//
// The first of these rules that has an answer for a call gives it:
//
//  1. the queue: [API.AnswerNext];
//  2. the times it is down: [API.Down], [API.DownAfter] and [API.DownBetween];
//  3. the share that is drawn at random: [API.AnswerShare];
//  4. the limit of calls per second: [API.SetLimit];
//  5. the request itself: one that is well formed succeeds.
//
// If a rule gives a success, the answer is a success even if the request is wrong,
// but a message that is not well formed is not accepted. Each part of a batch (POST
// / with the parameter batch) is a call.
//
// How long the answer takes is set separately ([API.SetLatency],
// [API.SetSlowShare]). What happens to a call is decided when its body has been
// read. A message is accepted then, even if its answer comes later, or never because
// the caller ends the call.
//
// # Wrong arguments
//
// After a wrong argument, such as a share above 1 or a negative number of calls,
// every call fails: in memory with an error, and over HTTP with a plain-text 500
// that is not a Graph error. The text names the method and the argument. Nothing
// panics.
type API struct {
	// open counts the answers given in memory whose Body is not closed yet.
	open atomic.Int64

	mu     sync.Mutex // guards all below
	misuse error      // the first wrong argument

	queue    []queued
	downs    []downtime // by from
	shares   []share
	limit    int // 0: none
	limited  Answer
	admitted []time.Time // calls the limit let through in the last second

	latency   time.Duration
	slowShare float64
	slowUpTo  time.Duration

	// Each purpose has a source of its own, so that the calls a seed fails stay
	// the same whatever else is drawn.
	failing, slowing, naming *rand.Rand

	record record
}

// queued is an answer for the next calls, as many as n.
type queued struct {
	n      int
	answer Answer
}

type downtime struct {
	from, until time.Time
	answer      Answer
}

type share struct {
	of     float64
	answer Answer
}

// An Option changes what [New] makes.
type Option func(*API)

// WithSeed sets the seed of everything that is random: which calls fail, which are
// slow and how slow, and the ids in the answers. The default is 1. The same seed and
// the same calls in the same order give the same answers.
func WithSeed(seed uint64) Option {
	return func(a *API) {
		a.failing = rand.New(rand.NewPCG(seed, 1))
		a.slowing = rand.New(rand.NewPCG(seed, 2))
		a.naming = rand.New(rand.NewPCG(seed, 3))
	}
}

// New returns an API that accepts every well-formed call at once.
func New(options ...Option) *API {
	a := &API{record: newRecord()}
	WithSeed(1)(a)
	for _, option := range options {
		option(a)
	}
	return a
}

// AnswerNext answers the next n calls with answer, after the answers of earlier
// calls of AnswerNext. The zero Answer is a success, even if the request is wrong,
// so a queue may have failures and successes in any order. A negative n is a wrong
// argument.
func (a *API) AnswerNext(n int, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n < 0 {
		a.misused("AnswerNext(%d, ...): the number of calls must not be negative", n)
		return
	}
	if a.usable("AnswerNext", answer) && n > 0 {
		a.queue = append(a.queue, queued{n, answer.clone()})
	}
}

// DownBetween takes the API down: calls that arrive at from or later, and before
// until, get answer. The zero Answer means code 2, API Service. If such times
// overlap, the answer is that of the one that began first. An until before from is a
// wrong argument.
func (a *API) DownBetween(from, until time.Time, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until.Before(from) {
		a.misused("DownBetween(%v, %v, ...): it must not end before it begins", from, until)
		return
	}
	a.down("DownBetween", from, until, answer)
}

// Down takes the API down from now on for length, which must not be negative. The zero
// Answer means code 2, API Service.
func (a *API) Down(length time.Duration, answer Answer) { a.DownAfter(0, length, answer) }

// DownAfter is [API.DownBetween] counted from now: the API goes down after a
// delay and stays down for length. Neither may be negative.
func (a *API) DownAfter(delay, length time.Duration, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if delay < 0 || length < 0 {
		a.misused("DownAfter(%v, %v, ...): neither delay nor length may be negative", delay, length)
		return
	}
	from := time.Now().Add(delay)
	a.down("DownAfter", from, from.Add(length), answer)
}

func (a *API) down(method string, from, until time.Time, answer Answer) {
	answer = answer.or(graphretry.CodeAPIService)
	if !a.usable(method, answer) {
		return
	}
	i, _ := slices.BinarySearchFunc(a.downs, from, func(d downtime, from time.Time) int {
		if d.from.After(from) {
			return 1
		}
		return -1 // an equal one stays before the new one
	})
	a.downs = slices.Insert(a.downs, i, downtime{from, until, answer.clone()})
}

// AnswerShare answers a random share of the calls with answer. The zero Answer means
// code 2, API Service. The shares of several calls of AnswerShare add up: a call
// gets at most one of the answers. A share that is not between 0 and 1, or that
// takes the sum above 1, is a wrong argument.
func (a *API) AnswerShare(of float64, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer = answer.or(graphretry.CodeAPIService)
	if !isShare(of) {
		a.misused("AnswerShare(%v, ...): a share is between 0 and 1", of)
		return
	}
	sum := of
	for _, s := range a.shares {
		sum += s.of
	}
	if sum > 1+1e-9 {
		a.misused("AnswerShare(%v, ...): with it the shares add up to %v, and 1 is all calls", of, sum)
		return
	}
	if a.usable("AnswerShare", answer) {
		a.shares = append(a.shares, share{of, answer.clone()})
	}
}

// SetLimit sets how many calls are let through in any one second. A call above the
// limit gets answer and does not count; the zero Answer means code 130429, Rate
// limit hit. Calls that an earlier rule answers do not count either. It replaces an
// earlier limit; 0 removes it. A negative limit is a wrong argument.
func (a *API) SetLimit(perSecond int, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer = answer.or(graphretry.CodeRateLimitHit)
	if perSecond < 0 {
		a.misused("SetLimit(%d, ...): a limit must not be negative; 0 removes it", perSecond)
		return
	}
	if a.usable("SetLimit", answer) {
		a.limit, a.limited = perSecond, answer.clone()
	}
}

// SetLatency sets how long every answer takes. The default is 0: an answer comes at
// once. A negative latency is a wrong argument.
func (a *API) SetLatency(latency time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if latency < 0 {
		a.misused("SetLatency(%v): a latency must not be negative", latency)
		return
	}
	a.latency = latency
}

// SetSlowShare makes a random share of the answers slower, each by a random time up
// to upTo. It replaces an earlier share. A share that is not between 0 and 1 and a
// negative upTo are wrong arguments.
func (a *API) SetSlowShare(of float64, upTo time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !isShare(of):
		a.misused("SetSlowShare(%v, ...): a share is between 0 and 1", of)
	case upTo < 0:
		a.misused("SetSlowShare(..., %v): a time must not be negative", upTo)
	default:
		a.slowShare, a.slowUpTo = of, upTo
	}
}

// Clear removes every rule: the queue, the times it is down, shares, limit and
// latency. The record stays.
func (a *API) Clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue, a.downs, a.shares, a.admitted = nil, nil, nil, nil
	a.limit, a.latency, a.slowShare = 0, 0, 0
}

// isShare is false for NaN too.
func isShare(f float64) bool { return f >= 0 && f <= 1 }

// usable reports whether answer can be given, and notes what is wrong if not.
func (a *API) usable(method string, answer Answer) bool {
	if err := answer.check(); err != nil {
		a.misused("%s: %w", method, err)
		return false
	}
	return true
}

// misused notes a wrong argument. The first one is kept: what comes after it may
// be its consequence.
func (a *API) misused(format string, args ...any) {
	if a.misuse == nil {
		a.misuse = fmt.Errorf("graphtest: "+format, args...)
	}
}

// clone is a copy whose header and body are its own, since a script outlives
// the call that set it.
func (answer Answer) clone() Answer {
	answer.Header = answer.Header.Clone()
	answer.Body = bytes.Clone(answer.Body)
	return answer
}

// or is the answer itself, or one with code if it is the zero Answer.
func (answer Answer) or(code graphretry.Code) Answer {
	if reflect.ValueOf(answer).IsZero() {
		return Answer{Code: code}
	}
	return answer
}

// handle settles what happens to a call that has been read, and records it.
func (a *API) handle(r *request) (*reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.misuse != nil {
		return nil, a.misuse
	}
	now := time.Now()
	if parts, ok := r.batch(); ok && !r.broken {
		return a.answerBatch(r, parts, now), nil
	}
	return a.settle(r, now), nil
}

// settle puts a call to the script, and records it. It returns nil for a call that
// broke off.
func (a *API) settle(r *request, now time.Time) *reply {
	isDown, downAnswer := a.downAt(now)
	call := Call{
		Time: now, Method: r.method, Path: r.path, Body: a.record.keep(r.body), Size: r.size, Down: isDown,
	}
	if r.broken {
		a.record.add(call)
		return nil
	}
	answer, scripted := a.pick(now, isDown, downAnswer)
	reply := a.answer(r, answer, scripted, &call)
	reply.delay = answer.Delay + a.latency
	if a.slowShare > 0 && a.slowing.Float64() < a.slowShare {
		reply.delay += time.Duration(a.slowing.Float64() * float64(a.slowUpTo))
	}
	a.record.add(call)
	return reply
}

// pick is the script: it returns the answer of the first rule that has one for a
// call at now, and whether it is a rule's.
func (a *API) pick(now time.Time, isDown bool, downAnswer Answer) (Answer, bool) {
	if len(a.queue) > 0 {
		next := &a.queue[0]
		answer := next.answer
		if next.n--; next.n == 0 {
			a.queue = a.queue[1:]
		}
		return answer, true
	}
	if isDown {
		return downAnswer, true
	}
	if len(a.shares) > 0 {
		drawn := a.failing.Float64()
		for _, s := range a.shares {
			if drawn < s.of {
				return s.answer, true
			}
			drawn -= s.of
		}
	}
	if a.limit > 0 && !a.admit(now) {
		return a.limited, true
	}
	return Answer{}, false
}

// downAt drops the times that are over, since a later call will not ask for them.
func (a *API) downAt(now time.Time) (bool, Answer) {
	a.downs = slices.DeleteFunc(a.downs, func(d downtime) bool { return !now.Before(d.until) })
	if len(a.downs) > 0 && !now.Before(a.downs[0].from) {
		return true, a.downs[0].answer
	}
	return false, Answer{}
}

// admit reports whether the limit leaves room for a call at now, and takes it.
func (a *API) admit(now time.Time) bool {
	over := 0
	for over < len(a.admitted) && now.Sub(a.admitted[over]) >= time.Second {
		over++
	}
	a.admitted = a.admitted[over:]
	if len(a.admitted) >= a.limit {
		return false
	}
	a.admitted = append(a.admitted, now)
	return true
}

var (
	_ http.Handler      = (*API)(nil)
	_ http.RoundTripper = (*API)(nil)
)
