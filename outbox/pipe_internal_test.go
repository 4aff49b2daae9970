package outbox

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBufferedConn(t *testing.T) {
	both := func(do func(t *testing.T, c *bufferedConn, other net.Conn)) func(*testing.T) {
		return func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, other := net.Pipe()
				c := newBufferedConn(own)
				do(t, c, other)
				assert.NoError(t, other.Close())
				assert.NoError(t, c.Close())
			})
		}
	}
	t.Run("writes do not wait for the reader", both(func(t *testing.T, c *bufferedConn, other net.Conn) {
		for _, text := range []string{"a", "b", "c"} {
			n, err := c.Write([]byte(text))
			require.NoError(t, err)
			assert.Equal(t, 1, n)
		}
		text := make([]byte, 3)
		_, err := io.ReadFull(other, text)
		require.NoError(t, err)
		assert.Equal(t, "abc", string(text))
	}))
	t.Run("a full buffer waits for the reader", both(func(t *testing.T, c *bufferedConn, other net.Conn) {
		began := time.Now()
		go func() {
			time.Sleep(time.Minute)
			_, _ = io.Copy(io.Discard, other)
		}()
		for range 3 {
			_, err := c.Write(make([]byte, pipeBuffer))
			require.NoError(t, err)
		}
		assert.Equal(t, time.Minute, time.Since(began))
	}))
	t.Run("Close hands on what was written", both(func(t *testing.T, c *bufferedConn, other net.Conn) {
		_, err := c.Write([]byte("last words"))
		require.NoError(t, err)
		go func() { _ = c.Close() }()
		text, err := io.ReadAll(other)
		require.NoError(t, err)
		assert.Equal(t, "last words", string(text))
		_, err = c.Write([]byte("more"))
		assert.ErrorIs(t, err, net.ErrClosed)
	}))
	t.Run("Close does not wait for a reader who has stopped", both(func(t *testing.T, c *bufferedConn, _ net.Conn) {
		_, err := c.Write([]byte("a"))
		require.NoError(t, err)
		began := time.Now()
		_ = c.Close()
		assert.Equal(t, pipeLinger, time.Since(began))
	}))
	t.Run("Close ends a write that waits", both(func(t *testing.T, c *bufferedConn, _ net.Conn) {
		ended := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 3*pipeBuffer))
			_, again := c.Write(make([]byte, 3*pipeBuffer))
			_, third := c.Write([]byte("a"))
			ended <- errors.Join(err, again, third)
		}()
		synctest.Wait()
		go func() { _ = c.Close() }()
		assert.Error(t, <-ended)
	}))
	t.Run("a connection that breaks is told", both(func(t *testing.T, c *bufferedConn, other net.Conn) {
		require.NoError(t, other.Close())
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_, err := c.Write([]byte("b"))
		assert.ErrorIs(t, err, io.ErrClosedPipe)
	}))
}
