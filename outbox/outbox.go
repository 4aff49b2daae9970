package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
)

var (
	// ErrClosed is in the chain of the error of every call after Close.
	ErrClosed = errors.New("outbox: the outbox is closed")
	// ErrNotFound is in the chain of the error of a call about a message that was
	// never enqueued, or whose record is older than the retention.
	ErrNotFound = errors.New("outbox: there is no such message")
)

const (
	// maxAckPending, no limit, is how many messages may be with the workers of all
	// machines at once. Those that wait for a retry are among them, since JetStream
	// keeps a message that was given back with a delay as one that is delivered: with
	// a limit, the waits of one phone number would keep out the messages of another.
	maxAckPending = -1
	// duplicateWindow is for how long JetStream itself knows what was published.
	duplicateWindow = 2 * time.Minute

	// callTimeout bounds the calls of an Outbox whose context has no deadline.
	callTimeout = 10 * time.Second
	// listTimeout is the same for a call whose work grows with what it finds.
	listTimeout = 5 * time.Minute

	// maxWaiting is how many workers of all machines may wait for a message.
	maxWaiting = 1 << 16

	consumerName       = "workers"
	urgentConsumerName = "urgent-workers"
	recordsSuffix      = "-records"
)

// Outbox is a queue of messages to WhatsApp that outlives the process. [Open]
// makes one. It is safe for concurrent use.
type Outbox struct {
	settings
	store     store
	transport *graphretry.Transport
	policy    *graphretry.Policy
	// schedule decides for failures of every kind together: whether any retries
	// are left, and how long to wait.
	schedule *graphretry.Policy
	// probing decides when the next probe of a lane goes.
	probing *graphretry.Policy
	lanes   lanes
	outage  outage

	closing context.Context // ends with Close, with the cause ErrClosed
	close   context.CancelCauseFunc
	mu      sync.Mutex // guards closed and parked, and calls.Add against calls.Wait
	closed  bool
	parked  map[string]uint64 // by key: the revision of the flag of a message that is parked
	skew    atomic.Int64      // what the server's clock is ahead of ours
	calls   sync.WaitGroup
}

// Open returns an Outbox in js, on one server or a cluster. It makes the queue,
// the bucket of records and the workers' consumer if they are not there; with
// the same name on every machine, all share one queue. Workers send through next;
// nil means [http.DefaultTransport]. next must not send a request more than once,
// and needs no graphretry transport of its own.
//
// ctx bounds the opening alone; without a deadline, 10 s do. Invalid options are
// reported together in one error. The connection behind js stays the
// caller's: it must outlive the Outbox.
func Open(ctx context.Context, js jetstream.JetStream, next http.RoundTripper, opts ...Option) (*Outbox, error) {
	if js == nil {
		return nil, errors.New("outbox: Open without a JetStream: want one from jetstream.New, or that of Embedded")
	}
	s, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = http.DefaultTransport
	}
	o := &Outbox{settings: s, store: store{js: js, name: s.name}, parked: make(map[string]uint64)}
	o.closing, o.close = context.WithCancelCause(context.Background())
	if err := o.makeTransport(next); err != nil {
		return nil, fmt.Errorf("outbox: WithTransportOptions: %w", err)
	}
	o.lanes = lanes{
		perSecond: s.perSecond, rates: s.rates, probeWait: o.laneWait, byNumber: make(map[string]*lane),
		onHeld: func(number, reason string) {
			o.logger.Warn("outbox: a phone number is held", slog.String("phone_number_id", number), slog.String("reason", reason))
		},
		onUp: func(number, _ string) {
			o.logger.Warn("outbox: a phone number is no longer held", slog.String("phone_number_id", number))
		},
	}
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	if err := o.makeStreams(ctx); err != nil {
		return nil, err
	}
	return o, nil
}

