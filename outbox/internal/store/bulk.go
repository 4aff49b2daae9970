package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Change is a change of a message.
type Change struct {
	Before   Stored
	After    message.Record
	Outcomes []message.OutcomeKind // to be reported
}

// column is a value that a statement gets for each message.
type column struct {
	name, kind string
	value      func(*Change) any
}

var (
	columnsOfMessage = []column{
		{"seq", "bigint", func(c *Change) any { return c.Before.Seq }},
		{"rev", "bigint", func(c *Change) any { return c.Before.rev }},
	}
	columnsOfRecord = append(slices.Clone(columnsOfMessage), []column{
		{"number", "text", func(c *Change) any { return c.After.Number }},
		{"label", "text", func(c *Change) any { return c.After.Label }},
		{"state", "text", func(c *Change) any { return string(c.After.State) }},
		{"changed_at", "bigint", func(c *Change) any { return micro(c.After.Changed) }},
		{"code", "bigint", func(c *Change) any { code, _ := codesOf(&c.After); return code }},
		{"subcode", "bigint", func(c *Change) any { _, subcode := codesOf(&c.After); return subcode }},
		{"memory", "text", func(c *Change) any {
			memory, _ := json.Marshal(c.After.Memory) // it was read from JSON
			return string(memory)
		}},
		{"report_at", "bigint", func(c *Change) any { at, _ := reportOf(&c.After, c.Outcomes); return at }},
		{"outcomes", "text", func(c *Change) any { _, text := reportOf(&c.After, c.Outcomes); return text }},
	}...)
	columnsOfQueue = append(slices.Clone(columnsOfMessage), []column{
		{"number", "text", func(c *Change) any { return c.After.Number }},
		{"recipient", "text", func(c *Change) any { return c.After.Recipient }},
		{"label", "text", func(c *Change) any { return c.After.Label }},
		{"urgent", "boolean", func(c *Change) any { return c.After.Urgent }},
		{"place", "bigint", func(c *Change) any { return micro(c.After.Place) }},
		{"due", "bigint", func(c *Change) any { return micro(c.After.Due) }},
		{"expires", "bigint", func(c *Change) any { return micro(c.After.ExpiresAt) }},
	}...)
	columnsOfTrace    = []column{columnsOfMessage[0], {"changed_at", "bigint", func(c *Change) any { return micro(c.After.Changed) }}}
	columnsOfAdoption = []column{columnsOfMessage[0], {"recipient", "text", func(c *Change) any { return c.After.Recipient }}}
	columnsOfDeleted  = []column{{"hash", "text", func(c *Change) any { return hashOf(c.Before.ID) }}}
)

func codesOf(r *message.Record) (code, subcode int64) {
	if r.Graph == nil {
		return 0, 0
	}
	return int64(r.Graph.Code), int64(r.Graph.Subcode)
}

// part is a statement about many messages. {given} is a table of its columns with the name g.
// {among} is the condition that a row's seq is one of theirs.
type part struct {
	columns []column
	text    string
}

// foundIn finds the messages that have not changed since they were read, by the place where
// they were. One that a Run has begun to send has changed. The rows are locked until the end of
// the transaction, so that the following parts need not check again.
var foundIn = map[place]part{
	inQueue:   {columnsOfMessage, `SELECT q.seq FROM {given} CROSS JOIN {queue} AS q WHERE q.seq = g.seq AND q.rev = g.rev {lock} q`},
	inClaim:   {columnsOfMessage, `SELECT c.seq FROM {given} CROSS JOIN {claim} AS c WHERE c.seq = g.seq AND c.rev = g.rev AND c.token = '' {lock} c`},
	ended:     {columnsOfMessage, `SELECT r.seq FROM {given} CROSS JOIN {record} AS r WHERE r.seq = g.seq AND r.rev = g.rev {lock} r`},
	unadopted: {columnsOfMessage, `SELECT m.seq FROM {given} CROSS JOIN {message} AS m WHERE m.seq = g.seq AND NOT m.adopted {lock} m`},
}

// leaving are the parts that take messages from where they wait.
var leaving = map[place][]part{
	inQueue: {{nil, `DELETE FROM {queue} WHERE {among}`}},
	inClaim: {{nil, `DELETE FROM {claim} WHERE {among}`}},
}

var (
	bulkTakeIn = part{nil, `UPDATE {message} SET adopted = TRUE WHERE {among}`}
	bulkAdopt  = part{columnsOfAdoption, `UPDATE {message} AS m SET adopted = TRUE, recipient = g.recipient FROM {given} WHERE m.seq = g.seq`}
	bulkJoin   = part{columnsOfQueue, `INSERT INTO {queue} (seq, number, recipient, label, urgent, place, due, ready, expires, rev)
SELECT g.seq, g.number, g.recipient, g.label, g.urgent, g.place, g.due, g.due <= {now}, g.expires, g.rev + 1 FROM {given}`}
	bulkRecord = part{columnsOfRecord, `INSERT INTO {record} AS old (seq, number, label, state, changed_at, code, subcode, rev, memory, report_at, outcomes)
SELECT g.seq, g.number, g.label, g.state, g.changed_at, g.code, g.subcode, g.rev + 1, g.memory, g.report_at, g.outcomes FROM {given} WHERE true
ON CONFLICT (seq) DO UPDATE SET ` + replaceRecord}
	bulkDeleted = []part{
		{nil, `DELETE FROM {record} WHERE {among}`},
		{nil, `DELETE FROM {message} WHERE {among}`},
		{columnsOfDeleted, `INSERT INTO {deleted} (hash, deleted_at) SELECT g.hash, {now} FROM {given} WHERE true ON CONFLICT (hash) DO NOTHING`},
	}
)

