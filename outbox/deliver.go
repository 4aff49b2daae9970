package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
)

// verdict is what becomes of a message in the queue.
type verdict struct {
	kind   verdictKind
	wait   time.Duration // of verdictNak
	reason string        // of verdictTerm
}

type verdictKind int

const (
	verdictLeave verdictKind = iota // somebody else has it; JetStream delivers it again if they die
	verdictAck                      // it has done its work
	verdictNak                      // again, after the wait
	verdictTerm                     // never again
)

// staleWait is how long to wait for a replica that lags behind, and for
// JetStream when it does not answer.
const staleWait = time.Second

// lingering is how long Run, once it is to stop, goes on trying to write down
// how an attempt has ended.
const lingering = 30 * time.Second

// deliver does what a message in the queue asks for, and answers the queue.
func (o *Outbox) deliver(ctx context.Context, msg jetstream.Msg) (sent bool) {
	stop := o.keepAlive(msg)
	defer stop()
	// The end of Run must not break off an attempt, so what serves one lasts on,
	// for as long as an attempt may take and its end may need to be written.
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	detach := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(o.attemptTimeout+lingering, cancel)
		context.AfterFunc(lasting, func() { timer.Stop() })
	})
	defer detach()

	var end verdict
	meta, err := msg.Metadata()
	if err == nil {
		end, sent, err = o.handle(ctx, lasting, msg.Data(), meta.Sequence.Stream)
	}
	switch {
	case errors.Is(err, errUnreadable):
		// As poisonous for the next worker as for this one.
		o.logger.Error("outbox: a message cannot be read and is taken out of the queue", slog.Any("error", err))
		end = verdict{kind: verdictTerm, reason: "unreadable"}
	case err != nil && ctx.Err() == nil:
		o.logger.Error("outbox: cannot work on a message", slog.String("error", redact(err, o.accessToken)))
	}
	if err := end.tell(msg); err != nil {
		// JetStream will deliver it again, and the record says what was done.
		o.logger.Error("outbox: cannot answer the queue", slog.Any("error", err))
	}
	return sent
}

func (v verdict) tell(msg jetstream.Msg) error {
	switch v.kind {
	case verdictAck:
		return msg.Ack()
	case verdictTerm:
		return msg.TermWithReason(v.reason)
	case verdictNak:
		if v.wait <= 0 {
			return msg.Nak()
		}
		return msg.NakWithDelay(v.wait)
	}
	return nil
}

// keepAlive tells JetStream that somebody works on the message, until it is
// stopped.
func (o *Outbox) keepAlive(msg jetstream.Msg) (stop func()) {
	ticker := time.NewTicker(o.ackWait / 3)
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticker.C:
				// If it fails the connection is down, and the mark protects the
				// message from whoever gets it next.
				_ = msg.InProgress()
			case <-over:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(over)
		<-stopped
	}
}

// handle brings a message as far as it goes, and reports whether that was to Meta.
func (o *Outbox) handle(ctx, lasting context.Context, data []byte, sequence uint64) (verdict, bool, error) {
	var q queued
	if err := json.Unmarshal(data, &q); err != nil || q.ID == "" || q.Generation < 0 {
		return verdict{}, false, fmt.Errorf("%w: message %d in the queue", errUnreadable, sequence)
	}
	current, err := o.recordOf(ctx, q)
	for {
		if err != nil {
			return retryLater(ctx), false, err
		}
		if current.State == StateSending && current.Generation == q.Generation && current.Mark.Sequence == sequence {
			// Who wrote that is dead, or so cut off that JetStream thinks so.
			current, err = o.change(ctx, current, func(r *record) bool {
				if !r.markedBy(current.Mark.Token) || r.State != StateSending {
					return false
				}
				r.toUnknown("the worker that was sending it has not said how it ended")
				return true
			})
			if err == nil && current.State == StateUnknown {
				o.logParked(current)
			}
			continue
		}
		break
	}
	if end, settled := current.verdict(q.Generation, sequence); settled {
		return end, false, nil
	}
	if wait := current.NotBefore.Sub(o.now()); wait > 0 && o.now().Before(o.expiry(&current.record)) {
		return verdict{kind: verdictNak, wait: wait}, false, nil
	}
	wait, ok := o.lanes.enter(current.PhoneNumberID, time.Now())
	if !ok {
		return verdict{kind: verdictNak, wait: wait}, false, nil
	}
	if pause(ctx, wait) != nil {
		o.lanes.leave(current.PhoneNumberID, time.Now(), laneNothing, "")
		return verdict{kind: verdictNak}, false, nil
	}
	return o.attempt(ctx, lasting, current, sequence)
}

// retryLater gives back a message that JetStream did not let us work on.
func retryLater(ctx context.Context) verdict {
	if ctx.Err() != nil {
		return verdict{kind: verdictNak}
	}
	return verdict{kind: verdictNak, wait: staleWait}
}

