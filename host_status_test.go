package graphretry_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func TestHostsShowAnOutageFromBeginningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		api.DownAfter(0, time.Second, gateDown)
		began := time.Now()
		transport := transportToAHostThatIsDown(t, api)
		fell := time.Now()
		host := func() graphretry.HostStatus {
			hosts := transport.Hosts()
			require.Len(t, hosts, 1)
			if hosts[0].State == graphretry.HostUp {
				assert.Nil(t, hosts[0].Cause)
			} else if assert.NotNil(t, hosts[0].Cause) {
				assert.Equal(t, graphretry.CodeAPIService, hosts[0].Cause.Code)
				assert.Equal(t, http.StatusServiceUnavailable, hosts[0].Cause.Status)
				assert.Nil(t, hosts[0].Cause.Raw)
			}
			hosts[0].Cause = nil
			return hosts[0]
		}
		status := graphretry.HostStatus{Host: "graph.facebook.com", State: graphretry.HostDown, Since: fell, NextProbe: fell.Add(5 * time.Second)}
		assert.Equal(t, status, host())

		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				status, err := statusOf(t.Context(), transport, messagesURL)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
			})
		}
		time.Sleep(time.Second)
		status.Waiting = 20
		assert.Equal(t, status, host())
		time.Sleep(time.Until(fell.Add(5*time.Second + 200*time.Millisecond)))
		recovering := host()
		assert.Equal(t, graphretry.HostRecovering, recovering.State)
		assert.Equal(t, fell.Add(5*time.Second+50*time.Millisecond), recovering.Since)
		assert.Zero(t, recovering.NextProbe)
		assert.Less(t, recovering.Waiting, 19)
		assert.Positive(t, recovering.Waiting)
		calls.Wait()
		up := host()
		assert.True(t, up.Since.After(recovering.Since))
		assert.Equal(t, graphretry.HostStatus{Host: "graph.facebook.com", Since: up.Since}, up)
		assert.Less(t, up.Since.Sub(began), 10*time.Second)
	})
}

func TestHostsAreThoseOfTheTransportInTheirOrder(t *testing.T) {
	for name, test := range map[string]struct {
		options []graphretry.Option
		hosts   []string
	}{
		"by default":     {nil, []string{"graph.facebook.com"}},
		"without a gate": {[]graphretry.Option{graphretry.WithOutageThreshold(0)}, []string{"graph.facebook.com"}},
		"of an option": {
			[]graphretry.Option{graphretry.WithHosts("B.example:443", "a.example", "::1", "[::1]:80")},
			[]string{"b.example:443", "a.example", "::1", "[::1]:80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var want []graphretry.HostStatus
			for _, host := range test.hosts {
				want = append(want, graphretry.HostStatus{Host: host, State: graphretry.HostUp})
			}
			transport, err := graphretry.NewTransport(alwaysOK(), test.options...)
			require.NoError(t, err)
			assert.Equal(t, want, transport.Hosts())
			_, err = graphretry.NewTransport(alwaysOK(), graphretry.WithHosts(test.hosts...))
			assert.NoError(t, err, "what Hosts says can be given to WithHosts")
		})
	}
	var none *graphretry.Transport
	assert.Empty(t, none.Hosts())
	assert.Empty(t, new(graphretry.Transport).Hosts())
}

func TestHostsHoldNoSecretAndCannotBeUsedToChangeTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "EAAGm0PX4ZCpsBAKZCtoken"
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{
			Status: http.StatusServiceUnavailable,
			Body:   []byte(`{"error":{"code":2,"message":"Malformed access token ` + token + `","fbtrace_id":"` + token + `"}}`),
		})
		transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(1))
		require.NoError(t, err)
		ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutRetryOn(graphretry.CodeAPIService))
		_, err = statusOf(ctx, transport, messagesURL+"?access_token="+token)
		require.NoError(t, err)
		shown, err := json.Marshal(transport.Hosts())
		require.NoError(t, err)
		assert.Contains(t, string(shown), "Malformed")
		assert.NotContains(t, string(shown), token)
		transport.Hosts()[0].Cause.Message = "changed"
		assert.NotEqual(t, "changed", transport.Hosts()[0].Cause.Message)
	})
}

// An observer runs outside every lock, and many may look at once.
func TestHostsMayBeCalledDuringCallsAndInAnObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(50 * time.Millisecond)
		api.DownAfter(0, 20*time.Second, gateDown)
		var transport *graphretry.Transport
		var seen [3]int
		var mu sync.Mutex
		look := func() {
			state := transport.Hosts()[0].State
			mu.Lock()
			defer mu.Unlock()
			seen[state]++
		}
		transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(5),
			graphretry.WithObserver(func(context.Context, graphretry.Event) { look() }))
		require.NoError(t, err)
		var calls sync.WaitGroup
		for i := range 500 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				look()
				_, _ = statusOf(t.Context(), transport, messagesURL)
				look()
			})
		}
		calls.Wait()
		for state, times := range seen {
			assert.Positive(t, times, graphretry.HostState(state))
		}
		assert.Equal(t, graphretry.HostUp, transport.Hosts()[0].State)
	})
}

func TestEachStateOfAHostHasAWord(t *testing.T) {
	assert.Equal(t, "up", graphretry.HostUp.String())
	assert.Equal(t, "down", graphretry.HostDown.String())
	assert.Equal(t, "recovering", graphretry.HostRecovering.String())
	assert.Equal(t, "HostState(3)", graphretry.HostState(3).String())
	assert.Equal(t, "HostState(-1)", graphretry.HostState(-1).String())
}
