package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry"
)

var (
	// ErrClosed is in the chain of the error of every call after Close.
	ErrClosed = errors.New("outbox: the outbox is closed")
	// ErrNotFound is in the chain of the error of a call about a message that was
	// never enqueued, was deleted, or whose record is older than the retention.
	ErrNotFound = errors.New("outbox: there is no such message")

	errDeleted = fmt.Errorf("%w: it was deleted", ErrNotFound)
	// errNewer: what a later version of this package wrote, it alone may change.
	errNewer = errors.New("outbox: it was written by a later version of this package, which alone can change it")
)

const (
	// callTimeout bounds the calls of an Outbox whose context has no deadline.
	callTimeout = 10 * time.Second
	// listTimeout is the same for a call whose work grows with what it finds.
	listTimeout = 5 * time.Minute

	// maxWaiting is how many pulls of all machines may wait for a message of one lane.
	maxWaiting = 1 << 16
)

// Outbox is a queue of messages to WhatsApp that outlives the process. [Open]
// makes one. It is safe for concurrent use.
type Outbox struct {
	settings
	store     store
	sender    *sender
	transport *graphretry.Transport
	rules     rules
	// probing decides when the next probe of a lane goes.
	probing *graphretry.Policy
	lanes   lanes
	outage  outage
	ackWait atomic.Int64 // how long a message may be without a sign of life
	skew    atomic.Int64 // what the server's clock is ahead of ours
	ahead   atomic.Int64 // bytes of payload that were read before a worker was free

	closing context.Context // ends with Close, with the cause ErrClosed
	close   context.CancelCauseFunc
	calls   sync.WaitGroup

	mu        sync.Mutex // guards all below, and calls.Add against calls.Wait
	closed    bool
	announced map[string]time.Time // the phone numbers of which every Run was told, and when
	sizeAsked time.Time            // when the size of the stream was asked for last ...
	size      uint64               // ... and what it was
}

// Open returns an Outbox in js, on one server or a cluster. It makes the stream if that is
// not there; with the same name on every machine, all share one queue. Workers send through next;
// nil means [http.DefaultTransport]. next must not send a request more than once,
// and needs no graphretry transport of its own.
//
// ctx bounds the opening alone; without a deadline, 10 s do. Invalid options are
// reported together in one error. The connection behind js stays the
// caller's: it must outlive the Outbox. The servers must be of NATS 2.14 or later, and the
// account must be allowed to make streams.
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
	o := &Outbox{settings: s, store: store{js: js, name: s.name}, announced: make(map[string]time.Time)}
	o.store.group = newWriteGroup(o.store.writeBatch, o.store.stale)
	o.closing, o.close = context.WithCancelCause(context.Background())
	if err := o.makeTransport(next); err != nil {
		return nil, fmt.Errorf("outbox: WithTransportOptions: %w", err)
	}
	if o.store.leader, err = managerOf(js); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	o.outage.ended = o.lanes.wake
	o.lanes.probeWait = o.laneWait
	o.lanes.byNumber = make(map[string]*lane)
	o.lanes.onHeld = func(number, reason string) {
		o.logger.Warn("outbox: a phone number is held", slog.String("phone_number_id", number), slog.String("reason", reason))
	}
	o.lanes.onUp = func(number string) {
		o.logger.Warn("outbox: a phone number is no longer held", slog.String("phone_number_id", number))
	}
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	if err := o.makeStream(ctx); err != nil {
		return nil, fmt.Errorf("outbox: cannot open the stream: %w", err)
	}
	if o.retention > 0 && o.maxAge > o.retention {
		return nil, fmt.Errorf("outbox: WithMaxAge(%v) is above the retention of %v: a record must outlive its message", o.maxAge, o.retention)
	}
	return o, nil
}

