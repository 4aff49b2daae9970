package outage

import "time"

// The constants of the law. The figures in the README, which bench/ measures, are what
// they were chosen by. Those for intervals between probes are in initial intervals, and
// rates are in calls a second.
const (
	// worstRunFactor is how many times the worst run of late brings the host down.
	// Chance alone makes one of three times the length too rare to matter.
	worstRunFactor = 3
	// worstRunHalfLife is how fast the worst run is forgotten: within minutes, so that
	// an outage after an outage is noticed as soon as the first.
	worstRunHalfLife = 30 * time.Second
	// partialRun is the worst run of late that tells, when the host is brought down,
	// that it has failed in part. A run of one does not: a call in a thousand may fail
	// at any time.
	partialRun = 2

	// longestProbe is the longest interval between probes: 5, 10, 20, 20 s and on by
	// default. The end of an outage is noticed that soon.
	longestProbe = 4
	// partialProbe and partialGrowth are the first interval between probes of a host
	// that fails in part, and the factor to the next: about a tenth of the time since
	// the host was last up, but still only some 30 probes in 3 minutes.
	partialProbe  = 0.2
	partialGrowth = 1.1

	// firstRate is what recovering begins with.
	firstRate = 10
	// resumeRate is the part of the rate at which the host fell again that the next
	// recovery begins with.
	resumeRate = 0.5
	// drain is how the ceiling of the rate follows from the queue: it shall be gone in
	// two thirds of the time it took to form, beside what goes on arriving. As the queue
	// has no more calls than have joined it, that is at most two and a half times the
	// rate of arrival, which the host was asked to carry before. And if more arrive than
	// did, the rate is to be so many times as high.
	drain = 1.5
	// throttledAnswers within a short time take the rate to throttledRate of itself, at
	// most once in throttledEvery. Each other answer makes up for throttledShare of one,
	// since a few among many are the limit of some other account and not of the queue.
	// The rate stays so for throttledFor and then rises by 1 a second, not by 1 a
	// success: where the limit is has been learned. It never falls below the rate of
	// arrival, which nothing held back before the outage either.
	throttledAnswers = 3
	throttledShare   = 0.05
	throttledRate    = 0.8
	throttledEvery   = time.Second
	throttledFor     = 10 * time.Second
	// lateRelease is how much of a timer's lateness is made up for.
	lateRelease = 10 * time.Millisecond

	// firstHeadroom is what a waiter must have left once a caller who was released has
	// left before the answer; each further one makes it headroomGrowth times as much, up
	// to longestHeadroom, and each answer headroomShrink of that. So it settles above
	// the time that an answer takes, and at most one in some 40 calls is sent in vain,
	// while now and then a caller who leaves for reasons of their own changes nothing.
	firstHeadroom   = 10 * time.Millisecond
	headroomGrowth  = 8
	headroomShrink  = 0.95
	longestHeadroom = 24 * time.Hour
)
