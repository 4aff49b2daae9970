package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// healthTimeout bounds Health if its context has no deadline.
const healthTimeout = 5 * time.Second

// Health returns an error if this process cannot do its work, for a probe of Kubernetes or a
// load balancer: the database does not answer or accepts no writes, its tables do not exist or
// have a version that this program does not know, or an [Outbox.Run] of this Outbox has sent no
// heartbeat for 30 s. A process without a Run can be healthy. The error wraps [ErrClosed] after
// Close.
//
// Health asks the database once, and does not wait for one that restarts. Without a deadline it
// takes 5 s at most. It ignores old messages, numbers that are held, and dead Runs of other
// machines: a restart of this process repairs none of these. Use [Outbox.Stats] to alert on
// them.
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
			errs = append(errs, fmt.Errorf("outbox: a Run of this process has sent no heartbeat for %v", heartbeat.Round(time.Second)))
		}
		if loop >= o.life.dead {
			errs = append(errs, fmt.Errorf("outbox: a Run of this process has not read the queue for %v", loop.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}
