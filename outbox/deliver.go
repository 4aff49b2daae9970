package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
)

// staleWait is how long to wait for a replica that lags behind, and for
// JetStream when it does not answer.
const staleWait = time.Second

// recordless is how often an entry is delivered, a second apart, before it is believed
// that it has no record.
const recordless = 30

// newerWait is how long a message is left alone that a later version has written.
const newerWait = time.Minute

// lingering is how long Run, once it is to stop, goes on trying to write down
// how an attempt has ended.
const lingering = 30 * time.Second

// signEvery is how often JetStream gets a sign of life at least: where another machine
// shortens the time that may pass without one, this one hears of it later.
const signEvery = time.Second

// delivery is an entry that was taken out of the queue. Until it is given back or done
// with, JetStream is told that somebody works on it.
type delivery struct {
	outbox   *Outbox
	msg      jetstream.Msg
	data     []byte
	number   string
	key      string // of its message, as it stands in the subject
	urgent   bool
	sequence uint64 // of the entry in the stream
	waiting  uint64 // entries behind it
	times    uint64 // that it was delivered
	ahead    ahead
	stop     func()
}

func (o *Outbox) newDelivery(msg jetstream.Msg, number string, urgent bool) *delivery {
	d := &delivery{
		outbox: o, msg: msg, data: msg.Data(), number: number, key: lastToken(msg.Subject()), urgent: urgent,
		stop: o.keepAlive(msg),
	}
	if meta, err := msg.Metadata(); err == nil {
		d.sequence, d.waiting, d.times = meta.Sequence.Stream, meta.NumPending, meta.NumDelivered
	}
	return d
}

// keepAlive tells JetStream that somebody works on a message, until it is
// stopped.
func (o *Outbox) keepAlive(msg jetstream.Msg) (stop func()) {
	every := func() time.Duration { return min(time.Duration(o.ackWait.Load())/3, signEvery) }
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(every(), func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			// If it fails the connection is down, and the mark protects the
			// message from whoever gets it next.
			_ = msg.InProgress()
			timer.Reset(every())
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// leave leaves the entry to somebody else: without a sign of life JetStream delivers it
// again.
func (d *delivery) leave() {
	d.stop()
	if d.ahead.payload != nil {
		d.outbox.ahead.Add(-int64(len(d.ahead.payload.Data)))
	}
}

// giveBack puts the entry back into the queue, to be delivered again after the wait.
func (d *delivery) giveBack(wait time.Duration) {
	d.leave()
	err := d.outbox.store.ask("answer")
	switch {
	case err != nil:
	case wait <= 0:
		err = d.msg.Nak()
	default:
		err = d.msg.NakWithDelay(wait)
	}
	d.answer(err)
}

// done takes the entry out of the queue.
func (d *delivery) done(ctx context.Context) {
	defer d.leave()
	err := d.outbox.store.remove(ctx, d.sequence)
	if err == nil {
		err = d.outbox.store.ask("answer")
	}
	if err == nil {
		err = d.msg.Ack()
	}
	d.answer(err)
}

// answer logs why the queue could not be answered. JetStream then delivers the message
// again, and the record says what was done.
func (d *delivery) answer(err error) {
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		d.outbox.logger.Error("outbox: cannot answer the queue", slog.Any("error", err))
	}
}

// verdict is what becomes of an entry in the queue.
type verdict struct {
	kind verdictKind
	wait time.Duration // of verdictAgain
}

type verdictKind int

const (
	verdictLeave verdictKind = iota // somebody else has it
	verdictDone                     // it has done its work
	verdictAgain                    // again, after the wait
)

// deliver does what an entry in the queue asks for, and answers the queue. It calls free
// before that: the next message need not wait for it.
func (r *running) deliver(ctx context.Context, d *delivery, free func(sent bool)) {
	// The end of Run must not break off an attempt, so what serves one lasts on,
	// for as long as an attempt may take and its end may need to be written.
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	detach := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(r.attemptTimeout+lingering, cancel)
		context.AfterFunc(lasting, func() { timer.Stop() })
	})
	defer detach()

	end, attempted, err := r.handle(ctx, lasting, d)
	says := laneNothing
	if attempted.made {
		says = attempted.end.lane()
	}
	if r.Outbox.lanes.leave(d.number, time.Now(), says, attempted.end.words()) {
		r.tellHeld(lasting, d.number)
	}
	if attempted.made && attempted.end.throttles() {
		if err := r.slow(lasting, d.number); err != nil {
			r.logger.Error("outbox: cannot lower the rate of a phone number", slog.String("phone_number_id", d.number), slog.Any("error", err))
		}
	}
	free(attempted.sent)
	switch {
	case errors.Is(err, errUnreadable):
		// As poisonous for the next worker as for this one.
		r.logger.Error("outbox: a message cannot be read and is taken out of the queue", slog.Any("error", err))
		end = verdict{kind: verdictDone}
	case err != nil && ctx.Err() == nil:
		r.logger.Error("outbox: cannot work on a message", slog.String("error", redact(err, r.accessToken)))
	}
	switch end.kind {
	case verdictDone:
		d.done(lasting)
	case verdictAgain:
		d.giveBack(end.wait)
	default:
		d.leave()
	}
}

