package graphretry

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a recording holds is bounded by what it allocates, not by what it uses of
// that; and it makes few pieces, and copies none.
func TestRecordingHoldsNoMoreThanItsLimit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		limit := 1 + random.Int64N(1<<17)
		content := make([]byte, random.Int64N(2*limit)+1)
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		r := newRecording(io.NopCloser(bytes.NewReader(content)), -1, limit)
		for err := error(nil); err == nil; {
			_, err = r.Read(make([]byte, 1+random.IntN(1+int(limit)/3)))
			var held int64
			for _, chunk := range r.chunks {
				held += int64(cap(chunk))
			}
			require.LessOrEqual(t, held, limit)
			require.LessOrEqual(t, len(r.chunks), 20)
		}
		getBody := r.replay()
		if int64(len(content)) > limit {
			require.Nil(t, getBody)
			require.Nil(t, r.chunks)
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

func TestRecordingThatIsStoppedKeepsNothing(t *testing.T) {
	r := newRecording(io.NopCloser(bytes.NewReader(make([]byte, 100))), -1, 1000)
	_, err := r.Read(make([]byte, 50))
	require.NoError(t, err)
	require.NotEmpty(t, r.chunks)
	r.stop()
	require.Nil(t, r.chunks)
	_, err = io.ReadAll(r)
	require.NoError(t, err)
	require.Nil(t, r.chunks)
	require.Nil(t, r.replay())
}