// makeTransport makes what decides and what sends. The transport is there for
// its outage gate: it makes one attempt, and the queue does the retrying, so
// that a wait holds no worker and survives them all. Beneath it is the sender,
// which marks each attempt as late as can be: who stands in the gate's line when
// the process dies has sent nothing, and no mark says otherwise.
func (o *Outbox) makeTransport(next http.RoundTripper) error {
	var err error
	with := func(first []graphretry.Option, last ...graphretry.Option) []graphretry.Option {
		return append(append(first, o.settings.transport...), last...)
	}
	// A limit that soon passes is waited for in the queue, where that costs nothing.
	throttled := []graphretry.Option{graphretry.WithThrottleRetries()}
	if o.policy, err = graphretry.NewPolicy(with(throttled)...); err != nil {
		return err
	}
	if o.schedule, err = graphretry.NewPolicy(with(nil, graphretry.WithRetryOn(anyCode, math.MaxInt))...); err != nil {
		return err
	}
	if o.probing, err = graphretry.NewPolicy(with(nil, graphretry.WithRetryOn(anyCode, math.MaxInt), graphretry.WithMaxRetries(math.MaxInt))...); err != nil {
		return err
	}
	o.transport, err = graphretry.NewTransport(sender{next}, with(
		[]graphretry.Option{graphretry.WithHosts(o.baseURL.Host)},
		graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} }),
		// The age of the message, which the context of the call knows, is what
		// limits the wait in the queue.
		graphretry.WithMaxElapsedTime(0),
		graphretry.WithObserver(o.outage.hear),
	)...)
	return err
}

// anyCode stands for any failure that is retried: one that has the schedule's
// waits and can be retried without a limit of its own.
const anyCode = graphretry.CodeServiceUnavailable

// makeStreams finds or makes the queue, the bucket and the consumer.
func (o *Outbox) makeStreams(ctx context.Context) error {
	if err := o.makeBucket(ctx); err != nil {
		return fmt.Errorf("outbox: cannot open the bucket of records: %w", err)
	}
	if o.retention > 0 && o.maxAge > o.retention {
		return fmt.Errorf("outbox: WithMaxAge(%v) is above the retention of %v: a record must outlive its message", o.maxAge, o.retention)
	}
	if err := o.makeQueue(ctx); err != nil {
		return fmt.Errorf("outbox: cannot open the queue: %w", err)
	}
	for _, name := range []string{consumerName, urgentConsumerName} {
		if err := o.makeConsumer(ctx, name); err != nil {
			return fmt.Errorf("outbox: cannot open the workers' consumer: %w", err)
		}
	}
	return o.readClock(ctx)
}

// readClock learns how far the server's clock is from ours. All machines tell waits
// and ages by it, so that one whose clock is wrong expires nothing.
func (o *Outbox) readClock(ctx context.Context) error {
	return persist(ctx, func(ctx context.Context) error {
		began := time.Now()
		info, err := o.store.backing.Info(ctx)
		if err != nil {
			return err
		}
		if middle := began.Add(time.Since(began) / 2); !info.TimeStamp.IsZero() {
			o.skew.Store(int64(info.TimeStamp.Sub(middle)))
		}
		return nil
	})
}

// now returns the time by the server's clock.
func (o *Outbox) now() time.Time { return time.Now().Add(time.Duration(o.skew.Load())).UTC() }

func (o *Outbox) makeBucket(ctx context.Context) error {
	js := o.store.js
	return persist(ctx, func(ctx context.Context) error {
		name := o.name + recordsSuffix
		bucket, err := js.KeyValue(ctx, name)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			bucket, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
				Bucket:      name,
				Description: "graphretry outbox: one record for each message",
				History:     1,
				TTL:         cmp.Or(o.retention, defaultRetention),
				Storage:     jetstream.FileStorage,
				Replicas:    cmp.Or(o.replicas, defaultReplicas),
			})
		}
		if err != nil {
			return again(err)
		}
		if o.store.backing, err = js.Stream(ctx, "KV_"+name); err != nil {
			return again(err)
		}
		o.store.bucket = bucket
		config := o.store.backing.CachedInfo().Config
		if o.differs(config) {
			config = o.wanted(config)
			if _, err := js.UpdateStream(ctx, config); err != nil {
				return err
			}
		}
		o.retention = config.MaxAge
		return nil
	})
}

