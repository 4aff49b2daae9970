package outage

import "time"

// EarlyRefusal is how long before its deadline a call is refused that was not released by
// then, so that its caller hears of the outage in time.
const EarlyRefusal = 50 * time.Millisecond

// The constants of the law. They were chosen by the figures that bench/ measures;
// bench/README.md has what gets worse without each. Those for
// intervals between probes are in initial intervals, and rates are in calls a second.
const (
	// slowThreshold is the part of the threshold that is enough for a run that has lasted
	// for an initial interval. Where few calls are made, or by one process of a hundred,
	// the whole of it would take too long and cost too much.
	slowThreshold = 0.25
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
	// probeJitter is the part of the jitter that comes on top of these intervals: an end
	// that is noticed late makes everybody wait.
	probeJitter = 0.4
	// earlyProbe is the interval between probes while callers give up, and earlyNotice
	// how long before the next one does the probe is sent. One call more is little beside
	// a call that is lost, and plain backoff would have each of them try twice or more.
	earlyProbe  = 0.49
	earlyNotice = 0.2

	// firstRate and leastRate bound what recovering begins with, which is the rate at
	// which calls come; it never falls below leastRate. Where this process is one of a hundred, all of them together
	// then begin with what they sent before the outage, and not with a hundred times
	// what one may.
	firstRate = 10
	leastRate = 1
	// slowStart is by how much each success raises the rate until it is first lowered.
	slowStart = 3
	// drain is the ceiling of the rate, in rates of arrival: beside what goes on arriving
	// the queue is gone in two thirds of the time it took to form, and the host is not
	// asked for more than a small multiple of what it was asked to carry before.
	drain = 2.5
	// reserve is how far above the rate of arrival the ceiling is where all answers have
	// been good, in rates of arrival, and reserveIfSomeFail where some have not: times
	// their share, in which the last answer has a part of shareOfLate. A host that gets
	// each failure once more is then not asked for ever more.
	reserve           = 0.5
	reserveIfSomeFail = 0.3
	shareOfLate       = 0.05
	// fewestArrivals are needed to tell a rate of arrival.
	fewestArrivals = 5
	// throttledAnswers within a short time take the rate to throttledRate of itself, at
	// most once in throttledEvery. Each other answer makes up for throttledShare of one,
	// since a few among many are the limit of some other account and not of the queue.
	throttledAnswers = 3
	throttledShare   = 0.05
	throttledRate    = 0.8
	throttledEvery   = time.Second
	// slowedFor is how long the rate stays as it is once it was lowered; then it rises
	// by 1 a second, or by increase of itself if that is more: about where the limit is
	// has been learned.
	slowedFor = 10 * time.Second
	increase  = 0.02
	// lateRelease is how much of a timer's lateness is made up for.
	lateRelease = 10 * time.Millisecond

	// A share of good answers is taken of a window of fewestAnswers at least, and of
	// mostAnswers where that does not decide it, over shortestWindow at least, and
	// longestWindow at most: an API that gets fewer is not overloaded by this process.
	fewestAnswers  = 50
	mostAnswers    = 200
	shortestWindow = time.Second
	longestWindow  = 10 * time.Second
	// longestChance is the longest run of bad answers that counts in full. What goes on
	// longer is an outage.
	longestChance = 20
	// worseShare is the part of the best share of late below which it is worse. Where
	// none is known, or the last trial was trialEvery ago, it is below badShare: a host
	// that fails for a fifth of its calls is not asked whether less load would help.
	worseShare = 0.9
	badShare   = 0.8
	trialEvery = time.Minute
	// sureOfWorse, sureOfTrial and certain are how many standard errors are more than
	// chance: to begin a trial, to end it, and for a best share.
	sureOfWorse = 3
	sureOfTrial = 2
	certain     = 2
	// trialRate is the part of the rate that is tried. A smaller step would take more
	// answers to tell. What it was before is out of the host's mind after trialSettles.
	// keptRate is the part of the rate that is kept where less helps.
	trialRate    = 0.5
	trialSettles = time.Second
	keptRate     = 0.75

	// firstHeadroom is what a waiter must have left once the deadline of one who was
	// released has come before the answer; each further one makes it headroomGrowth times
	// as much, but not more than twice the time that it had, and each answer
	// headroomShrink of that. So it settles above the time that an answer takes, and at
	// most one in some 40 calls is sent in vain.
	firstHeadroom  = 10 * time.Millisecond
	headroomGrowth = 8
	headroomShrink = 0.95
	// earlyLeavers who left before their answer, and before their deadline, show that
	// those who have waited for long are not to be counted on: the latest is released in
	// their place, until answers have made up for it, by earlyShare each. Now and then a
	// caller who leaves for reasons of their own changes nothing.
	earlyLeavers = 3
	earlyShare   = 0.01

	// maxPaths is how many gates of paths a host has at most, since paths have ids in them.
	maxPaths = 10_000
	// wellFor is how long a good answer shows that a path is well.
	wellFor = 10 * time.Second
	// pathIdle is how long after its last bad answer the gate of a path that is up goes.
	pathIdle = time.Minute

	// batch is how many waiters are released or refused before others have the lock.
	batch = 50
)
