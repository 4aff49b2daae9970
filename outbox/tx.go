package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Execer is a transaction of yours: a [*sql.Tx] or a [*sql.Conn], in the database that has
// the outbox, or what https://github.com/graphretry/graphretry/blob/main/outbox/docs/database.md#transactions makes of a pgx.Tx.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// EnqueueTx is [Outbox.EnqueueAll] in a transaction of yours: the messages are there if and
// only if it commits. Until then no Run sees them; afterwards one takes them in within half a
// second.
//
// All are checked first. Then one INSERT is sent, whose rows are sorted by id; it writes no
// row that anybody else writes, so that a transaction that stays open stops no other message.
// (SQLite has one writer: there it stops all.) An id that is known stays as it is. Where
// another transaction has inserted the same id and is open, this one waits for its end.
//
// Nothing is tried again: SQLSTATE 40001 and 40P01 and SQLITE_BUSY are in the chain of the
// error as the database gives them, and the transaction is then for you to repeat.
// [ErrInvalid] is there if an argument is wrong; then nothing was sent to the database. It
// takes as long as ctx and the transaction let it.
//
// The messages of one call keep their order, and so do the calls of transactions one of
// which begins after the other has committed. Transactions that overlap have no order
// between them, whatever [WithRecipientOrder] says. It heeds no [WithMaxQueued]. The age of a
// message counts from this call.
func (o *Outbox) EnqueueTx(ctx context.Context, tx Execer, messages ...Message) error {
	if isNil(tx) {
		return message.AsInvalid(errors.New("outbox: EnqueueTx without a transaction: want a *sql.Tx, or another Execer"))
	}
	fresh, err := o.fresh(ctx, messages)
	if err != nil || len(fresh) == 0 {
		return err
	}
	// Not begin: the transaction is not ours to end when the Outbox is closed, or after a time.
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