// These find what a transaction has left behind if it has committed.
var (
	savedBefore   = part{columnsOfTrace, `SELECT r.seq FROM {given} CROSS JOIN {record} AS r WHERE r.seq = g.seq AND r.changed_at = g.changed_at LIMIT 1`}
	deletedBefore = part{columnsOfDeleted, `SELECT d.hash FROM {given} CROSS JOIN {deleted} AS d WHERE d.hash = g.hash LIMIT 1`}
)

// MostLoaded is how many messages LoadAll loads at most, as many as a page has.
const MostLoaded = listPage

// loadAll finds messages by their ids.
var loadAll = part{[]column{{"id", "text", func(c *Change) any { return c.Before.ID }}}, `SELECT ` + columns + ` FROM {given} CROSS JOIN {message} AS m
LEFT JOIN {queue} AS q ON q.seq = m.seq LEFT JOIN {claim} AS c ON c.seq = m.seq LEFT JOIN {record} AS r ON r.seq = m.seq WHERE m.id = g.id`}

// LoadAll returns those messages of these ids that exist, in the order of enqueueing. No id may
// be there twice.
func (s *Store) LoadAll(ctx context.Context, ids []string) ([]Stored, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	wanted := make([]Change, len(ids))
	for i, id := range ids {
		wanted[i].Before.ID = id
	}
	text, given := s.written(loadAll, wanted)
	return s.readAll(ctx, text, given)
}

// Reread returns those messages that still match a filter, in the order of enqueueing. One
// statement reads them, so that none is missed that moves meanwhile. The limit of the filter does
// not apply.
func (s *Store) Reread(ctx context.Context, f Filter, messages []Change) ([]Stored, error) {
	text, given := s.reread(&f, messages)
	return s.readAll(ctx, text, given)
}

// readAll returns the messages that one statement finds, in the order of enqueueing.
func (s *Store) readAll(ctx context.Context, text string, given args) (found []Stored, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		found = nil
		return s.query(ctx, on, text, given, func(rows *sql.Rows) error {
			var m Stored
			err := scan(rows, &m)
			found = append(found, m)
			return err
		})
	})
	slices.SortFunc(found, func(a, b Stored) int { return cmp.Compare(a.Seq, b.Seq) })
	return found, err
}

func (s *Store) reread(f *Filter, messages []Change) (text string, given args) {
	var seqs array
	for i := range messages {
		seqs.plain(itoa(messages[i].Before.Seq))
	}
	given = f.args(0, 0)
	from := source{fromMessage, s.oneOf("m.seq", "bigint", &seqs, given), true}
	if f.Code != 0 {
		from.where += " AND (r.code = @code OR r.subcode = @code)"
	}
	return "SELECT " + columns + " FROM " + from.from + " WHERE " + f.where(from), given
}

// partsOf returns the parts that move a message from one place to another, nil if SaveAll
// cannot do that.
func partsOf(from place, to message.State) []part {
	switch {
	case to == message.StateSending:
		return nil
	case from == ended && to == message.StateQueued:
		return []part{bulkRecord, bulkJoin}
	case to == message.StateQueued:
		return nil
	case from == unadopted:
		return []part{bulkTakeIn, bulkRecord}
	}
	return slices.Concat(leaving[from], []part{bulkRecord})
}

// SaveAll is Save for many messages, in one transaction for each place where they were. It keeps
// their payloads. It returns the changes that it has made, also if it returns an error, and those
// of messages that have changed since they were read. A message that waits cannot become one that
// waits elsewhere.
func (s *Store) SaveAll(ctx context.Context, name string, changes []Change) (made, left []Change, err error) {
	type way struct {
		from place
		to   message.State
	}
	ways := make(map[way][]Change)
	for _, c := range changes {
		w := way{c.Before.at, c.After.State}
		ways[w] = append(ways[w], c)
	}
	for w, all := range ways {
		parts := partsOf(w.from, w.to)
		if parts == nil {
			return made, nil, fmt.Errorf("outbox: cannot save %d messages that become %s", len(all), w.to)
		}
		done, others, err := s.changeAll(ctx, name, all, w.from, parts, savedBefore)
		if err != nil {
			return made, nil, err
		}
		made, left = joined(made, done), joined(left, others)
	}
	return made, left, nil
}

