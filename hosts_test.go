package graphretry_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

func TestOnlyCallsToItsHostsAreRetried(t *testing.T) {
	for _, test := range []struct {
		hosts []string // none: the default
		url   string
		ours  bool
	}{
		{nil, "https://graph.facebook.com/v25.0/me", true},
		{nil, "https://graph.facebook.com:443/v25.0/me", true},
		{nil, "https://graph.facebook.com:8443/v25.0/me", true},
		{nil, "http://graph.facebook.com/v25.0/me", true},
		{nil, "https://GRAPH.Facebook.com/v25.0/me", true},
		{nil, "https://user:password@graph.facebook.com/v25.0/me", true},
		{nil, "https://graph.facebook.com?fields=id", true},
		{nil, "https://facebook.com/graph.facebook.com", false},
		{nil, "https://graph.facebook.com.example.com/", false},
		{nil, "https://xgraph.facebook.com/", false},
		{nil, "https://beta.graph.facebook.com/", false},
		{nil, "https://graph.facebook.comx/", false},
		{nil, "https://graph-facebook.com/", false},
		{nil, "https://graph.instagram.com/", false},
		{nil, "https://lookaside.fbsbx.com/whatsapp_business/attachments/", false},
		{nil, "https://example.com:443/?host=graph.facebook.com", false},
		{nil, "https://graph.facebook.com@example.com/", false},

		{[]string{"example.com"}, "https://graph.facebook.com/", false},
		{[]string{"example.com", "graph.facebook.com"}, "https://graph.facebook.com/", true},
		{[]string{"Example.COM"}, "https://eXAMPLE.com/", true},
		{[]string{"example.com"}, "https://example.com:1234/", true},
		{[]string{"example.com:443"}, "https://example.com/", true},
		{[]string{"example.com:443"}, "https://example.com:443/", true},
		{[]string{"example.com:443"}, "http://example.com:443/", true},
		{[]string{"example.com:443"}, "http://example.com/", false},
		{[]string{"example.com:443"}, "https://example.com:8443/", false},
		{[]string{"example.com:80"}, "http://EXAMPLE.com/", true},
		{[]string{"example.com:80"}, "https://example.com/", false},
		{[]string{"127.0.0.1"}, "http://127.0.0.1:39123/", true},
		{[]string{"127.0.0.1:8080"}, "http://127.0.0.1:8080/", true},
		{[]string{"127.0.0.1:8080"}, "http://127.0.0.1:8081/", false},
		{[]string{"::1"}, "http://[::1]:8080/", true},
		{[]string{"::1"}, "http://[::1]/", true},
		{[]string{"[::1]"}, "http://[::1]:8080/", true},
		{[]string{"[::1]:8080"}, "http://[::1]:8080/", true},
		{[]string{"[::1]:8080"}, "http://[::1]/", false},
		{[]string{"[::1]:80"}, "http://[::1]/", true},
		{[]string{"2001:DB8::A"}, "http://[2001:db8::a]/", true},
		{[]string{"::1"}, "http://[::2]/", false},
	} {
		t.Run(strings.Join(test.hosts, ",")+" "+test.url, func(t *testing.T) {
			var opts []graphretry.Option
			if test.hosts != nil {
				opts = append(opts, graphretry.WithHosts(test.hosts...))
			}
			transport, events := eventsOf(t, failing(), opts...)
			req, err := http.NewRequest(http.MethodGet, test.url, nil)
			require.NoError(t, err)
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, test.ours, len(events()) == 1)
		})
	}
}

func TestCallToAnotherHostPassesThroughUntouchedUnreadAndUnwrapped(t *testing.T) {
	body := &closeCounter{Reader: unreadable{t}}
	want := &http.Response{StatusCode: 503, Body: body, ContentLength: -1}
	var got *http.Request
	transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return want, nil
	}), graphretry.WithAttemptTimeout(time.Minute), graphretry.WithNetworkRetries())
	req, err := http.NewRequest(http.MethodGet, "https://lookaside.fbsbx.com/media", io.NopCloser(unreadable{t}))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	assert.Same(t, req, got)
	assert.Same(t, want, resp)
	assert.Same(t, body, resp.Body)
	assert.Zero(t, body.closed)
	assert.Empty(t, events())
}

// unreadable fails the test if it is read.
type unreadable struct{ t testing.TB }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("this is not to be read")
}