func (o *Outbox) makeQueue(ctx context.Context) error {
	js := o.store.js
	return persist(ctx, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, o.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
				Name:        o.name,
				Description: "graphretry outbox: the messages to send",
				Subjects:    o.subjects(),
				Retention:   jetstream.WorkQueuePolicy,
				Storage:     jetstream.FileStorage,
				Replicas:    cmp.Or(o.replicas, defaultReplicas),
				MaxAge:      o.retention,
				Duplicates:  windowWithin(o.retention),
			})
		}
		if err != nil {
			return again(err)
		}
		config := stream.CachedInfo().Config
		if config.Retention != jetstream.WorkQueuePolicy {
			return fmt.Errorf("stream %q is not an outbox: %w", o.name, errUnreadable)
		}
		if o.differs(config) {
			_, err = js.UpdateStream(ctx, o.wanted(config))
		}
		return err
	})
}

// differs reports whether an option asks for something else than what a stream
// has.
func (o *Outbox) differs(config jetstream.StreamConfig) bool {
	return o.replicas != 0 && o.replicas != config.Replicas || o.retention != 0 && o.retention != config.MaxAge ||
		config.Retention == jetstream.WorkQueuePolicy && !slices.Equal(config.Subjects, o.subjects())
}

func (o *Outbox) subjects() []string {
	return []string{o.store.subject(false), o.store.subject(true)}
}

// windowWithin returns the window for duplicates of a stream that keeps messages for
// that long, 0 for ever.
func windowWithin(age time.Duration) time.Duration {
	if age == 0 {
		return duplicateWindow
	}
	return min(duplicateWindow, age)
}

func (o *Outbox) wanted(config jetstream.StreamConfig) jetstream.StreamConfig {
	config.Replicas = cmp.Or(o.replicas, config.Replicas)
	config.MaxAge = cmp.Or(o.retention, config.MaxAge)
	if config.MaxAge > 0 {
		config.Duplicates = min(config.Duplicates, config.MaxAge)
	}
	if config.Retention == jetstream.WorkQueuePolicy {
		config.Subjects = o.subjects()
	}
	return config
}

func (o *Outbox) makeConsumer(ctx context.Context, name string) error {
	subject := o.store.subject(name == urgentConsumerName)
	js := o.store.js
	return persist(ctx, func(ctx context.Context) error {
		consumer, err := js.Consumer(ctx, o.name, name)
		switch {
		case err == nil:
			config := consumer.CachedInfo().Config
			if o.ackWait != 0 && o.ackWait != config.AckWait || config.MaxAckPending != maxAckPending || config.FilterSubject != subject {
				config.AckWait = cmp.Or(o.ackWait, config.AckWait)
				config.MaxAckPending, config.FilterSubject = maxAckPending, subject
				consumer, err = js.UpdateConsumer(ctx, o.name, config)
			}
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			consumer, err = js.CreateConsumer(ctx, o.name, jetstream.ConsumerConfig{
				Durable:       name,
				Description:   "graphretry outbox: the workers of all machines",
				FilterSubject: subject,
				MaxWaiting:    maxWaiting,
				AckPolicy:     jetstream.AckExplicitPolicy,
				AckWait:       cmp.Or(o.ackWait, defaultAckWait),
				MaxDeliver:    -1, // the records count, and the policy decides
				MaxAckPending: maxAckPending,
			})
		}
		if err != nil {
			return again(err)
		}
		o.ackWait = consumer.CachedInfo().Config.AckWait
		return nil
	})
}

// again lets a failure be tried again that is final elsewhere: two machines that
// open the same outbox at the same moment may each find it half made.
func again(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return errors.New(err.Error())
	}
	return err
}

// Close ends every [Outbox.Run] as the end of its context would, with the time
// that this can take, and waits for them and for the calls that are under way. The connection behind the JetStream
// stays open. It always returns nil; closing again does nothing.
func (o *Outbox) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.close(ErrClosed)
	o.calls.Wait()
	return nil
}

// begin is where each call comes in. Its context ends with Close, too, and after
// timeout if it has no deadline and timeout is not 0.
func (o *Outbox) begin(ctx context.Context, timeout time.Duration) (context.Context, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, ErrClosed
	}
	o.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(o.closing, func() { cancel(ErrClosed) })
	ctx, cancelTimeout := withTimeout(ctx, timeout)
	return ctx, func() {
		stop()
		cancelTimeout()
		cancel(nil)
		o.calls.Done()
	}, nil
}

// withTimeout bounds a context that has no deadline of its own.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
