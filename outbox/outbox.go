package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

var (
	// ErrClosed is in the chain of the error of every call after Close.
	ErrClosed = errors.New("outbox: the outbox is closed")
	// ErrNotFound is in the chain of the error of a call about a message that was
	// never enqueued, was deleted, or is older than the retention.
	ErrNotFound = store.ErrNotFound
)

const (
	// callTimeout bounds the calls of an Outbox whose context has no deadline.
	callTimeout = 15 * time.Second
	// listTimeout is the same for a call whose work grows with what it finds.
	listTimeout = 5 * time.Minute
	// userTimeout bounds a function of the user's.
	userTimeout = 15 * time.Second
)

// Outbox is a queue of messages to WhatsApp that outlives the process. [Open]
// makes one. It is safe for concurrent use.
type Outbox struct {
	settings
	store     *store.Store
	sender    *sender
	transport *graphretry.Transport
	rules     message.Rules
	clock     atomic.Pointer[reading]
	life      life
	telling   telling

	closing context.Context // ends with Close, with the cause ErrClosed
	close   context.CancelCauseFunc
	calls   sync.WaitGroup

	mu      sync.Mutex // guards all below, and calls.Add against calls.Wait
	closed  bool
	running map[*running]bool
	counted time.Time              // when the queue was counted last ...
	queued  int                    // ... and what it had, with what was enqueued since
	held    map[string]lane.Shared // numbers that are held for what webhooks said ...
	heldAt  time.Time              // ... and when that was asked
}

// Open returns an Outbox in a database, whose tables it makes if they are not there. With
// the same name on every machine, all share one queue. Workers send through next; nil means
// [http.DefaultTransport]. next must not send a request more than once, and needs no
// graphretry transport of its own.
//
// In PostgreSQL the tables are in the first schema of the search_path, or where the path
// finds them; the user must be allowed to make them, unless [WithoutMigration] is given.
// Open refuses a database that may forget what it has confirmed, since a message would be
// sent twice then: one with fsync = off, one in memory, or a version that is too old.
//
// ctx bounds the opening alone; without a deadline, 15 s do. Invalid options are
// reported together in one error, with an empty Database. That error, and the one about a
// database that is refused, wrap [ErrInvalid].
func Open(ctx context.Context, database Database, next http.RoundTripper, opts ...Option) (*Outbox, error) {
	s, err := newSettings(opts)
	if err := errors.Join(database.check(), err); err != nil {
		return nil, message.AsInvalid(err)
	}
	if next == nil {
		next = http.DefaultTransport
	}
	o := &Outbox{settings: s, life: defaultLife, telling: defaultTelling, running: make(map[*running]bool)}
	o.closing, o.close = context.WithCancelCause(context.Background())
	if err := o.makeTransport(next); err != nil {
		return nil, message.AsInvalid(fmt.Errorf("outbox: WithTransportOptions: %w", err))
	}
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	if o.store, err = store.Open(ctx, database.db, database.kind, s.name, !s.withoutMigrate); err != nil {
		return nil, fmt.Errorf("outbox: cannot open %q: %w", s.name, err)
	}
	o.store.OnTrouble = func(err error) {
		o.logger.Error("outbox: the database has trouble, and is asked again", errorOf(err.Error()))
	}
	asked := time.Now()
	now, err := o.store.Now(ctx)
	if err == nil {
		o.setClock(now, asked)
		err = o.checkRetention(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot open %q: %w", s.name, err)
	}
	return o, nil
}

// checkRetention warns if this Outbox keeps messages for a shorter time than one before.
func (o *Outbox) checkRetention(ctx context.Context) error {
	const key = "retention"
	value, err := o.store.Meta(ctx, key)
	if err != nil {
		return err
	}
	before, err := time.ParseDuration(value)
	if err == nil && o.retention < before {
		o.logger.Warn("outbox: the retention is shorter than before, and holds for all machines",
			slog.Float64("graphretry.outbox.retention_s", o.retention.Seconds()), slog.Float64("graphretry.outbox.retention_before_s", before.Seconds()))
	}
	if err == nil && o.retention == before || o.withoutMigrate {
		return nil
	}
	return o.store.SetMeta(ctx, key, o.retention.String())
}

// makeTransport makes what decides and what sends. The transport is there for its outage
// gate: it makes one attempt and waits for nothing, since the queue does that, where a wait
// holds no worker and survives them all. Beneath it is the sender, which marks each attempt
// as late as can be.
func (o *Outbox) makeTransport(next http.RoundTripper) error {
	policy, err := graphretry.NewPolicy(o.settings.transport...)
	if err != nil {
		return err
	}
	o.rules = message.Rules{Policy: policy, MaxAge: o.maxAge, KeepPayload: o.keepPayload}
	o.sender = &sender{next: next, attempts: make(map[string]*attempt)}
	with := append([]graphretry.Option{graphretry.WithHosts(o.baseURL.Host)}, o.settings.transport...)
	o.transport, err = graphretry.NewTransport(o.sender, append(with,
		graphretry.WithoutWaiting(),
		graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} }),
		graphretry.WithMaxElapsedTime(0),
	)...)
	return err
}

// reading is a look at the database's clock, which took so long.
type reading struct {
	theirs, ours time.Time
	took         time.Duration
}

// setClock takes in what the database's clock has said since it was asked.
func (o *Outbox) setClock(now, asked time.Time) {
	ours := time.Now()
	o.clock.Store(&reading{now, ours, ours.Sub(asked)})
}

// now returns the time by the database's clock, as it was read last. All machines tell
// waits and ages by it, so that one whose own clock is wrong expires nothing.
func (o *Outbox) now() time.Time {
	at := o.clock.Load()
	return at.theirs.Add(time.Since(at.ours)).UTC()
}

// atMost returns a time that the database's clock has not passed yet. Waits are counted from
// there, so that none is shorter than it should be.
func (o *Outbox) atMost() time.Time { return o.now().Add(o.clock.Load().took) }

// Now returns the time by the database's clock, by which waits and ages are told. It asks
// nothing: the clock was read when the Outbox was opened, and is each minute while it runs.
// It is late by less than that took, and never early.
func (o *Outbox) Now() time.Time { return o.now() }

// Close ends every [Outbox.Run] as the end of its context would, with the time
// that this can take, and waits for them and for the calls that are under way. The
// database stays open. It always returns nil; closing again does nothing.
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

// user calls a function of the user's. One that panics or does not return in time is an
// error, and the program goes on.
func (o *Outbox) user(ctx context.Context, name string, timeout time.Duration, do func(context.Context)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if thrown := recover(); thrown != nil {
				o.logger.Error("outbox: "+name+" panicked", panicOf(fmt.Sprint(thrown)), stackOf(debug.Stack()))
				done <- fmt.Errorf("outbox: %s panicked: %v", name, thrown)
			}
		}()
		do(ctx)
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it heeds its context
		return err
	case <-time.After(grace):
		return fmt.Errorf("outbox: %s has not returned after %v", name, timeout)
	}
}

// grace is how long a function of the user's may take to heed the end of its context.
const grace = time.Second
