package outbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// attempt is one attempt to send a message.
type attempt struct {
	sender *sender
	claim  store.Claim
	token  string
	// accepted is when another message of its number was last accepted before this attempt
	// began.
	accepted time.Time
	// lasting is the context for work that Run completes when it stops: an attempt that is
	// under way, and writing its end.
	lasting context.Context

	accessToken string // to redact it; "" if the next RoundTripper sets one

	reached bool   // the transport has called the sender
	marked  bool   // the mark was written
	err     error  // why the mark was not written
	body    []byte // the answer's
	broken  error  // why the body is not complete
}

// sender is the RoundTripper beneath the transport. Only it sends, and it writes a mark before
// each attempt. A message that the gate refuses, or whose process dies earlier, was not sent
// and has no mark.
type sender struct {
	*queue
	gate     // the gate of the transport above it
	next     http.RoundTripper
	mu       sync.Mutex
	attempts map[string]*attempt // those that the transport has, by token
}

// headerAttempt is the header by which the sender finds the attempt of a request. It is not
// sent.
const headerAttempt = "Graphretry-Outbox-Attempt"

// expect registers an attempt with the sender, until forget is called.
func (s *sender) expect(a *attempt, header http.Header) (forget func()) {
	a.token = rand.Text()
	header.Set(headerAttempt, a.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[a.token] = a
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.attempts, a.token)
	}
}

func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	token := req.Header.Get(headerAttempt)
	a := s.attempts[token]
	delete(s.attempts, token) // a second call with this token sends nothing
	s.mu.Unlock()
	if a == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errors.New("outbox: the call belongs to no attempt")
	}
	a.reached = true
	if a.err = a.mark(); a.err != nil {
		req.Body.Close()
		// Not wrapped: a connection to the database that breaks says nothing of the API.
		return nil, errors.New(a.err.Error())
	}
	a.marked = true
	return s.send(a, req)
}

// mark writes that the message is being sent.
func (a *attempt) mark() error {
	ctx, cancel := context.WithTimeout(a.lasting, a.sender.life.marking)
	defer cancel()
	began := time.Now()
	err := a.sender.store.Mark(ctx, &a.claim, a.token)
	if err == nil && time.Since(began) > a.sender.life.marking {
		err = fmt.Errorf("outbox: it took %v to write the mark of the attempt", time.Since(began))
	}
	return err
}

// maxAnswer bounds how much of an answer is read. Meta's have less than 2 KiB.
const maxAnswer = 1 << 20

