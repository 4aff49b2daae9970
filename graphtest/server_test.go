package graphtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func TestClientOfAServerReachesItWhateverTheHost(t *testing.T) {
	server := graphtest.NewServer(t, graphtest.WithSeed(7))
	server.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(server.Client(), graphretry.WithInitialInterval(time.Millisecond))
	require.NoError(t, err)
	require.NoError(t, sendReminder(client, "https://graph.facebook.com", "reminder-1"), "retried without WithHosts")
	require.NoError(t, sendReminder(server.Client(), server.URL, "reminder-2"))
	assert.Equal(t, []string{"reminder-1", "reminder-2"}, server.AcceptedKeys())
	assert.Equal(t, 4, server.Totals().Calls)
}

func TestServerSpeaksHTTP2(t *testing.T) {
	needsHTTP2(t)
	resp, err := graphtest.NewServer(t).Client().Get("https://graph.facebook.com/me")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
}

// A call that hangs does not keep the test from ending.
func TestServerIsClosedWhenTheTestEnds(t *testing.T) {
	failed := make(chan error, 1)
	t.Run("", func(t *testing.T) {
		server := graphtest.NewServer(t)
		server.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
		arrived := make(chan struct{})
		go func() {
			resp, err := server.Client().Get("https://graph.facebook.com/me")
			if err == nil {
				resp.Body.Close()
			}
			failed <- err
		}()
		go func() {
			for server.Totals().Calls == 0 {
				time.Sleep(time.Millisecond)
			}
			close(arrived)
		}()
		<-arrived
	})
	assert.Error(t, <-failed)
}

func TestServerOfAProgramIsClosedByIt(t *testing.T) {
	server := graphtest.StartServer(graphtest.WithSeed(7))
	require.NoError(t, sendReminder(server.Client(), "https://graph.facebook.com", "reminder-1"))
	assert.Equal(t, []string{"reminder-1"}, server.AcceptedKeys())
	server.Close()
	assert.Error(t, sendReminder(server.Client(), "https://graph.facebook.com", "reminder-2"))
}
