package store

import (
	"context"
	"database/sql"
)

// pool is the connections to a database.
type pool struct {
	db *sql.DB
	// ordinary bounds the connections that are used at once for anything but the heartbeat, so
	// that one is left for the heartbeat.
	ordinary chan struct{}
}

func newPool(db *sql.DB) pool {
	p := pool{db: db}
	if most := db.Stats().MaxOpenConnections; most > 0 {
		p.ordinary = make(chan struct{}, max(1, most-1))
	}
	return p
}

// runner is what statements run on: a *sql.DB, a *sql.Conn or a *sql.Tx.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// heartbeat is the key of a context whose statements belong to the heartbeat.
type heartbeat struct{}

// enter takes one of the connections that are not the heartbeat's.
func (p *pool) enter(ctx context.Context) (leave func(), err error) {
	if p.ordinary == nil || ctx.Value(heartbeat{}) != nil {
		return func() {}, nil
	}
	select {
	case p.ordinary <- struct{}{}:
		return func() { <-p.ordinary }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// transact runs a transaction of its own.
func (p *pool) transact(ctx context.Context, do func(ctx context.Context, on runner) error) error {
	tx, err := p.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := do(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}
