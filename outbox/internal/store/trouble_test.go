package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
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

// A context that ends while a transaction begins must not leave it open in the pool.
func TestWriteThatIsCutOffLeavesNoTransactionBehind(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		for i := range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%20)*50*time.Microsecond)
			_ = s.Enqueue(ctx, []New{{ID: fmt.Sprint(i), Number: number, Payload: "{}"}})
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for i := range 20 {
			require.NoError(t, s.Enqueue(ctx, []New{{ID: fmt.Sprint("last", i), Number: number, Payload: "{}"}}))
		}
	})
}
