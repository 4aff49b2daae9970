package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/lane"
	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Look is what a Run finds when it looks for messages to send.
type Look struct {
	Now time.Time // by the database's clock
	// Due are the numbers that have something due, and whether it is urgent.
	Due map[string]bool
	// Shared is what all machines know about the numbers; "" stands for all numbers.
	Shared map[string]lane.Shared
	// Next is when the next message becomes due, zero if there is none.
	Next time.Time
	// Unadopted reports whether programs have inserted rows that no Run has adopted: see Adopt.
	Unadopted bool
}

// The statement jumps from one number to the next in the index, since each may have many
// messages.
const lookStatement = `WITH RECURSIVE hop(number) AS (
	SELECT * FROM (SELECT number FROM {queue} WHERE ready ORDER BY number LIMIT 1) AS first
	UNION ALL
	SELECT (SELECT q.number FROM {queue} AS q WHERE q.ready AND q.number > hop.number ORDER BY q.number LIMIT 1)
	FROM hop WHERE hop.number IS NOT NULL
)
SELECT 0, hop.number, coalesce((SELECT TRUE FROM {queue} AS q WHERE q.ready AND q.number = hop.number AND q.urgent = TRUE
	ORDER BY q.number, q.urgent DESC, q.place, q.seq LIMIT 1), FALSE), 0
FROM hop WHERE hop.number IS NOT NULL
UNION ALL
SELECT 1, '', FALSE, {now}
UNION ALL
SELECT * FROM (SELECT 2, '', FALSE, due FROM {queue} WHERE NOT ready ORDER BY due LIMIT 1) AS next
UNION ALL
SELECT * FROM (SELECT 3, '', FALSE, seq FROM {message} WHERE NOT adopted ORDER BY phone_number_id, seq LIMIT 1) AS unadopted`

// Look looks for messages to send.
func (s *Store) Look(ctx context.Context) (look Look, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		look = Look{Due: make(map[string]bool)}
		return s.query(ctx, on, lookStatement, nil, func(rows *sql.Rows) error {
			var kind int
			var number string
			var urgent bool
			var at int64
			if err := rows.Scan(&kind, &number, &urgent, &at); err != nil {
				return err
			}
			switch kind {
			case 0:
				look.Due[number] = urgent
			case 1:
				look.Now = fromMicro(at)
			case 2:
				look.Next = fromMicro(at)
			case 3:
				look.Unadopted = true
			}
			return nil
		})
	})
	if err != nil || len(look.Due) == 0 {
		return look, err // if no message is due the numbers do not matter
	}
	err = s.read(ctx, func(ctx context.Context, on runner) (err error) {
		look.Shared, err = s.numbers(ctx, on, numbersStatement, nil)
		return err
	})
	return look, err
}

// ripen returns the statement of Ripen.
func (s *Store) ripen() string {
	return "UPDATE {queue} SET ready = TRUE WHERE NOT ready AND seq " +
		s.in("SELECT seq FROM {queue} WHERE NOT ready AND due <= {now} ORDER BY due LIMIT 1000 {skip}")
}

// Ripen makes messages ready whose due time has come.
func (s *Store) Ripen(ctx context.Context) error {
	_, err := s.do(ctx, "ripen", s.ripen(), nil)
	return err
}

// Claim is a message that a Run has.
type Claim struct {
	Stored
	Run int64
}

// With the recipient's order a message waits for earlier messages of its recipient, for one
// that a Run has, and for rows that were inserted earlier and may be the recipient's.
const inTurn = ` AND (q.recipient = '' OR (
	(SELECT c.seq FROM {claim} AS c WHERE c.number = q.number AND c.recipient = q.recipient LIMIT 1) IS NULL
	AND (SELECT p.seq FROM {queue} AS p WHERE p.number = q.number AND p.recipient = q.recipient AND p.place <= {now}
		AND (p.place, p.seq) < (q.place, q.seq) LIMIT 1) IS NULL
	AND (SELECT n.seq FROM {message} AS n WHERE NOT n.adopted AND n.phone_number_id = q.number AND n.seq < q.seq LIMIT 1) IS NULL))`

// MostTaken is how many messages of a number are claimed at once at most. With so few, even a
// PostgreSQL that has not analyzed the table yet uses the index, and does not sort.
const MostTaken = 8

// These are the orders in which messages of a number are claimed.
const (
	byPlace   = "q.number, q.urgent DESC, q.place, q.seq"
	byRefusal = "q.number, q.refused, q.seq"
)

// These are the messages that are claimed as probes, first the one and then the other.
const (
	neverRefused = " AND q.refused <= 0" // the planner expects more rows than with = 0
	wasRefused   = " AND q.refused > 0"
)

