package outbox

import (
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
)

// gate is the transport's outage gate. It is asked here and nowhere else.
type gate struct {
	transport *graphretry.Transport
}

// hostDown returns what the gate says if it holds the API to be down.
func (g gate) hostDown() (status graphretry.HostStatus, down bool) {
	for _, host := range g.transport.Hosts() {
		if host.State == graphretry.HostDown {
			return host, true
		}
	}
	return status, false
}

// pathsDown returns until when it lets nothing through of a number, for those whose path
// it holds to be down. When the next probe of a path is due its number goes on, with one.
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

// expired is that a message is too old; with what the outage began with, if it may have
// waited for the end of one.
func (g gate) expired() message.Event {
	host, _ := g.hostDown()
	return message.Event{Kind: message.Expired, Graph: host.Cause}
}
