package outage

import "time"

// EarlyRefusal is how long before its deadline a call is refused that was not released by
// then, so that its caller hears of the outage in time, on a busy machine too.
const EarlyRefusal = 50 * time.Millisecond

// The constants of the law. They were chosen by the figures that bench/ measures, which
// get worse if one is halved or doubled ("make -C bench scale"). Intervals between probes
// are in initial intervals, and rates in calls a second.
const (
	// slowThreshold is the part of the threshold that is enough for a run that has lasted
	// for an initial interval. Where few calls are made, or by one process of a hundred,
	// the whole of it would take too long and cost too much.
	slowThreshold = 0.25
	// worstRunFactor is how many times the worst run of late brings the host down.
	// Chance alone makes one of three times the length too rare to matter.
	worstRunFactor = 3

	// longestProbe is the longest interval between probes: 5, 10, 20, 20 s and on by
	// default. The end of an outage is noticed that soon.
	longestProbe = 4
	// manyProbes is the number of probes after which the longest interval is half as long,
	// some four minutes by default. A host that is up for moments, or fails for nine calls
	// of ten, would at times be found after many minutes, and thousands of calls wait.
	manyProbes = 12
	// partialProbe and partialGrowth are the first interval between probes of a host
	// that fails in part, and the factor to the next: about a tenth of the time since
	// the host was last up, but still only some 30 probes in 3 minutes.
	partialProbe  = 0.2
	partialGrowth = 1.1
	// earlyProbe is the interval between probes while callers give up, and how long before
	// the next one does the probe is sent. One call more is little beside a call that is
	// lost, and plain backoff would have each of them try twice or more.
	earlyProbe = 0.49

	// drain is the ceiling of the rate, in rates of arrival: beside what goes on arriving
	// the queue is gone in two thirds of the time it took to form, and the host is not
	// asked for more than a small multiple of what it was asked to carry before.
	drain = 2.5
	// reserve is how far above the rate of arrival the ceiling is, in rates of arrival and
	// times the share of good answers. Workers of a queue come as fast as they are released,
	// so that is how fast they are again as fast as they were. A host that gets each failure
	// once more is not asked for ever more.
	reserve = 0.5
	// lowered is the part of the rate that is left when the host throttles, which it does
	// with a few answers, and at most once in settles; and at most when less load has
	// helped.
	lowered = 0.8
	// increase is the part of its ceiling by which the rate rises in a second, a turn after
	// it was lowered: about where the limit is has been learned.
	increase = 0.01

	// bad is the share of good answers below which less load is tried while the host is
	// recovering, and badIfUp while it is up. A host that is recovering is asked for what
	// has gathered, besides what arrives.
	bad     = 0.8
	badIfUp = 0.6
	// fewestAnswers are needed for a share of good answers, and half as many on each side of
	// a trial: an API that gets fewer in two turns is not overloaded by this process. Where
	// they do not decide it, up to twenty times as many are taken, of a minute at most.
	fewestAnswers = 8
	// sure is how much is more than chance: of what is counted; in standard errors, to begin
	// a trial; as the logarithm of a ratio of likelihoods, to end it.
	sure = 3
	// trialRate is the part of the rate that is tried, in every other turn. A smaller step
	// would take more answers to tell, and a larger one has calls wait for longer.
	trialRate = 0.4
	// turn is how long the rate of a trial stays as it is, or one that was lowered, and how
	// long a good answer shows that a path is well. A process that sends a call a second has
	// some answers by then.
	turn = 10 * time.Second
	// settles is how long what was before is in the host's mind, and how far the clocks of
	// processes are apart.
	settles = time.Second
	// nearly is the part of what is normal below which a share is worse, the part of a turn's
	// calls that must have been answered, and what each answer leaves of what was known.
	nearly = 0.95
	// again is how long it is until the next trial: once, twice and four times as long while
	// none has helped; and twice that is how long one takes at most. The worst run is half
	// forgotten by then, and the gate of a path goes that long after its last bad answer.
	again = time.Minute
)
