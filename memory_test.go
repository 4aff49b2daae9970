package graphretry_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// heapMeter is an upload that measures the live heap while it is read.
type heapMeter struct {
	size, read int64
	every      int64 // bytes between two measurements
	next       int64
	most       uint64
	last       uint64
}

func (m *heapMeter) Read(p []byte) (int, error) {
	if m.read == m.size {
		return 0, io.EOF
	}
	if m.read >= m.next {
		m.next = m.read + m.every
		m.last = liveHeap()
		m.most = max(m.most, m.last)
	}
	n := int(min(int64(len(p)), m.size-m.read))
	m.read += int64(n)
	return n, nil
}

// liveHeap is how much of the heap is in use, garbage not counted.
func liveHeap() uint64 {
	// What tests before have left in a sync.Pool or to a finalizer goes with the
	// second.
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// noise is what the live heap varies by beside a call: the runtime, net/http's
// goroutines, the server in the same process.
const noise = 64 << 10

func TestStreamOf64MiBHoldsOneMiBAtMost(t *testing.T) {
	const size = 64 << 20
	inMemory := roundTripper(func(req *http.Request) (*http.Response, error) {
		n, err := io.Copy(io.Discard, req.Body)
		assert.NoError(t, err)
		assert.Equal(t, int64(size), n)
		req.Body.Close()
		return &http.Response{StatusCode: down.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(down.body))}, nil
	})
	server := protocols[0].serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		assert.Equal(t, int64(size), n)
		w.WriteHeader(down.status)
		io.WriteString(w, down.body)
	}))
	warmUp, err := http.NewRequest(http.MethodPost, server.URL, &heapMeter{size: size, every: size})
	require.NoError(t, err)
	resp, err := server.next.RoundTrip(warmUp) // the connection and its buffers
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	for name, next := range map[string]http.RoundTripper{"in memory": inMemory, "over HTTP": server.next} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/length known %v", name, known), func(t *testing.T) {
				upload := func(transport http.RoundTripper) *heapMeter {
					// Often while the recording grows, seldom after that.
					meter := &heapMeter{size: size, every: 100 << 10}
					body := io.MultiReader(io.LimitReader(meter, 2<<20), readerFunc(func(p []byte) (int, error) {
						meter.every = 8 << 20
						return meter.Read(p)
					}))
					req, err := http.NewRequest(http.MethodPost, server.URL, body)
					require.NoError(t, err)
					if known {
						req.ContentLength = size
					}
					resp, err := transport.RoundTrip(req)
					require.NoError(t, err)
					content, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					require.Equal(t, down.body, string(content))
					require.Equal(t, int64(size), meter.read)
					return meter
				}
				transport := server.transport(t, next)
				without := upload(next)
				with := upload(transport)
				t.Logf("at most %d KiB without us, %d KiB with us; at the end %d and %d KiB",
					without.most>>10, with.most>>10, without.last>>10, with.last>>10)
				assert.Less(t, with.most, without.most+1<<20+noise)
				assert.Less(t, with.last, without.last+noise, "what was kept is dropped once it is too long")
				if known {
					assert.Less(t, with.most, without.most+noise, "what is known to be too long is not kept at all")
				}
			})
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A call that waits for its next attempt keeps its request's body and at most the
// peek of the last response.
func TestBodyOfOneMiBIsKeptOnce(t *testing.T) {
	var most uint64
	base := liveHeap()
	content := bytes.Repeat([]byte("x"), 1<<20)
	next := script(down, down, success)
	transport := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
		most = max(most, liveHeap())
		resp, err := next.RoundTrip(req)
		most = max(most, liveHeap())
		return resp, err
	}), graphretry.WithInitialInterval(1))
	req, err := http.NewRequest(http.MethodPost, messagesURL, io.LimitReader(bytes.NewReader(content), 1<<20))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Less(t, most, base+uint64(len(content))+1<<20+noise)
}

// What was kept goes with the answer, though net/http may still have the body.
func TestNothingIsKeptOnceACallHasEnded(t *testing.T) {
	for _, failed := range []bool{false, true} {
		body := &heapMeter{size: 1 << 20, every: 1 << 30}
		base := liveHeap()
		var kept io.Reader
		transport := newTransport(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			_, err := io.CopyN(io.Discard, req.Body, 900<<10)
			require.NoError(t, err)
			assert.Greater(t, liveHeap(), base+900<<10-noise, "while the answer is not there")
			kept = req.Body
			if failed {
				return nil, errReset
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}))
		_, err := transport.RoundTrip(messageRequest(t, io.LimitReader(body, body.size)))
		assert.Equal(t, failed, err != nil)
		assert.Less(t, liveHeap(), base+noise)
		n, err := io.Copy(io.Discard, kept)
		require.NoError(t, err)
		assert.Equal(t, body.size-900<<10, n)
		assert.Less(t, liveHeap(), base+noise, "nor is it begun again")
	}
}
