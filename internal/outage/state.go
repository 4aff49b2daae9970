package outage

import "time"

// Config is what a [Host] is told at its construction.
type Config struct {
	// Threshold is how many answers in a row bring the host down, 1 or more.
	Threshold int
	// InitialInterval is the first interval between probes, above 0.
	InitialInterval time.Duration
	// MaxInterval bounds the intervals between probes, before jitter.
	MaxInterval time.Duration
	// Jitter is the random share, 0 to 1, that comes on top of an interval, so that
	// many processes do not probe at once.
	Jitter float64
}

// State is what a gate takes its host, or its path, to be.
type State int

const (
	// Up means that calls pass: a circuit breaker that is closed.
	Up State = iota
	// Down means that calls wait and one at a time is a probe: a breaker that is open.
	Down
	// Recovering means that the waiters are released at a rate: a breaker that is
	// half-open.
	Recovering
)

// Result is what the end of an attempt says of the host.
type Result int

const (
	// ResultNone says nothing: the attempt had no answer of the host's own.
	ResultNone Result = iota
	// ResultUp is an answer that only a host that is up gives.
	ResultUp
	// ResultThrottled is the answer of a host that is up and asks for less.
	ResultThrottled
	// ResultDown is the answer of a host that is down.
	ResultDown
	// ResultUnreachable means that there was no connection. It says that the host is
	// down, and nothing of the path.
	ResultUnreachable
	// ResultAbandoned means that the caller left, or ran out of time, before there
	// was an answer.
	ResultAbandoned
)

// isDown reports whether a result says that the host is down.
func (r Result) isDown() bool { return r == ResultDown || r == ResultUnreachable }

// Change is the beginning or the end of an outage.
type Change struct {
	// Path is the path that the outage is of, as [Key] returns it, "" for that of the
	// host.
	Path string
	// Ended is the outage that is over, nil if it began.
	Ended *Summary
	// Cause is the cause of an outage that began before the answer which tells of it, nil
	// if that answer is the cause.
	Cause error
}

// Summary is what is told of an outage when it is over.
type Summary struct {
	// Lasted is the time from the answer that brought the host down.
	Lasted time.Duration
	// Held is how many calls have waited in the queue, each counted once.
	Held int
	// Cause is the cause of the answer that last brought the host down.
	Cause error
}

// Outage is the error of a call that cannot wait for the end of an outage.
type Outage struct {
	// Path is the path that is down, as [Key] returns it, "" if the host is.
	Path string
	// Cause is the cause of the answer that last brought it down, or of the last bad answer
	// before less load was tried.
	Cause error
	// UntilNext is how long it is until the next call may be sent: the next probe while it
	// is down, the next release while it is recovering. It is above 0.
	UntilNext time.Duration
}

// Error implements error. Who has an Outage puts it into words of their own.
func (o *Outage) Error() string { return "outage: the call cannot wait for its end" }

// Status is a moment of a host or of a path.
type Status struct {
	// State is what it is taken to be.
	State State
	// Since is when State began; zero if it was never down.
	Since time.Time
	// Waiting is how many calls are in the queue.
	Waiting int
	// NextProbe is when the next probe may be sent, zero unless it is down. If it has
	// passed, the next call is the probe.
	NextProbe time.Time
	// Cause is as in [Outage], nil if it is up.
	Cause error
}

// HostStatus is a moment of a [Host].
type HostStatus struct {
	// Status is that of the host itself.
	Status
	// Paths are those that are not up, in the order of their names.
	Paths []PathStatus
}

// PathStatus is a moment of a path.
type PathStatus struct {
	// Status is that of the path.
	Status
	// Path is the path as [Key] returns it.
	Path string
}
