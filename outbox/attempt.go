package outbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/internal/netfail"
)

// attempt is one attempt to send a message.
type attempt struct {
	outbox   *Outbox
	record   stored // as it was when the attempt was planned, then as it is
	sequence uint64 // of the entry in the queue
	token    string
	payload  []byte
	header   http.Header // what travels with the payload

	// lasting is the context for what must be brought to its end although Run is
	// to stop: an attempt that is under way, and writing down how it ended.
	lasting context.Context

	accessToken string             // for its texts; "" if the next RoundTripper sets one
	connection  netfail.Connection // whether it got one

	reached bool // the transport has let it pass to the sender
	ended   bool // it was made, and end is how it ended
	end     outcome
	err     error // why the record may not say how the attempt ended
}

// sender is the RoundTripper beneath the transport. It is the only thing that
// sends, and each time it writes first that it will and then how it ended.
type sender struct {
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
		return nil, a.err
	}
	resp, end := s.send(a, req)
	a.ended, a.end = true, end
	a.record, a.err = a.outbox.apply(a.lasting, a.record, event{kind: eventAnswered, token: a.token, end: end})
	return resp, end.err
}

// mark writes that the message is being sent. If somebody else has changed the
// record since it was read, the message is theirs.
func (a *attempt) mark() error {
	o := a.outbox
	began := time.Now()
	ackWait := time.Duration(o.ackWait.Load())
	ctx, cancel := context.WithTimeout(a.lasting, ackWait)
	defer cancel()
	unmarked := a.record.Write
	next := a.record
	next.record, _ = step(a.record.record, event{kind: eventMarked, token: a.token, sequence: a.sequence}, o.now(), &o.rules)
	saved, err := o.store.save(ctx, next)
	if err == nil {
		a.record = saved
		if time.Since(began) < ackWait/2 {
			return nil
		}
		// So late that another worker may have the message by now, and somebody
		// may be about to decide that it was not sent.
		err = errors.New("outbox: it took too long to announce the attempt")
	}
	if errors.Is(err, errConflict) {
		return err
	}
	// It may be marked or not. Nothing was sent, so the mark must go.
	return errors.Join(err, a.unmark(unmarked))
}

// unmark takes back the mark of an attempt that was not made. unmarked is the
// write of the record before it.
func (a *attempt) unmark(unmarked string) error {
	changed, err := a.outbox.apply(a.lasting, a.record, event{kind: eventUnmarked, token: a.token, write: unmarked})
	a.record = changed
	return err
}

// outcome is how an attempt ended.
type outcome struct {
	kind      outcomeKind
	status    int               // of the answer, 0 for none
	messageID string            // of outcomeSent
	graph     *graphretry.Error // of outcomeRefused; nil: an answer without a Graph error
	reason    string
	err       error // what the transport above gets to see in place of a response
}

type outcomeKind int

const (
	outcomeUnknown outcomeKind = iota // it may have been sent
	outcomeSent                       // Meta has taken it
	outcomeRefused                    // Meta has not taken it, and said so
	outcomeUnsent                     // no connection could be made
)

// maxAnswer bounds how much of an answer is read. Meta's have less than 2 KiB.
const maxAnswer = 1 << 20

// send sends the message and reads the whole answer.
func (s *sender) send(a *attempt, req *http.Request) (*http.Response, outcome) {
	// Not the context of the call: that ends when Run is to stop, and who breaks
	// off an attempt will never know how it ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), a.outbox.attemptTimeout)
	defer cancel()
	sent := req.Clone(a.connection.Watch(ctx))
	sent.Header.Del(headerAttempt)
	resp, body, err := s.carry(a, sent)
	if resp == nil {
		text := redact(err, a.accessToken)
		if netfail.NeverSent(err) || a.connection.Refused() {
			return nil, outcome{kind: outcomeUnsent, reason: text, err: err}
		}
		return nil, outcome{reason: text, err: err}
	}
	if len(body) > maxAnswer {
		err = fmt.Errorf("outbox: the answer is longer than %d bytes", maxAnswer)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if resp.Request == nil {
		resp.Request = sent
	}
	end := judge(resp, body, redact(err, a.accessToken))
	end.status = resp.StatusCode
	return resp, end
}

// carry keeps a panic of the next RoundTripper, or of the body of its response, from
// ending the program, whose other workers may be in the middle of an attempt. It
// returns a response whose body was read, as far as that went, or an error.
func (s *sender) carry(a *attempt, req *http.Request) (resp *http.Response, body []byte, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			resp, body, err = nil, nil, fmt.Errorf("outbox: the next RoundTripper panicked: %v", thrown)
			a.outbox.logger.Error("outbox: the next RoundTripper panicked",
				slog.String("panic", redact(err, a.accessToken)), slog.String("stack", string(debug.Stack())))
		}
	}()
	resp, err = s.next.RoundTrip(req)
	if err == nil && (resp == nil || resp.Body == nil) {
		err = errors.New("outbox: the next RoundTripper returned no response")
	}
	if err != nil {
		return nil, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	resp.Body.Close()
	return resp, body, err
}

// judge tells what an answer says. broken is why it was not read to its end, if
// so; a Graph error or a success that is whole nevertheless counts.
func judge(resp *http.Response, body []byte, broken string) outcome {
	if resp.StatusCode >= http.StatusBadRequest {
		if e, ok := graphretry.ErrorFromResponse(resp); ok {
			return outcome{kind: outcomeRefused, graph: e}
		}
		reason := fmt.Sprintf("HTTP %d without a Graph error", resp.StatusCode)
		if resp.StatusCode < http.StatusInternalServerError && broken == "" {
			return outcome{kind: outcomeRefused, reason: reason}
		}
		return outcome{reason: reason} // a gateway's, and who knows what lies behind it
	}
	var success map[string]json.RawMessage
	if resp.StatusCode < http.StatusMultipleChoices && json.Unmarshal(body, &success) == nil && success != nil {
		var messages []struct {
			ID string `json:"id"`
		}
		o := outcome{kind: outcomeSent}
		if json.Unmarshal(success["messages"], &messages) == nil && len(messages) > 0 {
			o.messageID = messages[0].ID
		}
		return o
	}
	if broken != "" {
		return outcome{reason: fmt.Sprintf("the answer, HTTP %d, broke off: %s", resp.StatusCode, broken)}
	}
	return outcome{reason: fmt.Sprintf("the answer, HTTP %d, is none of Meta's", resp.StatusCode)}
}

// redact puts an error into words without the access token.
func redact(err error, token string) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if token != "" {
		text = strings.ReplaceAll(text, token, "[redacted]")
	}
	return shorten(text)
}
