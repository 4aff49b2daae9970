package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
)

func isConflict(err error) bool { return errors.Is(err, ErrConflict) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sorted puts claims in the order in which they go, which RETURNING does not know.
func sorted(claims []Claim) []Claim {
	slices.SortFunc(claims, func(a, b Claim) int {
		switch {
		case a.Urgent != b.Urgent && a.Urgent:
			return -1
		case a.Urgent != b.Urgent:
			return 1
		case !a.Place.Equal(b.Place):
			return a.Place.Compare(b.Place)
		}
		return int(a.Seq - b.Seq)
	})
	return claims
}

// json returns an array of numbers as JSON.
func (a *array) json() string { return "[" + strings.Trim(a.String(), "{}") + "]" }

// in returns the condition that what stands before it is one of what a query finds, in a
// form in which the query comes first. {skip} in it has rows be skipped that others have
// locked, where rows are.
func (s *Store) in(query string) string {
	if s.dialect.locks {
		return "= ANY(ARRAY(" + strings.ReplaceAll(query, "{skip}", "FOR UPDATE SKIP LOCKED") + "))"
	}
	return "IN (" + strings.ReplaceAll(query, "{skip}", "") + ")"
}

// A new row is slowed at the time of its first lease: that is how the time gets there.
const leaseStatement = `INSERT INTO {number} AS n (number, leased, slowed)
SELECT w.number, d.now + w.length, d.now FROM %s, (SELECT {now} AS now {lazily}) AS d WHERE true ORDER BY w.number
ON CONFLICT (number) DO UPDATE SET
	leased = CASE WHEN n.leased > excluded.slowed THEN n.leased ELSE excluded.slowed END + CAST((excluded.leased - excluded.slowed) / n.share AS bigint),
	share = CASE WHEN n.share + (excluded.leased - excluded.slowed) * CAST(@grows AS double precision) > 1 THEN 1 ELSE n.share + (excluded.leased - excluded.slowed) * CAST(@grows AS double precision) END
RETURNING number, leased, share, {now}`

// Lease takes turns of numbers, each after those that others have taken. With each second
// that is leased the share of the rate grows by that much.
func (s *Store) Lease(ctx context.Context, wanted map[string]lane.Lease, grows float64) (map[string]lane.Leased, error) {
	from := "unnest(CAST(@numbers AS text[]), CAST(@lengths AS bigint[])) AS w(number, length)"
	if !s.dialect.oneStatement {
		from = "(SELECT value ->> 0 AS number, value ->> 1 AS length FROM json_each(@wanted)) AS w"
	}
	var numbers, lengths array
	var rows [][]any
	for _, number := range sortedKeys(wanted) {
		length := wanted[number].Length.Microseconds()
		numbers.text(number)
		lengths.plain(itoa(length))
		rows = append(rows, []any{number, length})
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	given := args{"numbers": numbers.String(), "lengths": lengths.String(), "wanted": string(list), "grows": grows / 1e6}
	var got map[string]lane.Leased
	err = s.statement(ctx, "lease", func(ctx context.Context, on runner) error {
		got = make(map[string]lane.Leased)
		return s.query(ctx, on, fmt.Sprintf(leaseStatement, from), given, func(rows *sql.Rows) error {
			var number string
			var until, now int64
			var l lane.Leased
			err := rows.Scan(&number, &until, &l.Share, &now)
			l.Until, l.Now = fromMicro(until), fromMicro(now)
			got[number] = l
			return err
		})
	})
	return got, err
}

// Slow lowers the rate of a number, for all machines, once a second at most.
func (s *Store) Slow(ctx context.Context, number string, by float64) error {
	return s.statement(ctx, "slow", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, `UPDATE {number} SET share = share * CAST(@by AS double precision), slowed = {now}
WHERE number = @number AND slowed <= {now} - 1000000`, args{"number": number, "by": by})
		return err
	})
}

const holdStatement = `INSERT INTO {number} AS n (number, probe_at, probes, ambiguous, by_webhook, reason, held_at)
SELECT CAST(@number AS text), {now} + CAST(@wait AS bigint), 1, CAST(@ambiguous AS boolean), CAST(@by_webhook AS boolean), CAST(@reason AS text), {now} WHERE true
ON CONFLICT (number) DO UPDATE SET probe_at = excluded.probe_at, probes = 1, ambiguous = excluded.ambiguous, by_webhook = excluded.by_webhook,
	reason = excluded.reason, held_at = excluded.held_at WHERE n.probe_at = 0
RETURNING probe_at`

