//go:build unix

package queuetest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var full = flag.Bool("full", false, "queuetest: 1,000 messages in place of 200, and the queue's own time until it misses a killed worker")

// patience bounds what no test waits for.
const patience = 5 * time.Minute

// State is what has become of a job.
type State int

const (
	StateWaiting State = iota // for its next attempt, or at work
	StateSent
	StateFailed
	StateParked
)

// Job is a job of the queue.
type Job struct {
	Text  string
	State State
	Cause string // of the last attempt
}

// Queue is a queue that is tried.
type Queue struct {
	// Server is told to each worker process.
	Server string
	// Enqueue puts messages with these texts into the queue, each a job.
	Enqueue func(ctx context.Context, texts []string) error
	// Jobs returns the jobs that the queue has. One that is done may be missing.
	Jobs func(ctx context.Context) ([]Job, error)
	// Expire has the queue miss killed workers at once. It is called while none runs, and
	// not with -full.
	Expire func(ctx context.Context) error
}

// Run tries a queue. how is how a worker process ends: SIGKILL or SIGTERM.
func Run(t *testing.T, queue Queue, how syscall.Signal) {
	plan := plan{messages: 200, down: 3 * time.Second, expired: 1500 * time.Millisecond, life: [2]time.Duration{time.Second, 3 * time.Second}, kills: 6}
	if *full {
		plan.messages, plan.down, plan.expired = 1000, 10*time.Second, 3*time.Second
		plan.life, plan.kills = [2]time.Duration{2 * time.Second, 4 * time.Second}, 12
	}
	api := newAPI(plan)
	server := httptest.NewServer(api)
	defer server.Close()
	ctx := t.Context()
	var texts []string
	for number := range plan.messages {
		texts = append(texts, textOf(number))
	}
	rand.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	require.NoError(t, queue.Enqueue(ctx, texts))

	began, started := time.Now(), 0
	next := func() *worker {
		started++
		return start(t, Process{queue.Server, fmt.Sprintf("%s/v%d.0", server.URL, started)})
	}
	workers := []*worker{next(), next()}
	for range plan.kills {
		time.Sleep(plan.life[0] + rand.N(plan.life[1]-plan.life[0]))
		workers[0].end(t, how)
		workers = append(workers[1:], next())
	}
	if !*full {
		for _, worker := range workers {
			worker.end(t, syscall.SIGTERM)
		}
		require.NoError(t, queue.Expire(ctx))
		workers = []*worker{next(), next()}
	}
	var jobs []Job
	require.Eventually(t, func() bool {
		var err error
		jobs, err = queue.Jobs(ctx)
		require.NoError(t, err)
		return !slices.ContainsFunc(jobs, func(job Job) bool { return job.State == StateWaiting })
	}, patience, 250*time.Millisecond, "some jobs never end")
	for _, worker := range workers {
		worker.end(t, syscall.SIGTERM)
	}
	tally := count(api, jobs)
	t.Logf("%d messages in %v; %d worker processes were ended by %v, %d were started\n%s",
		plan.messages, time.Since(began).Round(100*time.Millisecond), plan.kills, how, started, tally)
	tally.check(t, plan, how == syscall.SIGKILL)
}

// tally is what became of the messages.
type tally struct {
	accepted, twice int
	burned          []string // failed, and nothing was wrong with them
	lost            []string // neither accepted nor parked, and it was for no reason of theirs
	parked          int
	parkedUnasked   []string // parked, although the API's answer was clear
	notParked       []string // what became of them is not known, and they are not parked
	wrong           int      // answers of 131000 to what always gets it
	wrongMost       int      // the most of one message
	withoutCause    []string
	whileDown       map[string]int // by process
	expired         int
	foreign         []string
}

