package outbox

import (
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// pipeBuffer is how much a bufferedConn holds, in bytes, as sockets do. pipeLinger is how
// long its Close waits for the server to read that.
const (
	pipeBuffer = 1 << 20
	pipeLinger = time.Second
)

// inProcess connects to a server inside this process.
type inProcess struct{ *server.Server }

// InProcessConn is the server's, with a buffer. Without one, whoever writes waits for the
// server to read and all others wait for them, since a client writes under a lock.
func (s inProcess) InProcessConn() (net.Conn, error) {
	conn, err := s.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return newBufferedConn(conn), nil
}

// bufferedConn is a connection whose writes do not wait for the other side to read, as
// long as there is room. A write deadline is of no effect.
type bufferedConn struct {
	net.Conn
	written sync.WaitGroup // until all that was written has been read, or the connection is broken

	mu      sync.Mutex
	changed sync.Cond // pending, closed or err was
	pending []byte
	closed  bool
	err     error // of the connection
}

func newBufferedConn(conn net.Conn) *bufferedConn {
	c := &bufferedConn{Conn: conn}
	c.changed.L = &c.mu
	c.written.Go(c.drain)
	return c
}

// drain hands on what was written.
func (c *bufferedConn) drain() {
	var spare []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.pending) == 0 && !c.closed {
			c.changed.Wait()
		}
		if len(c.pending) == 0 {
			return
		}
		data := c.pending
		c.pending = spare[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		_, err := c.Conn.Write(data)
		c.mu.Lock()
		spare = data
		if err != nil {
			c.err = err
			c.changed.Broadcast()
			return
		}
	}
}

func (c *bufferedConn) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) >= pipeBuffer && !c.closed && c.err == nil {
		c.changed.Wait()
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.closed:
		return 0, net.ErrClosed
	}
	c.pending = append(c.pending, data...)
	c.changed.Broadcast()
	return len(data), nil
}

// Close waits a moment for the other side to read what was written.
func (c *bufferedConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(pipeLinger))
	c.written.Wait()
	return c.Conn.Close()
}

func (c *bufferedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
