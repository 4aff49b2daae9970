package outbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// The proof that nothing is sent twice and nothing is lost: three processes that share a
// file of SQLite, or a PostgreSQL that crashes. It is run with 150 messages by default; with
// 2,000 by
//
//	OUTBOX_PROOF_MESSAGES=2000 go test -run TestProof -v -timeout 30m .
//
// and again with the seed that a run has printed by OUTBOX_PROOF_SEED. The seed
// fixes what the API does to which call, and when workers are killed. It cannot fix in which
// order the processes run.
func TestProofThatNothingIsSentTwiceOrLost(t *testing.T) {
	p := newProof(t)
	if os.Getenv(kindVariable) != "postgres" {
		p.open(newPlace(t))
		p.prove(nil)
		return
	}
	// By default it confirms what is not yet on the disk.
	server := pgtest.Start(t, "synchronous_commit=off", "wal_writer_delay=10s")
	p.open(place{"postgres", server.Schema(t)})
	p.prove(func() {
		p.t.Log("PostgreSQL crashes")
		server.Crash(t)
		time.Sleep(time.Second)
		server.Go(t)
	})
}

type proof struct {
	t      *testing.T
	random *rand.Rand
	ids    []string

	api    *graphtest.API
	apiURL string
	place  place
	outbox *outbox.Outbox

	mu       sync.Mutex
	parked   map[string]bool // messages that a worker has parked as unknown
	reported map[string][]outbox.OutcomeKind
	refusals int // reports of an outcome that were refused
	refused  int // calls with a token that has expired

	workers [3]*process
	kills   int
	stalls  int
}

func newProof(t *testing.T) *proof {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	beside(t)
	messages, seed := 150, rand.Uint64()
	for name, set := range map[string]func(string) error{
		"OUTBOX_PROOF_MESSAGES": func(s string) (err error) { messages, err = strconv.Atoi(s); return err },
		"OUTBOX_PROOF_SEED":     func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
	} {
		if value, ok := os.LookupEnv(name); ok {
			require.NoError(t, set(value), name)
		}
	}
	t.Logf("OUTBOX_PROOF_MESSAGES=%d OUTBOX_PROOF_SEED=%d", messages, seed)
	p := &proof{
		t:        t,
		random:   rand.New(rand.NewPCG(seed, 1)),
		api:      graphtest.New(graphtest.WithSeed(seed)),
		parked:   make(map[string]bool),
		reported: make(map[string][]outbox.OutcomeKind),
	}
	for i := range messages {
		p.ids = append(p.ids, fmt.Sprintf("order %d", i))
	}
	web := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(web.Close)
	p.apiURL = web.URL + "/v25.0"
	return p
}

