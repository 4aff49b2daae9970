package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// reports is what a function of WithOutcome was called with.
type reports struct {
	mu   sync.Mutex
	kept []outbox.Outcome
	fail func(n int, outcome outbox.Outcome) error // at the n-th call
	n    int
}

func (h *reports) report(_ context.Context, outcome outbox.Outcome) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if h.fail != nil {
		if err := h.fail(h.n, outcome); err != nil {
			return err
		}
	}
	h.kept = append(h.kept, outcome)
	return nil
}

// of returns the outcomes that were reported for a message.
func (h *reports) of(id string) (kinds []outbox.OutcomeKind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, outcome := range h.kept {
		if outcome.Status.ID == id {
			kinds = append(kinds, outcome.Kind)
		}
	}
	return kinds
}

// hears waits until these outcomes, and no others, were reported for a message.
func (h *reports) hears(t *testing.T, id string, want ...outbox.OutcomeKind) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for len(h.of(id)) < len(want) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	assert.Equal(t, want, h.of(id), id)
}

func TestOutcomesAreTold(t *testing.T) {
	h := &reports{}
	b := newHarness(t, outbox.WithOutcome(h.report))
	stop := run(t, b.Outbox)
	b.enqueue("good")
	b.becomes("good", outbox.StateSent)
	message := b.api.Accepted()[0]
	for _, status := range []string{"sent", "read", "delivered", "read"} {
		b.webhook(message, status)
	}
	h.hears(t, "good", outbox.OutcomeSent, outbox.OutcomeDelivered, outbox.OutcomeRead)
	b.enqueue("voice")
	b.becomes("voice", outbox.StateSent)
	b.webhook(b.api.Accepted()[1], "played")
	h.hears(t, "voice", outbox.OutcomeSent, outbox.OutcomeDelivered)
	b.api.AnswerNext(1, graphtest.Answer{Code: 100})
	b.enqueue("bad")
	h.hears(t, "bad", outbox.OutcomeFailed)
	b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	b.enqueue("lost")
	h.hears(t, "lost", outbox.OutcomeUnknown)
	require.NoError(t, b.Drop(t.Context(), "lost"))
	h.hears(t, "lost", outbox.OutcomeUnknown, outbox.OutcomeFailed)
	stop()
	// Outcomes that happen while no Run is alive are reported when one begins.
	b.enqueue("dropped 1", "dropped 2", "parked")
	_, err := b.DropAll(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateQueued}})
	require.NoError(t, err)
	require.NoError(t, b.HandleWebhook(t.Context(), graphtest.StatusWebhook(graphtest.Message{ID: "wamid.x", CallbackData: "lost"}, "delivered")))
	assert.Empty(t, h.of("dropped 1"))
	run(t, b.Outbox)
	h.hears(t, "dropped 1", outbox.OutcomeFailed)
	h.hears(t, "dropped 2", outbox.OutcomeFailed)
	h.hears(t, "lost", outbox.OutcomeUnknown, outbox.OutcomeFailed, outbox.OutcomeSent, outbox.OutcomeDelivered)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, outcome := range h.kept {
		assert.WithinDuration(t, time.Now(), outcome.Time, time.Minute)
	}
	assert.Equal(t, outbox.StateSent, h.kept[0].Status.State)
}

func TestOutcomeThatCouldNotBeToldIsToldAgainInOrder(t *testing.T) {
	var times []time.Time
	h := &reports{fail: func(n int, outcome outbox.Outcome) error {
		if outcome.Status.ID != "a" {
			return nil
		}
		times = append(times, time.Now())
		switch len(times) {
		case 1, 2:
			return errors.New("the shop's database is away")
		case 3:
			panic("a bug in it")
		}
		return nil
	}}
	b := newHarness(t, outbox.WithOutcome(h.report))
	outbox.SetReporting(b.Outbox, 40*time.Millisecond, 4*time.Second)
	run(t, b.Outbox)
	b.enqueue("a")
	b.becomes("a", outbox.StateSent)
	b.webhook(b.api.Accepted()[0], "delivered")
	b.enqueue("b")
	h.hears(t, "b", outbox.OutcomeSent)
	h.hears(t, "a", outbox.OutcomeSent, outbox.OutcomeDelivered)
	for i, atLeast := range []time.Duration{40, 80, 160} {
		assert.GreaterOrEqual(t, times[i+1].Sub(times[i]), atLeast*time.Millisecond)
	}
	assert.Contains(t, b.log.String(), "the shop's database is away")
	assert.Contains(t, b.log.String(), "a bug in it")
	assert.Len(t, b.api.Accepted(), 2)
}