// managerOf is js as far as it asks the leaders of streams.
func managerOf(js jetstream.JetStream) (nats.JetStreamManager, error) {
	options := js.Options()
	switch {
	case options.Domain != "":
		return js.Conn().JetStream(nats.Domain(options.Domain))
	case options.APIPrefix != "":
		return js.Conn().JetStream(nats.APIPrefix(options.APIPrefix))
	}
	return js.Conn().JetStream()
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
	if o.rules.policy, err = graphretry.NewPolicy(with(throttled)...); err != nil {
		return err
	}
	if o.rules.schedule, err = graphretry.NewPolicy(with(nil, graphretry.WithRetryOn(anyCode, math.MaxInt))...); err != nil {
		return err
	}
	if o.probing, err = graphretry.NewPolicy(with(nil, graphretry.WithRetryOn(anyCode, math.MaxInt), graphretry.WithMaxRetries(math.MaxInt))...); err != nil {
		return err
	}
	o.rules.maxAge, o.rules.keepPayload = o.maxAge, o.keepPayload
	o.sender = &sender{next: next, attempts: make(map[string]*attempt)}
	o.transport, err = graphretry.NewTransport(o.sender, with(
		[]graphretry.Option{graphretry.WithHosts(o.baseURL.Host)},
		graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} }),
		// The age of the message, which the context of the call knows, is what
		// limits the wait in the queue.
		graphretry.WithMaxElapsedTime(0),
		graphretry.WithObserver(o.outage.hear),
	)...)
	return err
}

// laneWait returns the time to a lane's next probe, after so many: the schedule's.
func (o *Outbox) laneWait(probes int) time.Duration {
	return o.probing.Decide(&graphretry.Error{Code: anyCode}, retriesOf(anyCode, probes)).Wait
}

// metadataAckWait is where the stream's metadata has [WithAckWait], and metadataVersion
// where it has the version of what is in it.
const (
	metadataAckWait = "graphretry-ack-wait"
	metadataVersion = "graphretry-version"
)

// makeStream finds or makes the stream.
func (o *Outbox) makeStream(ctx context.Context) error {
	js := o.store.js
	err := persist(ctx, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, o.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			config := jetstream.StreamConfig{
				Name:               o.name,
				Description:        "graphretry outbox: messages to WhatsApp",
				Subjects:           []string{o.name + ".>"},
				Storage:            jetstream.FileStorage,
				Replicas:           defaultReplicas,
				MaxAge:             defaultRetention,
				MaxMsgsPerSubject:  1,
				Duplicates:         duplicateWindow,
				Compression:        jetstream.S2Compression,
				AllowDirect:        true,
				AllowAtomicPublish: true,
				AllowMsgSchedules:  true,
				Metadata:           map[string]string{metadataVersion: strconv.Itoa(schemaVersion)},
			}
			stream, err = js.CreateStream(ctx, o.wanted(config))
		}
		if err != nil {
			return again(err)
		}
		config := stream.CachedInfo().Config
		if err := o.checkStream(config); err != nil {
			return err
		}
		if wanted := o.wanted(config); !reflect.DeepEqual(wanted, config) {
			if stream, err = js.UpdateStream(ctx, wanted); err != nil {
				return again(err)
			}
		}
		o.store.stream = stream
		o.retention = stream.CachedInfo().Config.MaxAge
		return nil
	})
	if err != nil {
		return err
	}
	return o.readStream(ctx)
}

// checkStream reports why a stream is not one that this version can use.
func (o *Outbox) checkStream(config jetstream.StreamConfig) error {
	text, ours := config.Metadata[metadataVersion]
	if !ours || config.MaxMsgsPerSubject != 1 {
		return fmt.Errorf("stream %q is not an outbox, or one of version 0.1: want another WithName, or, once it is empty, the stream deleted: %w", o.name, errUnreadable)
	}
	if version, err := strconv.Atoi(text); err != nil || version > schemaVersion {
		return fmt.Errorf("stream %q has version %s: %w", o.name, text, errNewer)
	}
	if config.MaxMsgs > 0 || config.MaxBytes > 0 {
		return fmt.Errorf("stream %q: it has max_msgs or max_bytes, and would throw messages away: want neither, WithMaxBytes bounds it: %w", o.name, errUnreadable)
	}
	if !config.AllowAtomicPublish || !config.AllowMsgSchedules || !config.AllowDirect {
		return fmt.Errorf("stream %q: want allow_atomic, allow_msg_schedules and allow_direct, and so a server of NATS 2.14 or later: %w", o.name, errUnreadable)
	}
	return nil
}

