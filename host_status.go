package graphretry

import (
	"net"
	"time"

	"github.com/graphretry/graphretry/internal/outage"
)

// HostState is the state of a host, as a [Transport] sees it.
type HostState int

const (
	// HostUp: calls are sent as they come.
	HostUp HostState = iota
	// HostDown: there is an outage. Calls wait in a queue, and one at a time is sent
	// as a probe.
	HostDown
	// HostRecovering: calls wait in a queue and are released at a rate that the host
	// can take. Either a probe succeeded after an outage, or the host was up and
	// overloaded: it fails less when fewer calls are sent.
	HostRecovering
)

var hostStateTexts = [...]string{HostUp: "up", HostDown: "down", HostRecovering: "recovering"}

// String returns the state in a word.
func (s HostState) String() string { return enumText("HostState", hostStateTexts[:], s) }

// HostStatus describes one host of a [Transport] at one moment.
type HostStatus struct {
	// Host is the host as [WithHosts] was given it, in lower case.
	Host string
	// State says whether the host is up. Without the outage gate
	// ([WithOutageThreshold] of 0) it is always [HostUp].
	State HostState
	// Since is when State began. It is zero for a host that has been up from the
	// start.
	Since time.Time
	// Waiting is how many calls wait in the host's queue. Calls that wait for their
	// own next attempt, and are not yet due, do not count.
	Waiting int
	// NextProbe is when the next probe may be sent, for [HostDown]; otherwise it is
	// zero. If it is in the past, no call is waiting, and the next call is the
	// probe.
	NextProbe time.Time
	// Cause is the answer that made calls wait, nil for [HostUp]. In its texts the
	// tokens of its request are blanked. Raw is left out, since Meta can echo a
	// token in it. The caller may change it.
	Cause *Error
}

// Hosts returns the state of each host of [WithHosts], in that order, for a health
// page or a gauge. It is fast, waits for no call, and may be called at any time, by
// an observer too. The hosts are read one after the other, not at one instant. The
// zero Transport has none.
func (t *Transport) Hosts() []HostStatus {
	if t == nil {
		return nil
	}
	statuses := make([]HostStatus, 0, len(t.hosts))
	for _, host := range t.hosts {
		status := HostStatus{Host: host.String()}
		if host.gate != nil {
			gate := host.gate.Status()
			status.State = hostStates[gate.State]
			status.Since, status.Waiting, status.NextProbe = gate.Since, gate.Waiting, gate.NextProbe
			if cause := graphError(gate.Cause); cause != nil {
				shown := *cause
				shown.Raw = nil
				status.Cause = &shown
			}
		}
		statuses = append(statuses, status)
	}
	return statuses
}

var hostStates = [...]HostState{outage.Up: HostUp, outage.Down: HostDown, outage.Recovering: HostRecovering}

// String returns the host as WithHosts takes it.
func (h host) String() string {
	if h.port == "" {
		return h.name
	}
	return net.JoinHostPort(h.name, h.port)
}
