package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// adopting adopts rows that programs have inserted, each time unadopted has a value.
func (q *queue) adopting(ctx context.Context, unadopted <-chan struct{}) {
	for {
		select {
		case <-unadopted:
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = q.adopt(ctx); err != nil && ctx.Err() == nil {
				q.logger.Error("outbox: cannot read the messages that were inserted", errorOf(err.Error()))
			}
		}
	}
}

// adopt puts a page of inserted rows into the queue, and reports whether there may be more. A
// row that could not be enqueued fails.
func (q *queue) adopt(ctx context.Context) (more bool, err error) {
	seen, err := q.store.Adopt(ctx, q.checkRow)
	if err != nil {
		return false, err
	}
	urgent := make(map[string]bool)
	for i := range seen {
		n := &seen[i]
		if n.Err == nil {
			urgent[n.Number] = urgent[n.Number] || n.Urgent
			continue
		}
		e := message.Event{Kind: message.Invalid, Reason: strings.TrimPrefix(n.Err.Error(), "outbox: ")}
		if _, err := q.apply(ctx, "refuse", n.Stored(), e); err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	q.runs.ring(urgent)
	return len(seen) > 0, nil
}

// checkRow is check for a row that any program may have inserted.
func (q *queue) checkRow(n *store.Unadopted) error {
	recipient, err := message.Check(n.ID, n.Number, []byte(n.Payload))
	if err != nil {
		return err
	}
	n.Recipient = recipient
	if err := message.CheckLabel(n.Label); err != nil {
		return err
	}
	for column, at := range map[string]time.Time{"not_before": n.NotBefore, "expires_at": n.ExpiresAt, "enqueued_at": n.Enqueued} {
		if !at.IsZero() {
			if err := checkTime(column, at); err != nil {
				return fmt.Errorf("%w, in microseconds", err)
			}
		}
	}
	return checkAge(&n.New, n.Enqueued, &q.rules)
}
