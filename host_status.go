package graphretry

import (
	"net"
	"time"

	"github.com/graphretry/graphretry/internal/outage"
	"github.com/graphretry/graphretry/internal/redact"
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
	// token in it. It is nil, too, where nobody gets a connection. The caller may change
	// it.
	Cause *Error
	// Paths are the paths of the host that are not [HostUp] though others are, in the
	// order of their names: phone numbers or endpoints that fail alone. Waiting is
	// without the calls that wait for them. It is empty while the host is down.
	Paths []PathStatus
}

// PathStatus describes a path of a host at one moment.
type PathStatus struct {
	// Path is the path without the version of the API, such as
	// "/106540352242922/messages". What has the form of a token is blanked.
	Path string
	// State is [HostDown] or [HostRecovering], of the path alone.
	State HostState
	// Since is when State began.
	Since time.Time
	// Waiting is how many calls wait for the path.
	Waiting int
	// NextProbe is as in [HostStatus], of calls of the path.
	NextProbe time.Time
	// Cause is as in [HostStatus].
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
		if host.gates != nil {
			gates := host.gates.Status()
			status.State, status.Cause = hostStates[gates.State], shownCause(gates.Cause)
			status.Since, status.Waiting, status.NextProbe = gates.Since, gates.Waiting, gates.NextProbe
			for _, path := range gates.Paths {
				status.Paths = append(status.Paths, PathStatus{
					Path: redact.Of().Text(path.Path), State: hostStates[path.State], Cause: shownCause(path.Cause),
					Since: path.Since, Waiting: path.Waiting, NextProbe: path.NextProbe,
				})
			}
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// shownCause returns a copy of the cause of an outage without what Meta said verbatim.
func shownCause(cause error) *Error {
	graph := graphError(cause)
	if graph == nil {
		return nil
	}
	shown := *graph
	shown.Raw = nil
	return &shown
}

var hostStates = [...]HostState{outage.Up: HostUp, outage.Down: HostDown, outage.Recovering: HostRecovering}

// String returns the host as WithHosts takes it.
func (h host) String() string {
	if h.port == "" {
		return h.name
	}
	return net.JoinHostPort(h.name, h.port)
}
