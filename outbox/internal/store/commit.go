package store

import (
	"context"
	"database/sql"
	"fmt"
)

// commits lets writes of the same moment share one transaction, and so one sync of the disk, on
// a database that does not do that by itself.
type commits = group[func(ctx context.Context, on runner) error]

// mostShared is how many writes share a transaction at most.
const mostShared = 256

func newCommits(p *pool) *commits {
	g := &commits{size: func(func(context.Context, runner) error) int { return 1 }, most: mostShared, abreast: 1}
	g.share = func(ctx context.Context, batch []*member[func(context.Context, runner) error]) {
		alone := len(batch) == 1
		var culprit *member[func(context.Context, runner) error]
		err := p.immediate(ctx, func(conn *sql.Conn) error {
			for _, w := range batch {
				if !g.start(w) {
					continue
				}
				if alone {
					return w.what(ctx, conn)
				}
				// A write that fails is rolled back alone.
				if _, err := conn.ExecContext(ctx, "SAVEPOINT one"); err != nil {
					return err
				}
				if w.err = w.what(ctx, conn); w.err != nil {
					if _, err := conn.ExecContext(ctx, "ROLLBACK TO one"); err != nil {
						// SQLite has rolled back the transaction, as a trigger of the user can ask
						// for. The others retry.
						culprit = w
						return fmt.Errorf("%w: %w", errAbandoned, err)
					}
				}
				if _, err := conn.ExecContext(ctx, "RELEASE one"); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range batch {
			g.start(w) // a write that has not begun gets the error too
			if err != nil && w != culprit {
				w.err = err
			}
		}
	}
	return g
}
