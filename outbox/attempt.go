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
	// accepted is when another message of its number was accepted last, before it began.
	accepted time.Time
	// lasting is the context for what must be brought to its end although Run is to stop:
	// an attempt that is under way, and writing down how it ended.
	lasting context.Context

	accessToken string // for its texts; "" if the next RoundTripper sets one

	reached bool   // the transport has let it pass to the sender
	marked  bool   // it was announced
	err     error  // why it was not
	body    []byte // of the answer
	broken  error  // why that is not whole
}

// sender is the RoundTripper beneath the transport. It is the only thing that sends, and
// each time it writes first that it will. Who is refused by the gate above it, or dies
// before, has sent nothing, and no mark says otherwise.
type sender struct {
	*queue
	gate     // of the transport above it
	next     http.RoundTripper
	mu       sync.Mutex
	attempts map[string]*attempt // by token: those that the transport has
}

// headerAttempt tells the sender which attempt a request is. It is not sent.
const headerAttempt = "Graphretry-Outbox-Attempt"

// expect lets the sender know of an attempt, until it is over.
func (s *sender) expect(a *attempt, header http.Header) (over func()) {
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
	delete(s.attempts, token) // a second call with it sends nothing
	s.mu.Unlock()
	if a == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errors.New("outbox: a call without an attempt of its own")
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
		err = fmt.Errorf("outbox: it took %v to announce the attempt", time.Since(began))
	}
	return err
}

// maxAnswer bounds how much of an answer is read. Meta's have less than 2 KiB.
const maxAnswer = 1 << 20

// send sends the message and reads the whole answer.
func (s *sender) send(a *attempt, req *http.Request) (*http.Response, error) {
	// Not the context of the call: that ends when Run is to stop, and who breaks
	// off an attempt will never know how it ended.
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
	lane      lane.End      // what it says of its number
	accepted  bool          // the API has accepted the message
	hold      bool          // the number is to be held at once
	reason    string        // why
	throttles bool          // the API asks for fewer messages from the number
	gate      time.Duration // for how long the gate lets nothing through
}

// make makes the attempt: it sends the message, or finds out why that cannot be. answered is
// called once it is known how it has ended, before that is written down.
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
		// Nothing was sent, and the next message of the number would fare alike.
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
			s.logger.Error("outbox: a message could not be handed to the transport, and is queued again", idOf(a.claim.ID), errorOf(a.redact(err.Error())))
			wait = time.Second
		}
		answered(end{gate: wait})
		return a.giveBack(wait)
	case !a.marked && errors.Is(a.err, store.ErrConflict):
		answered(end{})
		return nil // it is not ours any more
	case !a.marked:
		answered(end{})
		return errors.Join(a.err, a.giveBack(0))
	}
	e := a.decide(resp, err)
	answered(a.endOf(e, resp))
	attempted := eventOf(EventAttempted, &a.claim.Stored)
	attempted.Result, attempted.Graph, attempted.Reason = e.Decision.Outcome, e.Decision.Graph, e.Decision.Cause
	attempted.Wait, attempted.Lasted = e.Decision.Wait, time.Since(began)
	defer s.observe(ctx, attempted) // once it is written down
	return a.settle("end", e)
}

// roundTrip hands the request to the transport, in which functions of the user's run.
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
			// Not wrapped: an ErrOutage or a Graph error in it is not this message's.
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

// decide returns what becomes of the message.
func (a *attempt) decide(resp *http.Response, err error) message.Event {
	e := message.Event{Kind: message.Answered, Token: a.token, Accepted: a.accepted}
	unknown := func(cause string) message.Event {
		e.Decision = graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: a.redact(cause), History: a.claim.History}
		return e
	}
	status := 0
	if err == nil {
		status = resp.StatusCode
		brokeOff := fmt.Sprintf("the answer, HTTP %d, broke off: %v", status, a.broken)
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
				return unknown(fmt.Sprintf("the answer, HTTP %d, is none of Meta's", status))
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

// acceptance returns the wamid in the answer to a success, and whether it says that Meta has
// accepted the message: it names one, or is {"success":true}, as for a read receipt.
func acceptance(body []byte) (wamid string, ok bool) {
	var answer struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
		Success bool `json:"success"`
	}
	// A member of another type than Meta's is left out, and the others are read.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &answer); err != nil && !errors.As(err, &odd) {
		return "", false
	}
	if len(answer.Messages) > 0 && answer.Messages[0].ID != "" {
		return answer.Messages[0].ID, true
	}
	return "", answer.Success
}

// endOf returns what a decision says of the number.
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

// settle writes down what has become of the message, however long the database takes, until
// the Run is over.
func (a *attempt) settle(name string, e message.Event) error {
	return a.persist(func() error {
		_, err := a.sender.apply(a.lasting, name, a.claim.Stored, e)
		return err
	})
}

// giveBack puts a message back into the queue that was not sent.
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
		a.sender.logger.Error("outbox: cannot write down what has become of a message, and try again",
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
