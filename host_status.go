package graphretry

import (
	"net"
	"time"

	"github.com/graphretry/graphretry/internal/outage"
)

// HostState is what a [Transport] holds a host to be.
type HostState int

const (
	// HostUp: calls are sent as they come.
	HostUp HostState = iota
	// HostDown: there is an outage. Calls wait in a queue, and one at a time is sent
	// as a probe.
	HostDown
	// HostRecovering: calls wait in a queue and are released at a rate that the host
	// bears. A probe has found that an outage is over, or the host was up and fails
	// less when it is asked for less.
	HostRecovering
)

var hostStateTexts = [...]string{HostUp: "up", HostDown: "down", HostRecovering: "recovering"}

// String returns the state in a word.
func (s HostState) String() string { return enumText("HostState", hostStateTexts[:], s) }

// HostStatus is one host of a [Transport] at one moment.
type HostStatus struct {
	// Host is the host as [WithHosts] was given it, in lower case.
	Host string
	// State is whether the host is up. Without the outage gate
	// ([WithOutageThreshold] of 0) nobody asks, and it is always [HostUp].
	State HostState
	// Since is when State began. It is zero for a host that is up and never was
	// down.
	Since time.Time
	// Waiting is how many calls wait in the host's queue. Those that wait for their
	// own next attempt, and are not yet due, are not among them.
	Waiting int
	// NextProbe is when the next probe may be sent, for [HostDown], and otherwise
	// zero. If it is past, nobody waits, and the next call is the probe.
	NextProbe time.Time
	// Cause is the answer for which calls wait, nil for [HostUp]. The tokens
	// of its request are blanked in its texts, and Raw, where Meta can echo one, is
	// left out. It is the caller's own.
	Cause *Error
}

// Hosts returns the state of each host whose calls are this Transport's, in the
// order of [WithHosts]: for a health page, or a gauge. It takes as long as a few
// locks that are free, waits for no call, and may be called at any time, also by
// an observer. The hosts are looked at one after the other. The zero Transport
// has none.
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
