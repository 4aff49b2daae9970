package compose

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// setDefaultTransport sets http.DefaultTransport until the test ends.
func setDefaultTransport(t *testing.T, transport http.RoundTripper) {
	t.Helper()
	old := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = old })
	http.DefaultTransport = transport
}

// Installed there, graphretry serves every client without a Transport of its own,
// among them those of packages that take no client. A nil next is what was there
// before, not what is there when a call is made: that would be graphretry itself.
func TestDefaultTransportCanBeReplacedByATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.failTwice()
		setDefaultTransport(t, w)
		setDefaultTransport(t, retrying(t, nil))

		resp, err := http.Post(messagesURL, "application/json", strings.NewReader(message))

		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
		assert.Len(t, w.Calls(), 3)
	})
}

// Other hosts, which all share http.DefaultTransport, are left alone.
func TestInstalledAsDefaultTransportItLeavesOtherHostsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.failTwice()
		setDefaultTransport(t, w)
		setDefaultTransport(t, retrying(t, nil))

		resp, err := http.Get("https://www.example.com/prices")

		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Equal(t, 503, resp.StatusCode)
		assert.Len(t, w.Calls(), 1)
	})
}
