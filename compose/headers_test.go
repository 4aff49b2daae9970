package compose

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// setHeader sets X-Stamp to what stamp gives at the moment of sending. It does so
// on a copy, as http.RoundTripper demands.
func setHeader(next http.RoundTripper, stamp func() string) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		stamped := req.Clone(req.Context())
		stamped.Header.Set("X-Stamp", stamp())
		return next.RoundTrip(stamped)
	})
}

func theTime() string { return time.Now().UTC().Format(time.RFC3339) }

// Inside is right for what ages or must be new each time: a time, a signature
// over it, a number for each attempt.
func TestHeaderSetInsideIsNewForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.failTwice()

		status, _ := send(t.Context(), t, retrying(t, setHeader(w, theTime)))

		require.Equal(t, 200, status)
		stamps := w.values("X-Stamp")
		assert.Len(t, slices.Compact(stamps), 3, "one was used twice")
		for i, call := range w.Calls() {
			assert.Equal(t, call.Time.UTC().Format(time.RFC3339), stamps[i], "it was stale when it was sent")
		}
	})
}

// Outside is right for what belongs to the call: an id by which its attempts are
// known to be one.
func TestHeaderSetOutsideIsTheSameForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.failTwice()

		status, _ := send(t.Context(), t, setHeader(retrying(t, w), theTime))

		require.Equal(t, 200, status)
		stamps := w.values("X-Stamp")
		assert.NotEmpty(t, stamps[0])
		assert.Equal(t, []string{stamps[0], stamps[0], stamps[0]}, stamps)
	})
}

// One that adds to the caller's own header breaks the contract of
// http.RoundTripper, and adds once more in each retry if it is inside: their headers
// are copies of the one that the first attempt has changed. Outside it adds once, as
// it would without retries: there it does no harm.
func TestHeaderAddedInPlaceBelongsOutside(t *testing.T) {
	addInPlace := func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			req.Header.Add("X-Stamp", "added")
			return next.RoundTrip(req)
		})
	}
	for _, test := range []struct {
		name  string
		stack func(*testing.T, *wire) http.RoundTripper
		want  []string
	}{
		{"outside", func(t *testing.T, w *wire) http.RoundTripper { return addInPlace(retrying(t, w)) }, []string{"added", "added", "added"}},
		{"inside", func(t *testing.T, w *wire) http.RoundTripper { return retrying(t, addInPlace(w)) }, []string{"added", "added, added", "added, added"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				w.failTwice()
				status, _ := send(t.Context(), t, test.stack(t, w))
				require.Equal(t, 200, status)
				assert.Equal(t, test.want, w.values("X-Stamp"))
			})
		})
	}
}

// What is set inside never reaches the caller's request.
func TestHeaderSetInsideDoesNotShowInTheCallersRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.failTwice()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesURL, strings.NewReader(message))
		require.NoError(t, err)

		resp, err := retrying(t, setHeader(w, theTime)).RoundTrip(req)

		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Empty(t, req.Header)
		assert.Same(t, req, resp.Request)
	})
}
