package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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

// laneLoop is the loop of one phone number: it hands its messages to workers.
type laneLoop struct {
	*running
	number           string
	urgents, normals chan *delivery
	urgent, normal   *delivery // the next of each
	turn             time.Time // when the next message may go; zero: that was not leased
}

func (r *running) lane(ctx context.Context, number string) {
	l := &laneLoop{running: r, number: number, urgents: make(chan *delivery), normals: make(chan *delivery)}
	if err := errors.Join(r.rescue(ctx, number, true), r.rescue(ctx, number, false)); err != nil && ctx.Err() == nil {
		r.logger.Error("outbox: cannot look after the queue", slog.Any("error", err))
	}
	var pulling sync.WaitGroup
	pulling.Go(func() { r.pull(ctx, number, true, l.urgents) })
	pulling.Go(func() { r.pull(ctx, number, false, l.normals) })
	for ctx.Err() == nil {
		l.handOut(ctx)
	}
	l.giveBack(0)
	pulling.Wait()
}

// handOut gives the next message to a worker, once it is the lane's turn and one is free.
// It returns before that if an urgent one comes in between, which goes first.
func (l *laneLoop) handOut(ctx context.Context) {
	if l.urgent == nil && l.normal == nil {
		select {
		case l.urgent = <-l.urgents:
		case l.normal = <-l.normals:
		case <-ctx.Done():
			return
		}
	}
	if _, _, ok := l.isOpen(l.number); !ok {
		l.giveBack(0) // others may be able to send it
		return
	}
	if l.turn.IsZero() {
		wait, err := l.rateWait(ctx, l.number, l.first().waiting)
		if err != nil {
			if ctx.Err() == nil {
				l.logger.Error("outbox: cannot lease the rate of a phone number", slog.String("phone_number_id", l.number), slog.Any("error", err))
			}
			l.giveBack(staleWait)
			return
		}
		l.turn = time.Now().Add(wait)
	}
	slot := l.await(ctx)
	if slot == nil {
		return
	}
	d := l.first()
	if d.urgent {
		l.urgent = nil
	} else {
		l.normal = nil
	}
	l.turn = time.Time{}
	l.assign(ctx, d, slot)
}

// first returns which of the messages in hand goes first.
func (l *laneLoop) first() *delivery {
	if l.urgent != nil {
		return l.urgent
	}
	return l.normal
}

// await waits for the turn and for a free worker. It returns the slot of the worker, or
// nil if an urgent message came in between, or ctx has ended.
func (l *laneLoop) await(ctx context.Context) chan struct{} {
	urgents, more := l.urgents, chan struct{}(nil)
	if l.urgent != nil {
		urgents, more = nil, l.urgentSlots
	}
	timer := time.NewTimer(time.Until(l.turn))
	defer timer.Stop()
	select {
	case <-timer.C:
	case l.urgent = <-urgents:
		return nil
	case <-ctx.Done():
		return nil
	}
	select {
	case l.slots <- struct{}{}:
		return l.slots
	case more <- struct{}{}:
		return more
	case l.urgent = <-urgents:
	case <-ctx.Done():
	}
	return nil
}

// giveBack gives back the messages in hand.
func (l *laneLoop) giveBack(wait time.Duration) {
	for _, d := range []*delivery{l.urgent, l.normal} {
		if d != nil {
			d.giveBack(wait)
		}
	}
	l.urgent, l.normal = nil, nil
}

