package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/store"
)

const (
	// reportedAtOnce is how many messages a Run reports before it looks again, and reportPause
	// is how long it then waits for more of them.
	reportedAtOnce = 64
	reportPause    = 25 * time.Millisecond
	// reportFlush is the longest time between a report and the write that records it. If the
	// process dies in between, the outcome is reported twice.
	reportFlush = 100 * time.Millisecond
)

// reportOutcomes reports outcomes, one after the other, until ctx ends. Another Run, or a later
// one, reports the rest.
func (q *queue) reportOutcomes(ctx context.Context, unreported <-chan struct{}) {
	errs := make(map[int64]int) // how many there were in a row, by message
	for ctx.Err() == nil {
		began := time.Now()
		page, err := q.store.TakeUnreported(ctx, q.now(), q.reporting.lease, reportedAtOnce)
		if err != nil && ctx.Err() == nil {
			q.logger.Error("outbox: cannot read which outcomes are to be reported", errorOf(err.Error()))
		}
		q.reportPage(ctx, page, began, errs)
		wait := q.reporting.every
		if len(page) > 0 {
			wait = reportPause - time.Since(began)
			if len(page) == reportedAtOnce {
				wait = 0
			}
			pause(ctx, wait)
			continue
		}
		select {
		case <-unreported:
			pause(ctx, reportPause)
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// reportPage reports the outcomes of some messages. This Run has the lease of them since began.
func (q *queue) reportPage(ctx context.Context, page []store.Unreported, began time.Time, errs map[int64]int) {
	var reported []store.Reported
	flushed := time.Now()
	flush := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		if err := q.store.MarkReported(ctx, reported); err != nil {
			q.logger.Error("outbox: cannot write which outcomes were reported: they will be reported again", errorOf(err.Error()))
		}
		reported, flushed = nil, time.Now()
	}
	for _, m := range page {
		t := store.Reported{Unreported: m, Again: q.now()}
		if len(m.Outcomes) == 0 { // another program has written the row
			t.Again = q.now().Add(q.reporting.most)
		}
		for _, outcome := range m.Outcomes {
			// When the lease ends another Run gets the message. This one must not be reporting
			// it any more then.
			if ctx.Err() != nil || time.Since(began) > q.reporting.lease-q.reporting.timeout-2*grace {
				break
			}
			err := q.callOnOutcome(ctx, Outcome{outcome.Kind, outcome.At, statusOf(&m.Stored)})
			if err != nil {
				wait := min(q.reporting.first<<min(errs[m.Seq], 10), q.reporting.most)
				errs[m.Seq]++
				t.Again = q.atMost().Add(wait) // no sooner, whatever the clock shows then
				if ctx.Err() == nil {
					q.logger.Error("outbox: an outcome could not be reported, and will be reported again", idOf(m.ID),
						slog.Float64("graphretry.wait_s", wait.Seconds()), errorOf(err.Error()))
				}
				break
			}
			t.N++
		}
		if t.N == len(m.Outcomes) {
			delete(errs, m.Seq)
		}
		reported = append(reported, t)
		if time.Since(flushed) > reportFlush {
			flush()
		}
	}
	flush()
}

// callOnOutcome calls the function of WithOutcome.
func (q *queue) callOnOutcome(ctx context.Context, outcome Outcome) error {
	result := make(chan error, 1)
	err := callUser(ctx, q.logger, "the function given to WithOutcome", q.reporting.timeout, func(ctx context.Context) {
		result <- q.onOutcome(ctx, outcome)
	})
	if err != nil {
		return err
	}
	return <-result
}
