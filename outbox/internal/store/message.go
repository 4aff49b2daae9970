package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// New is a message that is about to be enqueued.
type New struct {
	ID, Number, Recipient string
	Payload, Headers      string
	Label                 string
	Urgent                bool
	NotBefore, ExpiresAt  time.Time
}

// hashOf is all that is left of the id of a deleted message.
func hashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// byID returns the order in which messages are inserted. Two who insert the same ids in
// opposite order would wait for each other.
func byID(messages []New) []int {
	order := make([]int, len(messages))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(messages[a].ID, messages[b].ID) })
	return order
}

// Enqueue puts messages into the queue, all or none. Of those whose id is known nothing is
// changed. Callers who enqueue at the same moment share a statement.
func (s *Store) Enqueue(ctx context.Context, messages []New) error {
	return s.persist(ctx, func(ctx context.Context) error { return s.enqueues.do(ctx, messages) })
}

// enqueues has messages that are enqueued at the same moment be inserted at once.
type enqueues = group[[]New]

// mostBytes is how many bytes are inserted at once, in which a message counts for some more
// than its payload has.
const mostBytes = 4 << 20

func (s *Store) newEnqueues() *enqueues {
	g := &enqueues{most: mostBytes, size: func(messages []New) (bytes int) {
		for i := range messages {
			bytes += 1024 + len(messages[i].Payload)
		}
		return bytes
	}}
	g.share = func(ctx context.Context, batch []*member[[]New]) {
		var all []New
		known := make(map[string]bool) // of two with the same id the first one counts
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
		err := s.insert(ctx, all)
		for _, w := range batch {
			if err != nil && len(batch) > 1 && !Temporary(err) {
				w.err = s.insert(ctx, w.what) // it may be the fault of one of the others
			} else {
				w.err = err
			}
		}
	}
	return g
}

// insert is Enqueue for one try.
func (s *Store) insert(ctx context.Context, messages []New) error {
	if s.dialect.oneStatement {
		return s.insertAtOnce(ctx, messages)
	}
	return s.insertInTurn(ctx, messages)
}

const enqueueStatement = `WITH given AS MATERIALIZED (
	SELECT g.*, d.now, row_number() OVER () AS n
	FROM unnest(CAST(@ids AS text[]), CAST(@numbers AS text[]), CAST(@recipients AS text[]), CAST(@payloads AS text[]), CAST(@headers AS text[]),
		CAST(@labels AS text[]), CAST(@urgent AS boolean[]), CAST(@not_before AS bigint[]), CAST(@expires AS bigint[]), CAST(@hashes AS text[]), CAST(@places AS bigint[]))
		AS g(id, number, recipient, payload, headers, label, urgent, not_before, expires, hash, place),
		(SELECT {now} AS now, durable FROM {durable} AS c) AS d
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

// insertAtOnce is one statement for all.
func (s *Store) insertAtOnce(ctx context.Context, messages []New) error {
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
		// They stand in the queue in their order, a microsecond apart.
		columns[10].plain(strconv.Itoa(i))
	}
	given := args{}
	for i, name := range []string{"ids", "numbers", "recipients", "payloads", "headers", "labels", "urgent", "not_before", "expires", "hashes", "places"} {
		given[name] = columns[i].String()
	}
	return s.onceAlone(ctx, "enqueue", func(ctx context.Context, on runner) error {
		_, err := s.exec(ctx, on, enqueueStatement, given)
		return err
	})
}

// array is an array as PostgreSQL writes it in a text, which every driver and every
// protocol can carry.
type array struct{ strings.Builder }

var arrayEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (a *array) text(element string) {
	a.separate()
	a.WriteByte('"')
	_, _ = arrayEscapes.WriteString(&a.Builder, element)
	a.WriteByte('"')
}

func (a *array) plain(element string) {
	a.separate()
	a.WriteString(element)
}

func (a *array) separate() {
	if a.Len() == 0 {
		a.WriteByte('{')
	} else {
		a.WriteByte(',')
	}
}

// String returns the array, which may be empty.
func (a *array) String() string {
	if a.Len() == 0 {
		return "{}"
	}
	return a.Builder.String() + "}"
}

const (
	// insertMessages is what stands around the rows. Who has the rows as JSON has SQLite parse
	// that once for each column.
	insertMessages = `INSERT INTO {message} (id, phone_number_id, recipient, payload, headers, label, urgent, not_before, expires_at, enqueued_at, adopted)
SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, {now}, TRUE FROM (VALUES %s) AS given
WHERE NOT EXISTS (SELECT 1 FROM {deleted} AS d WHERE d.hash = column10)
ON CONFLICT (id) DO NOTHING`
	// Nobody else writes meanwhile, and a new seq is above all that were before. They stand in
	// the queue in their order, a microsecond apart.
	insertQueue = `INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev)
SELECT seq, phone_number_id, recipient, label, urgent, max(not_before, {now} + seq - @last), max(not_before, {now} + seq - @last), not_before <= {now}, expires_at, 0
FROM {message} WHERE seq > @last`
	// rowsAtOnce is how many rows an INSERT has. A driver goes through all arguments for each.
	rowsAtOnce = 50
)

// insertInTurn is one statement for each table.
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

// flag is a boolean as SQLite keeps it.
func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

// Stored is a message as it was read.
type Stored struct {
	message.Record
	Seq     int64
	Payload string
	Headers string

	at         place
	rev        int64
	token      string // of the claim
	hasRecord  bool
	unreadable bool
}

// IsReadable reports whether its record could be read.
func (m *Stored) IsReadable() bool { return !m.unreadable }

// place is where a message stands.
type place int

const (
	over     place = iota // in neither: it is sent, failed or unknown
	inQueue               // it waits
	inClaim               // a Run has it
	newcomer              // nobody has looked at it since somebody put it there
)

// columns are those of a message, wherever it stands.
const columns = `m.seq, m.id, m.phone_number_id, m.enqueued_at, m.expires_at, m.urgent,
	m.recipient, m.label, coalesce(q.place, c.place, m.not_before), coalesce(q.due, c.due, m.not_before), coalesce(q.rev, c.rev, r.rev, 0),
	CASE WHEN c.seq IS NOT NULL THEN 2 WHEN q.seq IS NOT NULL THEN 1 WHEN r.seq IS NOT NULL THEN 0 ELSE 3 END,
	coalesce(c.token, ''), coalesce(r.state, ''), coalesce(r.changed_at, 0), coalesce(r.memory, '')`

// scan reads these columns, and what follows them.
func scan(rows *sql.Rows, m *Stored, more ...any) error {
	var enqueued, expires, place, due, changed int64
	var state, memory string
	err := rows.Scan(append([]any{&m.Seq, &m.ID, &m.Number, &enqueued, &expires, &m.Urgent,
		&m.Recipient, &m.Label, &place, &due, &m.rev, &m.at, &m.token, &state, &changed, &memory}, more...)...)
	if err != nil {
		return err
	}
	m.Enqueued, m.ExpiresAt, m.Changed = fromMicro(enqueued), fromMicro(expires), fromMicro(changed)
	m.hasRecord = memory != ""
	if m.hasRecord && json.Unmarshal([]byte(memory), &m.Memory) != nil {
		m.unreadable = true
		m.Memory = message.Memory{}
	}
	if m.Changed.IsZero() {
		m.Changed = m.Enqueued
	}
	m.Place, m.Due = fromMicro(place), fromMicro(due)
	switch {
	case m.at == over:
		m.State = message.State(state)
		m.Place, m.Due = m.Enqueued, time.Time{}
	case m.at == inClaim && m.token != "":
		m.State, m.Token = message.StateSending, m.token
	default:
		m.State, m.Token = message.StateQueued, ""
	}
	return nil
}

const loadStatement = `SELECT ` + columns + ` FROM {message} AS m LEFT JOIN {queue} AS q ON q.seq = m.seq
LEFT JOIN {claim} AS c ON c.seq = m.seq LEFT JOIN {record} AS r ON r.seq = m.seq WHERE m.id = @id`

// Load returns what is known of a message. The error wraps ErrNotFound if there is none.
func (s *Store) Load(ctx context.Context, id string) (m Stored, err error) {
	found := false
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		return s.query(ctx, on, loadStatement, args{"id": id}, func(rows *sql.Rows) error {
			found, m = true, Stored{}
			return scan(rows, &m)
		})
	})
	switch {
	case err != nil:
		return m, err
	case !found:
		return m, ErrNotFound
	case m.unreadable:
		return m, fmt.Errorf("outbox: the record of message %q cannot be read: somebody else has written it", id)
	}
	return m, nil
}

// Payload returns the payload of a message, "" if it is not kept any more. The error wraps
// ErrNotFound if there is no such message.
func (s *Store) Payload(ctx context.Context, id string) (payload string, err error) {
	found := false
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		return s.query(ctx, on, "SELECT payload FROM {message} WHERE id = @id", args{"id": id}, func(rows *sql.Rows) error {
			found = true
			return rows.Scan(&payload)
		})
	})
	if err == nil && !found {
		err = ErrNotFound
	}
	return payload, err
}

// The parts of a change. Each but the first is carried out if the first has found the
// message as it was read; {cas} stands for that.
const (
	leaveQueue = `DELETE FROM {queue} WHERE seq = @seq AND rev = @rev RETURNING seq`
	stayQueue  = `UPDATE {queue} SET rev = rev + 1, place = @place, due = @due, ready = (@due <= {now}) WHERE seq = @seq AND rev = @rev RETURNING seq`
	leaveClaim = `DELETE FROM {claim} WHERE seq = @seq AND rev = @rev AND token = @token RETURNING seq`
	stayClaim  = `UPDATE {claim} SET rev = rev + 1, token = @newtoken WHERE seq = @seq AND rev = @rev AND token = @token RETURNING seq`
	newRecord  = `UPDATE {record} SET rev = rev + 1 WHERE seq = @seq AND rev = @rev RETURNING seq`

	joinQueue = `INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev, refused)