// serve is the API. It refuses a token that has expired.
func (p *proof) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/outcome"):
		id, kind := r.FormValue("id"), outbox.OutcomeKind(r.FormValue("kind"))
		if len(id)%5 == len(p.reported[id])%3 && p.refusals < len(p.ids)/3 {
			p.refusals++
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		p.reported[id] = append(p.reported[id], kind)
		p.parked[id] = p.parked[id] || kind == outbox.OutcomeUnknown
	case r.Header.Get("Authorization") == "Bearer "+expiredToken:
		p.refused++
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"code":190,"type":"OAuthException","message":"expired"}}`)
	default:
		p.mu.Unlock()
		defer p.mu.Lock()
		p.api.ServeHTTP(w, r)
	}
}

// proofNumbers are the phone numbers of the proof, and enqueuers how many enqueue.
var proofNumbers = []string{"106540352242922", "106540352242923", "106540352242924"}

const enqueuers = 4

// message is the i-th message of the proof. Of each enqueuer's messages five in a row go to one
// recipient. Some are urgent, some expire soon, some wait.
func (p *proof) message(i int) outbox.Message {
	recipient := p.recipient(i)
	text := fmt.Sprintf(`{"messaging_product":"whatsapp","to":%q,"type":"text","text":{"body":"x"}}`, recipient)
	m := outbox.Message{ID: p.ids[i], PhoneNumberID: proofNumbers[i%enqueuers%len(proofNumbers)], Payload: []byte(text)}
	switch {
	case i%10 == 0:
		m.Options = append(m.Options, outbox.Urgent())
	case i%15 == 7:
		m.Options = append(m.Options, outbox.ExpiresAt(time.Now().Add(300*time.Millisecond)))
	case i%15 == 11:
		m.Options = append(m.Options, outbox.ExpiresAt(time.Now().Add(-time.Second)))
	case i%15 == 2:
		m.Options = append(m.Options, outbox.NotBefore(time.Now().Add(time.Second)))
	}
	return m
}

func (p *proof) recipient(i int) string {
	return fmt.Sprintf("1555%d%d", i%enqueuers, i/enqueuers/5)
}

func (p *proof) open(where place) {
	p.t.Helper()
	p.place = where
	var err error
	p.outbox, err = outbox.Open(p.t.Context(), where.open(p.t), nil, proofOptions(p.apiURL)...)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { assert.NoError(p.t, p.outbox.Close()) })
}

// prove runs the proof. It calls disaster when a third of the messages is through.
func (p *proof) prove(disaster func()) {
	p.t.Helper()
	began := time.Now()
	p.misbehave()
	for i := range p.workers {
		p.startWorker(i)
	}
	var enqueuing sync.WaitGroup
	enqueuing.Go(p.enqueue)

	ctx, stopKilling := context.WithCancel(p.t.Context())
	var killing sync.WaitGroup
	killing.Go(func() { p.killWorkers(ctx) })
	if disaster != nil {
		p.wait("a third of the messages accepted", func() bool { return p.api.Totals().Accepted >= len(p.ids)/3 })
		disaster()
	}
	enqueuing.Wait()
	p.settled()
	stopKilling()
	killing.Wait()
	p.quiet()
	p.outcomesAreTold()
	end := p.check()
	p.t.Logf("after %.0f s: %d messages, %d calls (%d while the API was down), %d workers killed, %d frozen",
		time.Since(began).Seconds(), len(p.ids), p.api.Totals().Calls, p.api.Totals().WhileDown, p.kills, p.stalls)
	p.t.Logf("%d accepted, %d of them twice; %d sent, %d failed, %d unknown (%d of them had been accepted), 0 lost",
		p.api.Totals().Accepted, p.api.Totals().Duplicates, end[outbox.StateSent], end[outbox.StateFailed], end[outbox.StateUnknown], end["unknown, accepted"])
	p.mu.Lock()
	p.t.Logf("%d expired, %d calls with a token that had expired, 0 out of order", end["failed, expired"], p.refused)
	assert.NotZero(p.t, p.refused)
	p.mu.Unlock()
	assert.NotZero(p.t, end["failed, expired"])
	p.inOrder()
	assert.NotZero(p.t, end["unknown, accepted"], "no answer was lost: the proof proves little")
	assert.NotZero(p.t, p.kills)
	assert.NotZero(p.t, p.api.Totals().WhileDown)

	p.settleUnknown()
	p.outcomesAreTold()
	p.mu.Lock()
	times, all := 0, 0
	for _, kinds := range p.reported {
		times += len(kinds)
		all += len(slices.Compact(slices.Clone(kinds)))
	}
	p.t.Logf("%d outcomes reported, %d of them again, after %d refusals", all, times-all, p.refusals)
	assert.NotZero(p.t, p.refusals)
	p.mu.Unlock()
	end = p.check()
	p.t.Logf("after the webhooks, and Resend for the rest: %d accepted, %d of them twice; %d sent, %d failed, %d unknown",
		p.api.Totals().Accepted, p.api.Totals().Duplicates, end[outbox.StateSent], end[outbox.StateFailed], end[outbox.StateUnknown])
	assert.Zero(p.t, end[outbox.StateUnknown])
	assert.Equal(p.t, len(p.ids), p.api.Totals().Accepted+end[outbox.StateFailed])
}

// misbehave has the API do everything that it can do to a message.
func (p *proof) misbehave() {
	p.api.SetLatency(5 * time.Millisecond)
	p.api.SetSlowShare(0.2, 200*time.Millisecond)
	for _, share := range []struct {
		of     float64
		answer graphtest.Answer
	}{
		{0.05, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}},
		{0.02, graphtest.Answer{Fault: graphtest.FaultBreak}},
		{0.01, graphtest.Answer{Fault: graphtest.FaultTruncate}},
		{0.01, graphtest.Answer{Status: http.StatusBadGateway, Accept: true}},
		{0.04, graphtest.Answer{Code: graphretry.CodeServiceUnavailable}},
		{0.03, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong}},
		{0.02, graphtest.Answer{Code: graphretry.CodeInvalidParameter}},
	} {
		p.api.AnswerShare(share.of, share.answer)
	}
	p.api.DownAfter(time.Second, 3*time.Second, graphtest.Answer{Code: graphretry.CodeAPIService})
	p.api.DownAfter(6*time.Second, 3*time.Second, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
}

func (p *proof) startWorker(i int) {
	p.t.Helper()
	p.workers[i] = start(p.t, "worker", kindVariable+"="+p.place.kind, whereVariable+"="+p.place.where, "OUTBOX_TEST_API="+p.apiURL)
}

// enqueue enqueues all messages, some of them twice, and some at once, while the workers
// work.
func (p *proof) enqueue() {
	var all sync.WaitGroup
	pause := min(10*time.Second/time.Duration(len(p.ids)/enqueuers+1), 200*time.Millisecond)
	for first := range enqueuers {
		all.Go(func() {
			for i := first; i < len(p.ids); i += enqueuers {
				batch := []outbox.Message{p.message(i)}
				if next := i + enqueuers; i%7 == 0 && next < len(p.ids) {
					batch = append(batch, p.message(next))
					i = next
				}
				for times := 1 + i%3/2; times > 0; {
					if err := p.outbox.EnqueueAll(p.t.Context(), batch); err != nil {
						p.t.Logf("again, since: %v", err)
						continue
					}
					times--
				}
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
}

// killWorkers kills one worker after another, at random moments, and starts it again. Some it
// freezes for a while.
func (p *proof) killWorkers(ctx context.Context) {
	sleep := func(atLeast, atMost time.Duration) {
		select {
		case <-time.After(atLeast + time.Duration(p.random.Int64N(int64(atMost-atLeast)))):
		case <-ctx.Done():
		}
	}
	for {
		sleep(200*time.Millisecond, 1500*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		i := p.random.IntN(len(p.workers))
		if p.kills > 0 && p.random.IntN(5) == 0 {
			// Long enough for the others to take it for dead.
			assert.NoError(p.t, p.workers[i].stall())
			p.stalls++
			sleep(3*time.Second, 5*time.Second)
			assert.NoError(p.t, p.workers[i].resume())
			continue
		}
		p.workers[i].kill(p.t)
		p.kills++
		sleep(0, 300*time.Millisecond)
		p.startWorker(i)
	}
}

// settled waits until every message is sent, failed or unknown.
func (p *proof) settled() {
	p.t.Helper()
	open := slices.Clone(p.ids)
	defer func() {
		// The states of the others help to find the reason.
		for _, id := range open[:min(len(open), 10)] {
			p.t.Logf("not settled: %+v", p.status(id))
		}
	}()
	p.wait("every message settled", func() bool {
		open = slices.DeleteFunc(open, func(id string) bool {
			switch p.status(id).State {
			case outbox.StateSent, outbox.StateFailed, outbox.StateUnknown:
				return true
			}
			return false
		})
		return len(open) == 0
	})
}

// quiet waits until nothing is under way any more: a worker that was frozen may go on with an
// attempt whose message has become unknown.
func (p *proof) quiet() {
	p.t.Helper()
	calls, since := p.api.Totals().Calls, time.Now()
	p.wait("no call for two seconds", func() bool {
		if now := p.api.Totals().Calls; now != calls {
			calls, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	p.settled()
}

func (p *proof) wait(what string, such func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(time.Minute + time.Duration(len(p.ids))*100*time.Millisecond)
	for !such() {
		if time.Now().After(deadline) {
			var all strings.Builder
			for i, worker := range p.workers {
				fmt.Fprintf(&all, "worker %d:\n%s", i, worker.output)
			}
			require.Failf(p.t, "it never happened", "%s\n%s", what, all.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *proof) status(id string) outbox.Status {
	for {
		status, err := p.outbox.Status(p.t.Context(), id)
		if err == nil {
			return status
		}
		require.NotErrorIs(p.t, err, outbox.ErrNotFound, "message %s is lost", id)
		require.NoError(p.t, p.t.Context().Err())
		p.t.Logf("again, since: %v", err)
	}
}

// outcomesAreTold waits until the outcomes of each message were reported, and checks their
// order.
func (p *proof) outcomesAreTold() {
	p.t.Helper()
	want := make(map[string][]outbox.OutcomeKind)
	for _, id := range p.ids {
		status := p.status(id)
		switch status.State {
		case outbox.StateSent:
			want[id] = append(want[id], outbox.OutcomeSent)
		case outbox.StateFailed:
			want[id] = append(want[id], outbox.OutcomeFailed)
		case outbox.StateUnknown:
			want[id] = append(want[id], outbox.OutcomeUnknown)
		}
		if !status.Delivered.IsZero() {
			want[id] = append(want[id], outbox.OutcomeDelivered)
		}
		if !status.Read.IsZero() {
			want[id] = append(want[id], outbox.OutcomeRead)
		}
	}
	allReported := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for id, kinds := range want {
			at := -1
			for _, kind := range kinds {
				i := slices.Index(p.reported[id], kind)
				if i < 0 {
					return false
				}
				assert.Greater(p.t, i, at, "message %s: reported %v", id, p.reported[id])
				at = i
			}
		}
		return true
	}
	p.wait("every outcome reported", allReported)
}

// check compares what the outbox says of every message with what the API has
// accepted, and counts.
func (p *proof) check() map[outbox.State]int {
	p.t.Helper()
	wamids := map[string][]string{}
	for _, message := range p.api.Accepted() {
		wamids[message.CallbackData] = append(wamids[message.CallbackData], message.ID)
	}
	counts := map[outbox.State]int{}
	for _, id := range p.ids {
		status := p.status(id)
		counts[status.State]++
		accepted := wamids[id]
		assert.LessOrEqual(p.t, len(accepted), 1, "message %s was sent twice", id)
		switch status.State {
		case outbox.StateSent:
			assert.Equal(p.t, []string{status.MessageID}, accepted, "message %s", id)
		case outbox.StateFailed:
			assert.Empty(p.t, accepted, "message %s", id)
			if strings.HasPrefix(status.Reason, "older than") {
				counts["failed, expired"]++
				break
			}
			assert.NotNil(p.t, status.Graph, "message %s: %s", id, status.Reason)
		case outbox.StateUnknown:
			counts["unknown, accepted"] += len(accepted)
			p.mu.Lock()
			p.parked[id] = true
			p.mu.Unlock()
		default:
			assert.Failf(p.t, "not settled", "message %s is %s", id, status.State)
		}
	}
	assert.Empty(p.t, p.api.Duplicates())
	return counts
}

// inOrder checks that each recipient got the messages in their order, except those that became
// unknown: when these come is not known.
func (p *proof) inOrder() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	index := make(map[string]int)
	for i, id := range p.ids {
		index[id] = i
	}
	last := make(map[string]int)
	for _, message := range p.api.Accepted() {
		i := index[message.CallbackData]
		if p.parked[message.CallbackData] || i%15 == 2 && i%10 != 0 {
			continue // its place is another
		}
		recipient := p.recipient(i)
		if before, ok := last[recipient]; ok {
			assert.Less(p.t, before, i, "recipient %s got message %d after %d", recipient, i, before)
		}
		last[recipient] = i
	}
}

// settleUnknown sends Meta's webhooks, in disorder and some of them twice, and then resends the
// unknown messages that the API has never seen.
func (p *proof) settleUnknown() {
	p.t.Helper()
	before := len(p.unknown())
	p.api.Clear()
	accepted := p.api.Accepted()
	accepted = append(accepted, accepted[:len(accepted)/3]...)
	p.random.Shuffle(len(accepted), func(i, j int) { accepted[i], accepted[j] = accepted[j], accepted[i] })
	for i, message := range accepted {
		body := graphtest.StatusWebhook(message, []string{"sent", "delivered", "read"}[i%3])
		for p.outbox.HandleWebhook(p.t.Context(), body) != nil {
			require.NoError(p.t, p.t.Context().Err())
		}
	}
	unknown := p.unknown()
	p.t.Logf("webhooks have settled %d, a person has to decide upon %d", before-len(unknown), len(unknown))
	for _, status := range unknown {
		assert.NotEmpty(p.t, p.api.Lost(status.ID), "a webhook has settled every message that was accepted")
		for p.outbox.Resend(p.t.Context(), status.ID) != nil {
			require.NoError(p.t, p.t.Context().Err())
		}
	}
	p.settled()
}

func (p *proof) unknown() []outbox.Status {
	p.t.Helper()
	unknown, err := p.outbox.Unknown(p.t.Context())
	require.NoError(p.t, err)
	return unknown
}