// wanted is a stream with what the options ask for.
func (o *Outbox) wanted(config jetstream.StreamConfig) jetstream.StreamConfig {
	config.Replicas = cmp.Or(o.replicas, config.Replicas)
	config.MaxAge = cmp.Or(o.retention, config.MaxAge)
	if config.MaxAge > 0 {
		config.Duplicates = min(config.Duplicates, config.MaxAge)
	}
	config.Metadata = maps.Clone(config.Metadata)
	switch {
	case o.settings.ackWait != 0:
		config.Metadata[metadataAckWait] = o.settings.ackWait.String()
	case config.Metadata[metadataAckWait] == "":
		config.Metadata[metadataAckWait] = defaultAckWait.String()
	}
	return config
}

// duplicateWindow is for how long JetStream itself knows the ids of what was published.
// None is given to it.
const duplicateWindow = 2 * time.Minute

// readStream learns how far the server's clock is from ours, and how long a message may
// be without a sign of life. All machines tell waits and ages by that clock, so that one
// whose own is wrong expires nothing.
func (o *Outbox) readStream(ctx context.Context) error {
	return persist(ctx, func(ctx context.Context) error {
		began := time.Now()
		info, err := o.store.stream.Info(ctx)
		if err != nil {
			return err
		}
		if middle := began.Add(time.Since(began) / 2); !info.TimeStamp.IsZero() {
			o.skew.Store(int64(info.TimeStamp.Sub(middle)))
		}
		wait, err := time.ParseDuration(info.Config.Metadata[metadataAckWait])
		if err != nil || wait <= 0 {
			wait = defaultAckWait
		}
		o.ackWait.Store(int64(wait))
		return nil
	})
}

// now returns the time by the server's clock.
func (o *Outbox) now() time.Time { return time.Now().Add(time.Duration(o.skew.Load())).UTC() }

// makeConsumer finds or makes the consumer of the subjects of one kind and number: those
// of a lane's queues give out its messages, and that of its records counts them.
func (o *Outbox) makeConsumer(ctx context.Context, kind, number string) (jetstream.Consumer, error) {
	var consumer jetstream.Consumer
	err := persist(ctx, func(ctx context.Context) (err error) {
		consumer, err = o.store.js.CreateOrUpdateConsumer(ctx, o.name, jetstream.ConsumerConfig{
			Durable:       consumerName(kind, number),
			Description:   "graphretry outbox: the messages of a phone number",
			FilterSubject: o.store.subject(kind, number, "*"),
			MaxWaiting:    maxWaiting,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       time.Duration(o.ackWait.Load()),
			MaxDeliver:    -1, // the records count, and the policy decides
			MaxAckPending: -1, // a message that waits for long is not with a worker
		})
		return again(err)
	})
	return consumer, err
}

// consumerName is the name of a consumer: the phone number for its queue, and for others
// with their kind behind it.
func consumerName(kind, number string) string {
	if kind == kindQueue {
		return number
	}
	return number + "-" + kind
}

// again lets a failure be tried again that is final elsewhere: two machines that
// open the same outbox at the same moment may each find it half made.
func again(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return errors.New(err.Error())
	}
	return err
}

// Close ends every [Outbox.Run] as the end of its context would, with the time
// that this can take, and waits for them and for the calls that are under way. The
// connection behind the JetStream stays open. It always returns nil; closing again does
// nothing.
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
