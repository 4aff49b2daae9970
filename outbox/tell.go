package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/store"
)

const (
	// tellPage is of how many messages a Run tells before it looks again, and tellPause how
	// long it waits for more of them before it does.
	tellPage  = 64
	tellPause = 25 * time.Millisecond
	// tellFlush is for how long what was told is not written down. A process that dies has it
	// told once more.
	tellFlush = 100 * time.Millisecond
)

// tellOutcomes tells of outcomes, one after the other, until ctx ends. What has not been told
// by then is told by another Run, or by a later one.
func (q *queue) tellOutcomes(ctx context.Context, owed <-chan struct{}) {
	errs := make(map[int64]int) // in a row, of messages
	for ctx.Err() == nil {
		began := time.Now()
		page, err := q.store.TakeOwed(ctx, q.now(), q.telling.lease, tellPage)
		if err != nil && ctx.Err() == nil {
			q.logger.Error("outbox: cannot find out which outcomes are to be told", errorOf(err.Error()))
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

// tellPage tells what is to be told of some messages, of which this Run has had the lease for
// itself since then.
func (q *queue) tellPage(ctx context.Context, page []store.Owed, began time.Time, errs map[int64]int) {
	var told []store.Told
	flushed := time.Now()
	flush := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		if err := q.store.Tell(ctx, told); err != nil {
			q.logger.Error("outbox: cannot write down which outcomes were told: they are told again", errorOf(err.Error()))
		}
		told, flushed = nil, time.Now()
	}
	for _, m := range page {
		t := store.Told{Owed: m, Again: q.now()}
		if len(m.Outcomes) == 0 { // somebody else has written there
			t.Again = q.now().Add(q.telling.most)
		}
		for _, outcome := range m.Outcomes {
			// Another Run gets it when the lease is over, and must not while this one tells.
			if ctx.Err() != nil || time.Since(began) > q.telling.lease-q.telling.timeout-2*grace {
				break
			}
			err := q.tell(ctx, Outcome{outcome.Kind, outcome.At, statusOf(&m.Stored)})
			if err != nil {
				wait := min(q.telling.first<<min(errs[m.Seq], 10), q.telling.most)
				errs[m.Seq]++
				t.Again = q.atMost().Add(wait) // no sooner, whatever the clock says then
				if ctx.Err() == nil {
					q.logger.Error("outbox: an outcome could not be told, and is told again", idOf(m.ID),
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

// tell tells the user of an outcome.
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