// Hold holds a number for all machines. It reports whether nobody has before. byWebhook says
// that it is for what Meta said by webhook, so that no answer, but a webhook, ends it.
func (s *Store) Hold(ctx context.Context, number string, wait time.Duration, ambiguous, byWebhook bool, reason string) (first bool, err error) {
	err = s.statement(ctx, "hold", func(ctx context.Context, on runner) error {
		first = false
		return s.query(ctx, on, holdStatement, args{"number": number, "wait": wait.Microseconds(), "ambiguous": ambiguous, "by_webhook": byWebhook, "reason": reason}, func(*sql.Rows) error {
			first = true
			return nil
		})
	})
	return first, err
}

// Probe takes the next probe of a number that is held, and has the one after it be due
// after the wait. It reports whether nobody else has taken it.
func (s *Store) Probe(ctx context.Context, number string, seen lane.Shared, wait time.Duration) (taken bool, err error) {
	err = s.statement(ctx, "probe", func(ctx context.Context, on runner) error {
		n, err := s.exec(ctx, on, `UPDATE {number} SET probe_at = {now} + CAST(@wait AS bigint), probes = probes + 1
WHERE number = @number AND probe_at = @seen AND probe_at <= {now}`, args{"number": number, "wait": wait.Microseconds(), "seen": micro(seen.NextProbe)})
		taken = n > 0
		return err
	})
	return taken, err
}

// Unhold holds a number no longer, since a message of it was accepted, as an answer or a
// webhook says. It reports whether it was held; it stays so after an answer if it is held for
// what a webhook has said.
func (s *Store) Unhold(ctx context.Context, number string, byWebhook bool) (was bool, err error) {
	err = s.statement(ctx, "unhold", func(ctx context.Context, on runner) error {
		n, err := s.exec(ctx, on, `UPDATE {number} SET probe_at = 0, probes = 0, ambiguous = FALSE, by_webhook = FALSE, reason = '', held_at = 0, released = {now} WHERE number = @number AND probe_at > 0 AND (@by_webhook OR NOT by_webhook)`,
			args{"number": number, "by_webhook": byWebhook})
		was = n > 0
		return err
	})
	return was, err
}

// SetPaused pauses a number, or with "" all, or ends that.
func (s *Store) SetPaused(ctx context.Context, number string, paused bool) error {
	return s.statement(ctx, "pause", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, `INSERT INTO {number} (number, paused) SELECT CAST(@number AS text), CAST(@paused AS boolean) WHERE true
ON CONFLICT (number) DO UPDATE SET paused = excluded.paused`, args{"number": number, "paused": paused})
		return err
	})
}

// Beat counts up the heartbeat of a Run, and returns those of all. The Run is not among
// them if it was taken for dead.
func (s *Store) Beat(ctx context.Context, run int64) (beats map[int64]int64, err error) {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	err = s.write(ctx, "heartbeat", func(ctx context.Context, on runner) error {
		beats = make(map[int64]int64)
		if _, err := s.exec(ctx, on, "UPDATE {run} SET beat = beat + 1, beat_at = {now} WHERE run = @run", args{"run": run}); err != nil {
			return err
		}
		return s.query(ctx, on, "SELECT run, beat FROM {run}", nil, func(rows *sql.Rows) error {
			var id, beat int64
			err := rows.Scan(&id, &beat)
			beats[id] = beat
			return err
		})
	})
	return beats, err
}

// Begin lets the others know of a Run.
func (s *Store) Begin(ctx context.Context, run int64) error {
	return s.statement(ctx, "begin", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, "INSERT INTO {run} (run, beat, started_at, beat_at) SELECT CAST(@run AS bigint), 0, {now}, {now} WHERE true ON CONFLICT (run) DO NOTHING", args{"run": run})
		return err
	})
}

// End takes out a Run that has not shown since it was at that beat, or with -1 at any.
func (s *Store) End(ctx context.Context, run, beat int64) error {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	return s.statement(ctx, "end of a Run", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, "DELETE FROM {run} WHERE run = @run AND (beat = @beat OR @beat < 0)", args{"run": run, "beat": beat})
		return err
	})
}

// Orphans returns claims whose Run is gone.
func (s *Store) Orphans(ctx context.Context) (found []Claim, err error) {
	ctx = context.WithValue(ctx, heartbeat{}, true)
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		found = nil
		return s.query(ctx, on, `SELECT `+columns+`, c.run FROM {claim} AS c JOIN {message} AS m ON m.seq = c.seq
LEFT JOIN {record} AS r ON r.seq = c.seq LEFT JOIN {queue} AS q ON q.seq = c.seq
WHERE NOT EXISTS (SELECT 1 FROM {run} AS n WHERE n.run = c.run)`, nil, func(rows *sql.Rows) error {
			var c Claim
			err := scan(rows, &c.Stored, &c.Run)
			found = append(found, c)
			return err
		})
	})
	return found, err
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
