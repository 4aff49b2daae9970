package bench

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

const uploadSize = 64 << 20

// TestUploadTakesLittleMemory streams a body of 64 MiB without GetBody and of unknown
// length, and measures how much more memory is in use than before while it is on
// its way.
func TestUploadTakesLittleMemory(t *testing.T) {
	var lines [][]string
	for _, subject := range atDefaults {
		most := heapOfUpload(t, subject)
		lines = append(lines, []string{subject.name, fmt.Sprintf("%.1f MiB", float64(most)/(1<<20))})
		if subject.name == ours.name {
			require.LessOrEqual(t, most, int64(3<<20), "the buffer of 1 MiB, and what it took to grow")
		}
	}
	report.publish(uploads, table([]string{"", "memory"}, lines))
}

// heapOfUpload returns the most that the heap grew by after any MiB of the upload.
func heapOfUpload(t *testing.T, subject subject) (most int64) {
	t.Helper()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var before, size int64
	client := subject.wrapped(roundTripper(func(req *http.Request) (*http.Response, error) {
		defer req.Body.Close()
		for {
			n, err := io.CopyN(io.Discard, req.Body, 1<<20)
			size += n
			most = max(most, heap()-before)
			if err == io.EOF {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}))
	req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v25.0/106540352242922/media", io.LimitReader(zeros{}, uploadSize))
	require.NoError(t, err)
	require.Nil(t, req.GetBody)
	before = heap()
	resp, err := client.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.EqualValues(t, uploadSize, size, "%s did not send the whole body, once", subject.name)
	return most
}

// zeros is a stream without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
