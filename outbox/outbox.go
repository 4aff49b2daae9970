package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

var (
	// ErrClosed is in the chain of the error of every call after Close.
	ErrClosed = errors.New("outbox: the outbox is closed")
	// ErrNotFound is in the chain of the error of a call about a message that was never
	// enqueued, was deleted, or is older than the retention.
	ErrNotFound = store.ErrNotFound
)

// Outbox is a queue of WhatsApp messages in a database. [Open] returns one. It is safe for
// concurrent use.
type Outbox struct {
	*queue
	sender *sender
	room   room

	closing context.Context // ends with Close, with the cause ErrClosed
	close   context.CancelCauseFunc
	calls   sync.WaitGroup

	mu     sync.Mutex // guards closed, and calls.Add against calls.Wait
	closed bool
}

// Open returns an Outbox in a database, and creates its tables if they do not exist. Machines
// that use the same name share one queue. Workers send through next; nil means
// [http.DefaultTransport]. next must not send a request more than once, and needs no graphretry
// transport of its own.
//
// In PostgreSQL the tables are where the search_path finds them, or else are created in its
// first schema. The user needs the right to create them, unless [WithoutMigration] is given.
//
// Open refuses a database that may forget what it has confirmed, since messages would then be
// sent twice: one with fsync = off, one in memory, and a version that is too old.
//
// ctx bounds only the opening; without a deadline, 15 s do. One error reports an empty Database
// and all invalid options. It wraps [ErrInvalid], and so does the error about a database that
// is refused.
func Open(ctx context.Context, database Database, next http.RoundTripper, opts ...Option) (*Outbox, error) {
	s, err := newSettings(opts)
	if err := errors.Join(database.check(), err); err != nil {
		return nil, message.AsInvalid(err)
	}
	if next == nil {
		next = http.DefaultTransport
	}
	q := &queue{settings: s, clock: &clock{}, life: defaultLife, reporting: defaultReporting}
	o := &Outbox{queue: q, room: newRoom(), sender: &sender{queue: q, next: next, attempts: make(map[string]*attempt)}}
	o.closing, o.close = context.WithCancelCause(context.Background())
	if err := o.makeTransport(); err != nil {
		return nil, message.AsInvalid(fmt.Errorf("outbox: WithTransportOptions: %w", err))
	}
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	if o.store, err = store.Open(ctx, database.db, database.kind, s.name, !s.withoutMigrate); err != nil {
		return nil, fmt.Errorf("outbox: cannot open %q: %w", s.name, err)
	}
	o.store.OnTrouble = func(err error) {
		o.logger.Error("outbox: the database fails, and is asked again", errorOf(err.Error()))
	}
	asked := time.Now()
	now, err := o.store.Now(ctx)
	if err == nil {
		o.clock.set(now, asked)
		err = o.checkRetention(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot open %q: %w", s.name, err)
	}
	return o, nil
}

// checkRetention logs a warning if this Outbox keeps messages for a shorter time than the one
// before.
func (o *Outbox) checkRetention(ctx context.Context) error {
	const key = "retention"
	value, err := o.store.Meta(ctx, key)
	if err != nil {
		return err
	}
	before, err := time.ParseDuration(value)
	if err == nil && o.retention < before {
		o.logger.Warn("outbox: the retention is shorter than before, and applies to all machines",
			slog.Float64("graphretry.outbox.retention_s", o.retention.Seconds()), slog.Float64("graphretry.outbox.retention_before_s", before.Seconds()))
	}
	if err == nil && o.retention == before || o.withoutMigrate {
		return nil
	}
	return o.store.SetMeta(ctx, key, o.retention.String())
}

// makeTransport makes the policy and the transport. The transport is there for its outage gate:
// it makes one attempt and never waits, since a message that waits in the queue uses no worker
// and survives the process. Beneath it is the sender, which marks each attempt as late as
// possible.
func (o *Outbox) makeTransport() error {
	policy, err := graphretry.NewPolicy(o.transportOptions...)
	if err != nil {
		return err
	}
	o.rules = message.Rules{Policy: policy, MaxAge: o.maxAge, KeepPayload: o.keepPayload}
	with := append([]graphretry.Option{graphretry.WithHosts(o.baseURL.Host)}, o.transportOptions...)
	o.sender.transport, err = graphretry.NewTransport(o.sender, append(with,
		graphretry.WithoutWaiting(),
		graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} }),
		graphretry.WithMaxElapsedTime(0),
	)...)
	return err
}

// Now returns the time by the database's clock, which decides about waits and ages. It sends no
// statement: the clock was read when the Outbox was opened, and is read again while it runs.
// The time is late by less than such a reading takes, and never early.
func (o *Outbox) Now() time.Time { return o.now() }

// Name returns the name of the outbox: see [WithName].
func (o *Outbox) Name() string { return o.name }

// Close ends every [Outbox.Run] as the end of its context would, and waits for the Runs and for
// the calls that are under way. The database stays open. Close always returns nil. A second
// call does nothing.
func (o *Outbox) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.close(ErrClosed)
	o.calls.Wait()
	return nil
}

// begin begins a call. The context that it returns also ends with Close, and after timeout if
// it has no deadline and timeout is not 0.
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
