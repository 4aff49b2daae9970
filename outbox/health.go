package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// healthTimeout bounds Health if its context has no deadline.
const healthTimeout = 5 * time.Second

// Health reports why this process cannot do its work, for a probe such as Kubernetes' or a
// load balancer's: the database does not answer or takes no writes, its tables are not there
// or have a version that this program does not know, or an [Outbox.Run] of this Outbox has
// given no sign of life for 30 s. A process that has no Run is healthy without one. The
// error wraps [ErrClosed] after Close.
//
// It asks the database once, and does not wait for one that restarts; without a deadline it
// takes 5 s at most. Messages that are old, numbers that are held and Runs of other machines that are dead
// are none of its business: they are for alerts on [Outbox.Stats], since a restart of this
// process mends nothing of that.
func (o *Outbox) Health(ctx context.Context) error {
	ctx, done, err := o.begin(ctx, healthTimeout)
	if err != nil {
		return err
	}
	defer done()
	if err := o.store.Check(ctx); err != nil {
		return fmt.Errorf("outbox: the database of %q cannot be used: %w", o.name, err)
	}
	var errs []error
	for _, run := range o.runs.list() {
		heartbeat, loop := run.silent()
		if heartbeat >= o.life.dead {
			errs = append(errs, fmt.Errorf("outbox: a Run of this process has given no sign of life for %v", heartbeat.Round(time.Second)))
		}
		if loop >= o.life.dead {
			errs = append(errs, fmt.Errorf("outbox: a Run of this process has not looked into the queue for %v", loop.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}