func count(api *api, jobs []Job) *tally {
	api.mu.Lock()
	defer api.mu.Unlock()
	v := &tally{accepted: len(api.accepted), whileDown: api.whileDown, expired: api.expired, foreign: api.foreign}
	states := map[int]Job{}
	for _, job := range jobs {
		number, err := numberOf(job.Text)
		if err != nil {
			v.foreign = append(v.foreign, job.Text)
			continue
		}
		states[number] = job
	}
	for number := range api.plan.messages {
		job, exists := states[number]
		kind, text := kindOf(number), fmt.Sprintf("%s: %s", textOf(number), job.Cause)
		if api.accepted[number] > 1 {
			v.twice++
		}
		isParked := exists && job.State == StateParked
		switch {
		case isParked && !kind.isParked():
			v.parkedUnasked = append(v.parkedUnasked, text)
		case !isParked && kind.isParked():
			v.notParked = append(v.notParked, text)
		}
		if isParked {
			v.parked++
		}
		if exists && job.State == StateFailed && kind.isSent() {
			v.burned = append(v.burned, text)
		}
		if kind.isSent() && api.accepted[number] == 0 && !isParked {
			v.lost = append(v.lost, text)
		}
		if exists && (isParked || job.State == StateFailed) && job.Cause == "" {
			v.withoutCause = append(v.withoutCause, text)
		}
		if kind == alwaysWrong {
			v.wrong += api.wrong[number]
			v.wrongMost = max(v.wrongMost, api.wrong[number])
		}
	}
	return v
}

func (v *tally) String() string {
	var text strings.Builder
	row := func(name string, value any) { fmt.Fprintf(&text, "  %-44s %v\n", name, value) }
	row("accepted", v.accepted)
	row("accepted twice", v.twice)
	row("burned", len(v.burned))
	row("lost", len(v.lost))
	row("parked", v.parked)
	row("of them because a worker was killed", len(v.parkedUnasked))
	row("calls of those that always get 131000", v.wrong)
	row("calls while the API was down", fmt.Sprintf("%d by %d processes, %d by one at most", sum(v.whileDown), len(v.whileDown), most(v.whileDown)))
	row("calls while the token was expired", v.expired)
	return text.String()
}

// check has the test fail for what is wrong.
func (v *tally) check(t *testing.T, plan plan, killed bool) {
	t.Helper()
	hundreds := plan.messages / 100
	assert.Zero(t, v.twice, "messages arrived twice")
	assert.Empty(t, v.burned, "messages failed, and nothing was wrong with them")
	assert.Empty(t, v.lost, "messages are lost")
	assert.Empty(t, v.notParked, "nobody knows what became of these, and they are not parked")
	assert.Empty(t, v.withoutCause, "no cause is in the job's own record")
	assert.Empty(t, v.foreign, "these are no messages of the test's")
	assert.NotEmpty(t, v.whileDown, "the API was never down")
	// 20 answers tell a process that the API is down. Its other 19 workers can be sending by
	// then, and the probes come 0.25, 0.5, 1 and then 2 s after one another.
	assert.LessOrEqual(t, most(v.whileDown), 20+19+4+int(plan.down/(2*time.Second)), "calls of one process while the API was down")
	assert.Positive(t, v.expired, "the token was never expired")
	assert.LessOrEqual(t, v.wrongMost, 2, "calls of a message that always gets 131000")
	if killed {
		assert.LessOrEqual(t, v.accepted, 92*hundreds)
		assert.GreaterOrEqual(t, v.accepted+len(v.parkedUnasked), 92*hundreds)
		assert.NotEmpty(t, v.parkedUnasked, "no kill hit a worker that was sending")
	} else {
		assert.Equal(t, 92*hundreds, v.accepted)
		assert.Empty(t, v.parkedUnasked, "parked, although the API's answer was clear")
		assert.Equal(t, 4*hundreds, v.parked)
		assert.Equal(t, 2*2*hundreds, v.wrong, "calls of those that always get 131000")
	}
}

// sum returns the sum of all counts, and most the largest.
func sum(counts map[string]int) (sum int) {
	for _, count := range counts {
		sum += count
	}
	return sum
}

func most(counts map[string]int) (most int) {
	for _, count := range counts {
		most = max(most, count)
	}
	return most
}
