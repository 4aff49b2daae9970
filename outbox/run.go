package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullWait is how long the queue is asked for a message before it is asked
// anew, which is what finds a cluster's new leader.
const pullWait = 5 * time.Second

// upkeepEvery is how often each Run looks after the clock and the consumers.
const upkeepEvery = time.Minute

// Run sends messages until ctx ends or the Outbox is closed, with as many
// workers as [WithWorkers] says. Any number of Runs on any number of machines
// share the work. Trouble with JetStream does not end Run; it goes on as soon as
// JetStream does.
//
// When it is to stop it takes no more messages. One that waits for the API to
// come back goes back to the queue at once; an attempt that is under way is
// brought to its end, which takes the attempt timeout at most, and 30 s more if
// JetStream does not answer. Run then returns nil. It returns [ErrClosed] if the
// Outbox was closed before, and [nats.ErrConnectionClosed] in the chain of its error
// once the connection behind the JetStream is closed for good.
//
// Phone numbers share the workers fairly: each has its turn. One worker more than
// [WithWorkers] says is for urgent messages alone.
//
// While the transport holds the API to be down, one message of each Run waits for it to
// come back, and the others stay in the queue.
func (o *Outbox) Run(ctx context.Context) error {
	ctx, done, err := o.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &running{
		Outbox: o, fail: cancel, lanes: make(map[string]bool),
		slots: make(chan struct{}, o.workers), urgentSlots: make(chan struct{}, 1), prober: make(chan struct{}, 1),
	}
	r.loops.Go(func() { r.watch(ctx) })
	r.loops.Go(func() { r.upkeep(ctx) })
	r.loops.Wait()
	r.workers.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, nats.ErrConnectionClosed) {
		return fmt.Errorf("outbox: cannot take messages from the queue: %w", cause)
	}
	return nil
}

// running is one Run. For each phone number it has a loop, which hands the messages of
// that lane to workers: here is where lanes, rates, urgency, pauses and outages decide
// what is sent next.
type running struct {
	*Outbox
	fail    context.CancelCauseFunc // ends the Run
	loops   sync.WaitGroup
	workers sync.WaitGroup

	slots       chan struct{} // a worker each
	urgentSlots chan struct{} // one for urgent messages alone
	prober      chan struct{} // whose message waits while the API is down

	mu    sync.Mutex
	lanes map[string]bool // those that have a loop
}

// addLane begins the loop of a phone number that has none.
func (r *running) addLane(ctx context.Context, number string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes[number] {
		return
	}
	r.lanes[number] = true
	r.loops.Go(func() { r.lane(ctx, number) })
}

// lane hands the messages of one phone number to workers.
func (r *running) lane(ctx context.Context, number string) {
	urgent, normal := make(chan *delivery), make(chan *delivery)
	var pulling sync.WaitGroup
	defer pulling.Wait()
	pulling.Go(func() { r.pull(ctx, number, true, urgent) })
	pulling.Go(func() { r.pull(ctx, number, false, normal) })
	for {
		var d *delivery
		select {
		case d = <-urgent:
		default:
			select {
			case d = <-urgent:
			case d = <-normal:
			case <-ctx.Done():
				return
			}
		}
		r.dispatch(ctx, d, urgent)
	}
}

// dispatch gives a message to a worker, once it is the turn of its lane and a worker is
// free. Urgent ones that come meanwhile go before it.
func (r *running) dispatch(ctx context.Context, d *delivery, urgent <-chan *delivery) {
	wait, err := r.turnOf(ctx, d.number, d.waiting)
	if err != nil {
		if ctx.Err() == nil {
			r.logger.Error("outbox: cannot lease the rate of a phone number", slog.String("phone_number_id", d.number), slog.Any("error", err))
		}
		d.giveBack(staleWait)
		return
	}
	if d.urgent {
		urgent = nil // they come one after the other
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case other := <-urgent:
		// It takes this turn, and d the next.
		r.assign(ctx, other, timer.C, nil)
		r.dispatch(ctx, d, urgent)
		return
	case <-ctx.Done():
		d.giveBack(0)
		return
	}
	r.assign(ctx, d, nil, urgent)
}