// An Outbox that has the option later reports all outcomes.
func TestOutcomesAreOwedUntilSomebodyWantsToKnow(t *testing.T) {
	b := newHarness(t)
	stop := run(t, b.Outbox)
	ids := b.enqueueMany(phoneNumberID, 100)
	b.settled(ids)
	for _, message := range b.api.Accepted() {
		b.webhook(message, "delivered")
	}
	stop()
	h := &reports{}
	for range 3 {
		run(t, b.open(nil, outbox.WithOutcome(h.report)))
	}
	for _, id := range ids {
		h.hears(t, id, outbox.OutcomeSent, outbox.OutcomeDelivered)
	}
}

// Webhooks came before the answer, and the outcome "sent" was not reported.
func TestOutcomesAreToldWhereWebhooksOvertakeTheAnswer(t *testing.T) {
	h := &reports{}
	b := newHarness(t)
	o, held, release := b.holding(outbox.WithOutcome(h.report), outbox.WithRate(1e6))
	run(t, o)
	ids := b.enqueueMany(phoneNumberID, 40)
	for done := 0; done < len(ids); done++ {
		<-held
		for _, m := range b.api.Accepted() {
			b.webhook(m, "delivered")
		}
		release <- struct{}{}
	}
	for _, id := range ids {
		h.hears(t, id, outbox.OutcomeSent, outbox.OutcomeDelivered)
	}
}

func TestCloseWithinAnOutcomeEnds(t *testing.T) {
	closed := make(chan error, 1)
	var o *outbox.Outbox
	b := newHarness(t)
	o = b.open(nil, outbox.WithOutcome(func(context.Context, outbox.Outcome) error {
		closed <- o.Close()
		return nil
	}))
	b.enqueue("a")
	done := make(chan error, 1)
	go func() { done <- o.Run(t.Context()) }()
	require.NoError(t, <-closed)
	require.NoError(t, <-done)
	h := &reports{}
	run(t, b.open(nil, outbox.WithOutcome(h.report)))
	// The process could not record the report.
	require.Eventually(t, func() bool { return len(h.of("a")) == 1 }, patience, time.Millisecond)
}

func TestObserverSeesAttemptsHoldsClaimsAndWaits(t *testing.T) {
	events := make(chan outbox.Event, 1000)
	b := newHarness(t, outbox.WithObserver(func(_ context.Context, e outbox.Event) {
		events <- e
		panic("a bug in it stops nothing")
	}))
	next := func(kind outbox.EventKind) outbox.Event {
		t.Helper()
		select {
		case e := <-events:
			require.Equal(t, kind, e.Kind, "%v", e)
			assert.WithinDuration(t, time.Now(), e.Time, time.Minute)
			assert.Equal(t, phoneNumberID, e.PhoneNumberID)
			return e
		case <-time.After(patience):
			require.FailNow(t, "no event", kind)
			return outbox.Event{}
		}
	}
	b.api.AnswerNext(1, graphtest.Answer{Code: 2})
	require.NoError(t, b.Enqueue(t.Context(), "a", phoneNumberID, payload("a"), outbox.Label("campaign")))
	stop := run(t, b.Outbox)
	claimed := next(outbox.EventClaimed)
	assert.Equal(t, "a", claimed.ID)
	assert.Equal(t, "campaign", claimed.Label)
	attempted := next(outbox.EventAttempted)
	assert.Equal(t, graphretry.OutcomeRetry, attempted.Result)
	assert.Equal(t, graphretry.CodeAPIService, attempted.Graph.Code)
	assert.GreaterOrEqual(t, attempted.Wait, 20*time.Millisecond)
	next(outbox.EventClaimed)
	sent := next(outbox.EventOutcome)
	assert.Equal(t, outbox.OutcomeSent, sent.Outcome)
	assert.GreaterOrEqual(t, sent.Age, 20*time.Millisecond, "enqueued to sent")
	assert.Nil(t, sent.Graph)
	assert.Equal(t, graphretry.OutcomeSent, next(outbox.EventAttempted).Result)
	b.webhook(b.api.Accepted()[0], "failed", 131026)
	failed := next(outbox.EventOutcome)
	assert.Equal(t, outbox.OutcomeFailed, failed.Outcome)
	assert.Equal(t, graphretry.ClassRecipient, failed.Graph.Class())
	stop()

	b.api.AnswerNext(3, graphtest.Answer{Code: 190})
	b.enqueue("b", "c", "d")
	run(t, b.Outbox)
	seen := make(map[outbox.EventKind]int)
	for seen[outbox.EventReleased] == 0 {
		e := <-events
		seen[e.Kind]++
		if e.Kind == outbox.EventHeld {
			assert.Contains(t, e.Reason, "190")
			assert.Positive(t, e.Wait)
		}
	}
	assert.Equal(t, 1, seen[outbox.EventHeld])
	assert.Equal(t, "held", outbox.EventHeld.String())
	assert.Equal(t, "EventKind(42)", outbox.EventKind(42).String())
	assert.Contains(t, b.log.String(), "a bug in it")
}

