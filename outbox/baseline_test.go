package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// baseline is the smallest queue in a table: INSERT, a claim with SKIP LOCKED, an UPDATE before
// the call and one after it. The outbox's own cost is what it needs beyond that.
type baseline struct {
	t    *testing.T
	db   *sql.DB
	lite bool
}

func newBaseline(t *testing.T, where place) *baseline {
	t.Helper()
	db, _, err := where.connect()
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	b := &baseline{t, db, where.kind == "sqlite"}
	serial := "bigserial"
	if b.lite {
		db.SetMaxOpenConns(1) // it has one writer
		serial = "INTEGER"
	} else {
		db.SetMaxOpenConns(80)
		db.SetMaxIdleConns(80)
	}
	b.exec("CREATE TABLE baseline (seq " + serial + " PRIMARY KEY, id text NOT NULL UNIQUE, number text NOT NULL, payload text NOT NULL, state integer NOT NULL DEFAULT 0)")
	b.exec("CREATE INDEX baseline_next ON baseline (number, seq) WHERE state = 0")
	return b
}

func (b *baseline) exec(query string, args ...any) {
	_, err := b.db.ExecContext(context.Background(), query, args...)
	require.NoError(b.t, err)
}

func (b *baseline) enqueue(prefix string, n int) {
	var query strings.Builder
	query.WriteString("INSERT INTO baseline (id, number, payload) VALUES ")
	args := make([]any, 0, 3*n)
	for i := range n {
		if i > 0 {
			query.WriteString(", ")
		}
		fmt.Fprintf(&query, "($%d, $%d, $%d)", 3*i+1, 3*i+2, 3*i+3)
		args = append(args, fmt.Sprint(prefix, "-", i), phoneNumberID, string(payload(strings.Repeat("x", 100))))
	}
	b.exec(query.String(), args...)
}

// run sends n messages with that many workers to an API with that latency, and returns how many
// it sends a second.
func (b *baseline) run(n, workers int, latency time.Duration) float64 {
	lock := " FOR UPDATE SKIP LOCKED"
	if b.lite {
		lock = ""
	}
	claim := "UPDATE baseline SET state = 1 WHERE seq IN (SELECT seq FROM baseline WHERE number = $1 AND state = 0 ORDER BY number, seq LIMIT $2" + lock + ") RETURNING seq, payload"
	began, left := time.Now(), n
	slots := make(chan struct{}, workers)
	var all sync.WaitGroup
	for left > 0 {
		slots <- struct{}{} // at least one is free
		free := min(left, cap(slots)-len(slots)+1)
		rows, err := b.db.QueryContext(context.Background(), claim, phoneNumberID, free)
		require.NoError(b.t, err)
		var seqs []int64
		for rows.Next() {
			var seq int64
			var text string
			require.NoError(b.t, rows.Scan(&seq, &text))
			seqs = append(seqs, seq)
		}
		require.NoError(b.t, rows.Close())
		for i, seq := range seqs {
			if i > 0 {
				slots <- struct{}{}
			}
			all.Go(func() {
				b.exec("UPDATE baseline SET state = 2 WHERE seq = $1", seq)
				time.Sleep(latency)
				b.exec("UPDATE baseline SET state = 3 WHERE seq = $1", seq)
				<-slots
			})
		}
		left -= len(seqs)
	}
	all.Wait()
	return float64(n) / time.Since(began).Seconds()
}
