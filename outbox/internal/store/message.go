package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

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

// CheckRecord returns an error if the record of the message could not be read.
func (m *Stored) CheckRecord() error {
	if m.unreadable {
		return fmt.Errorf("outbox: the record of message %q cannot be read: another program has written it", m.ID)
	}
	return nil
}

// place is where a message is.
type place int

const (
	ended     place = iota // neither in the queue nor claimed: it is sent, failed or unknown
	inQueue                // it waits
	inClaim                // a Run has it
	unadopted              // a program has inserted it, and no Run has adopted it
)

// columns are the columns of a message, wherever it is.
const columns = `m.seq, m.id, m.phone_number_id, m.enqueued_at, m.expires_at, m.urgent,
	m.recipient, m.label, coalesce(q.place, c.place, m.not_before), coalesce(q.due, c.due, m.not_before), coalesce(q.rev, c.rev, r.rev, 0),
	CASE WHEN c.seq IS NOT NULL THEN 2 WHEN q.seq IS NOT NULL THEN 1 WHEN r.seq IS NOT NULL THEN 0 ELSE 3 END,
	coalesce(c.token, ''), coalesce(r.state, ''), coalesce(r.changed_at, 0), coalesce(r.memory, '')`

// scan reads these columns, and more that follow them.
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
	case m.at == ended:
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

// Load returns a message. The error wraps ErrNotFound if there is none.
func (s *Store) Load(ctx context.Context, id string) (m Stored, err error) {
	found, err := s.ask(ctx, loadStatement, args{"id": id}, func(rows *sql.Rows) error {
		m = Stored{}
		return scan(rows, &m)
	})
	switch {
	case err != nil:
		return m, err
	case found == 0:
		return m, ErrNotFound
	}
	return m, m.CheckRecord()
}

// Payload returns the payload of a message, "" if it is not kept any more. The error wraps
// ErrNotFound if there is no such message.
func (s *Store) Payload(ctx context.Context, id string) (payload string, err error) {
	found, err := s.ask(ctx, "SELECT payload FROM {message} WHERE id = @id", args{"id": id}, func(rows *sql.Rows) error { return rows.Scan(&payload) })
	if err == nil && found == 0 {
		err = ErrNotFound
	}
	return payload, err
}

// These are the parts of a change. The first one finds the message as it was read. The others
// are carried out if it has found it; {cas} stands for that.
const (
	leaveQueue = `DELETE FROM {queue} WHERE seq = @seq AND rev = @rev RETURNING seq`
	stayQueue  = `UPDATE {queue} SET rev = rev + 1, place = @place, due = @due, ready = (@due <= {now}) WHERE seq = @seq AND rev = @rev RETURNING seq`
	leaveClaim = `DELETE FROM {claim} WHERE seq = @seq AND rev = @rev AND token = @token RETURNING seq`
	stayClaim  = `UPDATE {claim} SET rev = rev + 1, token = @newtoken WHERE seq = @seq AND rev = @rev AND token = @token RETURNING seq`
	newRecord  = `UPDATE {record} SET rev = rev + 1 WHERE seq = @seq AND rev = @rev RETURNING seq`

	joinQueue = `INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev, refused)
SELECT CAST(@seq AS bigint), CAST(@number AS text), CAST(@recipient AS text), CAST(@label AS text), CAST(@urgent AS boolean), CAST(@place AS bigint), CAST(@due AS bigint),
	CAST(@due AS bigint) <= {now}, CAST(@expires AS bigint), CAST(@rev AS bigint) + 1, CAST(@refused AS bigint) {cas}`
	keepRecord = `INSERT INTO {record} AS old (seq, number, label, state, changed_at, code, subcode, rev, memory, report_at, outcomes)
SELECT CAST(@seq AS bigint), CAST(@number AS text), CAST(@label AS text), CAST(@state AS text), CAST(@changed AS bigint), CAST(@code AS integer), CAST(@subcode AS integer),
	CAST(@rev AS bigint) + 1, CAST(@memory AS text), CAST(@report_at AS bigint), CAST(@outcomes AS text) {cas}
ON CONFLICT (seq) DO UPDATE SET ` + replaceRecord
	// If outcomes of the message are being reported, or wait to be reported again, the new ones
	// wait for these.
	replaceRecord = `state = excluded.state, changed_at = excluded.changed_at, code = excluded.code, subcode = excluded.subcode,
	rev = excluded.rev, memory = excluded.memory, outcomes = old.outcomes || excluded.outcomes,
	report_at = CASE WHEN old.report_at > 0 THEN old.report_at ELSE excluded.report_at END`
	updateRecord = `UPDATE {record} SET state = @state, changed_at = @changed, code = @code, subcode = @subcode, rev = rev + 1, memory = @memory,
	outcomes = outcomes || CAST(@outcomes AS text), report_at = CASE WHEN report_at > 0 THEN report_at ELSE CAST(@report_at AS bigint) END
WHERE seq = @seq AND rev = @rev RETURNING seq`
	takeIn      = `UPDATE {message} SET adopted = TRUE WHERE seq = @seq AND NOT adopted RETURNING seq`
	dropPayload = `UPDATE {message} SET payload = '' WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`
)

