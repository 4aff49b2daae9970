// Package store keeps an outbox in the tables of a database: the schema and the statements. One
// type, dialect, has all that differs between the databases.
//
// A message has a row in NAME_message, which is written once. While it waits it has a row in
// NAME_queue, and while a Run has it, a row in NAME_claim. When it has ended it has neither.
// NAME_record has the record of the message; a message to which nothing has happened yet has
// none. The rows of the queue and the claims are narrow, so that no update copies a payload.
//
// Every change of a message counts up rev, which moves with the message from one table to
// another, and the change is conditional on the rev that was read. So of two concurrent changes
// one gets [ErrConflict], and its caller reads the message again.
package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

var (
	// ErrConflict is in the chain of the error of a change if the message has changed since it
	// was read.
	ErrConflict = errors.New("outbox: the message has changed meanwhile")
	// ErrNotFound is in the chain of the error of a call about a message that does not exist.
	ErrNotFound = errors.New("outbox: there is no such message")
)

// Store is the tables of one outbox. It is safe for concurrent use.
type Store struct {
	pool
	tables
	commits  *commits
	enqueues *group[[]New]
	// explicit runs each statement in a transaction that names its isolation, since the
	// database's default is another one.
	explicit bool

	// Failpoint, if it is set, is called before each write with its name. A test kills a
	// process there.
	Failpoint func(name string) error
	// Lost, if it is set, is called after each write, and can lose its answer.
	Lost func(name string) error
	// OnTrouble, if it is set, is called at the third failure in a row that is retried.
	OnTrouble func(error)
}

// persist retries do until it succeeds, fails for good, or the time is up.
func (s *Store) persist(ctx context.Context, do func(context.Context) error) error {
	return persist(ctx, s.OnTrouble, do)
}

// read calls do, which changes nothing, and retries until it succeeds or the time is up.
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

// ask runs one statement that changes nothing, calls scan for each row, and returns how many
// rows there were. The statement may run more than once.
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

// write calls do in a transaction, and retries until it succeeds or the time is up. A failure
// leaves open whether the transaction has committed, so do must be safe to repeat. name is the
// name of the write, for tests.
func (s *Store) write(ctx context.Context, name string, do func(ctx context.Context, on runner) error) error {
	return s.persist(ctx, func(ctx context.Context) error {
		return s.lost(name, s.once(ctx, name, do))
	})
}

// lost returns the error of a write, or the error that its answer was lost.
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

// once is write without retries.
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

// statement is write for a single statement, which needs no transaction around it.
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

// onceAlone is statement without retries.
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
