package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/store"
)

const (
	// tellPage is how many messages a Run reports before it looks again, and tellPause is how
	// long it then waits for more of them.
	tellPage  = 64
	tellPause = 25 * time.Millisecond
	// tellFlush is the longest time between a report and the write that records it. If the
	// process dies in between, the outcome is reported twice.
	tellFlush = 100 * time.Millisecond
)

// tellOutcomes reports outcomes, one after the other, until ctx ends. Another Run, or a later
// one, reports the rest.
func (q *queue) tellOutcomes(ctx context.Context, owed <-chan struct{}) {
	errs := make(map[int64]int) // how many there were in a row, by message
	for ctx.Err() == nil {
		began := time.Now()
		page, err := q.store.TakeOwed(ctx, q.now(), q.telling.lease, tellPage)
		if err != nil && ctx.Err() == nil {
			q.logger.Error("outbox: cannot read which outcomes are to be reported", errorOf(err.Error()))
		}
		q.tellPage(ctx, page, began, errs)
		wait := q.telling.every
		if len(page) > 0 {
			wait = tellPause - time.Since(began)
			if len(page) == tellPage {
				wait = 0
			}
			pause(ctx, wait)
			continue
		}
		select {
		case <-owed:
			pause(ctx, tellPause)
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// tellPage reports the outcomes of some messages. This Run has the lease of them since began.
func (q *queue) tellPage(ctx context.Context, page []store.Owed, began time.Time, errs map[int64]int) {
	var told []store.Told
	flushed := time.Now()
	flush := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		if err := q.store.Tell(ctx, told); err != nil {
			q.logger.Error("outbox: cannot write which outcomes were reported: they will be reported again", errorOf(err.Error()))
		}
		told, flushed = nil, time.Now()
	}
	for _, m := range page {
		t := store.Told{Owed: m, Again: q.now()}
		if len(m.Outcomes) == 0 { // another program has written the row
			t.Again = q.now().Add(q.telling.most)
		}
		for _, outcome := range m.Outcomes {
			// When the lease ends another Run gets the message. This one must not be reporting
			// it any more then.
			if ctx.Err() != nil || time.Since(began) > q.telling.lease-q.telling.timeout-2*grace {
				break
			}
			err := q.tell(ctx, Outcome{outcome.Kind, outcome.At, statusOf(&m.Stored)})
			if err != nil {
				wait := min(q.telling.first<<min(errs[m.Seq], 10), q.telling.most)
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
		told = append(told, t)
		if time.Since(flushed) > tellFlush {
			flush()
		}
	}
	flush()
}

// tell calls the function of WithOutcome.
func (q *queue) tell(ctx context.Context, outcome Outcome) error {
	result := make(chan error, 1)
	err := callUser(ctx, q.logger, "the function given to WithOutcome", q.telling.timeout, func(ctx context.Context) {
		result <- q.onOutcome(ctx, outcome)
	})
	if err != nil {
		return err
	}
	return <-result
}
