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

// pullWait is how long a worker asks the queue for a message before it asks
// anew, which is what finds a cluster's new leader.
const pullWait = 5 * time.Second

// sweepEvery is how often each Run looks for what a process that died has left
// half done.
const sweepEvery = time.Minute

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
// One worker more than [WithWorkers] says is for urgent messages alone.
//
// While the transport holds the API to be down, one worker of each Run takes
// messages, one at a time and at the gate's pace, and the others take none.
func (o *Outbox) Run(ctx context.Context) error {
	ctx, done, err := o.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	known := make(chan struct{})
	workers.Go(func() { o.watchPauses(ctx, cancel, sync.OnceFunc(func() { close(known) })) })
	select {
	case <-known:
	case <-ctx.Done():
	}
	for i := range o.workers {
		workers.Go(func() { o.work(ctx, cancel, consumerName, i == 0) })
	}
	workers.Go(func() { o.work(ctx, cancel, urgentConsumerName, false) })
	workers.Go(func() { o.sweepNowAndThen(ctx) })
	workers.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, nats.ErrConnectionClosed) {
		return fmt.Errorf("outbox: cannot take messages from the queue: %w", cause)
	}
	return nil
}

// work is the life of a worker. The one that probes goes on while the API is
// down. fail ends the Run.
func (o *Outbox) work(ctx context.Context, fail context.CancelCauseFunc, name string, probes bool) {
	var consumer jetstream.Consumer
	for ctx.Err() == nil {
		if !probes {
			o.outage.wait(ctx)
			if ctx.Err() != nil {
				return
			}
		}
		msg, err := o.pull(ctx, name, &consumer)
		if errors.Is(err, nats.ErrConnectionClosed) {
			fail(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			o.logger.Error("outbox: cannot take messages from the queue", slog.Any("error", err))
			_ = pause(ctx, staleWait)
		}
		if msg == nil {
			continue
		}
		if !probes && o.outage.lasts() != nil {
			// The outage began while the worker asked. Others may be able to send it.
			if err := (verdict{kind: verdictNak}).tell(msg); err != nil {
				o.logger.Error("outbox: cannot answer the queue", slog.Any("error", err))
			}
			continue
		}
		if sent := o.deliver(ctx, msg); sent && probes {
			// The gate's own word on this can come before its word on the
			// beginning, since observers run outside its lock. What a probe shows
			// is beyond doubt.
			o.outage.end()
		}
	}
}

// pull takes one message from the queue, nil if there is none.
func (o *Outbox) pull(ctx context.Context, name string, consumer *jetstream.Consumer) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	if *consumer == nil {
		found, err := o.store.js.Consumer(ctx, o.name, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			// Somebody has deleted it.
			if err = o.makeConsumer(ctx, name); err == nil {
				found, err = o.store.js.Consumer(ctx, o.name, name)
			}
		}
		if err != nil {
			return nil, err
		}
		*consumer = found
	}
	msg, err := (*consumer).Next(jetstream.FetchContext(ctx))
	switch {
	case err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoMessages):
		return msg, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted):
		*consumer = nil
	}
	return nil, err
}

func (o *Outbox) sweepNowAndThen(ctx context.Context) {
	for ctx.Err() == nil {
		err := o.sweep(ctx, max(o.ackWait, 2*tryTimeout))
		if err == nil {
			err = o.readClock(ctx)
		}
		if err != nil && ctx.Err() == nil {
			o.logger.Error("outbox: cannot look for unfinished work", slog.Any("error", err))
		}
		_ = pause(ctx, sweepEvery)
	}
}

// sweep finishes what a process that died has left half done, and removes the
// flags that have served. What was flagged less than minAge ago is still
// somebody's work; and by then the replica that answers has heard what followed.
func (o *Outbox) sweep(ctx context.Context, minAge time.Duration) error {
	flags, err := o.store.flags(ctx)
	if err != nil {
		return err
	}
	o.forgetParked(flags)
	for _, flag := range flags {
		if time.Since(flag.set) < minAge || o.isParked(flag) {
			continue
		}
		if err := o.finish(ctx, flag); err != nil {
			return err
		}
	}
	return nil
}

// forgetParked forgets the messages that have no flag any more.
func (o *Outbox) forgetParked(flags []flag) {
	o.mu.Lock()
	defer o.mu.Unlock()
	parked := make(map[string]uint64, len(o.parked))
	for _, flag := range flags {
		if o.parked[flag.key] == flag.revision {
			parked[flag.key] = flag.revision
		}
	}
	o.parked = parked
}

// isParked reports whether the message of a flag was found parked before. It is not
// read again each time, since many can be. A message that is put back into the queue
// is flagged anew.
func (o *Outbox) isParked(f flag) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parked[f.key] == f.revision
}

func (o *Outbox) finish(ctx context.Context, f flag) error {
	current, err := o.store.load(ctx, f.key)
	switch {
	case errors.Is(err, errUnreadable):
		return nil
	case errors.Is(err, ErrNotFound):
		return o.store.removeFlag(ctx, f)
	case err != nil:
		return err
	}
	switch current.State {
	case StateUnknown:
		o.mu.Lock()
		defer o.mu.Unlock()
		o.parked[f.key] = f.revision
		return nil
	case StateSending:
		return nil
	case StateQueued:
		if current.Generation == 0 {
			break // what Enqueue put into the queue is still there
		}
		if err := o.store.publish(ctx, current.entry()); err != nil {
			return err
		}
	}
	return o.store.removeFlag(ctx, f)
}