// attempted is what there is to say of an attempt.
type attempted struct {
	made bool
	end  outcome
	sent bool // the record says so
}

// handle brings a message as far as it goes.
func (o *Outbox) handle(ctx, lasting context.Context, d *delivery) (verdict, attempted, error) {
	var e entry
	if err := json.Unmarshal(d.data, &e); err != nil || e.ID == "" || e.Generation < 0 {
		return verdict{}, attempted{}, fmt.Errorf("%w: entry %d in the queue", errUnreadable, d.sequence)
	}
	current, err := d.record(ctx, keyOf(e.ID))
	switch {
	case errors.Is(err, ErrNotFound) && !errors.Is(err, errDeleted) && d.times < recordless:
		// A server that has just become the leader may not know it yet.
		return verdict{kind: verdictAgain, wait: staleWait}, attempted{}, nil
	case errors.Is(err, ErrNotFound):
		return verdict{kind: verdictDone}, attempted{}, nil // it was deleted, or its record is older than the retention
	case errors.Is(err, errNewer):
		return verdict{kind: verdictAgain, wait: newerWait}, attempted{}, nil
	case err != nil:
		return retryLater(ctx), attempted{}, err
	}
	if current.State == StateSending && current.Generation == e.Generation && o.isAbandoned(current, d.sequence) {
		// Who wrote that is dead, or so cut off that JetStream thinks so.
		if current, err = o.apply(ctx, current, event{kind: eventAbandoned, token: current.Mark.Token}); err != nil {
			return retryLater(ctx), attempted{}, err
		}
	}
	if end, settled := current.verdict(e.Generation); settled {
		return end, attempted{}, nil
	}
	expiry := o.rules.expiry(&current.record)
	if current.NotBefore.After(o.now()) && o.now().Before(expiry) {
		return o.reschedule(ctx, current)
	}
	return o.attempt(ctx, lasting, current, d)
}

// isAbandoned reports whether nobody is about to say how an attempt ended: the same
// entry is delivered again; or it is another one, which has taken its place, and the
// attempt is older than any can be.
func (o *Outbox) isAbandoned(r stored, sequence uint64) bool {
	return r.Mark.Sequence == sequence || o.now().Sub(r.Changed.Time) > o.attemptTimeout+lingering
}

// reschedule has an entry that has come too early come again at its time.
func (o *Outbox) reschedule(ctx context.Context, current stored) (verdict, attempted, error) {
	wait, err := o.store.entryPut(&current, o.now())
	if err == nil {
		err = o.store.put(ctx, wait)
	}
	if err != nil {
		return retryLater(ctx), attempted{}, err
	}
	return verdict{kind: verdictDone}, attempted{}, nil
}

// retryLater gives back a message that JetStream did not let us work on.
func retryLater(ctx context.Context) verdict {
	if ctx.Err() != nil {
		return verdict{kind: verdictAgain}
	}
	return verdict{kind: verdictAgain, wait: staleWait}
}

// verdict is what becomes of an entry in the queue, if its record says so
// already.
func (r *record) verdict(generation int) (verdict, bool) {
	switch {
	case generation < r.Generation:
		return verdict{kind: verdictDone}, true
	case generation > r.Generation:
		// The record was written with the entry, so this reading is an old one.
		return verdict{kind: verdictAgain, wait: staleWait}, true
	case !r.isActive():
		return verdict{kind: verdictDone}, true
	case r.State == StateSending:
		return verdict{kind: verdictAgain, wait: staleWait}, true
	}
	return verdict{}, false
}

