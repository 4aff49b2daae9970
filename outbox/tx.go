package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Execer is a transaction of yours in the outbox's database: a [*sql.Tx], or a [*sql.Conn] with
// a transaction. For a pgx.Tx, see the lines in
// https://github.com/graphretry/graphretry/blob/main/outbox/docs/database.md#transactions.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// EnqueueTx is [Outbox.EnqueueAll] in a transaction of yours: the messages are enqueued if and
// only if it commits. No Run sees them before that. Afterwards a Run picks them up within half
// a second, or within some 5 s if the database answers slowly.
//
// EnqueueTx checks all messages first. Then it sends one INSERT, whose rows are sorted by id.
// The INSERT writes no row that others write, so a transaction that stays open delays no other
// message. SQLite is the exception: it has one writer, so there the transaction delays all. A
// message whose id is known stays as it is. If another open transaction has inserted the same
// id, EnqueueTx waits for its end.
//
// EnqueueTx does not retry. SQLSTATE 40001 and 40P01 and SQLITE_BUSY are in the chain of the
// error as the database returns them; repeat the transaction then. The error wraps [ErrInvalid]
// if an argument is wrong; nothing was sent to the database then. EnqueueTx takes as long as
// ctx and the transaction allow.
//
// The messages of one call keep their order. So do the messages of two transactions if one
// begins after the other has committed. Transactions that overlap have no order between them,
// also with [WithRecipientOrder]. [WithMaxQueued] does not apply. The age of a message counts
// from this call.
func (o *Outbox) EnqueueTx(ctx context.Context, tx Execer, messages ...Message) error {
	if isNil(tx) {
		return message.AsInvalid(errors.New("outbox: EnqueueTx without a transaction: want a *sql.Tx or another Execer"))
	}
	fresh, err := o.fresh(ctx, messages)
	if err != nil || len(fresh) == 0 {
		return err
	}
	// Not begin: neither Close nor a timeout may end the caller's transaction.
	if o.closing.Err() != nil {
		return ErrClosed
	}
	if err := o.store.Insert(ctx, tx, fresh); err != nil {
		return fmt.Errorf("outbox: cannot enqueue in the transaction: %w", err)
	}
	return nil
}

func isNil(tx Execer) bool {
	switch tx := tx.(type) {
	case nil:
		return true
	case *sql.Tx:
		return tx == nil
	case *sql.Conn:
		return tx == nil
	case *sql.DB:
		return tx == nil
	}
	return false
}