// firstDue returns the query for the messages of a number that are to be claimed. Its limit is
// a literal, so that the planner knows it.
func firstDue(inOrder bool, and, order string, most int) string {
	order = "ORDER BY " + order
	if inOrder {
		// The number is locked, so the messages that are not in turn need not be. The subquery
		// checks one row after the other until there are enough.
		return fmt.Sprintf("SELECT q.seq FROM (SELECT * FROM {queue} AS q WHERE q.ready AND q.number = w.number%s %s OFFSET 0) AS q WHERE TRUE %s LIMIT %d", and, order, inTurn, most)
	}
	return fmt.Sprintf("SELECT q.seq FROM {queue} AS q WHERE q.ready AND q.number = w.number%s %s LIMIT %d FOR UPDATE SKIP LOCKED", and, order, most)
}

// lockNumbers locks the numbers before the query for messages that are in turn. The planner
// cannot know how many are in turn, so it must not choose a sort.
const lockNumbers = `SELECT number, set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)
FROM {number} WHERE number = ANY(CAST(@numbers AS text[])) ORDER BY number FOR UPDATE`

const claimMany = `WITH due AS MATERIALIZED (
	SELECT this.seq FROM unnest(CAST(@numbers AS text[]), CAST(@most AS bigint[])) AS w(number, most) CROSS JOIN LATERAL (
		SELECT first.seq FROM (%s) AS first LIMIT w.most
	) AS this WHERE EXISTS (SELECT 1 FROM {run} WHERE run = @run) AND NOT EXISTS (SELECT 1 FROM {number} AS n WHERE n.number IN ('', w.number) AND n.paused)
), gone AS (
	DELETE FROM {queue} WHERE seq = ANY(ARRAY(SELECT seq FROM due)) RETURNING *
), taken AS (
	INSERT INTO {claim} (seq, number, recipient, label, urgent, place, due, expires, rev, run, token)
	SELECT seq, number, recipient, label, urgent, place, due, expires, rev + 1, CAST(@run AS bigint), '' FROM gone
), lazy AS MATERIALIZED (SELECT 1 {lazily})
SELECT m.seq, m.id, m.phone_number_id, m.enqueued_at, m.expires_at, m.urgent, m.recipient, m.label, gone.place, gone.due, gone.rev + 1, 2, '',
	coalesce(r.state, ''), coalesce(r.changed_at, 0), coalesce(r.memory, ''), m.payload, m.headers
FROM gone JOIN {message} AS m ON m.seq = gone.seq LEFT JOIN {record} AS r ON r.seq = gone.seq, lazy`

const (
	claimOne = `SELECT q.seq FROM {queue} AS q WHERE q.ready AND q.number = @number %s AND EXISTS (SELECT 1 FROM {run} WHERE run = @run)
	AND NOT EXISTS (SELECT 1 FROM {number} AS n WHERE n.number IN ('', @number) AND n.paused) ORDER BY %s LIMIT @most`
	moveClaim = `INSERT INTO {claim} (seq, number, recipient, label, urgent, place, due, expires, rev, run, token)
SELECT seq, number, recipient, label, urgent, place, due, expires, rev + 1, @run, '' FROM {queue} WHERE seq IN (SELECT value FROM json_each(@seqs))`
	leaveQueues = `DELETE FROM {queue} WHERE seq IN (SELECT value FROM json_each(@seqs))`
	readClaims  = `SELECT ` + columns + `, m.payload, m.headers FROM ` + fromClaim + ` WHERE c.seq IN (SELECT value FROM json_each(@seqs))`
)

// Take claims due messages for a Run: the first ones of each number, at most as many as given
// and at most MostTaken. A number that is paused has none, whether or not the Run has seen
// that. With inOrder a recipient has one message under way at a time. Take returns nothing if
// the Run was taken for dead.
func (s *Store) Take(ctx context.Context, run int64, most map[string]int, inOrder, urgentOnly bool) (taken []Claim, err error) {
	return s.take(ctx, run, most, inOrder, urgent(urgentOnly), byPlace, MostTaken)
}

// TakeProbes is Take for numbers that are held, and claims one message of each number: the
// first one that was never refused, or else the one whose last refusal is the oldest. So no
// message is a probe again while another one is due.
func (s *Store) TakeProbes(ctx context.Context, run int64, most map[string]int, inOrder, urgentOnly bool) ([]Claim, error) {
	taken, err := s.take(ctx, run, most, inOrder, urgent(urgentOnly)+neverRefused, byPlace, 1)
	left := maps.Clone(most)
	for i := range taken {
		if left[taken[i].Number]--; left[taken[i].Number] <= 0 {
			delete(left, taken[i].Number)
		}
	}
	if err != nil || len(left) == 0 {
		return taken, err
	}
	again, err := s.take(ctx, run, left, inOrder, urgent(urgentOnly)+wasRefused, byRefusal, 1)
	return append(taken, again...), err
}

func urgent(only bool) string {
	if only {
		return " AND q.urgent = TRUE"
	}
	return ""
}

