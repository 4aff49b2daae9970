package graphretry_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// What a request looks like on its way to the kernel.

// wire is what was written to a connection: how often, and from where.
type wire struct {
	mu       sync.Mutex
	writes   int
	readFrom []string // the readers that the connection was to send from
}

// countedConn is a connection that counts.
type countedConn struct {
	*net.TCPConn
	wire *wire
}

func (c countedConn) Write(p []byte) (int, error) {
	c.wire.mu.Lock()
	c.wire.writes++
	c.wire.mu.Unlock()
	return c.TCPConn.Write(p)
}

func (c countedConn) ReadFrom(r io.Reader) (int64, error) {
	source := r
	if limited, ok := source.(*io.LimitedReader); ok {
		source = limited.R
	}
	from := "another reader"
	if _, ok := source.(*os.File); ok {
		from = "a file"
	}
	c.wire.mu.Lock()
	c.wire.readFrom = append(c.wire.readFrom, from)
	c.wire.mu.Unlock()
	return c.TCPConn.ReadFrom(r)
}

// sizedBody is a body, and the length that its request tells.
type sizedBody struct {
	io.Reader
	length int64
}

func TestBodyIsSentAsWithoutGraphretry(t *testing.T) {
	const small, large = 1 << 10, 2 << 20 // larger than what is kept
	path := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("x"), large), 0o600))
	file := func(t *testing.T) sizedBody {
		file, err := os.Open(path)
		require.NoError(t, err)
		return sizedBody{file, large}
	}
	for name, test := range map[string]struct {
		body   func(*testing.T) sizedBody
		writes int    // 0: however many
		from   string // what the connection is to send from
	}{
		"bytes.Reader": {
			body: func(*testing.T) sizedBody { return sizedBody{bytes.NewReader(make([]byte, small)), small} }, writes: 1,
		},
		"bytes.Buffer": {
			body: func(*testing.T) sizedBody { return sizedBody{bytes.NewBuffer(make([]byte, small)), small} }, writes: 1,
		},
		"strings.Reader": {
			body: func(*testing.T) sizedBody { return sizedBody{strings.NewReader(strings.Repeat("x", small)), small} }, writes: 1,
		},
		"bytes.Reader without GetBody": {
			body: func(*testing.T) sizedBody {
				return sizedBody{io.NopCloser(bytes.NewReader(make([]byte, small))), small}
			}, writes: 1,
		},
		"bytes.Buffer without GetBody": {
			body: func(*testing.T) sizedBody {
				return sizedBody{io.NopCloser(bytes.NewBuffer(make([]byte, small))), small}
			}, writes: 1,
		},
		"strings.Reader without GetBody": {
			body: func(*testing.T) sizedBody {
				return sizedBody{io.NopCloser(strings.NewReader(strings.Repeat("x", small))), small}
			}, writes: 1,
		},
		"file": {body: file, from: "a file"},
	} {
		for _, timeout := range []time.Duration{0, time.Hour} {
			t.Run(name+", attempt timeout "+timeout.String(), func(t *testing.T) {
				attempts := 0
				server := protocols[0].serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					n, err := io.Copy(io.Discard, r.Body)
					assert.NoError(t, err)
					assert.Equal(t, r.ContentLength, n)
					if attempts++; attempts == 2 {
						w.WriteHeader(down.status)
						io.WriteString(w, down.body)
					}
				}))
				var on *wire
				server.next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return countedConn{conn.(*net.TCPConn), on}, nil
				}
				server.next.DisableKeepAlives = true
				send := func(next http.RoundTripper) *wire {
					on = new(wire)
					body := test.body(t)
					req, err := http.NewRequest(http.MethodPost, server.URL, body.Reader)
					require.NoError(t, err)
					req.ContentLength = body.length
					resp, err := next.RoundTrip(req)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					return on
				}
				opts := []graphretry.Option{graphretry.WithMaxRetries(1)}
				if timeout > 0 {
					opts = append(opts, graphretry.WithAttemptTimeout(timeout))
				}
				without, with := send(server.next), send(server.transport(t, server.next, opts...))
				assert.Equal(t, without.readFrom, with.readFrom)
				if test.from != "" {
					assert.Equal(t, []string{test.from}, with.readFrom)
					assert.Equal(t, 2, attempts, "it cannot be sent again")
					return
				}
				assert.Equal(t, test.writes, without.writes)
				assert.Equal(t, 2*test.writes, with.writes, "of two attempts")
				assert.Equal(t, 3, attempts)
			})
		}
	}
}

// A body that is in memory is never recorded, and can be sent again whatever the
// limit, from where its reader stood.
func TestBodyInMemoryIsSentAgainFromWhereItStood(t *testing.T) {
	for name, reader := range map[string]interface {
		io.Reader
		ReadByte() (byte, error)
	}{
		"bytes.Reader": bytes.NewReader([]byte("[" + messageBody)), "bytes.Buffer": bytes.NewBufferString("[" + messageBody),
		"strings.Reader": strings.NewReader("[" + messageBody),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reader.ReadByte()
			require.NoError(t, err)
			w := &witness{next: script(down, down, success)}
			req := messageRequest(t, io.NopCloser(reader))
			require.Nil(t, req.GetBody)
			transport := newTransport(t, w, graphretry.WithInitialInterval(time.Nanosecond), graphretry.WithMaxBufferedBody(0))
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Equal(t, []string{messageBody, messageBody, messageBody}, w.bodies())
			assert.True(t, w.seen()[0].request == req, "the first time the request itself goes down")
		})
	}
}

// What can stall is watched: a pipe, which is a file too, and what hides a reader.
func TestBodyThatCanStallIsCutOff(t *testing.T) {
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	bodies := map[string]io.Reader{
		"reader of its own": iotest.HalfReader(strings.NewReader(messageBody)), "closed file": closed,
	}
	if runtime.GOOS != "js" { // which has no pipes
		read, write, err := os.Pipe()
		require.NoError(t, err)
		defer write.Close()
		bodies["pipe"] = read
	}
	for name, body := range bodies {
		req := messageRequest(t, body)
		_, err := newTransport(t, roundTripper(func(sent *http.Request) (*http.Response, error) {
			assert.False(t, sent.Body == req.Body, name)
			return nil, errReset
		}), graphretry.WithAttemptTimeout(time.Hour), graphretry.WithMaxBufferedBody(0)).RoundTrip(req)
		assert.ErrorIs(t, err, errReset)
	}
}
