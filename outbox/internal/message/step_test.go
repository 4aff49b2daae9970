package message

import (
	"io"
	"net"
	"net/http"
	"syscall"
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
	in := func(d time.Duration) time.Time { return now.Add(d) }
	at := func(d time.Duration) Moment { return Moment{now.Add(d)} }
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0), graphretry.WithMaxRetries(5))
	require.NoError(t, err)
	rules := &Rules{Policy: policy, MaxAge: 24 * time.Hour}

	enqueued := in(-time.Minute)
	queued := Record{ID: "a", State: StateQueued, Enqueued: enqueued, Changed: enqueued, Place: enqueued, Due: enqueued}
	with := func(r Record, alter func(*Record)) Record {
		r = r.Clone()
		alter(&r)
		return r
	}
	sending := with(queued, func(r *Record) { r.State, r.Token = StateSending, "t" })
	unknown := with(sending, func(r *Record) { r.State, r.Reason = StateUnknown, "broke" })
	sent := with(queued, func(r *Record) { r.State, r.MessageID = StateSent, wamid })
	failed := with(queued, func(r *Record) { r.State, r.Reason = StateFailed, "why" })
	dropped := with(queued, func(r *Record) { r.State, r.Reason = StateFailed, ReasonDropped })
	graph := func(code graphretry.Code) *graphretry.Error { return &graphretry.Error{Code: code} }
	answered := func(d graphretry.Decision) Event { return Event{Kind: Answered, Token: "t", Decision: d} }
	// refused is the answer of a code to an attempt of a message with that history.
	refused := func(r Record, code graphretry.Code) Event { return answered(policy.Decide(graph(code), r.History)) }
	status := func(r Record, status int) Event {
		return answered(policy.Next(&http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{}}, nil, r.History))
	}
	broke := func(err error) Event { return answered(policy.Next(nil, err, graphretry.History{})) }
	success := func(wamid string) Event {
		e := status(queued, 200)
		e.MessageID = wamid
		return e
	}
	by := func(kind EventKind, wamid string) Event {
		return Event{Kind: kind, MessageID: wamid, At: now.Add(-time.Second)}
	}
	retried := func(code graphretry.Code, wait time.Duration) func(*Record) {
		return func(r *Record) {
			r.State, r.Token, r.Due, r.MessageID, r.Reason = StateQueued, "", in(wait), "", ""
			r.Graph = graph(code)
			r.History.Retries = map[graphretry.Code]int{code: r.History.Retries[code] + 1}
		}
	}
	held := func(code graphretry.Code, wait time.Duration) func(*Record) {
		return func(r *Record) {
			r.State, r.Token, r.Due, r.History.Held = StateQueued, "", in(wait), r.History.Held+1
			if code != 0 {
				r.Graph = graph(code)
			}
		}
	}
	ends := func(state State, reason string) func(*Record) {
		return func(r *Record) { r.State, r.Token, r.Reason = state, "", reason }
	}

	for _, row := range []struct {
		name    string
		before  Record
		event   Event
		after   func(*Record) // nil: nothing changes
		effects Effects
	}{
		{"a worker marks it", queued, Event{Kind: Marked, Token: "t"},
			func(r *Record) { r.State, r.Token = StateSending, "t" }, Effects{}},
		{"two workers cannot", sending, Event{Kind: Marked, Token: "u"}, nil, Effects{}},
		{"nor can one mark what is over", sent, Event{Kind: Marked, Token: "t"}, nil, Effects{}},
		{"a mark is taken back", sending, Event{Kind: Unmarked, Token: "t"}, ends(StateQueued, ""), Effects{}},
		{"a mark of somebody else stays", sending, Event{Kind: Unmarked, Token: "u"}, nil, Effects{}},
		{"a mark is taken back that was given up", unknown, Event{Kind: Unmarked, Token: "t"}, ends(StateQueued, "broke"), Effects{}},

		{"sent", sending, success(wamid),
			func(r *Record) { r.State, r.Token, r.MessageID = StateSent, "", wamid }, Effects{Outcome: OutcomeSent}},
		{"sent, without an id", sending, success(""),
			func(r *Record) { r.State, r.Token = StateSent, "" }, Effects{Outcome: OutcomeSent}},
		{"a late answer settles", unknown, success(wamid),
			func(r *Record) { r.State, r.Token, r.Reason, r.MessageID = StateSent, "", "", wamid }, Effects{Outcome: OutcomeSent}},
		{"a late answer calls off a resend", queued, success(wamid),
			func(r *Record) { r.State, r.MessageID = StateSent, wamid }, Effects{Outcome: OutcomeSent}},
		{"a second success is no news", sent, success(other), nil, Effects{}},
		{"its failure has overtaken the answer", with(sending, func(r *Record) { r.Refuted, r.Graph = []string{wamid}, graph(131026) }),
			success(wamid), ends(StateFailed, graphretry.ReasonNotRetried.String()), Effects{Outcome: OutcomeFailed}},
		{"and the answer is lost", with(sending, func(r *Record) { r.Refuted, r.Overtaken, r.Graph = []string{wamid}, true, graph(131026) }),
			broke(io.ErrUnexpectedEOF), func(r *Record) {
				ends(StateFailed, graphretry.ReasonNotRetried.String())(r)
				r.Overtaken = false
			}, Effects{Outcome: OutcomeFailed}},
		{"ambiguous", sending, broke(io.ErrUnexpectedEOF),
			func(r *Record) { r.State, r.Reason = StateUnknown, "EOF" }, Effects{Outcome: OutcomeUnknown}},
		{"a gateway's 502", sending, status(sending, 502),
			func(r *Record) { r.State, r.Reason = StateUnknown, "502" }, Effects{Outcome: OutcomeUnknown}},
		{"ambiguous, of another attempt", with(sending, func(r *Record) { r.Token = "u" }),
			broke(io.ErrUnexpectedEOF), nil, Effects{}},
		{"unknown stays unknown", unknown, broke(io.ErrUnexpectedEOF), nil, Effects{}},
		{"code 2 is retried", sending, refused(sending, 2), retried(2, 5*time.Second), Effects{}},
		{"131016, after another", with(sending, func(r *Record) { r.History.Retries = map[graphretry.Code]int{131016: 1} }),
			answered(policy.Decide(graph(131016), graphretry.History{Retries: map[graphretry.Code]int{131016: 1}})), retried(131016, 10*time.Second), Effects{}},
		{"131000 once", sending, refused(sending, 131000), retried(131000, 5*time.Second), Effects{}},
		{"131000 not twice", sending,
			answered(policy.Decide(graph(131000), graphretry.History{Retries: map[graphretry.Code]int{131000: 1}})),
			ends(StateFailed, graphretry.ReasonRetriesExhausted.String()), Effects{Outcome: OutcomeFailed}},
		{"a throttle code is waited for", sending, refused(sending, 130429), held(130429, 5*time.Second), Effects{}},
		{"130472 never", sending, refused(sending, 130472), ends(StateFailed, graphretry.ReasonNever.String()), Effects{Outcome: OutcomeFailed}},
		{"too old for a retry", with(sending, func(r *Record) { r.ExpiresAt = in(time.Second) }),
			refused(sending, 2), ends(StateFailed, "older than the maximum age, after"), Effects{Outcome: OutcomeFailed}},
		{"a late refusal puts it back", unknown, refused(unknown, 2), retried(2, 5*time.Second), Effects{}},
		{"no connection", sending, broke(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), held(0, 5*time.Second), Effects{}},
		{"an expired token holds it", sending, refused(sending, 190), held(190, 5*time.Second), Effects{}},
		{"a proxy's 407 holds it", sending, status(sending, 407), held(0, 5*time.Second), Effects{}},
		{"another answer of no Graph error fails it", sending, status(sending, 404), ends(StateFailed, "404"), Effects{Outcome: OutcomeFailed}},

		{"the worker is gone", sending, Event{Kind: Abandoned, Token: "t"},
			func(r *Record) { r.State = StateUnknown }, Effects{Outcome: OutcomeUnknown}},
		{"the worker is gone, and Meta has said that it failed", with(sending, func(r *Record) { r.Refuted, r.Overtaken, r.Graph = []string{wamid}, true, graph(131000) }),
			Event{Kind: Abandoned, Token: "t"}, func(r *Record) { retried(131000, 5*time.Second)(r); r.Overtaken = false }, Effects{}},
		{"another worker is not", sending, Event{Kind: Abandoned, Token: "u"}, nil, Effects{}},
		{"it was answered meanwhile", sent, Event{Kind: Abandoned, Token: "t"}, nil, Effects{}},
		{"too old", queued, Event{Kind: Expired}, ends(StateFailed, ReasonExpired), Effects{Outcome: OutcomeFailed}},
		{"too old, after a retry", with(queued, func(r *Record) { r.Reason = "no route" }), Event{Kind: Expired},
			ends(StateFailed, ReasonExpired+", after: no route"), Effects{Outcome: OutcomeFailed}},
		{"not while it is sent", sending, Event{Kind: Expired}, nil, Effects{}},
		{"its payload is gone", queued, Event{Kind: Lost}, ends(StateFailed, ReasonLost), Effects{Outcome: OutcomeFailed}},
		{"nor is that looked at while it is sent", sending, Event{Kind: Lost}, nil, Effects{}},

		{"a webhook settles", unknown, by(Accepted, wamid),
			func(r *Record) { r.State, r.Token, r.Reason, r.MessageID = StateSent, "", "", wamid }, Effects{Outcome: OutcomeSent}},
		{"a webhook overtakes the answer", sending, by(Delivered, wamid), func(r *Record) {
			r.State, r.Token, r.MessageID, r.Delivered = StateSent, "", wamid, at(-time.Second)
		}, Effects{Outcome: OutcomeDelivered, DropPayload: true}},
		{"delivered", sent, by(Delivered, wamid), func(r *Record) { r.Delivered = at(-time.Second) }, Effects{Outcome: OutcomeDelivered, DropPayload: true}},
		{"read is delivered", sent, by(Read, wamid),
			func(r *Record) { r.Delivered, r.Read = at(-time.Second), at(-time.Second) }, Effects{Outcome: OutcomeRead, DropPayload: true}},
		{"again", with(sent, func(r *Record) { r.Delivered, r.Read = at(0), at(0) }), by(Read, wamid), nil, Effects{}},
		{"another attempt was delivered", sent, by(Delivered, other), nil, Effects{}},
		{"a dropped message was sent", dropped, by(Accepted, wamid),
			func(r *Record) { r.State, r.Reason, r.MessageID = StateSent, "", wamid }, Effects{Outcome: OutcomeSent}},
		{"what was refuted proves nothing", with(unknown, func(r *Record) { r.Refuted = []string{wamid} }), by(Accepted, wamid), nil, Effects{}},
		{"not delivered, retried", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { retried(131000, 5*time.Second)(r); r.Refuted = []string{wamid} }, Effects{}},
		{"not delivered, for good", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131026)},
			func(r *Record) {
				ends(StateFailed, graphretry.ReasonNotRetried.String())(r)
				r.Refuted = []string{wamid}
			}, Effects{Outcome: OutcomeFailed}},
		{"not delivered, without a reason", unknown, Event{Kind: Undelivered, MessageID: wamid},
			func(r *Record) { ends(StateFailed, reasonNotWhy)(r); r.Refuted = []string{wamid} }, Effects{Outcome: OutcomeFailed}},
		{"not delivered, before the answer is in", sending, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { r.Refuted, r.Overtaken, r.Graph = []string{wamid}, true, graph(131000) }, Effects{}},
		{"an earlier attempt was not delivered", sent, Event{Kind: Undelivered, MessageID: other, Graph: graph(131000)},
			func(r *Record) { r.Refuted = []string{other} }, Effects{}},
		{"one that a person has decided upon", with(unknown, func(r *Record) { r.Doubts = 1 }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { r.Doubts, r.Refuted, r.Graph = 0, []string{wamid}, graph(131000) }, Effects{}},
		{"twice the same failure", with(queued, func(r *Record) { r.Refuted = []string{wamid} }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)}, nil, Effects{}},

		{"an unknown message is resent", unknown, Event{Kind: Resent},
			func(r *Record) {
				ends(StateQueued, "")(r)
				r.Doubts, r.Born, r.Place, r.Due = 1, at(0), in(0), in(0)
			}, Effects{}},
		{"a failed one", failed, Event{Kind: Resent},
			func(r *Record) { ends(StateQueued, "")(r); r.Born, r.Place, r.Due = at(0), in(0), in(0) }, Effects{}},
		{"a queued one stays", queued, Event{Kind: Resent}, nil, Effects{}},
		{"a sent one is not", sent, Event{Kind: Resent}, nil, Effects{Refused: assert.AnError}},
		{"nor one that is being sent", sending, Event{Kind: Resent}, nil, Effects{Refused: assert.AnError}},
		{"a queued message is dropped", queued, Event{Kind: Dropped}, ends(StateFailed, ReasonDropped), Effects{Outcome: OutcomeFailed}},
		{"an unknown one", unknown, Event{Kind: Dropped}, ends(StateFailed, ReasonDropped), Effects{Outcome: OutcomeFailed}},
		{"again", dropped, Event{Kind: Dropped}, nil, Effects{}},
		{"a queued message is parked", queued, Event{Kind: Parked}, ends(StateUnknown, ReasonParked), Effects{Outcome: OutcomeUnknown}},
		{"again", unknown, Event{Kind: Parked}, nil, Effects{}},
		{"a sent one is not", sent, Event{Kind: Parked}, nil, Effects{Refused: assert.AnError}},
		{"nor one that is being sent", sending, Event{Kind: Parked}, nil, Effects{Refused: assert.AnError}},
		{"a row that is no message", queued, Event{Kind: Invalid, Reason: "no number"}, ends(StateFailed, "no number"), Effects{Outcome: OutcomeFailed}},
		{"one that somebody has decided upon", dropped, Event{Kind: Invalid, Reason: "no number"}, nil, Effects{}},
		{"a failed one is not", failed, Event{Kind: Dropped}, nil, Effects{Refused: assert.AnError}},
		{"nor one that is being sent", sending, Event{Kind: Dropped}, nil, Effects{Refused: assert.AnError}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.before.Clone()
			after, got := Step(row.before, row.event, now, rules)
			assert.Equal(t, before, row.before, "Step changes nothing of what it gets")
			want := before.Clone()
			if row.after != nil {
				row.after(&want)
				want.Changed = now
				row.effects.Write = true
			}
			assert.Equal(t, row.effects.Refused != nil, got.Refused != nil, "%v", got.Refused)
			got.Refused, row.effects.Refused = nil, nil
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
