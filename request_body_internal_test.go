package graphretry

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What an upload keeps is bounded by what it allocates, not by what it uses of
// that; and it makes few pieces, and copies none.
func TestUploadKeepsNoMoreThanItsLimit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		limit := 1 + random.Int64N(1<<17)
		content := make([]byte, random.Int64N(2*limit)+1)
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		u := newUpload(io.NopCloser(bytes.NewReader(content)), -1, limit)
		for err := error(nil); err == nil; {
			_, err = u.Read(make([]byte, 1+random.IntN(1+int(limit)/3)))
			var held int64
			for _, chunk := range u.chunks {
				held += int64(cap(chunk))
			}
			require.LessOrEqual(t, held, limit)
			require.LessOrEqual(t, len(u.chunks), 20)
		}
		getBody := u.replay()
		if int64(len(content)) > limit {
			require.Nil(t, getBody)
			require.Nil(t, u.chunks)
			continue
		}
		for range 2 {
			body, err := getBody()
			require.NoError(t, err)
			again, err := io.ReadAll(body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, again))
		}
	}
}

// A body with the ContentLength 0 has an unknown one: what was read of it so far
// may be nothing, and is not the whole.
func TestUploadOfUnknownLengthIsWholeOnlyAtItsEnd(t *testing.T) {
	for _, length := range []int64{0, -1} {
		r := newUpload(io.NopCloser(strings.NewReader("message")), length, 1000)
		n, err := r.Read(nil)
		require.Zero(t, n)
		require.NoError(t, err)
		require.Nil(t, r.replay())
	}
}

// slowBody is a body whose Read takes some time, and whose Close, like that of a
// multipart.Part, must not come beside it.
type slowBody struct {
	takes            time.Duration
	stalls           chan struct{} // if set, a Read waits for Close
	reading          atomic.Bool
	reads, closed    int
	closedInsideRead bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	b.reads++
	if b.stalls != nil {
		<-b.stalls
		return 0, io.EOF
	}
	time.Sleep(b.takes)
	return copy(p, "more"), nil
}

func (b *slowBody) Close() error {
	b.closed++
	b.closedInsideRead = b.reading.Load()
	if b.stalls != nil {
		close(b.stalls)
	}
	return nil
}

func TestUploadThatIsCutOffFailsAtItsNextRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &slowBody{takes: stallTime - 1}
		u := newUpload(body, -1, 1000)
		go func() {
			time.Sleep(time.Nanosecond)
			u.cutOff()
		}()
		for range 2 {
			_, err := u.Read(make([]byte, 10))
			if body.reads == 1 && err == nil {
				continue // the Read that was under way
			}
			require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		}
		time.Sleep(time.Hour)
		require.Equal(t, 1, body.reads, "the body is not read any more")
		require.Zero(t, body.closed, "that is for whoever sends it")
		require.NoError(t, u.Close())
		require.Equal(t, 1, body.closed)
		require.Nil(t, u.replay())
	})
}

func TestUploadThatStallsAsItIsCutOffIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &slowBody{stalls: make(chan struct{})}
		u := newUpload(body, -1, 1000)
		time.AfterFunc(time.Second, u.cutOff)
		began := time.Now()
		_, err := u.Read(make([]byte, 10))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose, "an end that is only the closing")
		require.Equal(t, time.Second+stallTime, time.Since(began))
		require.True(t, body.closedInsideRead)
		require.NoError(t, u.Close())
		require.Equal(t, 1, body.closed)
		require.Nil(t, u.replay())
	})
}

// As net/http closes it over HTTP/2 when the answer comes early.
func TestUploadThatIsClosedInAReadIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &slowBody{stalls: make(chan struct{})}
		u := newUpload(body, -1, 1000)
		time.AfterFunc(time.Second, func() { u.Close() })
		_, err := u.Read(make([]byte, 10))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		require.Nil(t, u.replay())
	})
}

func TestUploadOfKnownLengthIsWholeWithItsLastByte(t *testing.T) {
	const content = "message"
	for limit, isWhole := range map[int64]bool{int64(len(content)) - 1: false, int64(len(content)): true, 1000: true} {
		u := newUpload(io.NopCloser(strings.NewReader(content)), int64(len(content)), limit)
		_, err := u.Read(make([]byte, len(content)-1))
		require.NoError(t, err)
		_, err = u.Read(make([]byte, 1))
		require.NoError(t, err, "nobody has looked for the end")
		require.Equal(t, isWhole, u.replay() != nil, "limit %d", limit)
	}
}

func TestUploadThatIsStoppedKeepsNothing(t *testing.T) {
	u := newUpload(io.NopCloser(bytes.NewReader(make([]byte, 100))), -1, 1000)
	_, err := u.Read(make([]byte, 50))
	require.NoError(t, err)
	require.NotEmpty(t, u.chunks)
	u.stop()
	require.Nil(t, u.chunks)
	_, err = io.ReadAll(u)
	require.NoError(t, err)
	require.Nil(t, u.chunks)
	require.Nil(t, u.replay())
}
