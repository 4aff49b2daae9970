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
	pool
	tables
	commits  *commits
	enqueues *group[[]New]
	// explicit has each statement stand in a transaction that names its isolation, since
	// the database's default is another.
	explicit bool

	// Failpoint, if it is set, is called before each write with its name. A test has a
	// process die there.
	Failpoint func(name string) error
	// Lost, if it is set, is called after each write, whose answer it can lose.
	Lost func(name string) error
	// OnTrouble, if it is set, is called at the third failure in a row that is waited out.
	OnTrouble func(error)
}

// persist tries something until it succeeds, fails for good, or the time is up.
func (s *Store) persist(ctx context.Context, do func(context.Context) error) error {
	return persist(ctx, s.OnTrouble, do)
}

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

// ask runs one statement that changes nothing, has scan read each row, and returns how many
// there were. It may run more than once.
func (s *Store) ask(ctx context.Context, text string, given args, scan func(*sql.Rows) error) (n int, err error) {
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		n = 0
		return s.query(ctx, on, text, given, func(rows *sql.Rows) error {
			n++
			return scan(rows)
		})
	})
	return n, err
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

// failpoint is called before each write.
func (s *Store) failpoint(name string) error {
	if s.Failpoint == nil {
		return nil
	}
	return s.Failpoint(name)
}

// once is write for one try.
func (s *Store) once(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	if err := s.failpoint(name); err != nil {
		return err
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

// do runs one statement that changes the tables, as write does, and returns how many rows it
// has changed.
func (s *Store) do(ctx context.Context, name, text string, given args) (n int64, err error) {
	err = s.statement(ctx, name, func(ctx context.Context, on runner) (err error) {
		n, err = s.exec(ctx, on, text, given)
		return err
	})
	return n, err
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
	if err := s.failpoint(name); err != nil {
		return err
	}
	return s.lost(name, do(ctx, s.db))
}

// Now returns the time by the database's clock.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	if s.dialect.now == "" {
		return s.clock(), nil
	}
	_, err = s.ask(ctx, "SELECT {now}", nil, func(rows *sql.Rows) error {
		var micro int64
		err := rows.Scan(&micro)
		now = fromMicro(micro)
		return err
	})
	return now, err
}
