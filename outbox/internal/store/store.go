// Package store keeps an outbox in the tables of a database: the schema and the
// statements. What differs between the databases is in one type, dialect.
//
// A message is a row of NAME_message, which is written once, and stands in one of three
// places besides: in NAME_queue while it waits, in NAME_claim while a Run has it, and, once
// it is over, in neither. NAME_record has what is known of it; a message to which nothing
// has happened yet has none. The rows of the queue and the claims are narrow, so that no
// update copies a payload.
//
// Every change of a message counts up rev, which goes along from one place to the other, and
// is conditional on the rev that was read. So of two who change a message one is told
// [ErrConflict], and reads it anew.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

var (
	// ErrConflict is in the chain of the error of a change whose message has changed
	// since it was read.
	ErrConflict = errors.New("outbox: the message has changed meanwhile")
	// ErrNotFound is in the chain of the error of a call about a message that is not there.
	ErrNotFound = errors.New("outbox: there is no such message")
)

// Store is the tables of one outbox. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	dialect dialect
	prefix  string // of the names of the tables, with the schema
	name    string
	// explicit has each statement stand in a transaction that names its isolation, since
	// the database's default is another.
	explicit bool
	// ordinary bounds the connections that all but the heartbeat have at once, so that
	// one is left for that.
	ordinary chan struct{}
	commits  *commits
	enqueues *enqueues
	compiled sync.Map // statement as it is written: statement

	// Failpoint, if it is set, is called before each write with its name. A test has a
	// process die there.
	Failpoint func(name string) error
	// Lost, if it is set, is called after each write, whose answer it can lose.
	Lost func(name string) error
	// Clock, if it is set, is that of a database whose clock is this machine's.
	Clock func() time.Time
	// OnTrouble, if it is set, is called at the third failure in a row that is waited out.
	OnTrouble func(error)
}

// runner is what statements run on: a *sql.DB, a *sql.Conn or a *sql.Tx.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// args are the arguments of a statement by their names.
type args map[string]any

// statement is a statement as the database wants it.
type statement struct {
	text  string
	names []string // of its arguments
}

var marker = regexp.MustCompile(`@[a-z_]+|\{[a-z]+\}`)

// compile writes a statement as the database wants it: {queue} is the name of a table,
// {now} the time, and @seq an argument.
func (s *Store) compile(text string) statement {
	if found, ok := s.compiled.Load(text); ok {
		return found.(statement)
	}
	var st statement
	index := make(map[string]int)
	argument := func(name string) string {
		if index[name] == 0 {
			st.names = append(st.names, name)
			index[name] = len(st.names)
		}
		return fmt.Sprint(s.dialect.placeholder, index[name])
	}
	st.text = marker.ReplaceAllStringFunc(text, func(found string) string {
		switch name := strings.Trim(found, "@{}"); {
		case found[0] == '@':
			return argument(name)
		case name == "now" && s.dialect.now == "":
			return "CAST(" + argument("now") + " AS bigint)"
		case name == "now":
			return s.dialect.now
		case name == "durable":
			return s.dialect.durable
		case name == "lazily" && s.dialect.lazy == "":
			return ""
		case name == "lazily":
			return "FROM " + s.dialect.lazy + " AS l"
		case name == "schema":
			return strings.TrimSuffix(s.prefix, `."`+s.name+"_")
		default:
			return s.table(name)
		}
	})
	s.compiled.Store(text, st)
	return st
}

// table returns the name of a table as it stands in a statement.
func (s *Store) table(name string) string { return s.prefix + name + `"` }

// clock returns this machine's time.
func (s *Store) clock() time.Time {
	if s.Clock != nil {
		return s.Clock()
	}
	return time.Now()
}

func (st statement) values(given args, clock func() time.Time) []any {
	values := make([]any, len(st.names))
	for i, name := range st.names {
		value, ok := given[name]
		if !ok && name == "now" {
			value, ok = clock().UnixMicro(), true
		}
		if !ok {
			panic("outbox: a statement has no argument " + name)
		}
		values[i] = value
	}
	return values
}

// exec runs a statement, and returns how many rows it has changed.
func (s *Store) exec(ctx context.Context, on runner, text string, given args) (int64, error) {
	st := s.compile(text)
	result, err := on.ExecContext(ctx, st.text, st.values(given, s.clock)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query runs a statement, and has scan read each row. No other statement may be sent
// before it returns: some databases have but one connection.
func (s *Store) query(ctx context.Context, on runner, text string, given args, scan func(*sql.Rows) error) error {
	st := s.compile(text)
	rows, err := on.QueryContext(ctx, st.text, st.values(given, s.clock)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// callTimeout bounds a call whose context has no deadline.
const callTimeout = 15 * time.Second

// read does something that changes nothing, until it succeeds or the time is up.
func (s *Store) read(ctx context.Context, do func(ctx context.Context, on runner) error) error {
	return s.persist(ctx, func(ctx context.Context) error {
		leave, err := s.enter(ctx)
		if err != nil {
			return err
		}
		defer leave()
		return do(ctx, s.db)
	})
}

// write does something that changes the tables, all of it or nothing, until it succeeds or
// the time is up. A failure leaves open whether it was done: so do must be safe to repeat.
// name is that of the write, for tests.
func (s *Store) write(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	return s.persist(ctx, func(ctx context.Context) error {
		return s.lost(name, s.once(ctx, name, do))
	})
}

// lost returns the error of a write, or that its answer was lost.
func (s *Store) lost(name string, err error) error {
	if err == nil && s.Lost != nil {
		return s.Lost(name)
	}
	return err
}

// once is write for one try.
func (s *Store) once(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	if s.Failpoint != nil {
		if err := s.Failpoint(name); err != nil {
			return err
		}
	}
	if s.dialect.sharesCommits {
		return s.commits.do(ctx, do)
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.transact(ctx, do)
}

// statement is write for what is one statement, which needs no transaction around it.
func (s *Store) statement(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	return s.persist(ctx, func(ctx context.Context) error { return s.onceAlone(ctx, name, do) })
}

// onceAlone is statement for one try.
func (s *Store) onceAlone(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	if s.dialect.sharesCommits || s.explicit {
		return s.lost(name, s.once(ctx, name, do))
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if s.Failpoint != nil {
		if err := s.Failpoint(name); err != nil {
			return err
		}
	}
	return s.lost(name, do(ctx, s.db))
}

// transact runs a transaction of its own.
func (s *Store) transact(ctx context.Context, do func(ctx context.Context, on runner) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := do(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// heartbeat is the key of a context whose statements are those of the heartbeat.
type heartbeat struct{}

// enter takes one of the connections that are not the heartbeat's.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if s.ordinary == nil || ctx.Value(heartbeat{}) != nil {
		return func() {}, nil
	}
	select {
	case s.ordinary <- struct{}{}:
		return func() { <-s.ordinary }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// micro is a time as it stands in a table: microseconds since 1970, 0 for none.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}
