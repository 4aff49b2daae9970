package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Execer is a transaction of the user.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// The statement writes new rows of one table and nothing else, so that a transaction that stays
// open delays no other program. A Run does the rest: see Adopt. The messages get the time of
// the first one and then a microsecond each, in their order.
const insertManyStatement = `WITH clock AS MATERIALIZED (SELECT {now} AS now)
INSERT INTO {message} (id, phone_number_id, payload, headers, label, urgent, not_before, expires_at, enqueued_at)
SELECT g.id, g.number, g.payload, g.headers, g.label, g.urgent, g.not_before, g.expires, clock.now + g.place
FROM unnest(CAST(@ids AS text[]), CAST(@numbers AS text[]), CAST(@payloads AS text[]), CAST(@headers AS text[]), CAST(@labels AS text[]),
	CAST(@urgent AS boolean[]), CAST(@not_before AS bigint[]), CAST(@expires AS bigint[]), CAST(@places AS bigint[]))
	WITH ORDINALITY AS g(id, number, payload, headers, label, urgent, not_before, expires, place, n) CROSS JOIN clock
ORDER BY g.n ON CONFLICT (id) DO NOTHING`

// insertOne returns the statement for one message, which takes less time: it is the statement
// that any program may send.
func (s *Store) insertOne(m *New) (text string, given args) {
	columns, values := "id, phone_number_id, payload", "@id, @number, @payload"
	given = args{"id": m.ID, "number": m.Number, "payload": m.Payload}
	add := func(column string, value any) {
		columns, values = columns+", "+column, values+", @"+column
		given[column] = value
	}
	if m.Headers != "" {
		add("headers", m.Headers)
	}
	if m.Label != "" {
		add("label", m.Label)
	}
	if m.Urgent {
		add("urgent", true)
	}
	if !m.NotBefore.IsZero() {
		add("not_before", micro(m.NotBefore))
	}
	if !m.ExpiresAt.IsZero() {
		add("expires_at", micro(m.ExpiresAt))
	}
	if !s.dialect.oneStatement {
		// SQLite parses the statement each time, and this one is shorter. The default of the
		// column enqueued_at has milliseconds in SQLite, which would let other messages of the
		// recipient go before this one.
		return "INSERT OR IGNORE INTO {message} (" + columns + ", enqueued_at) VALUES (" + values + ", {now})", given
	}
	return "INSERT INTO {message} (" + columns + ") VALUES (" + values + ") ON CONFLICT (id) DO NOTHING", given
}

const insertManyAsJSON = `INSERT INTO {message} (id, phone_number_id, payload, headers, label, urgent, not_before, expires_at, enqueued_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, {now} + (value ->> 8)
FROM json_each(@messages) WHERE true ORDER BY key ON CONFLICT (id) DO NOTHING`

// Insert inserts messages in a transaction of the user. Adopt puts them into the queue after
// that has committed. Insert does not retry: the owner of the transaction has to repeat it.
func (s *Store) Insert(ctx context.Context, tx Execer, messages []New) error {
	if err := s.failpoint("insert"); err != nil {
		return err
	}
	text, given, err := s.insertion(messages)
	if err != nil {
		return err
	}
	st := s.compile(text)
	_, err = tx.ExecContext(ctx, st.text, st.values(given, s.clock)...)
	return err
}

func (s *Store) insertion(messages []New) (text string, given args, err error) {
	if len(messages) == 1 {
		text, given = s.insertOne(&messages[0])
		return text, given, nil
	}
	order := byID(messages)
	if !s.dialect.oneStatement {
		rows := make([][]any, 0, len(messages))
		for _, i := range order {
			m := &messages[i]
			rows = append(rows, []any{m.ID, m.Number, m.Payload, m.Headers, m.Label, flag(m.Urgent), micro(m.NotBefore), micro(m.ExpiresAt), i})
		}
		text, err := json.Marshal(rows)
		return insertManyAsJSON, args{"messages": string(text)}, err
	}
	columns := make([]array, 9)
	for _, i := range order {
		m := &messages[i]
		for j, text := range []string{m.ID, m.Number, m.Payload, m.Headers, m.Label} {
			columns[j].text(text)
		}
		columns[5].plain(strconv.FormatBool(m.Urgent))
		columns[6].plain(itoa(micro(m.NotBefore)))
		columns[7].plain(itoa(micro(m.ExpiresAt)))
		columns[8].plain(strconv.Itoa(i))
	}
	given = args{}
	for i, name := range []string{"ids", "numbers", "payloads", "headers", "labels", "urgent", "not_before", "expires", "places"} {
		given[name] = columns[i].String()
	}
	return insertManyStatement, given, nil
}

// Unadopted is a message that a program has inserted and no Run has adopted.
type Unadopted struct {
	New
	Seq      int64
	Enqueued time.Time
	Err      error // what is wrong with it
}