// errUnadopted is the error of a change that an unadopted message cannot have yet. It can only
// end.
var errUnadopted = errors.New("outbox: it was inserted, and no Run has checked it yet: want a Run")

// Save writes a message that has changed, and returns it as it is then. If payload is false it
// deletes the payload. The error wraps ErrConflict if the message has changed since it was
// read. After any other error it may be written or not. The outcomes are reported after those
// that are still to be reported.
func (s *Store) Save(ctx context.Context, name string, before Stored, after message.Record, payload bool, outcomes ...message.OutcomeKind) (Stored, error) {
	next := before
	next.Record, next.rev = after, before.rev+1
	keep := after.Memory
	if after.State == message.StateSending {
		keep.Token = "" // the claim has it
	}
	memory, err := json.Marshal(keep)
	if err != nil {
		return next, err
	}
	given := args{"seq": before.Seq, "rev": before.rev, "token": before.token, "newtoken": after.Token,
		"number": after.Number, "recipient": after.Recipient, "label": after.Label, "urgent": after.Urgent,
		"place": micro(after.Place), "due": micro(after.Due), "expires": micro(after.ExpiresAt), "refused": micro(after.LastRefusal.Time),
		"state": string(after.State), "changed": micro(after.Changed), "code": 0, "subcode": 0, "memory": string(memory)}
	given["report_at"], given["outcomes"] = reportOf(&after, outcomes)
	if after.Graph != nil {
		given["code"], given["subcode"] = int(after.Graph.Code), after.Graph.Subcode
	}
	var cas string
	var then []string
	next.at = ended
	switch after.State {
	case message.StateQueued:
		next.at = inQueue
		given["state"] = string(message.StateQueued)
	case message.StateSending:
		next.at, next.token = inClaim, after.Token
		given["state"] = string(message.StateQueued)
	}
	switch {
	case before.at == unadopted && next.at != ended:
		return before, errUnadopted
	case before.at == unadopted:
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
	if cas != updateRecord && (next.at == ended || next.hasRecord || !keep.IsZero()) {
		then = append(then, keepRecord)
		next.hasRecord = true
	}
	if !payload && before.at != unadopted { // the row of an unadopted message is changed already
		then = append(then, dropPayload)
	}
	return next, s.change(ctx, name, cas, then, given)
}

// reportOf returns when outcomes are to be reported, and how the record has them.
func reportOf(r *message.Record, outcomes []message.OutcomeKind) (at int64, text string) {
	for _, kind := range outcomes {
		at = micro(r.Changed)
		text += fmt.Sprintf("%s:%d ", kind, at)
	}
	return at, text
}

// change carries out the parts of a change, in one statement if the database can.
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

// Delete deletes a message and everything about it. A hash of its id stays.
func (s *Store) Delete(ctx context.Context, m Stored) error {
	cas := map[place]string{
		inQueue:   leaveQueue,
		inClaim:   leaveClaim,
		ended:     `DELETE FROM {record} WHERE seq = @seq AND rev = @rev RETURNING seq`,
		unadopted: `DELETE FROM {message} WHERE seq = @seq AND NOT adopted RETURNING seq`,
	}[m.at]
	then := []string{`INSERT INTO {deleted} (hash, deleted_at) SELECT CAST(@hash AS text), {now} {cas} ON CONFLICT (hash) DO NOTHING`}
	if m.at != unadopted {
		then = append(then, `DELETE FROM {message} WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`)
	}
	if m.at != ended {
		then = append(then, `DELETE FROM {record} WHERE seq IN (SELECT CAST(@seq AS bigint) {cas})`)
	}
	return s.change(ctx, "delete", cas, then, args{"seq": m.Seq, "rev": m.rev, "token": m.token, "hash": hashOf(m.ID)})
}

// IsDeleted reports whether a message with that id was deleted.
func (s *Store) IsDeleted(ctx context.Context, id string) (deleted bool, err error) {
	found, err := s.ask(ctx, "SELECT 1 FROM {deleted} WHERE hash = @hash", args{"hash": hashOf(id)}, func(*sql.Rows) error { return nil })
	return found > 0, err
}