// attempt sends a message, unless it is too old.
func (o *Outbox) attempt(ctx, lasting context.Context, current stored, d *delivery) (verdict, attempted, error) {
	expiry := o.rules.expiry(&current.record)
	a := &attempt{outbox: o, record: current, sequence: d.sequence, lasting: lasting}
	var err error
	if o.now().Before(expiry) {
		if err = o.loadPayload(ctx, a, d); errors.Is(err, ErrNotFound) {
			return o.giveUp(ctx, current, event{kind: eventLost})
		}
		if err == nil {
			err = o.send(ctx, a, expiry)
		}
	}
	said := attempted{made: a.ended, end: a.end, sent: a.record.State == StateSent}
	switch {
	case a.reached && errors.Is(a.err, errConflict):
		return o.verdictOf(ctx, current, d.sequence), said, nil
	case a.reached && a.err != nil && a.record.State == StateQueued:
		return retryLater(ctx), said, a.err // it could not be marked, so it was not sent
	case a.reached && a.err != nil:
		return verdict{kind: verdictLeave}, said, a.err
	case a.reached:
		return a.verdict(), said, nil
	case ctx.Err() != nil:
		return verdict{kind: verdictAgain}, said, nil
	case o.now().Before(expiry) && !errors.Is(err, graphretry.ErrOutage):
		// The transport knows no other reason to refuse a call than that it cannot
		// wait for the API to come back.
		return verdict{kind: verdictAgain, wait: staleWait}, said, err
	}
	var graph *graphretry.Error
	errors.As(err, &graph) // what the outage began with, if it waited for its end
	return o.giveUp(ctx, current, event{kind: eventExpired, graph: graph})
}

// verdict is what becomes of the entry after an attempt.
func (a *attempt) verdict() verdict {
	if a.record.State == StateQueued && a.end.ofTheLane() {
		return verdict{kind: verdictAgain} // the same entry is its lane's next probe
	}
	return verdict{kind: verdictDone} // if it is queued, another one comes at its time
}

// verdictOf is what becomes of an entry whose record somebody else has changed.
func (o *Outbox) verdictOf(ctx context.Context, old stored, sequence uint64) verdict {
	current, err := o.store.reload(ctx, old.key)
	switch {
	case errors.Is(err, errDeleted):
		return verdict{kind: verdictDone}
	case err != nil:
		return retryLater(ctx)
	case current.State == StateSending && current.Mark.Sequence == sequence:
		return verdict{kind: verdictLeave} // it is with another worker
	case current.State == StateQueued && current.Generation == old.Generation:
		return verdict{kind: verdictAgain, wait: conflictWait}
	}
	end, _ := current.verdict(old.Generation)
	return end
}

// giveUp fails a message that cannot be sent.
func (o *Outbox) giveUp(ctx context.Context, current stored, e event) (verdict, attempted, error) {
	changed, err := o.apply(ctx, current, e)
	if err != nil {
		return retryLater(ctx), attempted{}, err
	}
	end, _ := changed.verdict(current.Generation)
	return end, attempted{}, nil
}

// loadPayload reads what an attempt sends.
func (o *Outbox) loadPayload(ctx context.Context, a *attempt, d *delivery) (err error) {
	msg := d.ahead.payload
	if msg == nil {
		if msg, err = o.store.last(ctx, o.store.subject(kindPayload, a.record.number, a.record.key)); err != nil {
			return err
		}
	}
	a.payload, a.header = msg.Data, http.Header(msg.Header)
	return nil
}

// send hands the message to the transport. How it ended stands in the attempt;
// the error is of use if it was not made.
func (o *Outbox) send(ctx context.Context, a *attempt, expiry time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, expiry.Sub(o.now()))
	defer cancel()
	if o.extract != nil {
		ctx = o.extract(ctx, a.header)
	}
	token := o.accessToken
	if o.tokenSource != nil {
		var err error
		if token, err = o.tokenSource(ctx, a.record.number); err == nil {
			err = checkToken(token)
		}
		if err != nil {
			// Not wrapped: an ErrOutage or a Graph error in it is not this message's.
			return fmt.Errorf("outbox: no access token for phone number %s: %v", a.record.number, err)
		}
	}
	a.accessToken = token
	u := *o.baseURL
	u.Path += "/" + a.record.number + "/messages"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(a.payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	defer o.sender.expect(a, req.Header)()
	resp, err := o.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