// assign has a worker send a message, unless the lane or the API may have no more now.
func (r *running) assign(ctx context.Context, d *delivery, slot chan struct{}) {
	probes := false
	if r.outage.down.Load() {
		select {
		case r.prober <- struct{}{}:
			probes = true
		default:
			d.giveBack(0)
			<-slot
			return
		}
	}
	if !r.Outbox.lanes.enter(d.number, time.Now()) {
		d.giveBack(0)
		r.release(probes)
		<-slot
		return
	}
	r.workers.Go(func() {
		r.deliver(ctx, d, func(sent bool) {
			if sent && probes {
				// The gate's own word on this can come before its word on the
				// beginning, since observers run outside its lock. What a probe shows
				// is beyond doubt.
				r.outage.end()
			}
			r.release(probes)
			<-slot
		})
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

// pull takes the messages of a lane out of the queue while they can be sent, and hands
// them on in their order.
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
		fetching, cancel := context.WithTimeout(ctx, pullWait)
		messages, err := r.fetch(fetching, number, urgent, &consumer)
		if err == nil {
			r.handOn(ctx, number, urgent, messages.Messages(), out)
			err = messages.Error()
		}
		cancel()
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			r.fail(err)
			return
		case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, nats.ErrNoResponders):
			consumer = nil // somebody has deleted it, or its server is gone
		case err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoMessages):
			continue
		}
		if ctx.Err() == nil {
			r.logger.Error("outbox: cannot take messages from the queue", slog.Any("error", err))
			_ = pause(ctx, staleWait)
		}
	}
}

// handOn hands messages on as they come. While they wait for that, JetStream is told that
// somebody has them.
func (r *running) handOn(ctx context.Context, number string, urgent bool, messages <-chan jetstream.Msg, out chan<- *delivery) {
	var waiting []*delivery
	for messages != nil || len(waiting) > 0 {
		var first *delivery
		var to chan<- *delivery
		if len(waiting) > 0 {
			first, to = waiting[0], out
		}
		select {
		case msg, ok := <-messages:
			if !ok {
				messages = nil
				continue
			}
			come := []*delivery{r.newDelivery(msg, number, urgent)}
			for len(messages) > 0 {
				come = append(come, r.newDelivery(<-messages, number, urgent))
			}
			r.readAhead(ctx, come)
			waiting = append(waiting, come...)
		case to <- first:
			waiting = waiting[1:]
		case <-ctx.Done():
			for _, d := range waiting {
				d.giveBack(0)
			}
			return
		}
	}
}

// mostFetched is how many messages of a lane are taken out of the queue at once, and
// fetchTime how much of its time they may take.
const (
	mostFetched = 32
	fetchTime   = 100 * time.Millisecond
)

// fetch takes the next messages from the queue: as many as workers are free for, or soon
// will be.
func (r *running) fetch(ctx context.Context, number string, urgent bool, consumer *jetstream.Consumer) (jetstream.MessageBatch, error) {
	if *consumer == nil {
		made, err := r.makeConsumer(ctx, queueKind(urgent), number)
		if err != nil {
			return nil, err
		}
		*consumer = made
	}
	free := min(max(cap(r.slots)-len(r.slots), cap(r.slots)/4), mostFetched)
	inTime := int(r.perSecondOf(number) * fetchTime.Seconds())
	return (*consumer).Fetch(max(1, min(free, inTime)), jetstream.FetchContext(ctx))
}

// upkeep keeps the clock and the consumers as they should be.
func (r *running) upkeep(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.readStream(ctx)
		for _, number := range r.numbers() {
			for _, urgent := range []bool{false, true} {
				if err == nil {
					err = r.rescue(ctx, number, urgent)
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot look after the queue", slog.Any("error", err))
		}
		_ = pause(ctx, upkeepEvery)
	}
}

// rescue puts entries anew into the queue that its consumer takes for done. A worker
// removes an entry before it says so; but a cluster that loses its leader can forget that
// a message was given back. One that comes twice does no harm.
func (o *Outbox) rescue(ctx context.Context, number string, urgent bool) error {
	consumer, err := o.makeConsumer(ctx, queueKind(urgent), number)
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	var stranded []put
	err = o.store.each(ctx, o.store.subject(queueKind(urgent), number, "*"), 0, page, func(msg *jetstream.RawStreamMsg) bool {
		if msg.Sequence > info.AckFloor.Stream {
			return false
		}
		stranded = append(stranded, put{subject: msg.Subject, data: msg.Data, expected: msg.Sequence, expectedOn: msg.Subject})
		return true
	})
	if err != nil {
		return err
	}
	for _, p := range stranded {
		// A conflict: it has just changed.
		if err := o.store.put(ctx, p); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	return nil
}

func (r *running) numbers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.lanes))
}