// Stored returns the message as it was read.
func (n *Unadopted) Stored() Stored {
	m := Stored{Seq: n.Seq, at: unadopted}
	m.ID, m.Number, m.Recipient, m.Label, m.Urgent = n.ID, n.Number, n.Recipient, n.Label, n.Urgent
	m.State, m.Enqueued, m.Changed, m.ExpiresAt, m.Place = message.StateQueued, n.Enqueued, n.Enqueued, n.ExpiresAt, n.Enqueued
	if n.NotBefore.After(m.Place) {
		m.Place = n.NotBefore
	}
	m.Due = m.Place
	return m
}

const (
	// adoptPage is how many of these messages are checked at once. No more are read after
	// adoptBytes of payload.
	adoptPage  = 500
	adoptBytes = 4 << 20

	// Any program may insert a row, so nothing is certain. A payload that is too long is not
	// read to its end.
	unadoptedStatement = `SELECT m.seq, CAST(m.id AS text), CAST(m.phone_number_id AS text), substr(CAST(m.payload AS text), 1, 1048577), CAST(m.label AS text),
	CASE WHEN m.urgent THEN 1 ELSE 0 END, CAST(m.not_before AS bigint), CAST(m.expires_at AS bigint), CAST(m.enqueued_at AS bigint)
FROM {message} AS m WHERE NOT m.adopted ORDER BY m.phone_number_id, m.seq LIMIT @limit`
)

// Adopt puts messages that programs have inserted into the queue, if check finds nothing wrong
// with them. It takes the first of those that no other Run is checking, and returns all that it
// has checked. Those with an Err stay as they are, for the caller to fail. The row of an id
// that was deleted is deleted.
func (s *Store) Adopt(ctx context.Context, check func(*Unadopted) error) (seen []Unadopted, err error) {
	err = s.write(ctx, "adopt", func(ctx context.Context, on runner) error {
		seen = nil
		if err := s.unadopted(ctx, on, &seen); err != nil || len(seen) == 0 {
			return err
		}
		gone, err := s.deleted(ctx, on, seen)
		if err != nil {
			return err
		}
		var good []*Unadopted
		var deleted array
		for i := range seen {
			n := &seen[i]
			if gone[hashOf(n.ID)] {
				deleted.plain(itoa(n.Seq))
				continue
			}
			if n.Err = check(n); n.Err == nil {
				good = append(good, n)
			}
		}
		if deleted.Len() > 0 {
			given := args{}
			if _, err := s.exec(ctx, on, "DELETE FROM {message} WHERE NOT adopted AND "+s.among(&deleted, given), given); err != nil {
				return err
			}
		}
		if len(good) == 0 {
			return nil
		}
		return s.adopt(ctx, on, good)
	})
	return seen, err
}

// unadoptedFirst returns the statement that finds the first unadopted messages.
func (s *Store) unadoptedFirst() string {
	if s.dialect.locks {
		return unadoptedStatement + " FOR UPDATE SKIP LOCKED"
	}
	return unadoptedStatement
}

// unadopted reads the unadopted messages that no other Run is checking.
func (s *Store) unadopted(ctx context.Context, on runner, seen *[]Unadopted) error {
	size := 0
	return s.query(ctx, on, s.unadoptedFirst(), args{"limit": adoptPage}, func(rows *sql.Rows) error {
		if size >= adoptBytes {
			return nil
		}
		var n Unadopted
		var urgent int
		var notBefore, expires, enqueued int64
		err := rows.Scan(&n.Seq, &n.ID, &n.Number, &n.Payload, &n.Label, &urgent, &notBefore, &expires, &enqueued)
		n.Urgent, n.NotBefore, n.ExpiresAt, n.Enqueued = urgent != 0, fromMicro(notBefore), fromMicro(expires), fromMicro(enqueued)
		size += len(n.Payload)
		*seen = append(*seen, n)
		return err
	})
}

// deleted returns the hashes of those ids that were deleted.
func (s *Store) deleted(ctx context.Context, on runner, among []Unadopted) (map[string]bool, error) {
	gone := make(map[string]bool)
	var hashes array
	for i := range among {
		hashes.text(hashOf(among[i].ID))
	}
	given := args{}
	text := "SELECT hash FROM {deleted} WHERE " + s.oneOf("hash", "text", &hashes, given)
	return gone, s.query(ctx, on, text, given, func(rows *sql.Rows) error {
		var hash string
		err := rows.Scan(&hash)
		gone[hash] = true
		return err
	})
}

// adopt puts unadopted messages into the queue.
func (s *Store) adopt(ctx context.Context, on runner, good []*Unadopted) error {
	changes := make([]Change, len(good))
	for i, n := range good {
		changes[i].Before = n.Stored()
		changes[i].After = changes[i].Before.Record
	}
	for _, p := range []part{bulkAdopt, bulkJoin} {
		text, given := s.written(p, changes)
		if _, err := s.exec(ctx, on, text, given); err != nil {
			return err
		}
	}
	return nil
}