// send sends the message and reads the whole answer.
func (s *sender) send(a *attempt, req *http.Request) (*http.Response, error) {
	// Not the context of the call, which ends when Run is to stop: nobody could find out how an
	// attempt ended that was cancelled.
	ctx := context.WithoutCancel(req.Context())
	type answer struct {
		resp *http.Response
		body []byte
		err  error
	}
	answers := make(chan answer, 1)
	err := callUser(ctx, s.logger, "the next RoundTripper", s.attemptTimeout, func(ctx context.Context) {
		sent := req.Clone(ctx)
		sent.Header.Del(headerAttempt)
		resp, err := s.next.RoundTrip(sent)
		if err == nil && (resp == nil || resp.Body == nil) {
			err = errors.New("outbox: the next RoundTripper returned no response")
		}
		if err != nil {
			answers <- answer{nil, nil, err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		if err == nil && len(body) > maxAnswer {
			err = fmt.Errorf("outbox: the answer is longer than %d bytes", maxAnswer)
		}
		if resp.Request == nil {
			resp.Request = sent
		}
		answers <- answer{resp, body, err}
	})
	if err != nil {
		return nil, err
	}
	got := <-answers
	if got.resp == nil {
		return nil, got.err
	}
	a.body, a.broken = got.body, got.err
	got.resp.Body = io.NopCloser(bytes.NewReader(got.body))
	return got.resp, nil
}

// end is how an attempt has ended.
type end struct {
	number    string
	began     time.Time
	probe     bool          // it was made while the API was down
	isProbe   bool          // it was made while its number was held
	lane      lane.End      // what it says about its number
	accepted  bool          // the API has accepted the message
	hold      bool          // the number is to be held at once
	reason    string        // why the number is to be held
	throttles bool          // the API asks for fewer messages from the number
	gate      time.Duration // how long the gate lets nothing through
}

// make makes the attempt: it sends the message, or finds out why it cannot. It calls answered
// when the end is known, before it writes the end.
func (a *attempt) make(ctx context.Context, answered func(end)) error {
	s := a.sender
	claimed := eventOf(EventClaimed, &a.claim.Stored)
	claimed.Age = s.now().Sub(a.claim.Due)
	s.observe(ctx, claimed)
	switch now := s.now(); {
	case !now.Before(s.rules.Expiry(&a.claim.Record)):
		answered(end{})
		return a.settle("expired", s.expired())
	case a.claim.Payload == "":
		answered(end{})
		return a.settle("lost", message.Event{Kind: message.Lost})
	}
	req, err := a.request(ctx)
	if err != nil {
		text := a.redact(err.Error())
		// Nothing was sent, and the next message of the number would get the same error.
		answered(end{hold: true, reason: text})
		return a.giveBack(0)
	}
	defer s.expect(a, req.Header)()
	began := time.Now()
	resp, err := a.roundTrip(req)
	switch {
	case !a.reached:
		var waited *graphretry.WaitError
		var wait time.Duration
		if errors.As(err, &waited) && errors.Is(err, graphretry.ErrOutage) {
			wait = max(waited.Wait, time.Millisecond)
		} else if ctx.Err() == nil {
			s.logger.Error("outbox: the transport has not taken a message, which is queued again", idOf(a.claim.ID), errorOf(a.redact(err.Error())))
			wait = time.Second
		}
		answered(end{gate: wait})
		return a.giveBack(wait)
	case !a.marked && errors.Is(a.err, store.ErrConflict):
		answered(end{})
		return nil // this Run does not have the message any more
	case !a.marked:
		answered(end{})
		return errors.Join(a.err, a.giveBack(0))
	}
	e := a.decide(resp, err)
	answered(a.endOf(e, resp))
	attempted := eventOf(EventAttempted, &a.claim.Stored)
	attempted.Result, attempted.Graph, attempted.Reason = e.Decision.Outcome, e.Decision.Graph, e.Decision.Cause
	attempted.Wait, attempted.Lasted = e.Decision.Wait, time.Since(began)
	defer s.observe(ctx, attempted) // after the end is written
	return a.settle("end", e)
}

// roundTrip gives the request to the transport, which calls functions of the user.
func (a *attempt) roundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			resp, err = nil, fmt.Errorf("outbox: a function given to WithTransportOptions panicked: %v", thrown)
			a.sender.logger.Error("outbox: a function given to WithTransportOptions panicked",
				panicOf(a.redact(fmt.Sprint(thrown))), stackOf(debug.Stack()))
		}
	}()
	return a.sender.transport.RoundTrip(req)
}

