package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// TestBrokenConnectionSendsNothingTwice sends 50 messages over real connections. The server
// accepts each message, and then breaks the connection instead of answering.
func TestBrokenConnectionSendsNothingTwice(t *testing.T) {
	const messages = 50
	var lines [][]string
	for _, subject := range atDefaults {
		api := graphtest.New()
		api.AnswerNext(1000*messages, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		server := httptest.NewServer(api)
		network := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", server.Listener.Addr().String())
		}}
		client := subject.wrapped(network)
		for i := range messages {
			require.False(t, deliver(t.Context(), client, "http", i), "%s: a success without an answer", subject.name)
		}
		network.CloseIdleConnections()
		server.Close()

		keys := map[string]bool{}
		for _, key := range api.AcceptedKeys() {
			keys[key] = true
		}
		require.Len(t, keys, messages, "%s: every message must have been taken", subject.name)
		received := api.Totals().Accepted
		lines = append(lines, []string{subject.name, fmt.Sprint(received)})
		switch subject.name {
		case ours.name, nextAlone.name:
			require.Equal(t, messages, received, subject.name)
		}
	}
	report.publish(duplicated, table([]string{"", fmt.Sprintf("received of %d messages", messages)}, lines))
}
