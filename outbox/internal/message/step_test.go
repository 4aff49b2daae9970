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

// TestStep is the specification of a message's life. Each row has a record, an event, and the
// record afterwards. Fields that a row does not name stay as they are.
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
	delivered := with(sent, func(r *Record) { r.Delivered = at(-time.Minute) })
	graph := func(code graphretry.Code) *graphretry.Error { return &graphretry.Error{Code: code} }
	answered := func(d graphretry.Decision) Event { return Event{Kind: Answered, Token: "t", Decision: d} }
	// refused is the answer with a code to an attempt of a message with that history.
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
	lateSuccess := func(wamid string) Event {
		e := success(wamid)
		e.Token = "late"
		return e
	}
	by := func(kind EventKind, wamid string) Event {
		return Event{Kind: kind, MessageID: wamid, At: now.Add(-time.Second)}
	}
	missed := func(wamid, participant string, code graphretry.Code) Event {
		return Event{Kind: Undelivered, MessageID: wamid, Participant: participant, Graph: graph(code)}
	}
	// blamed is a refusal of a message. Another message of its number was last accepted at that
	// time.
	blamed := func(r Record, code graphretry.Code, blame Blame, accepted time.Time) Event {
		e := refused(r, code)
		e.Blame, e.Accepted = blame, accepted
		return e
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
	tells := func(kinds ...OutcomeKind) Effects { return Effects{Outcomes: kinds} }
	overtaken := func(code graphretry.Code) Record {
		return with(sending, func(r *Record) {
			r.Refuted, r.Graph, r.Overtook = []string{wamid}, graph(code), map[string]*graphretry.Error{wamid: graph(code)}
		})
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
		{"sent", sending, success(wamid),
			func(r *Record) { r.State, r.Token, r.MessageID = StateSent, "", wamid }, tells(OutcomeSent)},
		{"sent, without an id", sending, success(""),
			func(r *Record) { r.State, r.Token = StateSent, "" }, tells(OutcomeSent)},
		{"a late answer settles", unknown, success(wamid),
			func(r *Record) { r.State, r.Token, r.Reason, r.MessageID = StateSent, "", "", wamid }, tells(OutcomeSent)},
		{"a late answer calls off a resend", queued, success(wamid),
			func(r *Record) { r.State, r.MessageID = StateSent, wamid }, tells(OutcomeSent)},
		{"a second success is kept for when the first fails", sent, lateSuccess(other), func(r *Record) { r.Others = []string{other} }, Effects{}},
		{"the same success is no news", sent, lateSuccess(wamid), nil, Effects{}},
		{"a late answer while another attempt is under way", with(sending, func(r *Record) { r.Doubts = 1 }), lateSuccess(other),
			func(r *Record) { r.State, r.MessageID, r.Doubts = StateSent, other, 0 }, tells(OutcomeSent)},
		{"and then its own", with(sent, func(r *Record) { r.Token = "t" }), success(other),
			func(r *Record) { r.Token, r.Others = "", []string{other} }, Effects{}},
		{"or its refusal", with(sent, func(r *Record) { r.Token = "t" }), refused(sent, 2), func(r *Record) { r.Token = "" }, Effects{}},
		{"the other's failure has overtaken the answer", with(sending, func(r *Record) {
			r.Doubts, r.Refuted, r.Overtook = 1, []string{other}, map[string]*graphretry.Error{other: graph(131000)}
		}), success(wamid), func(r *Record) {
			r.State, r.Token, r.MessageID, r.Doubts, r.Overtook = StateSent, "", wamid, 0, nil
		}, tells(OutcomeSent)},
		{"a failure that overtook a refusal is another attempt's", overtaken(131026), refused(sending, 2), func(r *Record) {
			retried(2, 5*time.Second)(r)
			r.Overtook = nil
		}, Effects{}},
		{"its failure has overtaken the answer", overtaken(131026),
			success(wamid), func(r *Record) { ends(StateFailed, graphretry.ReasonNotRetried.String())(r); r.Overtook = nil }, tells(OutcomeFailed)},
		{"and the answer is lost", overtaken(131026),
			broke(io.ErrUnexpectedEOF), func(r *Record) {
				ends(StateFailed, graphretry.ReasonNotRetried.String())(r)
				r.Overtook = nil
			}, tells(OutcomeFailed)},
		{"ambiguous", sending, broke(io.ErrUnexpectedEOF),
			func(r *Record) { r.State, r.Reason = StateUnknown, "EOF" }, tells(OutcomeUnknown)},
		{"a gateway's 502", sending, status(sending, 502),
			func(r *Record) { r.State, r.Reason = StateUnknown, "502" }, tells(OutcomeUnknown)},
		{"ambiguous, of another attempt", with(sending, func(r *Record) { r.Token = "u" }),
			broke(io.ErrUnexpectedEOF), nil, Effects{}},
		{"unknown stays unknown", unknown, broke(io.ErrUnexpectedEOF), nil, Effects{}},
		{"code 2 is retried", sending, refused(sending, 2), retried(2, 5*time.Second), Effects{}},
		{"131016, after another", with(sending, func(r *Record) { r.History.Retries = map[graphretry.Code]int{131016: 1} }),
			answered(policy.Decide(graph(131016), graphretry.History{Retries: map[graphretry.Code]int{131016: 1}})), retried(131016, 10*time.Second), Effects{}},
		{"131000 once", sending, refused(sending, 131000), retried(131000, 5*time.Second), Effects{}},
		{"131000 not twice", sending,
			answered(policy.Decide(graph(131000), graphretry.History{Retries: map[graphretry.Code]int{131000: 1}})),
			ends(StateFailed, graphretry.ReasonRetriesExhausted.String()), tells(OutcomeFailed)},
		{"a throttle code is waited for", sending, refused(sending, 130429), held(130429, 5*time.Second), Effects{}},
		{"130472 never", sending, refused(sending, 130472), ends(StateFailed, graphretry.ReasonNever.String()), tells(OutcomeFailed)},
		{"too old for a retry", with(sending, func(r *Record) { r.ExpiresAt = in(time.Second) }),
			refused(sending, 2), ends(StateFailed, "older than the maximum age, after"), tells(OutcomeFailed)},
		{"a late refusal puts it back", unknown, refused(unknown, 2), retried(2, 5*time.Second), Effects{}},
		{"no connection", sending, broke(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), held(0, 5*time.Second), Effects{}},
		{"an expired token holds it", sending, refused(sending, 190), held(190, 5*time.Second), Effects{}},
		{"a proxy's 407 holds it", sending, status(sending, 407), held(0, 5*time.Second), Effects{}},
		{"another answer of no Graph error fails it", sending, status(sending, 404), ends(StateFailed, "404"), tells(OutcomeFailed)},

		{"the worker is gone", sending, Event{Kind: Abandoned, Token: "t"},
			func(r *Record) { r.State = StateUnknown }, tells(OutcomeUnknown)},
		{"the worker is gone, and Meta has said that it failed", overtaken(131000),
			Event{Kind: Abandoned, Token: "t"}, func(r *Record) { retried(131000, 5*time.Second)(r); r.Overtook = nil }, Effects{}},
		{"another worker is not", sending, Event{Kind: Abandoned, Token: "u"}, nil, Effects{}},
		{"it was answered meanwhile", sent, Event{Kind: Abandoned, Token: "t"}, nil, Effects{}},
		{"too old", queued, Event{Kind: Expired}, ends(StateFailed, ReasonExpired), tells(OutcomeFailed)},
		{"too old, after a retry", with(queued, func(r *Record) { r.Reason = "no route" }), Event{Kind: Expired},
			ends(StateFailed, ReasonExpired+", after: no route"), tells(OutcomeFailed)},
		{"not while it is sent", sending, Event{Kind: Expired}, nil, Effects{}},
		{"its payload is gone", queued, Event{Kind: Lost}, ends(StateFailed, ReasonLost), tells(OutcomeFailed)},
		{"nor is that looked at while it is sent", sending, Event{Kind: Lost}, nil, Effects{}},

		{"a webhook settles", unknown, by(Accepted, wamid),
			func(r *Record) { r.State, r.Token, r.Reason, r.MessageID = StateSent, "", "", wamid }, tells(OutcomeSent)},
		{"a webhook overtakes the answer", sending, by(Delivered, wamid), func(r *Record) {
			r.State, r.Token, r.MessageID, r.Delivered = StateSent, "", wamid, at(-time.Second)
		}, Effects{Outcomes: []OutcomeKind{OutcomeSent, OutcomeDelivered}, DropPayload: true}},
		{"delivered", sent, by(Delivered, wamid), func(r *Record) { r.Delivered = at(-time.Second) }, Effects{Outcomes: []OutcomeKind{OutcomeDelivered}, DropPayload: true}},
		{"read is delivered", sent, by(Read, wamid),
			func(r *Record) { r.Delivered, r.Read = at(-time.Second), at(-time.Second) }, Effects{Outcomes: []OutcomeKind{OutcomeDelivered, OutcomeRead}, DropPayload: true}},
		{"again", with(sent, func(r *Record) { r.Delivered, r.Read = at(0), at(0) }), by(Read, wamid), nil, Effects{}},
		{"another attempt was delivered", sent, by(Delivered, other),
			func(r *Record) { r.MessageID, r.Delivered = other, at(-time.Second) }, Effects{Outcomes: []OutcomeKind{OutcomeDelivered}, DropPayload: true}},
		{"another attempt was sent", sent, by(Accepted, other), func(r *Record) { r.Others = []string{other} }, Effects{}},
		{"again", with(sent, func(r *Record) { r.Others = []string{other} }), by(Accepted, other), nil, Effects{}},
		{"delivered calls off a retry", with(queued, func(r *Record) { r.Refuted, r.Reason, r.Graph = []string{wamid}, "why", graph(131000) }), by(Delivered, wamid),
			func(r *Record) { r.State, r.MessageID, r.Delivered, r.Reason = StateSent, wamid, at(-time.Second), "" },
			Effects{Outcomes: []OutcomeKind{OutcomeSent, OutcomeDelivered}, DropPayload: true}},
		{"sent does not", with(queued, func(r *Record) { r.Refuted = []string{wamid} }), by(Accepted, wamid), nil, Effects{}},
		{"delivered, though it had failed for good", with(failed, func(r *Record) { r.Refuted = []string{wamid} }), by(Delivered, wamid),
			func(r *Record) { r.State, r.MessageID, r.Delivered, r.Reason = StateSent, wamid, at(-time.Second), "" },
			Effects{Outcomes: []OutcomeKind{OutcomeSent, OutcomeDelivered}, DropPayload: true}},
		{"delivered by an earlier attempt, while the next is sent", with(sending, func(r *Record) { r.Refuted = []string{other} }), by(Delivered, other),
			func(r *Record) { r.State, r.Token, r.MessageID, r.Delivered = StateSent, "", other, at(-time.Second) },
			Effects{Outcomes: []OutcomeKind{OutcomeSent, OutcomeDelivered}, DropPayload: true}},
		{"whose refusal changes nothing then", delivered, refused(delivered, 2), nil, Effects{}},
		{"nor does its success", delivered, success(other), nil, Effects{}},
		{"failed, after it was delivered", delivered, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { r.Refuted, r.Graph, r.Reason = []string{wamid}, graph(131000), reasonDelivered }, Effects{}},
		{"so has another attempt", delivered, Event{Kind: Undelivered, MessageID: other, Graph: graph(131026)},
			func(r *Record) { r.Refuted, r.Graph, r.Reason = []string{other}, graph(131026), reasonDelivered }, Effects{}},
		{"a dropped message was sent", dropped, by(Accepted, wamid),
			func(r *Record) { r.State, r.Reason, r.MessageID = StateSent, "", wamid }, tells(OutcomeSent)},
		{"what was refuted proves nothing", with(unknown, func(r *Record) { r.Refuted = []string{wamid} }), by(Accepted, wamid), nil, Effects{}},
		{"not delivered, retried", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { retried(131000, 5*time.Second)(r); r.Refuted = []string{wamid} }, Effects{}},
		{"not delivered, for good", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131026)},
			func(r *Record) {
				ends(StateFailed, graphretry.ReasonNotRetried.String())(r)
				r.Refuted = []string{wamid}
			}, tells(OutcomeFailed)},
		{"not delivered, without a reason", unknown, Event{Kind: Undelivered, MessageID: wamid},
			func(r *Record) { ends(StateFailed, reasonNotWhy)(r); r.Refuted = []string{wamid} }, tells(OutcomeFailed)},
		{"not delivered, before the answer is in", sending, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { *r = overtaken(131000) }, Effects{}},
		{"an earlier attempt was not delivered", sent, Event{Kind: Undelivered, MessageID: other, Graph: graph(131000)},
			func(r *Record) { r.Refuted = []string{other} }, Effects{}},
		{"one that a person has decided upon", with(unknown, func(r *Record) { r.Doubts = 1 }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) {
				r.Refuted, r.Graph, r.Overtook = []string{wamid}, graph(131000), map[string]*graphretry.Error{wamid: graph(131000)}
			}, Effects{}},
		{"and then this one", with(unknown, func(r *Record) {
			r.Doubts, r.Refuted, r.Overtook = 1, []string{other}, map[string]*graphretry.Error{other: graph(131000)}
		}), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)}, func(r *Record) {
			retried(131000, 5*time.Second)(r)
			r.Refuted, r.Overtook, r.Doubts = []string{other, wamid}, nil, 0
		}, Effects{}},
		{"one attempt failed, another was accepted", with(sent, func(r *Record) { r.Others = []string{other} }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { r.MessageID, r.Others, r.Refuted = other, []string{}, []string{wamid} }, Effects{}},
		{"the other has", with(sent, func(r *Record) { r.Others = []string{other} }), Event{Kind: Undelivered, MessageID: other, Graph: graph(131000)},
			func(r *Record) { r.Others, r.Refuted = []string{}, []string{other} }, Effects{}},
		{"it failed, while the answer to another attempt is not in", with(sent, func(r *Record) { r.Token = "t" }),
			Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)}, func(r *Record) {
				r.State, r.MessageID, r.Refuted, r.Reason = StateUnknown, "", []string{wamid}, reasonOpen
			}, tells(OutcomeUnknown)},
		{"a failure of what was parked before it was sent", with(unknown, func(r *Record) { r.Token = "" }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) { r.Refuted = []string{wamid} }, Effects{}},
		{"not delivered, for the account is locked", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131031)}, func(r *Record) {
			held(131031, 5*time.Second)(r)
			r.MessageID, r.Refuted, r.Refusals, r.LastRefusal = "", []string{wamid}, 1, at(0)
		}, Effects{Hold: true}},
		{"not delivered, for the account cannot pay", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131042)}, func(r *Record) {
			held(131042, 5*time.Second)(r)
			r.MessageID, r.Refuted, r.Refusals, r.LastRefusal = "", []string{wamid}, 1, at(0)
		}, Effects{Hold: true}},
		{"as before, though others are", with(sent, func(r *Record) { r.Refusals, r.LastRefusal = 1, at(-time.Minute) }),
			Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131042), Accepted: in(-time.Second)}, func(r *Record) {
				held(131042, 5*time.Second)(r)
				r.MessageID, r.Refuted, r.Refusals, r.LastRefusal = "", []string{wamid}, 2, at(0)
			}, Effects{}},
		{"not delivered, for a limit that passes", sent, Event{Kind: Undelivered, MessageID: wamid, Graph: graph(130429)}, func(r *Record) {
			held(130429, 5*time.Second)(r)
			r.MessageID, r.Refuted = "", []string{wamid}
		}, Effects{}},
		{"one participant does not get it", sent, missed(wamid, "1", 131026),
			func(r *Record) { r.Participants, r.ParticipantGraph = []string{"1"}, graph(131026) }, Effects{}},
		{"nor another, whom 131000 is no reason to send it again for", with(sent, func(r *Record) { r.Participants = []string{"1"} }), missed(wamid, "2", 131000),
			func(r *Record) { r.Participants, r.ParticipantGraph = []string{"1", "2"}, graph(131000) }, Effects{}},
		{"again", with(sent, func(r *Record) { r.Participants = []string{"1"} }), missed(wamid, "1", 131026), nil, Effects{}},
		{"one participant does not get it, so Meta has accepted it", unknown, missed(wamid, "1", 131000), func(r *Record) {
			r.State, r.Token, r.Reason, r.MessageID, r.Participants, r.ParticipantGraph = StateSent, "", "", wamid, []string{"1"}, graph(131000)
		}, tells(OutcomeSent)},
		{"one participant, before the answer is in", sending, missed(wamid, "1", 131000), func(r *Record) {
			r.State, r.Token, r.MessageID, r.Participants, r.ParticipantGraph = StateSent, "", wamid, []string{"1"}, graph(131000)
		}, tells(OutcomeSent)},
		{"one participant of a group that failed before", with(queued, func(r *Record) { r.Refuted = []string{wamid} }), missed(wamid, "1", 131000), nil, Effects{}},
		{"the whole group, after one participant", with(sent, func(r *Record) { r.Participants = []string{"1"} }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)},
			func(r *Record) {
				retried(131000, 5*time.Second)(r)
				r.Refuted, r.Participants = []string{wamid}, nil
			}, Effects{}},

		{"refused for what is the sender's", sending, blamed(sending, 131005, BlameSender, time.Time{}), func(r *Record) {
			held(131005, 5*time.Second)(r)
			r.Refusals, r.LastRefusal = 1, at(0)
		}, Effects{}},
		{"again, and none was accepted since", with(sending, func(r *Record) { r.Refusals, r.LastRefusal = 1, at(-time.Minute) }),
			blamed(sending, 131005, BlameSender, in(-2*time.Minute)), func(r *Record) {
				held(131005, 5*time.Second)(r)
				r.LastRefusal = at(0)
			}, Effects{}},
		{"again, and another was", with(sending, func(r *Record) { r.Refusals, r.LastRefusal = 1, at(-time.Minute) }),
			blamed(sending, 131005, BlameSender, in(-time.Second)), func(r *Record) {
				held(131005, 5*time.Second)(r)
				r.Refusals, r.LastRefusal = 2, at(0)
			}, Effects{}},
		{"the third time", with(sending, func(r *Record) { r.Refusals, r.LastRefusal = 2, at(-time.Minute) }),
			blamed(sending, 131005, BlameSender, in(-time.Second)), func(r *Record) {
				ends(StateFailed, reasonItself)(r)
				r.Refusals, r.LastRefusal = 3, at(0)
			}, tells(OutcomeFailed)},
		{"an expired token burns none", with(sending, func(r *Record) { r.Refusals, r.LastRefusal = 2, at(-time.Minute) }),
			blamed(sending, 190, BlameToken, in(-time.Second)), func(r *Record) {
				held(190, 5*time.Second)(r)
				r.LastRefusal = at(0)
			}, Effects{}},
		{"twice the same failure", with(queued, func(r *Record) { r.Refuted = []string{wamid} }), Event{Kind: Undelivered, MessageID: wamid, Graph: graph(131000)}, nil, Effects{}},

		{"an unknown message is resent", unknown, Event{Kind: Resent},
			func(r *Record) {
				ends(StateQueued, "")(r)
				r.Doubts, r.Born, r.Place, r.Due = 1, at(0), in(0), in(0)
			}, Effects{}},
		{"one whose only other attempt failed", with(unknown, func(r *Record) {
			r.Doubts, r.Overtook = 1, map[string]*graphretry.Error{other: graph(131000)}
		}), Event{Kind: Resent}, func(r *Record) {
			ends(StateQueued, "")(r)
			r.Born, r.Place, r.Due, r.Overtook = at(0), in(0), in(0), nil
		}, Effects{}},
		{"a failed one", failed, Event{Kind: Resent},
			func(r *Record) { ends(StateQueued, "")(r); r.Born, r.Place, r.Due = at(0), in(0), in(0) }, Effects{}},
		{"a queued one stays", queued, Event{Kind: Resent}, nil, Effects{}},
		{"a sent one is not", sent, Event{Kind: Resent}, nil, Effects{Refused: assert.AnError}},
		{"nor one that is being sent", sending, Event{Kind: Resent}, nil, Effects{Refused: assert.AnError}},
		{"a queued message is dropped", queued, Event{Kind: Dropped}, ends(StateFailed, ReasonDropped), tells(OutcomeFailed)},
		{"an unknown one", unknown, Event{Kind: Dropped}, func(r *Record) { ends(StateFailed, ReasonDropped)(r); r.Doubts = 1 }, tells(OutcomeFailed)},
		{"again", dropped, Event{Kind: Dropped}, nil, Effects{}},
		{"a queued message is parked", queued, Event{Kind: Parked}, ends(StateUnknown, ReasonParked), tells(OutcomeUnknown)},
		{"again", unknown, Event{Kind: Parked}, nil, Effects{}},
		{"a sent one is not", sent, Event{Kind: Parked}, nil, Effects{Refused: assert.AnError}},
		{"nor one that is being sent", sending, Event{Kind: Parked}, nil, Effects{Refused: assert.AnError}},
		{"a row that is no message", queued, Event{Kind: Invalid, Reason: "no number"}, ends(StateFailed, "no number"), tells(OutcomeFailed)},
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
			if want.ParticipantGraph != nil && after.ParticipantGraph != nil {
				assert.Equal(t, want.ParticipantGraph.Code, after.ParticipantGraph.Code)
			}
			assert.Equal(t, want, after)
		})
	}
}