// request returns the call to the API.
func (a *attempt) request(ctx context.Context) (*http.Request, error) {
	s, number := a.sender, a.claim.Number
	if s.extract != nil && a.claim.Headers != "" {
		var header http.Header
		extracted := ctx
		err := json.Unmarshal([]byte(a.claim.Headers), &header)
		if err == nil {
			err = callUser(ctx, s.logger, "the second function given to WithPropagation", userTimeout, func(context.Context) {
				extracted = s.extract(ctx, header)
			})
		}
		if err != nil {
			s.logger.Error("outbox: a message is sent without its trace", idOf(a.claim.ID), errorOf(err.Error()))
		} else {
			ctx = extracted
		}
	}
	token := s.accessToken
	if s.tokenSource != nil {
		var failed error
		err := callUser(ctx, s.logger, "the function given to WithTokenSource", userTimeout, func(ctx context.Context) {
			if token, failed = s.tokenSource(ctx, number); failed == nil {
				failed = checkToken(token)
			}
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			// Not wrapped: an ErrOutage or a Graph error in it is not about this message.
			return nil, fmt.Errorf("no access token: %v", err)
		}
	}
	a.accessToken = token
	body, err := message.Body(a.claim.ID, []byte(a.claim.Payload))
	if err != nil {
		return nil, err
	}
	u := *s.baseURL
	u.Path += "/" + number + "/messages"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// decide returns the event that the answer is for the message.
func (a *attempt) decide(resp *http.Response, err error) message.Event {
	e := message.Event{Kind: message.Answered, Token: a.token, Accepted: a.accepted}
	unknown := func(cause string) message.Event {
		e.Decision = graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: a.redact(cause), History: a.claim.History}
		return e
	}
	status := 0
	if err == nil {
		status = resp.StatusCode
		brokeOff := fmt.Sprintf("the answer, HTTP %d, is incomplete: %v", status, a.broken)
		if status/100 == 2 {
			var isSent bool
			if e.MessageID, isSent = acceptance(a.body); !isSent {
				graph, isGraph := graphretry.ParseError(status, resp.Header, a.body)
				switch {
				case isGraph:
					// A gateway, or a batch, has put an error into a success.
					e.Decision = a.sender.rules.Policy.Decide(graph, a.claim.History)
					return a.decided(e, status)
				case a.broken != nil:
					return unknown(brokeOff)
				}
				return unknown(fmt.Sprintf("the answer, HTTP %d, is not Meta's", status))
			}
		} else if a.broken != nil {
			if _, isGraph := graphretry.ErrorFromResponse(resp); !isGraph {
				return unknown(brokeOff)
			}
		}
	}
	e.Decision = a.sender.rules.Policy.Next(resp, err, a.claim.History)
	return a.decided(e, status)
}

func (a *attempt) decided(e message.Event, status int) message.Event {
	e.Decision.Cause = a.redact(e.Decision.Cause)
	e.Blame = message.BlameOf(e.Decision, status)
	return e
}

// acceptance returns the wamid of a success, and reports whether the answer says that Meta has
// accepted the message: it names a message, or is {"success":true}, as for a read receipt.
func acceptance(body []byte) (wamid string, ok bool) {
	var answer struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
		Success bool `json:"success"`
	}
	// A member whose type is not Meta's is left out, and the others are read.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &answer); err != nil && !errors.As(err, &odd) {
		return "", false
	}
	if len(answer.Messages) > 0 && answer.Messages[0].ID != "" {
		return answer.Messages[0].ID, true
	}
	return "", answer.Success
}

// endOf returns what a decision says about the number.
func (a *attempt) endOf(decided message.Event, resp *http.Response) end {
	d := decided.Decision
	e := end{lane: lane.Up, reason: d.Cause, accepted: d.Outcome == graphretry.OutcomeSent}
	if e.reason == "" && d.Graph != nil {
		e.reason = d.Graph.Error()
	}
	switch {
	case d.Outcome == graphretry.OutcomeUnknown:
		e.lane = lane.Ambiguous
	case d.Outcome == graphretry.OutcomeHeld && d.Graph == nil && resp == nil:
		e.lane = lane.Nothing // it got no connection
	case decided.Blame != message.BlameMessage && a.claim.IsOwn(a.accepted):
		e.lane = lane.Own
	case decided.Blame != message.BlameMessage:
		e.lane = lane.Bad
	}
	e.throttles = d.Graph != nil && d.Graph.Class() == graphretry.ClassThrottle && d.Graph.Code != graphretry.CodePairRateLimitHit
	return e
}

// settle writes what has become of the message, and retries until the Run has ended.
func (a *attempt) settle(name string, e message.Event) error {
	return a.persist(func() error {
		_, err := a.sender.apply(a.lasting, name, a.claim.Stored, e)
		return err
	})
}

// giveBack puts a message that was not sent back into the queue.
func (a *attempt) giveBack(wait time.Duration) error {
	due := a.claim.Due
	if wait > 0 {
		due = a.sender.atMost().Add(wait)
	}
	return a.persist(func() error { return a.sender.store.GiveBack(a.lasting, &a.claim, a.token, due) })
}

func (a *attempt) persist(do func() error) error {
	for {
		err := do()
		if err == nil || errors.Is(err, store.ErrNotFound) || a.lasting.Err() != nil {
			return err
		}
		a.sender.logger.Error("outbox: cannot write what has become of a message, and retries",
			idOf(a.claim.ID), errorOf(a.redact(err.Error())))
		select {
		case <-time.After(time.Second):
		case <-a.lasting.Done():
		}
	}
}

// redact returns a text without the access token.
func (a *attempt) redact(text string) string {
	if a.accessToken != "" {
		text = strings.ReplaceAll(text, a.accessToken, "[redacted]")
	}
	return message.Shorten(text)
}
