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
	"slices"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/internal/netfail"
)

// attempt is one attempt to send a message.
type attempt struct {
	outbox   *Outbox
	record   stored // as it was when the attempt was planned, then as it is
	sequence uint64 // of the message in the queue
	token    string

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

type attemptKey struct{}

// sender is the RoundTripper beneath the transport. It is the only thing that
// sends, and each time it writes first that it will and then how it ended.
type sender struct{ next http.RoundTripper }

func (s sender) RoundTrip(req *http.Request) (*http.Response, error) {
	a, ok := req.Context().Value(attemptKey{}).(*attempt)
	if !ok || a.reached {
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
	a.err = a.settle(end)
	return resp, end.err
}

// mark writes that the message is being sent. If somebody else has changed the
// record since it was read, the message is theirs.
func (a *attempt) mark() error {
	o := a.outbox
	began := time.Now()
	ctx, cancel := context.WithTimeout(a.lasting, o.ackWait)
	defer cancel()
	a.token = rand.Text()
	unmarked := a.record.Write
	next := a.record
	next.record = a.record.clone()
	next.State, next.Changed = StateSending, o.now()
	next.Mark = &mark{a.token, a.sequence}
	saved, err := o.store.save(ctx, next)
	if err == nil {
		a.record = saved
		if time.Since(began) < o.ackWait/2 {
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
	changed, err := a.outbox.change(a.lasting, a.record, func(r *record) bool {
		if r.Write == unmarked {
			// The mark may still be on its way. A write that changes nothing but
			// the revision keeps it from being made.
			return true
		}
		if !r.markedBy(a.token) {
			return false
		}
		if r.State == StateUnknown {
			r.Generation++
		}
		r.State, r.Mark = StateQueued, nil
		return true
	})
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
func (s sender) send(a *attempt, req *http.Request) (*http.Response, outcome) {
	// Not the context of the call: that ends when Run is to stop, and who breaks
	// off an attempt will never know how it ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), a.outbox.attemptTimeout)
	defer cancel()
	sent := req.WithContext(a.connection.Watch(ctx))
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
func (s sender) carry(a *attempt, req *http.Request) (resp *http.Response, body []byte, err error) {
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

// settle writes how the attempt ended. If the record has meanwhile been changed
// by somebody who could not know that, it is put right as far as it can be.
func (a *attempt) settle(end outcome) error {
	changed, err := a.outbox.change(a.lasting, a.record, func(r *record) bool {
		mine := r.markedBy(a.token)
		switch end.kind {
		case outcomeSent:
			switch {
			case mine && slices.Contains(r.Refuted, end.messageID):
				// Meta's word on its failure has overtaken the answer.
				a.outbox.undelivered(r, r.Graph)
			case mine || r.provedSentBy(end.messageID):
				r.toSent(end.messageID)
			default:
				return false
			}
			return true
		case outcomeUnknown:
			if !mine || r.State == StateUnknown {
				return false
			}
			r.toUnknown(end.reason)
			return true
		}
		if !mine {
			return false
		}
		switch {
		case end.kind == outcomeUnsent:
			a.outbox.retryUnsent(r, end.reason)
		case end.ofTheLane():
			a.outbox.hold(r, end)
		case end.graph != nil:
			a.outbox.retry(r, end.graph)
		default:
			r.toFailed(nil, end.reason)
		}
		return true
	})
	a.record = changed
	return err
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
