package store

import (
	"cmp"
	"context"
	"database/sql"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// Filter selects messages, as that of package outbox does.
type Filter struct {
	States         []message.State
	Number         string
	Label          string
	Code           int
	OlderThan      time.Duration
	EnqueuedBefore time.Time
	ChangedAfter   time.Time
	After          string // an id
	Limit          int
}

// source is where List reads messages of some states, in the order of seq.
type source struct {
	from  string
	where string
	// mixed reports whether the source has messages of other states too.
	mixed bool
}

// These are the places where messages of a state are.
const (
	fromQueue   = `{queue} AS q JOIN {message} AS m ON m.seq = q.seq LEFT JOIN {claim} AS c ON c.seq = q.seq LEFT JOIN {record} AS r ON r.seq = q.seq`
	fromClaim   = `{claim} AS c JOIN {message} AS m ON m.seq = c.seq LEFT JOIN {queue} AS q ON q.seq = c.seq LEFT JOIN {record} AS r ON r.seq = c.seq`
	fromMessage = `{message} AS m LEFT JOIN {queue} AS q ON q.seq = m.seq LEFT JOIN {claim} AS c ON c.seq = m.seq LEFT JOIN {record} AS r ON r.seq = m.seq`
	fromRecord  = `{record} AS r JOIN {message} AS m ON m.seq = r.seq LEFT JOIN {queue} AS q ON q.seq = r.seq LEFT JOIN {claim} AS c ON c.seq = r.seq`
)

// sources returns where the messages of a filter are found.
func sources(f *Filter) []source {
	if f.Code != 0 {
		// One index has the codes, and another has the subcodes.
		states, mixed := recordStates(f.States)
		return []source{
			{fromRecord, "r.code = @code AND r.code <> 0 AND r.seq > @after" + states, mixed},
			{fromRecord, "r.subcode = @code AND r.subcode <> 0 AND r.code <> @code AND r.seq > @after" + states, mixed},
		}
	}
	if len(f.States) == 0 || f.Number != "" && !slices.ContainsFunc(f.States, isParked) {
		// All messages of a number or a label, or all messages, in the order of enqueueing.
		return []source{{fromMessage, "m.seq > @after", true}}
	}
	var found []source
	for _, state := range f.States {
		switch state {
		case message.StateQueued:
			found = append(found, source{fromQueue, "q.seq > @after", false}, source{fromClaim, "c.token = '' AND c.seq > @after", false}, source{fromMessage, whereUnadopted, false})
		case message.StateSending:
			found = append(found, source{fromClaim, "c.token <> '' AND c.seq > @after", false})
		case message.StateFailed, message.StateUnknown:
			found = append(found, source{fromRecord, "r.state = '" + string(state) + "' AND r.state IN ('failed', 'unknown') AND r.seq > @after", false})
		default:
			found = append(found, source{fromRecord, "r.state = 'sent' AND r.seq > @after", false})
		}
	}
	return found
}

// recordStates returns the condition that a record may belong to a message in one of these
// states, and whether such a record may also belong to a message in another state: only the
// place of a message shows whether it is queued or being sent.
func recordStates(states []message.State) (condition string, mixed bool) {
	if len(states) == 0 {
		return "", false
	}
	var names []string
	for _, state := range states {
		if state == message.StateSending {
			state = message.StateQueued
		}
		mixed = mixed || state == message.StateQueued
		names = append(names, "'"+string(state)+"'")
	}
	return " AND r.state IN (" + strings.Join(names, ", ") + ")", mixed
}

func isParked(state message.State) bool {
	return state == message.StateFailed || state == message.StateUnknown
}

// whereUnadopted is the condition on a message that no Run has adopted. There are few: SQLite sorts
// them, as their index does not serve an order by seq, and would otherwise read all messages.
const whereUnadopted = "NOT m.adopted AND +m.seq > @after"

// order returns the column that sorts a source: its own, so that an index serves.
func (f source) order() string {
	if f.where == whereUnadopted {
		return "+m.seq"
	}
	return f.alias() + ".seq"
}

// alias returns the alias of the source's first table.
func (f source) alias() string { return f.from[strings.Index(f.from, " AS ")+4:][:1] }

// listPage is how many messages are read, or changed, at once. A larger page would keep
// SQLite's one lock for longer. A smaller one would write the same pages of its file more
// often.
const listPage = 4000

// List returns the messages that match a filter, in the order of enqueueing.
func (s *Store) List(ctx context.Context, f Filter) ([]Stored, error) {
	var found []Stored
	for page, err := range s.Pages(ctx, f) {
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
	}
	return found, nil
}

// seqOf returns the seq of the message with an id, 0 for the empty id. The error wraps
// ErrNotFound if there is none.
func (s *Store) seqOf(ctx context.Context, id string) (seq int64, err error) {
	if id == "" {
		return 0, nil
	}
	found, err := s.ask(ctx, "SELECT seq FROM {message} WHERE id = @id", args{"id": id}, func(rows *sql.Rows) error { return rows.Scan(&seq) })
	if err == nil && found == 0 {
		err = ErrNotFound
	}
	return seq, err
}

// page returns the first messages after a seq, and whether there may be more. All sources are read
// at one moment: a message that moves meanwhile from one to another would be missed.
func (s *Store) page(ctx context.Context, f *Filter, after int64, limit int) (page []Stored, more bool, err error) {
	all, given := sources(f), f.args(after, limit)
	read := func(ctx context.Context, on runner) error {
		page = nil
		for _, from := range all {
			text := "SELECT " + columns + " FROM " + from.from + " WHERE " + f.where(from) + " ORDER BY " + from.order() + " LIMIT @limit"
			err := s.query(ctx, on, text, given, func(rows *sql.Rows) error {
				var m Stored
				err := scan(rows, &m)
				page = append(page, m)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 1 {
		err = s.read(ctx, read)
	} else {
		err = s.persist(ctx, func(ctx context.Context) error { return s.snapshot(ctx, read) })
	}
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(page, func(a, b Stored) int { return cmp.Compare(a.Seq, b.Seq) })
	more = len(page) >= limit
	return page[:min(limit, len(page))], more, nil
}

// args returns the arguments of a filter's conditions.
func (f *Filter) args(after int64, limit int) args {
	return args{"after": after, "limit": limit, "number": f.Number, "label": f.Label, "code": f.Code,
		"age": f.OlderThan.Microseconds(), "before": micro(f.EnqueuedBefore), "changed": micro(f.ChangedAfter)}
}

// where returns the condition that selects the messages of a filter from a source.
func (f *Filter) where(from source) string {
	where := from.where
	if f.Number != "" {
		column := "number"
		if from.alias() == "m" {
			column = "phone_number_id"
		}
		where += " AND " + from.alias() + "." + column + " = @number"
	}
	if f.OlderThan > 0 {
		where += " AND m.enqueued_at <= {now} - @age"
	}
	if !f.EnqueuedBefore.IsZero() {
		where += " AND m.enqueued_at < @before"
	}
	if !f.ChangedAfter.IsZero() {
		// A message that was due may have been sent by now, which an older copy of the database
		// does not show.
		where += " AND (coalesce(r.changed_at, m.enqueued_at) > @changed OR c.seq IS NOT NULL OR q.due <= {now} OR NOT m.adopted AND m.not_before <= {now})"
	}
	if f.Label != "" {
		where += " AND " + from.alias() + ".label = @label AND " + from.alias() + ".label <> ''"
	}
	if from.mixed && len(f.States) > 0 {
		where += " AND (" + stateOf(f.States) + ")"
	}
	return where
}

// Count returns how many messages match a filter, up to its limit if that is not 0. A message
// that moves from one place to another meanwhile is counted once.
func (s *Store) Count(ctx context.Context, f Filter) (n int, err error) {
	after, err := s.seqOf(ctx, f.After)
	if err != nil {
		return 0, err
	}
	// One statement sees one moment.
	var texts []string
	for _, from := range sources(&f) {
		tables := from.from
		if !from.mixed && f.OlderThan == 0 && f.EnqueuedBefore.IsZero() && f.ChangedAfter.IsZero() {
			// The condition is only about the first of the tables.
			tables, _, _ = strings.Cut(tables, " JOIN ")
			tables, _, _ = strings.Cut(tables, " LEFT")
		}
		text := "SELECT 1 AS one FROM " + tables + " WHERE " + f.where(from)
		if f.Limit > 0 {
			text = "SELECT one FROM (" + text + " LIMIT @limit) AS a" + strconv.Itoa(len(texts))
		}
		texts = append(texts, text)
	}
	text := strings.Join(texts, " UNION ALL ")
	if f.Limit > 0 {
		text = "SELECT one FROM (" + text + ") AS found LIMIT @limit"
	}
	_, err = s.ask(ctx, "SELECT count(*) FROM ("+text+") AS counted", f.args(after, f.Limit), func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// stateOf returns the condition that a message is in one of these states.
func stateOf(states []message.State) string {
	var any []string
	for _, state := range states {
		switch state {
		case message.StateQueued:
			any = append(any, "c.token = ''", "q.seq IS NOT NULL", "NOT m.adopted")
		case message.StateSending:
			any = append(any, "c.token <> ''")
		default:
			any = append(any, "q.seq IS NULL AND c.seq IS NULL AND r.state = '"+string(state)+"'")
		}
	}
	return strings.Join(any, " OR ")
}

// Queued returns how many messages are queued or being sent, and counts no further than most.
func (s *Store) Queued(ctx context.Context, most int) (n int, err error) {
	_, err = s.ask(ctx, `SELECT (SELECT count(*) FROM (SELECT 1 FROM {queue} LIMIT @most) AS q) + (SELECT count(*) FROM {claim})`,
		args{"most": most}, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// Pages returns the messages that match a filter a page at a time, in the order of enqueueing.
// The next page is read while the caller works on one.
func (s *Store) Pages(ctx context.Context, f Filter) iter.Seq2[[]Stored, error] {
	type result struct {
		page []Stored
		err  error
	}
	return func(yield func([]Stored, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		results := make(chan result)
		defer func() {
			cancel()
			for range results { // until the goroutine has ended
			}
		}()
		go func() {
			defer close(results)
			send := func(r result) bool {
				select {
				case results <- r:
					return r.err == nil
				case <-ctx.Done():
					return false
				}
			}
			after, err := s.seqOf(ctx, f.After)
			if err != nil {
				send(result{err: err})
				return
			}
			left := f.Limit
			for more := true; more; {
				limit := listPage
				if f.Limit > 0 {
					limit = min(limit, left)
				}
				var page []Stored
				page, more, err = s.page(ctx, &f, after, limit)
				if !send(result{page, err}) || len(page) == 0 {
					return
				}
				after = page[len(page)-1].Seq
				if left -= len(page); left == 0 {
					return
				}
			}
		}()
		for r := range results {
			if !yield(r.page, r.err) || r.err != nil {
				return
			}
		}
	}
}
