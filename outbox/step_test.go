package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// TestStep is the specification of a message's life. Each row is a record, what happens
// to it, and what it is then; what a row does not name stays as it is.
func TestStep(t *testing.T) {
	const wamid, other = "wamid.A", "wamid.B"
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	in := func(d time.Duration) moment { return moment{now.Add(d)} }
	policy, err := graphretry.NewPolicy(graphretry.WithThrottleRetries(), graphretry.WithJitter(0))
	require.NoError(t, err)
	schedule, err := graphretry.NewPolicy(graphretry.WithRetryOn(anyCode, 1000), graphretry.WithJitter(0), graphretry.WithMaxRetries(5))
	require.NoError(t, err)
	rules := &rules{policy: policy, schedule: schedule, maxAge: 24 * time.Hour}

	enqueued := in(-time.Minute)
	queued := record{ID: "a", State: StateQueued, Enqueued: enqueued, Changed: enqueued, Write: "w"}
	with := func(r record, alter func(*record)) record {
		r = r.clone()
		alter(&r)
		return r
	}
	sending := with(queued, func(r *record) { r.State, r.Mark = StateSending, &mark{"t", 7} })
	unknown := with(sending, func(r *record) { r.State, r.Reason = StateUnknown, "broke" })
	sent := with(queued, func(r *record) { r.State, r.MessageID = StateSent, wamid })
	failed := with(queued, func(r *record) { r.State, r.Reason = StateFailed, "why" })
	dropped := with(queued, func(r *record) { r.State, r.Reason = StateFailed, reasonDropped })
	graph := func(code graphretry.Code) *graphretry.Error { return &graphretry.Error{Code: code} }
	refused := func(code graphretry.Code) outcome { return outcome{kind: outcomeRefused, graph: graph(code)} }
	answered := func(end outcome) event { return event{kind: eventAnswered, token: "t", end: end} }
	by := func(kind eventKind, wamid string) event {
		return event{kind: kind, wamid: wamid, at: now.Add(-time.Second)}
	}
	same := func(*record) {}
	retried := func(code graphretry.Code, wait time.Duration) func(*record) {
		return func(r *record) {
			r.State, r.Mark, r.NotBefore, r.MessageID, r.Reason = StateQueued, nil, in(wait), "", ""
			r.Retries = map[graphretry.Code]int{code: r.Retries[code] + 1}
			if code != 0 {
				r.Graph = graph(code)
			}
		}
	}
	ends := func(state State, reason string) func(*record) {
		return func(r *record) { r.State, r.Mark, r.NotBefore, r.Reason = state, nil, moment{}, reason }
	}
	requeue := effects{requeue: true}

	for _, row := range []struct {
		name    string
		before  record
		event   event
		after   func(*record) // nil: nothing changes
		effects effects
	}{
		{"a worker marks it", queued, event{kind: eventMarked, token: "t", sequence: 7},
			func(r *record) { r.State, r.Mark = StateSending, &mark{"t", 7} }, effects{}},
		{"two workers cannot", sending, event{kind: eventMarked, token: "u", sequence: 8}, nil, effects{}},
		{"nor can one mark what is over", sent, event{kind: eventMarked, token: "t", sequence: 7}, nil, effects{}},
		{"a mark is taken back", sending, event{kind: eventUnmarked, token: "t", write: "v"}, ends(StateQueued, ""), effects{}},
		{"a mark on its way is kept out", queued, event{kind: eventUnmarked, token: "t", write: "w"}, same, effects{}},
		{"a mark of somebody else stays", sending, event{kind: eventUnmarked, token: "u", write: "v"}, nil, effects{}},
		{"a mark is taken back that was given up", unknown, event{kind: eventUnmarked, token: "t", write: "v"},
			func(r *record) { r.State, r.Mark, r.Generation = StateQueued, nil, 1 }, requeue},

		{"sent", sending, answered(outcome{kind: outcomeSent, messageID: wamid}),
			func(r *record) { r.State, r.Mark, r.MessageID = StateSent, nil, wamid }, effects{outcome: OutcomeSent}},
		{"sent, without an id", sending, answered(outcome{kind: outcomeSent}),
			func(r *record) { r.State, r.Mark = StateSent, nil }, effects{outcome: OutcomeSent}},
		{"a late answer settles", unknown, answered(outcome{kind: outcomeSent, messageID: wamid}),
			func(r *record) { r.State, r.Mark, r.Reason, r.MessageID = StateSent, nil, "", wamid }, effects{outcome: OutcomeSent}},
		{"a late answer calls off a resend", queued, answered(outcome{kind: outcomeSent, messageID: wamid}),
			func(r *record) { r.State, r.MessageID = StateSent, wamid }, effects{outcome: OutcomeSent}},
		{"a second success is no news", sent, answered(outcome{kind: outcomeSent, messageID: other}), nil, effects{}},
		{"its failure has overtaken the answer", with(sending, func(r *record) { r.Refuted, r.Graph = []string{wamid}, graph(131026) }),
			answered(outcome{kind: outcomeSent, messageID: wamid}), ends(StateFailed, graphretry.ReasonNotRetried.String()), effects{outcome: OutcomeFailed}},
		{"ambiguous", sending, answered(outcome{kind: outcomeUnknown, reason: "broke"}),
			func(r *record) { r.State, r.Reason = StateUnknown, "broke" }, effects{outcome: OutcomeUnknown}},
		{"ambiguous, of another attempt", with(sending, func(r *record) { r.Mark = &mark{"u", 8} }),
			answered(outcome{kind: outcomeUnknown, reason: "broke"}), nil, effects{}},
		{"unknown stays unknown", unknown, answered(outcome{kind: outcomeUnknown, reason: "x"}), nil, effects{}},
		{"code 2 is retried", sending, answered(refused(2)), retried(2, 5*time.Second), requeue},
		{"131016, after another", with(sending, func(r *record) { r.Retries = map[graphretry.Code]int{131016: 1} }),
			answered(refused(131016)), retried(131016, 10*time.Second), requeue},
		{"131000 once", sending, answered(refused(131000)), retried(131000, 5*time.Second), requeue},
		{"131000 not twice", with(sending, func(r *record) { r.Retries = map[graphretry.Code]int{131000: 1} }),
			answered(refused(131000)), ends(StateFailed, graphretry.ReasonRetriesExhausted.String()), effects{outcome: OutcomeFailed}},
		{"a throttle code is waited for", sending, answered(refused(130429)), retried(130429, 5*time.Second), requeue},
		{"130472 never", sending, answered(refused(130472)), ends(StateFailed, graphretry.ReasonNever.String()), effects{outcome: OutcomeFailed}},
		{"too old for a retry", with(sending, func(r *record) { r.ExpiresAt = in(time.Second) }),
			answered(refused(2)), ends(StateFailed, "older than the maximum age, after"), effects{outcome: OutcomeFailed}},
		{"a late refusal gets an entry of its own", unknown, answered(refused(2)),
			func(r *record) { retried(2, 5*time.Second)(r); r.Generation = 1 }, requeue},
		{"no connection", sending, answered(outcome{kind: outcomeUnsent, reason: "no route"}), retried(0, 5*time.Second), requeue},
		{"an expired token holds it", sending, answered(refused(190)),
			func(r *record) { r.State, r.Mark, r.Graph = StateQueued, nil, graph(190) }, effects{}},
		{"a proxy's 407 holds it", sending, answered(outcome{kind: outcomeRefused, status: 407, reason: "HTTP 407"}),
			func(r *record) { r.State, r.Mark = StateQueued, nil }, effects{}},
		{"another answer of no Graph error fails it", sending, answered(outcome{kind: outcomeRefused, status: 404, reason: "HTTP 404"}),
			ends(StateFailed, "HTTP 404"), effects{outcome: OutcomeFailed}},

		{"the worker is gone", sending, event{kind: eventAbandoned, token: "t"},
			func(r *record) { r.State = StateUnknown }, effects{outcome: OutcomeUnknown}},
		{"another worker is not", sending, event{kind: eventAbandoned, token: "u"}, nil, effects{}},
		{"it was answered meanwhile", sent, event{kind: eventAbandoned, token: "t"}, nil, effects{}},
		{"too old", queued, event{kind: eventExpired}, ends(StateFailed, reasonExpired), effects{outcome: OutcomeFailed}},
		{"not while it is sent", sending, event{kind: eventExpired}, nil, effects{}},
		{"its payload is gone", queued, event{kind: eventLost}, ends(StateFailed, reasonLost), effects{outcome: OutcomeFailed}},
		{"nor is that looked at while it is sent", sending, event{kind: eventLost}, nil, effects{}},

		{"a webhook settles", unknown, by(eventAccepted, wamid),
			func(r *record) { r.State, r.Mark, r.Reason, r.MessageID = StateSent, nil, "", wamid }, effects{outcome: OutcomeSent}},
		{"a webhook overtakes the answer", sending, by(eventDelivered, wamid), func(r *record) {
			r.State, r.Mark, r.MessageID, r.Delivered = StateSent, nil, wamid, in(-time.Second)
		}, effects{outcome: OutcomeDelivered, dropPayload: true}},
		{"delivered", sent, by(eventDelivered, wamid), func(r *record) { r.Delivered = in(-time.Second) }, effects{outcome: OutcomeDelivered, dropPayload: true}},
		{"read is delivered", sent, by(eventRead, wamid),
			func(r *record) { r.Delivered, r.Read = in(-time.Second), in(-time.Second) }, effects{outcome: OutcomeRead, dropPayload: true}},
		{"again", with(sent, func(r *record) { r.Delivered, r.Read = in(0), in(0) }), by(eventRead, wamid), nil, effects{}},
		{"another attempt was delivered", sent, by(eventDelivered, other), nil, effects{}},
		{"a dropped message was sent", dropped, by(eventAccepted, wamid),
			func(r *record) { r.State, r.Reason, r.MessageID = StateSent, "", wamid }, effects{outcome: OutcomeSent}},
		{"what was refuted proves nothing", with(unknown, func(r *record) { r.Refuted = []string{wamid} }), by(eventAccepted, wamid), nil, effects{}},
		{"not delivered, retried", sent, event{kind: eventUndelivered, wamid: wamid, graph: graph(131000)},
			func(r *record) { retried(131000, 5*time.Second)(r); r.Generation, r.Refuted = 1, []string{wamid} }, requeue},
		{"not delivered, for good", sent, event{kind: eventUndelivered, wamid: wamid, graph: graph(131026)},
			func(r *record) {
				ends(StateFailed, graphretry.ReasonNotRetried.String())(r)
				r.Refuted = []string{wamid}
			}, effects{outcome: OutcomeFailed}},
		{"not delivered, without a reason", unknown, event{kind: eventUndelivered, wamid: wamid},
			func(r *record) { ends(StateFailed, reasonNotWhy)(r); r.Refuted = []string{wamid} }, effects{outcome: OutcomeFailed}},
		{"an earlier attempt was not delivered", sent, event{kind: eventUndelivered, wamid: other, graph: graph(131000)},
			func(r *record) { r.Refuted = []string{other} }, effects{}},
		{"one that a person has decided upon", with(unknown, func(r *record) { r.Doubts = 1 }), event{kind: eventUndelivered, wamid: wamid, graph: graph(131000)},
			func(r *record) { r.Doubts, r.Refuted, r.Graph = 0, []string{wamid}, graph(131000) }, effects{}},
		{"twice the same failure", with(queued, func(r *record) { r.Refuted = []string{wamid} }), event{kind: eventUndelivered, wamid: wamid, graph: graph(131000)}, nil, effects{}},

		{"an unknown message is resent", unknown, event{kind: eventResent},
			func(r *record) { ends(StateQueued, "")(r); r.Generation, r.Doubts, r.Queued = 1, 1, in(0) }, requeue},
		{"a failed one", failed, event{kind: eventResent},
			func(r *record) { ends(StateQueued, "")(r); r.Generation, r.Queued = 1, in(0) }, requeue},
		{"a queued one stays", queued, event{kind: eventResent}, same, requeue},
		{"a sent one is not", sent, event{kind: eventResent}, nil, effects{refused: assert.AnError}},
		{"nor one that is being sent", sending, event{kind: eventResent}, nil, effects{refused: assert.AnError}},
		{"a queued message is dropped", queued, event{kind: eventDropped}, ends(StateFailed, reasonDropped), effects{outcome: OutcomeFailed}},
		{"an unknown one", unknown, event{kind: eventDropped}, ends(StateFailed, reasonDropped), effects{outcome: OutcomeFailed}},
		{"again", dropped, event{kind: eventDropped}, nil, effects{}},
		{"a failed one is not", failed, event{kind: eventDropped}, nil, effects{refused: assert.AnError}},
		{"nor one that is being sent", sending, event{kind: eventDropped}, nil, effects{refused: assert.AnError}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.before.clone()
			after, got := step(row.before, row.event, now, rules)
			assert.Equal(t, before, row.before, "step changes nothing of what it gets")
			want := before.clone()
			if row.after != nil {
				row.after(&want)
				want.Changed = moment{now}
				row.effects.changed = true
			}
			assert.Equal(t, row.effects.refused != nil, got.refused != nil, "%v", got.refused)
			got.refused, row.effects.refused = nil, nil
			assert.Equal(t, row.effects, got)
			assert.Contains(t, after.Reason, want.Reason)
			after.Reason, want.Reason = "", ""
			if want.Graph != nil && after.Graph != nil {
				assert.Equal(t, want.Graph.Code, after.Graph.Code)
			}
			after.Graph, want.Graph = nil, nil
			assert.Equal(t, want, after)
		})
	}
}