func (s *Store) take(ctx context.Context, run int64, most map[string]int, inOrder bool, and, order string, limit int) (taken []Claim, err error) {
	read := func(rows *sql.Rows) error {
		c := Claim{Run: run}
		err := scan(rows, &c.Stored, &c.Payload, &c.Headers)
		taken = append(taken, c)
		return err
	}
	if !s.dialect.oneStatement {
		also := and
		if inOrder {
			also += inTurn
		}
		err = s.write(ctx, "claim", func(ctx context.Context, on runner) error {
			taken = nil
			var all array
			for _, number := range sortedKeys(most) {
				seqs := array{}
				err := s.query(ctx, on, fmt.Sprintf(claimOne, also, order), args{"number": number, "run": run, "most": min(most[number], limit)}, func(rows *sql.Rows) error {
					var seq int64
					err := rows.Scan(&seq)
					seqs.plain(itoa(seq))
					all.plain(itoa(seq))
					return err
				})
				if err != nil || seqs.Len() == 0 {
					if err != nil {
						return err
					}
					continue
				}
				// At once, since a claim delays other messages of the same recipient.
				for _, text := range []string{moveClaim, leaveQueues} {
					if _, err := s.exec(ctx, on, text, args{"seqs": seqs.json(), "run": run}); err != nil {
						return err
					}
				}
			}
			if all.Len() == 0 {
				return nil
			}
			return s.query(ctx, on, readClaims, args{"seqs": all.json()}, read)
		})
		return sorted(taken), err
	}
	var numbers, counts array
	for _, number := range sortedKeys(most) {
		numbers.text(number)
		counts.plain(strconv.Itoa(most[number]))
	}
	given := args{"numbers": numbers.String(), "most": counts.String(), "run": run}
	claim := func(ctx context.Context, on runner) error {
		taken = nil
		return s.query(ctx, on, fmt.Sprintf(claimMany, firstDue(inOrder, and, order, limit)), given, read)
	}
	if !inOrder {
		err = s.statement(ctx, "claim", claim)
		return sorted(taken), err
	}
	err = s.write(ctx, "claim", func(ctx context.Context, on runner) error {
		// Two Runs that claim at once would not see each other's claims. So the query is a
		// statement of its own, after the lock.
		if _, err := s.exec(ctx, on, lockNumbers, given); err != nil {
			return err
		}
		return claim(ctx, on)
	})
	return sorted(taken), err
}

// Mark writes that an attempt is about to be made. The error wraps ErrConflict if this Run does
// not have the message any more. Mark does not retry. After any other error the message may be
// marked or not, and must be given back.
func (s *Store) Mark(ctx context.Context, c *Claim, token string) error {
	err := s.onceAlone(ctx, "mark", func(ctx context.Context, on runner) error {
		n, err := s.exec(ctx, on, s.durably(`UPDATE {claim} SET token = @newtoken WHERE seq = @seq AND rev = @rev AND run = @run AND token = ''`),
			args{"newtoken": token, "seq": c.Seq, "rev": c.rev, "run": c.Run})
		if err == nil && n == 0 {
			err = ErrConflict
		}
		return err
	})
	if err == nil {
		c.token, c.Token, c.State = token, token, message.StateSending
	}
	return err
}

// GiveBack puts a message that a Run has, and has not sent, back into the queue, at its place,
// due at that time. A mark whose statement is still under way finds no claim then. GiveBack
// does nothing if the Run does not have the message any more.
func (s *Store) GiveBack(ctx context.Context, c *Claim, token string, due time.Time) error {
	text := `DELETE FROM {claim} WHERE seq = @seq AND rev = @rev AND run = @run AND (token = '' OR token = @token) RETURNING seq`
	err := s.change(ctx, "give back", text, []string{joinQueue}, args{"seq": c.Seq, "rev": c.rev, "run": c.Run, "token": token,
		"number": c.Number, "recipient": c.Recipient, "label": c.Label, "urgent": c.Urgent, "place": micro(c.Place), "due": max(micro(due), micro(c.Place)),
		"expires": micro(c.ExpiresAt), "refused": micro(c.LastRefusal.Time)})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// Claims returns the messages that a Run has, as the database shows.
func (s *Store) Claims(ctx context.Context, run int64) ([]Claim, error) {
	return s.claims(ctx, "c.run = @run", args{"run": run})
}

// Orphans returns the claims of Runs that do not exist any more.
func (s *Store) Orphans(ctx context.Context) ([]Claim, error) {
	return s.claims(context.WithValue(ctx, heartbeat{}, true), "NOT EXISTS (SELECT 1 FROM {run} AS n WHERE n.run = c.run)", nil)
}

func (s *Store) claims(ctx context.Context, where string, given args) (found []Claim, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		found = nil
		return s.query(ctx, on, "SELECT "+columns+", c.run FROM "+fromClaim+" WHERE "+where, given, func(rows *sql.Rows) error {
			var c Claim
			err := scan(rows, &c.Stored, &c.Run)
			found = append(found, c)
			return err
		})
	})
	return found, err
}

// sorted sorts claims in the order in which they are sent, since RETURNING has no order.
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
