package outbox_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// A process dies before each of its writes in turn, and another process goes on.
func TestProcessThatDiesAtAnyWriteLosesNothingAndSendsNothingTwice(t *testing.T) {
	beside(t)
	runUntil := func(o *outbox.Outbox, dead func() bool, done func() bool) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		for !dead() && !done() {
			time.Sleep(time.Millisecond)
		}
		cancel()
		<-ended
	}
	is := func(b *bench, id string, states ...outbox.State) func() bool {
		return func() bool {
			status, err := b.Status(context.Background(), id)
			for _, state := range states {
				if err == nil && status.State == state {
					return true
				}
			}
			return false
		}
	}
	unknown := func(b *bench) graphtest.Message {
		b.api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		b.enqueue("a")
		stop := run(b.t, b.Outbox)
		b.becomes("a", outbox.StateUnknown)
		stop()
		return b.api.Accepted()[0]
	}
	soon := outbox.WithAttemptTimeout(300 * time.Millisecond)
	for name, scenario := range map[string]struct {
		opts []outbox.Option
		// act is what the process does that dies. Another process does the second half.
		act    func(b *bench, o *outbox.Outbox, dead func() bool)
		second func(b *bench)
		before func(b *bench)
		// accepted is how often Meta may accept each message in the end.
		accepted int
		ids      []string
		ends     []outbox.State
	}{
		"Enqueue": {
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.Enqueue(context.Background(), "a", phoneNumberID, payload("a"))
			},
			second: func(b *bench) { b.enqueue("a") }, accepted: 1,
			ids: []string{"a"}, ends: []outbox.State{outbox.StateSent},
		},
		"EnqueueAll in order": {
			opts: []outbox.Option{outbox.WithRecipientOrder()},
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.EnqueueAll(context.Background(), threeMessages())
			},
			second:   func(b *bench) { require.NoError(b.t, b.EnqueueAll(b.t.Context(), threeMessages())) },
			accepted: 1, ids: []string{"1", "2", "3"}, ends: []outbox.State{outbox.StateSent},
		},
		"a success": {
			opts:   []outbox.Option{soon},
			before: func(b *bench) { b.enqueue("a") },
			act: func(b *bench, o *outbox.Outbox, dead func() bool) {
				runUntil(o, dead, is(b, "a", outbox.StateSent))
			},
			accepted: 1, ids: []string{"a"}, ends: []outbox.State{outbox.StateSent, outbox.StateUnknown},
		},
		"a retry": {
			opts: []outbox.Option{soon},
			before: func(b *bench) {
				b.enqueue("a")
				b.api.AnswerNext(1, graphtest.Answer{Code: 2})
			},
			act: func(b *bench, o *outbox.Outbox, dead func() bool) {
				runUntil(o, dead, is(b, "a", outbox.StateSent))
			},
			accepted: 1, ids: []string{"a"}, ends: []outbox.State{outbox.StateSent, outbox.StateUnknown},
		},
		"a failure": {
			opts: []outbox.Option{soon},
			before: func(b *bench) {
				b.enqueue("a")
				b.api.AnswerNext(1, graphtest.Answer{Code: 100})
			},
			act: func(b *bench, o *outbox.Outbox, dead func() bool) {
				runUntil(o, dead, is(b, "a", outbox.StateFailed))
			},
			accepted: 1, ids: []string{"a"}, ends: []outbox.State{outbox.StateFailed, outbox.StateUnknown, outbox.StateSent},
		},
		"a turn that is passed on": {
			opts: []outbox.Option{outbox.WithRecipientOrder(), soon},
			before: func(b *bench) {
				require.NoError(b.t, b.EnqueueAll(b.t.Context(), threeMessages()))
			},
			act: func(b *bench, o *outbox.Outbox, dead func() bool) {
				runUntil(o, dead, is(b, "3", outbox.StateSent))
			},
			accepted: 1, ids: []string{"1", "2", "3"}, ends: []outbox.State{outbox.StateSent, outbox.StateUnknown},
		},
		"Resend": {
			before: func(b *bench) { unknown(b) },
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.Resend(context.Background(), "a")
			},
			second:   func(b *bench) { _ = b.Resend(b.t.Context(), "a") },
			accepted: 2, ids: []string{"a"}, ends: []outbox.State{outbox.StateSent},
		},
		"a webhook that sends it once more": {
			before: func(b *bench) { unknown(b) },
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.HandleWebhook(context.Background(), graphtest.StatusWebhook(b.api.Accepted()[0], "failed", graphretry.CodeSomethingWentWrong))
			},
			second: func(b *bench) {
				b.webhook(b.api.Accepted()[0], "failed", graphretry.CodeSomethingWentWrong)
			},
			accepted: 2, ids: []string{"a"}, ends: []outbox.State{outbox.StateSent},
		},
		"Drop": {
			before: func(b *bench) { b.enqueue("a") },
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.Drop(context.Background(), "a")
			},
			second: func(b *bench) { require.NoError(b.t, b.Drop(b.t.Context(), "a")) },
			ids:    []string{"a"}, ends: []outbox.State{outbox.StateFailed},
		},
		"Delete": {
			before: func(b *bench) { b.enqueue("a") },
			act: func(b *bench, o *outbox.Outbox, _ func() bool) {
				_ = o.Delete(context.Background(), "a")
			},
			second: func(b *bench) {
				require.NoError(b.t, b.Delete(b.t.Context(), "a"))
				_, err := b.Status(b.t.Context(), "a")
				require.ErrorIs(b.t, err, outbox.ErrNotFound)
				b.enqueue("a") // the id is known
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			for n, done := 1, false; !done; n++ {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					b := newHarness(t, scenario.opts...)
					outbox.SetLife(b.Outbox, 50*time.Millisecond, 300*time.Millisecond)
					if scenario.before != nil {
						scenario.before(b)
					}
					victim := b.open(http.DefaultTransport, scenario.opts...)
					outbox.SetLife(victim, 50*time.Millisecond, 300*time.Millisecond)
					dead := outbox.DieAt(victim, n)
					scenario.act(b, victim, dead)
					done = !dead()
					require.NoError(t, victim.Close())

					if scenario.second != nil {
						scenario.second(b)
					}
					run(t, b.Outbox)
					for _, id := range scenario.ids {
						status := b.until(id, "at its end", func(s outbox.Status) bool {
							return s.State != outbox.StateQueued && s.State != outbox.StateSending
						})
						assert.Contains(t, scenario.ends, status.State)
					}
					b.queueIsEmpty()
					orphans, err := outbox.Orphans(b.Outbox)
					require.NoError(t, err)
					assert.Zero(t, orphans)
					times := make(map[string]int)
					for _, key := range b.api.AcceptedKeys() {
						times[key]++
						assert.LessOrEqual(t, times[key], scenario.accepted, key)
					}
				})
				require.Less(t, n, 100, "it must come to an end")
			}
		})
	}
}