// recordOf is the record that a message in the queue is about.
func (o *Outbox) recordOf(ctx context.Context, q queued) (stored, error) {
	current, err := o.store.load(ctx, keyOf(q.ID))
	if !errors.Is(err, ErrNotFound) || q.Generation > 0 {
		return current, err
	}
	// Who enqueued it has died, or has not come to write the record yet.
	if checkID(q.ID) != nil || !phoneNumberIDPattern.MatchString(q.PhoneNumberID) || len(q.Payload) == 0 {
		return stored{}, fmt.Errorf("%w: message %q in the queue", errUnreadable, q.ID)
	}
	current, err = o.store.save(ctx, stored{record: q.record(), key: keyOf(q.ID)})
	if errors.Is(err, errConflict) {
		return o.store.reload(ctx, stored{key: keyOf(q.ID)})
	}
	return current, err
}

// verdict is what becomes of a message in the queue, if its record says so
// already.
func (r *record) verdict(generation int, sequence uint64) (verdict, bool) {
	switch {
	case generation < r.Generation:
		return verdict{kind: verdictAck}, true
	case generation > r.Generation:
		// The record was written before the message, so this reading is an old one.
		return verdict{kind: verdictNak, wait: staleWait}, true
	case r.State == StateFailed:
		return verdict{kind: verdictTerm, reason: r.Reason}, true
	case r.ended():
		return verdict{kind: verdictAck}, true
	case r.State == StateSending && r.Mark.Sequence != sequence:
		// A copy, published again long after. The message that the attempt was
		// made for is still in the queue and will bring it to its end.
		return verdict{kind: verdictAck}, true
	}
	return verdict{}, false
}

// attempt sends a message, unless it is too old.
func (o *Outbox) attempt(ctx, lasting context.Context, current stored, sequence uint64) (verdict, bool, error) {
	expiry := o.expiry(&current.record)
	a := &attempt{outbox: o, record: current, sequence: sequence, lasting: lasting}
	var err error
	if o.now().Before(expiry) {
		err = o.send(ctx, a, expiry)
	}
	says := laneNothing
	if a.ended {
		says = a.end.lane()
	}
	held := o.lanes.leave(current.PhoneNumberID, time.Now(), says, a.end.words())
	switch {
	case a.reached && errors.Is(a.err, errConflict):
		return verdict{kind: verdictLeave}, false, nil
	case a.reached && a.err != nil && a.record.State == StateQueued:
		return retryLater(ctx), false, a.err // it could not be marked, so it was not sent
	case a.reached && a.err != nil:
		return verdict{kind: verdictLeave}, false, a.err
	case a.reached:
		sent := a.record.State == StateSent
		end, settled := a.record.verdict(current.Generation, sequence)
		if !settled && a.record.State == StateQueued {
			end = verdict{kind: verdictNak, wait: max(held, a.record.NotBefore.Sub(o.now()))}
		}
		o.logEnd(a.record)
		return end, sent, nil
	case ctx.Err() != nil:
		return verdict{kind: verdictNak}, false, nil
	case o.now().Before(expiry) && !errors.Is(err, graphretry.ErrOutage):
		// The transport knows no other reason to refuse a call than that it cannot
		// wait for the API to come back.
		return verdict{kind: verdictNak, wait: staleWait}, false, err
	}
	var graph *graphretry.Error
	errors.As(err, &graph) // what the outage began with, if it waited for its end
	changed, err := o.change(ctx, current, func(r *record) bool {
		if r.State != StateQueued || r.Generation != current.Generation {
			return false
		}
		r.toFailed(graph, reasonExpired)
		return true
	})
	if err != nil {
		return retryLater(ctx), false, err
	}
	o.logEnd(changed)
	end, _ := changed.verdict(current.Generation, sequence)
	return end, false, nil
}

// send hands the message to the transport. How it ended stands in the attempt;
// the error is of use if it was not made.
func (o *Outbox) send(ctx context.Context, a *attempt, expiry time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, attemptKey{}, a), expiry.Sub(o.now()))
	defer cancel()
	token := o.accessToken
	if o.tokenSource != nil {
		var err error
		if token, err = o.tokenSource(ctx, a.record.PhoneNumberID); err == nil {
			err = checkToken(token)
		}
		if err != nil {
			// Not wrapped: an ErrOutage or a Graph error in it is not this message's.
			return fmt.Errorf("outbox: no access token for phone number %s: %v", a.record.PhoneNumberID, err)
		}
	}
	a.accessToken = token
	u := *o.baseURL
	u.Path += "/" + a.record.PhoneNumberID + "/messages"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(a.record.Payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := o.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// logEnd logs the ends that somebody should know of.
func (o *Outbox) logEnd(r stored) {
	switch r.State {
	case StateUnknown:
		o.logParked(r)
	case StateFailed:
		attributes := []any{slog.String("id", r.ID), slog.String("phone_number_id", r.PhoneNumberID), slog.String("reason", r.Reason)}
		if r.Graph != nil {
			attributes = append(attributes, slog.Any("graph", r.Graph))
		}
		o.logger.Warn("outbox: a message has failed", attributes...)
	}
}

func (o *Outbox) logParked(r stored) {
	o.logger.Warn("outbox: a message is parked as unknown",
		slog.String("id", r.ID), slog.String("phone_number_id", r.PhoneNumberID), slog.String("reason", r.Reason))
}