func TestObserverThatHangsIsPassedOver(t *testing.T) {
	hang := make(chan struct{})
	var calls, others atomic.Int32
	b := newHarness(t, outbox.WithObserver(func(context.Context, outbox.Event) {
		calls.Add(1)
		<-hang
	}), outbox.WithObserver(func(context.Context, outbox.Event) { others.Add(1) }))
	ids := b.enqueueMany(phoneNumberID, 100)
	stop := run(t, b.Outbox)
	assert.Equal(t, 100, b.settled(ids)[outbox.StateSent])
	stop()
	assert.LessOrEqual(t, calls.Load(), int32(9), "one of each worker")
	assert.EqualValues(t, 300, others.Load())
	assert.Contains(t, b.log.String(), "is skipped")
	close(hang)
	run(t, b.Outbox)
	for i, before := 0, calls.Load(); calls.Load() < before+12; i++ {
		require.Less(t, i, 100, "it is skipped for ever")
		more := fmt.Sprint("more ", i)
		b.enqueue(more)
		b.becomes(more, outbox.StateSent)
	}
}

func TestStatusKnowsWhenAMessageWasDeliveredAndRead(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	webhook := func(status, timestamp string) {
		body := fmt.Sprintf(`{"entry":[{"changes":[{"value":{"statuses":[{"id":%q,"status":%q,"timestamp":%q,"biz_opaque_callback_data":"a"}]}}]}]}`,
			b.api.Accepted()[0].ID, status, timestamp)
		require.NoError(t, b.HandleWebhook(t.Context(), []byte(body)))
	}
	webhook("delivered", "1764234000")
	webhook("read", "1764234060")
	status := b.becomes("a", outbox.StateSent)
	assert.Equal(t, int64(1764234000), status.Delivered.Unix())
	assert.Equal(t, int64(1764234060), status.Read.Unix())
	b.enqueue("b")
	assert.Zero(t, b.becomes("b", outbox.StateSent).Read)
}

// Workers that report are killed again and again, while Meta's webhooks come in any order.
func TestOutcomesAreToldThroughKills(t *testing.T) {
	p := newProof(t)
	p.open(newPlace(t))
	p.api.AnswerShare(0.05, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	p.api.AnswerShare(0.1, graphtest.Answer{Code: 131026})
	for i := range p.workers {
		p.startWorker(i)
	}
	var all sync.WaitGroup
	all.Go(p.enqueue)
	ctx, stopKilling := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	random := rand.New(rand.NewPCG(p.random.Uint64(), 1)) // before another goroutine draws
	killing.Go(func() {
		for ctx.Err() == nil {
			i := p.random.IntN(len(p.workers))
			time.Sleep(time.Duration(100+p.random.IntN(400)) * time.Millisecond)
			p.workers[i].kill(t)
			p.kills++
			p.startWorker(i)
		}
	})
	// If an answer was lost with its worker, only webhooks tell its outcome.
	webhooks := func(done func() bool) {
		var pending [][]byte
		for handled := 0; ; {
			accepted := p.api.Accepted()
			for _, m := range accepted[handled:] {
				for _, status := range []string{"sent", "delivered", "read", "sent", "delivered", "read"} {
					pending = append(pending, graphtest.StatusWebhook(m, status))
				}
			}
			handled = len(accepted)
			if len(pending) == 0 {
				if done() {
					return
				}
				time.Sleep(time.Millisecond)
				continue
			}
			i := random.IntN(len(pending))
			if err := p.outbox.HandleWebhook(t.Context(), pending[i]); err != nil {
				t.Log("again, since:", err)
				continue
			}
			pending[i] = pending[len(pending)-1]
			pending = pending[:len(pending)-1]
		}
	}
	enqueued := make(chan struct{})
	go func() {
		all.Wait()
		close(enqueued)
	}()
	webhooks(func() bool {
		select {
		case <-enqueued:
			return true
		default:
			return false
		}
	})
	stopKilling()
	killing.Wait()
	p.settled()
	p.quiet()
	webhooks(func() bool { return true })
	p.outcomesAreTold()
	p.check()
	p.mu.Lock()
	defer p.mu.Unlock()
	delivered := 0
	for _, kinds := range p.reported {
		if slices.Contains(kinds, outbox.OutcomeDelivered) {
			delivered++
		}
	}
	assert.Equal(t, p.api.Totals().Accepted, delivered)
	assert.Empty(t, p.api.Duplicates())
	t.Logf("%d workers killed, %d messages delivered", p.kills, delivered)
	assert.NotZero(t, p.kills)
	assert.NotZero(t, p.refusals)
}
