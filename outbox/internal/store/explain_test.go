package store

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
)

// hotStatements are the statements of the loop and of an attempt, with their arguments.
func hotStatements(s *Store) map[string]string {
	claim := func(inOrder bool, and, order string, most int) string {
		if s.dialect.oneStatement {
			return fmt.Sprintf(claimMany, firstDue(inOrder, and, order, most))
		}
		if inOrder {
			and += inTurn
		}
		return fmt.Sprintf(claimOne, and, order)
	}
	found := map[string]string{
		"look":            lookStatement,
		"ripen":           s.ripen(),
		"claim":           claim(false, "", byPlace, MostTaken),
		"claim urgent":    claim(false, urgent(true), byPlace, MostTaken),
		"claim in order":  claim(true, "", byPlace, MostTaken),
		"probe":           claim(false, neverRefused, byPlace, 1),
		"probe in order":  claim(true, neverRefused, byPlace, 1),
		"probe again":     claim(false, wasRefused, byRefusal, 1),
		"mark":            s.durably("UPDATE {claim} SET token = @newtoken WHERE seq = @seq AND rev = @rev AND run = @run AND token = ''"),
		"load":            loadStatement,
		"expired":         s.expired(),
		"list by number":  "SELECT " + columns + " FROM " + fromMessage + " WHERE m.phone_number_id = @number AND m.seq > @after ORDER BY m.seq LIMIT @limit",
		"list queued":     "SELECT " + columns + " FROM " + fromQueue + " WHERE q.seq > @after ORDER BY q.seq LIMIT @limit",
		"list unknown":    "SELECT " + columns + " FROM " + fromRecord + " WHERE r.state = 'unknown' AND r.state IN ('failed', 'unknown') AND r.seq > @after ORDER BY r.seq LIMIT @limit",
		"list by label":   "SELECT " + columns + " FROM " + fromMessage + " WHERE m.seq > @after AND m.label = @label AND m.label <> '' ORDER BY m.seq LIMIT @limit",
		"queued by label": "SELECT " + columns + " FROM " + fromQueue + " WHERE q.seq > @after AND q.label = @label AND q.label <> '' ORDER BY q.seq LIMIT @limit",
		"unadopted":       s.unadoptedFirst(),
		"oldest":          oldestStatement,
		"leave the queue": leaveQueue,
		"leave the claim": leaveClaim,
		"keep the record": updateRecord,
	}
	if !s.dialect.oneStatement {
		found["move a claim"] = moveClaim
		found["leave the queues"] = leaveQueues
		found["read the claims"] = readClaims
	}
	// These are the statements of bulk decisions about a page.
	change := []Change{{Before: Stored{Seq: 1}}}
	for at, p := range foundIn {
		text, _ := s.written(p, change)
		found[fmt.Sprint("found in ", at)] = text
	}
	found["load all"], _ = s.written(loadAll, change)
	found["read again"], _ = s.reread(&Filter{States: []message.State{message.StateQueued}, Code: 1, Label: "june"}, change)
	for i, p := range slices.Concat(leaving[inQueue], leaving[inClaim], bulkDeleted, []part{bulkTakeIn, bulkAdopt, bulkJoin, bulkRecord, savedBefore, deletedBefore}) {
		text, _ := s.written(p, change)
		found[fmt.Sprint("part ", i)] = text
	}
	return found
}

