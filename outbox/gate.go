package outbox

import (
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
)

// gate is the transport's outage gate. All questions to it are here.
type gate struct {
	transport *graphretry.Transport
}

// hostDown returns the status of the API's host if the gate takes it to be down.
func (g gate) hostDown() (status graphretry.HostStatus, down bool) {
	for _, host := range g.transport.Hosts() {
		if host.State == graphretry.HostDown {
			return host, true
		}
	}
	return status, false
}

// pathsDown returns the next probe of each number whose path the gate takes to be down. When it
// is due, one message of the number may go.
func (g gate) pathsDown() map[string]time.Time {
	var down map[string]time.Time
	for _, host := range g.transport.Hosts() {
		for _, path := range host.Paths {
			number, ok := strings.CutSuffix(strings.TrimPrefix(path.Path, "/"), "/messages")
			if !ok || path.State != graphretry.HostDown {
				continue
			}
			if down == nil {
				down = make(map[string]time.Time)
			}
			down[number] = path.NextProbe
		}
	}
	return down
}

// expired returns the event that a message is too old. If an outage may be the reason, the
// event has the error that began it.
func (g gate) expired() message.Event {
	host, _ := g.hostDown()
	return message.Event{Kind: message.Expired, Graph: host.Cause}
}
