package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
)

// A new row gets the time of its first lease in the column slowed, since excluded.slowed is how
// the statement knows the time.
//
// A last lease that ends much later than many processes could have leased is from before the
// database's clock was set back. Without that, the number would send nothing until the clock is
// there again.
const leaseStatement = `INSERT INTO {number} AS n (number, leased, slowed)
SELECT w.number, d.now + w.length, d.now FROM %s, (SELECT {now} AS now {lazily}) AS d WHERE true ORDER BY w.number
ON CONFLICT (number) DO UPDATE SET
	leased = CASE WHEN n.leased > excluded.slowed AND n.leased < excluded.slowed + 30000000 + 100 * (excluded.leased - excluded.slowed) / n.share THEN n.leased
		ELSE excluded.slowed END + CAST((excluded.leased - excluded.slowed) / n.share AS bigint),
	share = CASE WHEN n.share + (excluded.leased - excluded.slowed) * CAST(@grows AS double precision) > 1 THEN 1 ELSE n.share + (excluded.leased - excluded.slowed) * CAST(@grows AS double precision) END
RETURNING number, leased, share, {now}`

// Lease leases turns of numbers, each after the last lease of any process. With each second
// that is leased the share of the rate grows by grows.
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
		asked := time.Now()
		return s.query(ctx, on, fmt.Sprintf(leaseStatement, from), given, func(rows *sql.Rows) error {
			var number string
			var until, now int64
			var l lane.Leased
			err := rows.Scan(&number, &until, &l.Share, &now)
			l.Until, l.Now, l.Took = fromMicro(until), fromMicro(now), time.Since(asked)
			got[number] = l
			return err
		})
	})
	return got, err
}

// Slow lowers the rate of a number on all machines, once a second at most.
func (s *Store) Slow(ctx context.Context, number string, by float64) error {
	_, err := s.do(ctx, "slow", `UPDATE {number} SET share = share * CAST(@by AS double precision), slowed = {now}
WHERE number = @number AND slowed <= {now} - 1000000`, args{"number": number, "by": by})
	return err
}

const holdStatement = `INSERT INTO {number} AS n (number, probe_at, probes, ambiguous, by_webhook, reason, held_at)
SELECT CAST(@number AS text), {now} + CAST(@wait AS bigint), 1, CAST(@ambiguous AS boolean), CAST(@by_webhook AS boolean), CAST(@reason AS text), {now} WHERE true
ON CONFLICT (number) DO UPDATE SET probe_at = excluded.probe_at, probes = 1, ambiguous = excluded.ambiguous, by_webhook = excluded.by_webhook,
	reason = excluded.reason, held_at = excluded.held_at WHERE n.probe_at = 0`

// Hold holds a number on all machines. It reports whether it was not held before. With
// byWebhook only a webhook ends the hold, and no answer does.
func (s *Store) Hold(ctx context.Context, number string, wait time.Duration, ambiguous, byWebhook bool, reason string) (first bool, err error) {
	n, err := s.do(ctx, "hold", holdStatement, args{"number": number, "wait": wait.Microseconds(), "ambiguous": ambiguous, "by_webhook": byWebhook, "reason": reason})
	return n > 0, err
}

// Probe takes the next probe of a number that is held; the one after it is due after the wait.
// It reports whether no other process had taken it.
func (s *Store) Probe(ctx context.Context, number string, seen lane.Shared, wait time.Duration) (taken bool, err error) {
	n, err := s.do(ctx, "probe", `UPDATE {number} SET probe_at = {now} + CAST(@wait AS bigint), probes = probes + 1
WHERE number = @number AND probe_at = @seen AND probe_at <= {now}`, args{"number": number, "wait": wait.Microseconds(), "seen": micro(seen.NextProbe)})
	return n > 0, err
}

// Unhold ends the hold of a number, since an answer or a webhook says that a message of it was
// accepted. It reports whether it has ended it. An answer does not end a hold that a webhook
// has caused.
func (s *Store) Unhold(ctx context.Context, number string, byWebhook bool) (was bool, err error) {
	n, err := s.do(ctx, "unhold", `UPDATE {number} SET probe_at = 0, probes = 0, ambiguous = FALSE, by_webhook = FALSE, reason = '', held_at = 0, released = {now} WHERE number = @number AND probe_at > 0 AND (@by_webhook OR NOT by_webhook)`,
		args{"number": number, "by_webhook": byWebhook})
	return n > 0, err
}

// SetPaused pauses or resumes a number, or with "" all numbers.
func (s *Store) SetPaused(ctx context.Context, number string, paused bool) error {
	_, err := s.do(ctx, "pause", `INSERT INTO {number} (number, paused) SELECT CAST(@number AS text), CAST(@paused AS boolean) WHERE true
ON CONFLICT (number) DO UPDATE SET paused = excluded.paused`, args{"number": number, "paused": paused})
	return err
}

const numbersStatement = `SELECT number, paused, probe_at, probes, ambiguous, by_webhook, reason, held_at, released, leased, share FROM {number}`

// Number returns what all machines know about one number.
func (s *Store) Number(ctx context.Context, number string) (this lane.Shared, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		numbers, err := s.numbers(ctx, on, numbersStatement+" WHERE number = @number", args{"number": number})
		this = numbers[number]
		return err
	})
	return this, err
}

// HeldByWebhook returns the numbers that are held because of a webhook.
func (s *Store) HeldByWebhook(ctx context.Context) (numbers map[string]lane.Shared, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) (err error) {
		numbers, err = s.numbers(ctx, on, numbersStatement+" WHERE by_webhook", nil)
		return err
	})
	return numbers, err
}

func (s *Store) numbers(ctx context.Context, on runner, text string, given args) (map[string]lane.Shared, error) {
	numbers := make(map[string]lane.Shared)
	return numbers, s.query(ctx, on, text, given, func(rows *sql.Rows) error {
		var number string
		var this lane.Shared
		var probe, leased, held, released int64
		err := rows.Scan(&number, &this.Paused, &probe, &this.Probes, &this.Ambiguous, &this.ByWebhook, &this.Reason, &held, &released, &leased, &this.Share)
		this.NextProbe, this.LeasedUntil, this.HeldSince, this.Released = fromMicro(probe), fromMicro(leased), fromMicro(held), fromMicro(released)
		numbers[number] = this
		return err
	})
}