SELECT CAST(@seq AS bigint), CAST(@number AS text), CAST(@recipient AS text), CAST(@label AS text), CAST(@urgent AS boolean), CAST(@place AS bigint), CAST(@due AS bigint),
	CAST(@due AS bigint) <= {now}, CAST(@expires AS bigint), CAST(@rev AS bigint) + 1, CAST(@refused AS bigint) {cas}`
	keepRecord = `INSERT INTO {record} AS old (seq, number, label, state, changed_at, code, subcode, rev, memory, owed, outcomes)
SELECT CAST(@seq AS bigint), CAST(@number AS text), CAST(@label AS text), CAST(@state AS text), CAST(@changed AS bigint), CAST(@code AS integer), CAST(@subcode AS integer),
	CAST(@rev AS bigint) + 1, CAST(@memory AS text), CAST(@owed AS bigint), CAST(@outcomes AS text) {cas}
ON CONFLICT (seq) DO UPDATE SET ` + replaceRecord
	// One that is being told, or waits to be told again, does so for what comes after it, too.
	replaceRecord = `state = excluded.state, changed_at = excluded.changed_at, code = excluded.code, subcode = excluded.subcode,
	rev = excluded.rev, memory = excluded.memory, outcomes = old.outcomes || excluded.outcomes,
	owed = CASE WHEN old.owed > 0 THEN old.owed ELSE excluded.owed END`
	updateRecord = `UPDATE {record} SET state = @state, changed_at = @changed, code = @code, subcode = @subcode, rev = rev + 1, memory = @memory,
	outcomes = outcomes || CAST(@outcomes AS text), owed = CASE WHEN owed > 0 THEN owed ELSE CAST(@owed AS bigint) END