// assign gives a message to the next free worker. after, if not nil, is when it may go.
func (r *running) assign(ctx context.Context, d *delivery, after <-chan time.Time, urgent <-chan *delivery) {
	if after != nil {
		select {
		case <-after:
		case <-ctx.Done():
			d.giveBack(0)
			return
		}
	}
	var more chan struct{}
	if d.urgent {
		more = r.urgentSlots
	}
	var slot chan struct{}
	for slot == nil {
		select {
		case r.slots <- struct{}{}:
			slot = r.slots
		case more <- struct{}{}:
			slot = more
		case other := <-urgent:
			r.dispatch(ctx, other, nil)
		case <-ctx.Done():
			d.giveBack(0)
			return
		}
	}
	probes := false
	if r.outage.down.Load() {
		select {
		case r.prober <- struct{}{}:
			probes = true
		default:
			d.giveBack(0) // others may be able to send it
			<-slot
			return
		}
	}
	if !r.Outbox.lanes.enter(d.number, time.Now()) {
		d.giveBack(0)
		<-slot
		r.release(probes)
		return
	}
	r.workers.Go(func() {
		sent := r.deliver(ctx, d)
		if sent && probes {
			// The gate's own word on this can come before its word on the
			// beginning, since observers run outside its lock. What a probe shows
			// is beyond doubt.
			r.outage.end()
		}
		r.release(probes)
		<-slot
	})
}

// release lets another message wait for the API.
func (r *running) release(probes bool) {
	if probes {
		<-r.prober
		r.Outbox.lanes.wake()
	}
}

// isOpen reports whether a message of a lane can be sent now. If not, it returns how
// long to wait at most, and what is closed when that may have changed.
func (r *running) isOpen(number string) (time.Duration, <-chan struct{}, bool) {
	wait, changed, ok := r.Outbox.lanes.isOpen(number, time.Now())
	if ok && r.outage.down.Load() && len(r.prober) == cap(r.prober) {
		return pausedWait, changed, false
	}
	return wait, changed, ok
}

// pull takes the messages of a lane out of the queue, one at a time, while they can be
// sent.
func (r *running) pull(ctx context.Context, number string, urgent bool, out chan<- *delivery) {
	var consumer jetstream.Consumer
	for ctx.Err() == nil {
		if wait, changed, ok := r.isOpen(number); !ok {
			timer := time.NewTimer(max(wait, time.Millisecond))
			select {
			case <-timer.C:
			case <-changed:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		msg, err := r.next(ctx, number, urgent, &consumer)
		if errors.Is(err, nats.ErrConnectionClosed) {
			r.fail(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot take messages from the queue", slog.Any("error", err))
			_ = pause(ctx, staleWait)
		}
		if msg == nil {
			continue
		}
		d := r.newDelivery(msg, number, urgent)
		select {
		case out <- d:
		case <-ctx.Done():
			d.giveBack(0)
		}
	}
}

// next takes one message from the queue, nil if there is none.
func (o *Outbox) next(ctx context.Context, number string, urgent bool, consumer *jetstream.Consumer) (jetstream.Msg, error) {
	if *consumer == nil {
		made, err := o.makeConsumer(ctx, number, urgent)
		if err != nil {
			return nil, err
		}
		*consumer = made
	}
	ctx, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	msg, err := (*consumer).Next(jetstream.FetchContext(ctx))
	switch {
	case err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoMessages):
		return msg, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, nats.ErrNoResponders):
		*consumer = nil // somebody has deleted it, or its server is gone
	}
	return nil, err
}

// upkeep keeps the clock and the consumers as they should be.
func (r *running) upkeep(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.readStream(ctx)
		for _, number := range r.numbers() {
			for _, urgent := range []bool{false, true} {
				if err == nil {
					_, err = r.makeConsumer(ctx, number, urgent)
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot look after the queue", slog.Any("error", err))
		}
		_ = pause(ctx, upkeepEvery)
	}
}

func (r *running) numbers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	numbers := make([]string, 0, len(r.lanes))
	for number := range r.lanes {
		numbers = append(numbers, number)
	}
	return numbers
}