// DeleteAll is Delete for many messages, as SaveAll is Save.
func (s *Store) DeleteAll(ctx context.Context, messages []Stored) (made, left []Change, err error) {
	from := make(map[place][]Change)
	for _, m := range messages {
		from[m.at] = append(from[m.at], Change{Before: m})
	}
	for at, all := range from {
		done, others, err := s.changeAll(ctx, "delete", all, at, slices.Concat(leaving[at], bulkDeleted), deletedBefore)
		if err != nil {
			return made, nil, err
		}
		made, left = joined(made, done), joined(left, others)
	}
	return made, left, nil
}

// joined returns a and b. Most pages have one place, and are not copied.
func joined(a, b []Change) []Change {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// changeAll carries out the parts of a change for those messages that have not changed since
// they were read. It returns the changes that it has made, and the others. before finds out
// whether the parts were carried out before.
func (s *Store) changeAll(ctx context.Context, name string, changes []Change, from place, parts []part, before part) (made, left []Change, err error) {
	err = s.write(ctx, name, func(ctx context.Context, on runner) error {
		if s.dialect.durable != "" {
			if err := s.query(ctx, on, "SELECT durable FROM {durable} AS d", nil, func(*sql.Rows) error { return nil }); err != nil {
				return err
			}
		}
		text, given := s.written(foundIn[from], changes)
		same := make(map[int64]bool, len(changes))
		err := s.query(ctx, on, text, given, func(rows *sql.Rows) error {
			var seq int64
			err := rows.Scan(&seq)
			same[seq] = true
			return err
		})
		if err != nil {
			return err
		}
		if len(same) == 0 && len(made) > 0 {
			// This is a repetition, and nothing is as it was read. If that is because the
			// transaction before has committed, and only its answer was lost, then what has
			// changed since is not changed again.
			committed := false
			text, given := s.written(before, made)
			err := s.query(ctx, on, text, given, func(*sql.Rows) error { committed = true; return nil })
			if err != nil || committed {
				return err
			}
		}
		made, left = changes, nil
		if len(same) < len(changes) {
			made = nil
			for _, c := range changes {
				if same[c.Before.Seq] {
					made = append(made, c)
				} else {
					left = append(left, c)
				}
			}
		}
		if len(made) == 0 {
			return nil
		}
		for _, p := range parts {
			text, given := s.written(p, made)
			if _, err := s.exec(ctx, on, text, given); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return made, left, nil
}

// written returns the text and the arguments of a part for these messages.
func (s *Store) written(p part, changes []Change) (text string, given args) {
	given = args{}
	if p.columns == nil {
		var seqs array
		for i := range changes {
			seqs.plain(itoa(changes[i].Before.Seq))
		}
		return strings.ReplaceAll(p.text, "{among}", s.among(&seqs, given)), given
	}
	// A value that all messages share is given once. In a campaign that is most of them.
	var each, once []column
	for i, c := range p.columns {
		first, same := c.value(&changes[0]), i > 0
		for j := 1; j < len(changes) && same; j++ {
			same = c.value(&changes[j]) == first
		}
		if same {
			once = append(once, c)
			given["given_"+c.name] = first
		} else {
			each = append(each, c)
		}
	}
	var names []string
	for _, c := range once {
		names = append(names, "CAST(@given_"+c.name+" AS "+c.kind+") AS "+c.name)
	}
	var table string
	if s.dialect.oneStatement {
		var arrays, rows []string
		for _, c := range each {
			var values array
			for i := range changes {
				switch value := c.value(&changes[i]).(type) {
				case string:
					values.text(value)
				default:
					values.plain(fmt.Sprint(value))
				}
			}
			given["given_"+c.name] = values.String()
			arrays = append(arrays, "CAST(@given_"+c.name+" AS "+c.kind+"[])")
			rows = append(rows, c.name)
		}
		table = "unnest(" + strings.Join(arrays, ", ") + ") AS u(" + strings.Join(rows, ", ") + ")"
		names = append(names, "u.*")
	} else {
		var rows []any
		for i := range changes {
			if len(each) == 1 {
				rows = append(rows, each[0].value(&changes[i]))
				continue
			}
			var row []any
			for _, c := range each {
				row = append(row, c.value(&changes[i]))
			}
			rows = append(rows, row)
		}
		for i, c := range each {
			value := fmt.Sprintf("value ->> %d", i)
			if len(each) == 1 {
				value = "value"
			}
			names = append(names, value+" AS "+c.name)
		}
		encoded, _ := json.Marshal(rows) // of numbers, texts and booleans
		given["given"] = string(encoded)
		table = "json_each(@given)"
	}
	table = "(SELECT " + strings.Join(names, ", ") + " FROM " + table + ") AS g"
	lock := ""
	if s.dialect.locks {
		lock = "FOR UPDATE OF"
	}
	text = strings.ReplaceAll(p.text, "{given}", table)
	if before, row, ok := strings.Cut(text, "{lock}"); ok {
		text = before
		if lock != "" {
			text += lock + row
		}
	}
	return text, given
}