WHERE seq = @seq AND rev = @rev RETURNING seq`
	takeIn      = `UPDATE {message} SET adopted = TRUE WHERE seq = @seq AND NOT adopted RETURNING seq`
	dropPayload = `UPDATE {message} SET payload = '' WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`
)

// errNewcomer is why nothing but its end can happen to a message yet.
var errNewcomer = errors.New("outbox: it was inserted, and no Run has taken it in yet: want a Run")

// Save writes a message that has changed, and returns it as it is then. With payload false
// its payload goes. The error wraps ErrConflict if it has changed since it was read. After
// any other error it may be written or not. The outcomes are told after those that are still
// to be told.
func (s *Store) Save(ctx context.Context, name string, before Stored, after message.Record, payload bool, outcomes ...message.OutcomeKind) (Stored, error) {
	next := before
	next.Record, next.rev = after, before.rev+1
	keep := after.Memory
	if after.State == message.StateSending {
		keep.Token = "" // it stands in the claim
	}
	memory, err := json.Marshal(keep)
	if err != nil {
		return next, err
	}
	given := args{"seq": before.Seq, "rev": before.rev, "token": before.token, "newtoken": after.Token,
		"number": after.Number, "recipient": after.Recipient, "label": after.Label, "urgent": after.Urgent,
		"place": micro(after.Place), "due": micro(after.Due), "expires": micro(after.ExpiresAt), "refused": micro(after.LastRefusal.Time),
		"state": string(after.State), "changed": micro(after.Changed), "code": 0, "subcode": 0, "memory": string(memory)}
	given["owed"], given["outcomes"] = owed(&after, outcomes)
	if after.Graph != nil {
		given["code"], given["subcode"] = int(after.Graph.Code), after.Graph.Subcode
	}
	var cas string
	var then []string
	next.at = over
	switch after.State {
	case message.StateQueued:
		next.at = inQueue
		given["state"] = string(message.StateQueued)
	case message.StateSending:
		next.at, next.token = inClaim, after.Token
		given["state"] = string(message.StateQueued)
	}
	switch {
	case before.at == newcomer && next.at != over:
		return before, errNewcomer
	case before.at == newcomer:
		cas = takeIn
	case before.at == inQueue && next.at == inQueue:
		cas = stayQueue
	case before.at == inQueue:
		cas = leaveQueue
	case before.at == inClaim && next.at == inClaim:
		cas = stayClaim
	case before.at == inClaim && next.at == inQueue:
		cas, then = leaveClaim, append(then, joinQueue)
	case before.at == inClaim:
		cas = leaveClaim
	case next.at == inQueue:
		cas, then = updateRecord, append(then, joinQueue)
	default:
		cas = updateRecord
	}
	if next.at != inClaim {
		next.token = ""
	}
	if cas != updateRecord && (next.at == over || next.hasRecord || !keep.IsZero()) {
		then = append(then, keepRecord)
		next.hasRecord = true
	}
	if !payload && before.at != newcomer { // whose row is changed already
		then = append(then, dropPayload)
	}
	return next, s.change(ctx, name, cas, then, given)
}

// owed returns when outcomes are to be told, and how they stand in the record.
func owed(r *message.Record, outcomes []message.OutcomeKind) (at int64, text string) {
	for _, kind := range outcomes {
		at = micro(r.Changed)
		text += fmt.Sprintf("%s:%d ", kind, at)
	}
	return at, text
}

// change carries out the parts of a change, in one statement where the database can.
func (s *Store) change(ctx context.Context, name, cas string, then []string, given args) error {
	if !s.dialect.oneStatement {
		return s.write(ctx, name, func(ctx context.Context, on runner) error {
			found := 0
			if err := s.query(ctx, on, cas, given, func(*sql.Rows) error { found++; return nil }); err != nil {
				return err
			}
			if found == 0 {
				return ErrConflict
			}
			for _, part := range then {
				if _, err := s.exec(ctx, on, strings.ReplaceAll(part, "{cas}", "WHERE true"), given); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var text strings.Builder
	text.WriteString("WITH cas AS (" + cas + ")")
	for i, part := range then {
		fmt.Fprintf(&text, ", then%d AS (%s)", i, strings.ReplaceAll(part, "{cas}", "FROM cas WHERE true"))
	}
	text.WriteString(" SELECT cas.seq, d.durable FROM cas, {durable} AS d")
	return s.statement(ctx, name, func(ctx context.Context, on runner) error {
		found := 0
		if err := s.query(ctx, on, text.String(), given, func(*sql.Rows) error { found++; return nil }); err != nil {
			return err
		}
		if found == 0 {
			return ErrConflict
		}
		return nil
	})
}

// Delete takes a message out, with all that is known of it. What stays is a hash of its id.
func (s *Store) Delete(ctx context.Context, m Stored) error {
	cas := map[place]string{
		inQueue:  leaveQueue,
		inClaim:  leaveClaim,
		over:     `DELETE FROM {record} WHERE seq = @seq AND rev = @rev RETURNING seq`,
		newcomer: `DELETE FROM {message} WHERE seq = @seq AND NOT adopted RETURNING seq`,
	}[m.at]
	then := []string{`INSERT INTO {deleted} (hash, deleted_at) SELECT CAST(@hash AS text), {now} {cas} ON CONFLICT (hash) DO NOTHING`}
	if m.at != newcomer {
		then = append(then, `DELETE FROM {message} WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`)
	}
	if m.at != over {
		then = append(then, `DELETE FROM {record} WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`)
	}
	return s.change(ctx, "delete", cas, then, args{"seq": m.Seq, "rev": m.rev, "token": m.token, "hash": hashOf(m.ID)})
}

// IsDeleted reports whether a message of that id was deleted.
func (s *Store) IsDeleted(ctx context.Context, id string) (deleted bool, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		deleted = false
		return s.query(ctx, on, "SELECT 1 FROM {deleted} WHERE hash = @hash", args{"hash": hashOf(id)}, func(*sql.Rows) error {
			deleted = true
			return nil
		})
	})
	return deleted, err
}
