package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Enqueue puts messages into the queue, all or none. A message whose id is known changes
// nothing. Callers that enqueue at the same moment share a statement.
func (s *Store) Enqueue(ctx context.Context, messages []New) error {
	return s.persist(ctx, func(ctx context.Context) error {
		err := s.enqueues.do(ctx, messages)
		if isLocked(err) {
			err = s.insert(ctx, messages, false)
		}
		return err
	})
}

// mostBytes is how many bytes are inserted at once. A message counts for a little more than its
// payload.
const mostBytes = 4 << 20

// newEnqueues returns the group that inserts messages of the same moment at once.
func (s *Store) newEnqueues() *group[[]New] {
	abreast := 8 // so that callers need not wait for each other if the database is far away
	if s.dialect.sharesCommits {
		abreast = 1
	}
	g := &group[[]New]{most: mostBytes, abreast: abreast, size: func(messages []New) (bytes int) {
		for i := range messages {
			bytes += 1024 + len(messages[i].Payload)
		}
		return bytes
	}}
	g.share = func(ctx context.Context, batch []*member[[]New]) {
		var all []New
		known := make(map[string]bool) // the first message of an id counts
		for _, w := range batch {
			if g.hasLeft(w) {
				continue
			}
			for _, m := range w.what {
				if !known[m.ID] {
					known[m.ID] = true
					all = append(all, m)
				}
			}
		}
		// Neither a connection that hangs nor a caller with much time delays the others for long.
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := s.insert(ctx, all, true)
		for _, w := range batch {
			if err != nil && len(batch) > 1 && (!Temporary(err) || isLocked(err)) {
				w.err = s.insert(ctx, w.what, true) // the fault may be in another member's messages
			} else {
				w.err = err
			}
		}
	}
	return g
}

// insert is Enqueue without retries. If it shall be brief, it does not wait for the end of
// another transaction that has inserted one of the ids: see isLocked.
func (s *Store) insert(ctx context.Context, messages []New, brief bool) error {
	if s.dialect.oneStatement {
		return s.insertAtOnce(ctx, messages, brief)
	}
	return s.insertInTurn(ctx, messages)
}

const enqueueStatement = `WITH given AS MATERIALIZED (
	SELECT g.*, d.now, row_number() OVER () AS n
	FROM unnest(CAST(@ids AS text[]), CAST(@numbers AS text[]), CAST(@recipients AS text[]), CAST(@payloads AS text[]), CAST(@headers AS text[]),
		CAST(@labels AS text[]), CAST(@urgent AS boolean[]), CAST(@not_before AS bigint[]), CAST(@expires AS bigint[]), CAST(@hashes AS text[]), CAST(@places AS bigint[]))
		AS g(id, number, recipient, payload, headers, label, urgent, not_before, expires, hash, place),
		(SELECT {now} AS now, durable, set_config('lock_timeout', CASE WHEN CAST(@brief AS boolean) THEN '100ms' ELSE current_setting('lock_timeout') END, true)
			FROM {durable} AS c) AS d
), fresh AS (
	INSERT INTO {message} (id, phone_number_id, recipient, payload, headers, label, urgent, not_before, expires_at, enqueued_at, adopted)
	SELECT g.id, g.number, g.recipient, g.payload, g.headers, g.label, g.urgent, g.not_before, g.expires, g.now, true FROM given AS g
	WHERE NOT EXISTS (SELECT 1 FROM {deleted} AS d WHERE d.hash = g.hash)
	ORDER BY g.n
	ON CONFLICT (id) DO NOTHING RETURNING seq, id
)
INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev)
SELECT f.seq, g.number, g.recipient, g.label, g.urgent, greatest(g.not_before, g.now + g.place), greatest(g.not_before, g.now + g.place),
	g.not_before <= g.now, g.expires, 0
FROM fresh AS f JOIN given AS g ON g.id = f.id`

// insertAtOnce inserts all with one statement.
func (s *Store) insertAtOnce(ctx context.Context, messages []New, brief bool) error {
	columns := make([]array, 11)
	for _, i := range byID(messages) {
		m := &messages[i]
		for j, text := range []string{m.ID, m.Number, m.Recipient, m.Payload, m.Headers, m.Label} {
			columns[j].text(text)
		}
		columns[6].plain(strconv.FormatBool(m.Urgent))
		columns[7].plain(strconv.FormatInt(micro(m.NotBefore), 10))
		columns[8].plain(strconv.FormatInt(micro(m.ExpiresAt), 10))
		columns[9].text(hashOf(m.ID))
		// They get places in the queue in their order, a microsecond apart.
		columns[10].plain(strconv.Itoa(i))
	}
	given := args{"brief": brief}
	for i, name := range []string{"ids", "numbers", "recipients", "payloads", "headers", "labels", "urgent", "not_before", "expires", "hashes", "places"} {
		given[name] = columns[i].String()
	}
	return s.onceAlone(ctx, "enqueue", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, enqueueStatement, given)
		return err
	})
}

const (
	// insertMessages is the statement around the rows. Rows as JSON would be parsed by SQLite
	// once for each column.
	insertMessages = `INSERT INTO {message} (id, phone_number_id, recipient, payload, headers, label, urgent, not_before, expires_at, enqueued_at, adopted)
SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, {now}, TRUE FROM (VALUES %s) AS given
WHERE NOT EXISTS (SELECT 1 FROM {deleted} AS d WHERE d.hash = column10)
ON CONFLICT (id) DO NOTHING`
	// No other connection writes meanwhile, and a new seq is higher than all earlier ones, also
	// than those of rows that were deleted. The messages get places in the queue in their
	// order, a microsecond apart. A row that a trigger of the user has inserted is not adopted.
	insertQueue = `INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev)
SELECT seq, phone_number_id, recipient, label, urgent, max(not_before, {now} + seq - first), max(not_before, {now} + seq - first), not_before <= {now}, expires_at, 0
FROM {message}, (SELECT min(seq) AS first FROM {message} WHERE seq > @last) WHERE seq > @last AND adopted`
	// rowsAtOnce is how many rows an INSERT has. For each argument a driver searches all
	// arguments.
	rowsAtOnce = 50
)

// insertInTurn inserts with one statement for each table.
func (s *Store) insertInTurn(ctx context.Context, messages []New) error {
	return s.onceAlone(ctx, "enqueue", func(ctx context.Context, on runner) error {
		now := s.clock().UnixMicro()
		var last int64
		err := s.query(ctx, on, "SELECT coalesce(max(seq), 0) FROM {message}", nil, func(rows *sql.Rows) error { return rows.Scan(&last) })
		if err != nil {
			return err
		}
		insert := s.compile(insertMessages)
		for some := range slices.Chunk(messages, rowsAtOnce) {
			given := insert.values(args{"now": now}, s.clock)
			for i := range some {
				m := &some[i]
				given = append(given, m.ID, m.Number, m.Recipient, m.Payload, m.Headers, m.Label, m.Urgent, micro(m.NotBefore), micro(m.ExpiresAt), hashOf(m.ID))
			}
			rows := strings.Repeat(", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", len(some))[2:]
			if _, err := on.ExecContext(ctx, fmt.Sprintf(insert.text, rows), given...); err != nil {
				return err
			}
		}
		_, err = s.exec(ctx, on, insertQueue, args{"last": last, "now": now})
		return err
	})
}