// explained returns the plan of a statement, one line each.
func explained(t *testing.T, s *Store, text string) (plan []string) {
	t.Helper()
	st := s.compile(text)
	if s.dialect.locks {
		// The plan is the generic one, which a prepared statement uses in the end.
		tx, err := s.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		if strings.Contains(text, "OFFSET 0") { // as in the transaction in which it stands
			_, err := s.exec(t.Context(), tx, lockNumbers, args{"numbers": "{1}"})
			require.NoError(t, err)
		}
		for _, setup := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE hot AS " + st.text} {
			_, err = tx.Exec(setup)
			require.NoError(t, err, st.text)
		}
		defer func() { _, _ = s.db.Exec("DEALLOCATE ALL") }()
		call := "hot"
		if len(st.names) > 0 {
			call += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", len(st.names)), ", ") + ")"
		}
		rows, err := tx.Query("EXPLAIN EXECUTE " + call)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan = append(plan, line)
		}
		require.NoError(t, rows.Err())
		_, _ = tx.Exec("DEALLOCATE hot")
		return plan
	}
	values := make([]any, len(st.names))
	for i, name := range st.names {
		values[i] = 1
		if name == "seqs" || name == "values" {
			values[i] = "[1]"
		}
	}
	require.NoError(t, s.query(t.Context(), s.db, "EXPLAIN QUERY PLAN "+text, argsOf(st, values), func(rows *sql.Rows) error {
		var id, parent, unused int
		var line string
		err := rows.Scan(&id, &parent, &unused, &line)
		plan = append(plan, line)
		return err
	}))
	return plan
}

func argsOf(st statement, values []any) args {
	given := args{}
	for i, name := range st.names {
		given[name] = values[i]
	}
	return given
}

var (
	// A statement of the loop must not do this with a table that grows. The claims, the numbers
	// and the Runs are few.
	postgresScan = regexp.MustCompile(`Seq Scan on "?(graphretry_message|graphretry_queue|graphretry_record)`)
	sqliteScan   = regexp.MustCompile(`^SCAN (m|q|r|p|graphretry_message|graphretry_queue|graphretry_record)( |$)`)
)

// No statement of the loop scans the queue or sorts it, however many messages are in it.
func TestNoStatementOfTheLoopScansOrSortsTheQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		if strings.Contains(t.Name(), "exec") || strings.Contains(t.Name(), "simple") {
			t.Skip("it is the same in every protocol")
		}
		grow(t, s, 20_000)
		_, err := s.Lease(t.Context(), map[string]lane.Lease{"1": {Length: time.Millisecond}}, 0)
		require.NoError(t, err)
		for _, analyzed := range []bool{false, true} {
			if analyzed {
				_, err := s.db.Exec("ANALYZE")
				require.NoError(t, err)
			}
			for name, text := range hotStatements(s) {
				plan := explained(t, s, text)
				require.NotEmpty(t, plan, name)
				all := strings.Join(plan, "\n")
				for _, line := range plan {
					if s.dialect.locks {
						assert.NotRegexp(t, postgresScan, line, "%s, analyzed %v:\n%s", name, analyzed, all)
						if name != "look" { // it sorts nothing but its few rows
							assert.NotContains(t, line, "Sort Key: q", "%s:\n%s", name, all)
						}
						continue
					}
					// The first row by its key is only one row.
					if sqliteScan.MatchString(line) && !strings.Contains(line, "USING") && name != "oldest" {
						assert.Fail(t, "it goes through a table", "%s, analyzed %v:\n%s", name, analyzed, all)
					}
					assert.NotContains(t, line, "USE TEMP B-TREE FOR ORDER BY", "%s, analyzed %v:\n%s", name, analyzed, all)
				}
			}
		}
	})
}

// grow puts messages into the tables. Half of them have ended.
func grow(t *testing.T, s *Store, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	require.NoError(t, s.write(ctx, "grow", func(ctx context.Context, on runner) error {
		for _, text := range []string{
			fmt.Sprintf("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)", n) +
				` INSERT INTO {message} (id, phone_number_id, payload, recipient, adopted) SELECT 'm' || CAST(i AS text), CAST(i % 7 AS text), '{}', CAST(i AS text), TRUE FROM s`,
			`INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev) SELECT seq, phone_number_id, recipient, '', FALSE, seq, seq, seq % 10 <> 0, 0, 0 FROM {message} WHERE seq % 2 = 0`,
			`INSERT INTO {record} (seq, number, label, state, changed_at, code, subcode, rev, memory) SELECT seq, phone_number_id, '', 'sent', 1, 0, 0, 1, '{}' FROM {message} WHERE seq % 2 = 1`,
		} {
			if _, err := s.exec(ctx, on, text, nil); err != nil {
				return err
			}
		}
		return nil
	}))
}
