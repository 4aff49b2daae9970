package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type stated string

func (s stated) Error() string    { return "state " + string(s) }
func (s stated) SQLState() string { return string(s) }

type coded int

func (c coded) Error() string { return fmt.Sprint("code ", int(c)) }
func (c coded) Code() int     { return int(c) }

func TestTroubleThatPassesIsToldFromTheRest(t *testing.T) {
	for _, err := range []error{
		stated("08006"), stated("40001"), stated("40P01"), stated("53100"), stated("53300"), stated("55P03"), stated("57P01"), stated("57014"), stated("25006"),
		driver.ErrBadConn, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: errors.New("refused")},
		coded(5), coded(517), coded(6), coded(13), errors.New("database is locked"),
		fmt.Errorf("wrapped: %w", stated("40001")),
	} {
		assert.True(t, Temporary(err), "%v", err)
	}
	for _, err := range []error{
		stated("42501"), stated("42P01"), stated("23505"), stated("22021"), stated("40002"), stated("25001"), coded(1), coded(19), ErrConflict, ErrNotFound, errors.New("x"),
	} {
		assert.False(t, Temporary(err), "%v", err)
	}
}

func TestCallWithoutADeadlineSaysWhatTheDatabaseSaid(t *testing.T) {
	s := &Store{}
	tries, troubled := 0, 0
	s.OnTrouble = func(error) { troubled++ }
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := s.persist(ctx, func(context.Context) error { tries++; return stated("57P03") })
	assert.ErrorContains(t, err, "state 57P03")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Greater(t, tries, 3)
	assert.Equal(t, 1, troubled)
	tries = 0
	require.NoError(t, s.persist(t.Context(), func(context.Context) error {
		if tries++; tries < 3 {
			return stated("40P01")
		}
		return nil
	}))
	assert.Equal(t, stated("42501"), s.persist(t.Context(), func(context.Context) error { return stated("42501") }))
}

// If the context ends as a transaction begins, a driver says that BEGIN was cancelled, although
// it has begun. The same can happen after another error. Such a connection must not go back
// into the pool, since with SQLite's one lock no other connection could write any more.
func TestBeginThatIsCutOffLeavesNoTransactionBehind(t *testing.T) {
	for name, cutOff := range map[string]func(ctx context.Context, end func()) error{
		"as the context ends": func(ctx context.Context, end func()) error {
			end()
			return ctx.Err()
		},
		"by the driver": func(context.Context, func()) error { return errors.New("interrupted") },
	} {
		for _, driverName := range sqliteDrivers {
			t.Run(name+" "+driverName, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "outbox.db")
				plain, err := sql.Open(driverName, file)
				require.NoError(t, err)
				defer plain.Close()
				c := &connector{plain.Driver(), file, nil}
				db := sql.OpenDB(c)
				t.Cleanup(func() { assert.NoError(t, db.Close()) })
				s, err := Open(t.Context(), db, SQLite, "graphretry", true)
				require.NoError(t, err)

				ctx, cancel := context.WithCancel(t.Context())
				c.begun = func(beginning context.Context) error {
					c.begun = nil
					return cutOff(beginning, cancel)
				}
				assert.Error(t, s.Enqueue(ctx, []New{{ID: "cut off", Number: number, Payload: "{}"}}))
				require.Nil(t, c.begun, "it has begun")
				ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				require.NoError(t, s.Enqueue(ctx, []New{{ID: "next", Number: number, Payload: "{}"}}))
				_, err = s.Load(ctx, "cut off")
				assert.ErrorIs(t, err, ErrNotFound)
			})
		}
	}
}

// connector opens connections to SQLite. After each BEGIN IMMEDIATE was carried out it returns
// the error of begun, if that is set.
type connector struct {
	driver driver.Driver
	file   string
	begun  func(context.Context) error
}

func (c *connector) Driver() driver.Driver { return c.driver }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.file)
	return beginner{conn, c}, err
}

type beginner struct {
	driver.Conn
	connector *connector
}

func (b beginner) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return b.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (b beginner) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := b.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if query == "BEGIN IMMEDIATE" && err == nil && b.connector.begun != nil {
		return result, b.connector.begun(ctx)
	}
	return result, err
}
