package outbox_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
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

// A message can have many recipients, and a wamid can have many statuses. In these tests
// webhooks report them.

// slowRetries makes the wait of a queued message longer than a test.
func slowRetries() outbox.Option {
	return outbox.WithTransportOptions(graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Hour))
}

// status delivers a status of a message with more members, as in `"type":"payment"`.
func (b *bench) status(m graphtest.Message, status, more string) {
	b.t.Helper()
	if more != "" {
		more = "," + more
	}
	body := fmt.Sprintf(`{"entry":[{"changes":[{"field":"messages","value":{"statuses":[{"id":%q,"status":%q,"biz_opaque_callback_data":%q%s}]}}]}]}`,
		m.ID, status, m.CallbackData, more)
	require.NoError(b.t, b.HandleWebhook(b.t.Context(), []byte(body)))
}

func TestDeviceThatHasTheMessageBeatsEveryFailure(t *testing.T) {
	beside(t)
	for _, fact := range []string{"delivered", "read", "played"} {
		t.Run(fact, func(t *testing.T) {
			b := newHarness(t, slowRetries())
			b.enqueue("a")
			run(t, b.Outbox)
			b.becomes("a", outbox.StateSent)
			first := b.api.Accepted()[0]
			b.webhook(first, "failed", graphretry.CodeSomethingWentWrong)
			b.becomes("a", outbox.StateQueued)
			b.webhook(first, fact)
			status := b.becomes("a", outbox.StateSent)
			assert.False(t, status.Delivered.IsZero())
			assert.Equal(t, first.ID, status.MessageID)
			b.webhook(first, "failed", 131026)
			b.webhook(graphtest.Message{ID: "wamid.another", CallbackData: "a"}, "failed", 131026)
			status = b.becomes("a", outbox.StateSent)
			assert.Contains(t, status.Reason, "delivered")
			assert.Equal(t, graphretry.Code(131026), status.Graph.Code, "it is noted")
			b.queueIsEmpty()
			assert.Equal(t, 1, b.api.Totals().Calls)
		})
	}
}

func TestDeliveredMessageThatHadFailedIsSent(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	b.webhook(b.api.Accepted()[0], "failed", 131026)
	b.becomes("a", outbox.StateFailed)
	b.webhook(b.api.Accepted()[0], "delivered")
	b.becomes("a", outbox.StateSent)
	assert.Error(t, b.Resend(t.Context(), "a"))
}

func TestParticipantOfAGroupWhoDoesNotGetItIsNoted(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	group := b.api.Accepted()[0]
	participant := func(id string, code int) string {
		return fmt.Sprintf(`"recipient_type":"group","recipient_id":"group","recipient_participant_id":%q,"errors":[{"code":%d}]`, id, code)
	}
	for range 2 {
		b.status(group, "failed", participant("15550001", 131000))
		b.status(group, "failed", participant("15550002", 131026))
	}
	status := b.becomes("a", outbox.StateSent)
	assert.Equal(t, 2, status.ParticipantFailures)
	require.NotNil(t, status.ParticipantGraph)
	assert.Equal(t, graphretry.Code(131026), status.ParticipantGraph.Code)
	assert.Nil(t, status.Graph)
	b.queueIsEmpty()
	assert.Equal(t, 1, b.api.Totals().Calls)
	b.status(group, "failed", `"recipient_type":"group","recipient_id":"group","errors":[{"code":131026}]`)
	b.becomes("a", outbox.StateFailed)
}

func TestStatusOfATomorrowsNameProvesThatItWasSentAndOneOfAPaymentNothing(t *testing.T) {
	b, message := parked(t)
	b.status(message, "captured", `"type":"payment"`)
	b.status(message, "failed", `"type":"payment","errors":[{"code":131000}]`)
	b.status(message, "RINGING", `"type":"call"`)
	b.status(message, "", "")
	b.becomes("a", outbox.StateUnknown)
	b.status(message, "admired", `"type":"message"`)
	b.becomes("a", outbox.StateSent)
}

func TestAnswerOfASuccessIsRead(t *testing.T) {
	beside(t)
	for body, want := range map[string]outbox.State{
		`{"messages":[{"id":"wamid.1"}]}`:                           outbox.StateSent,
		`{"messages":[{"id":"wamid.1"}],"contacts":7,"error":null}`: outbox.StateSent,
		`{"success":true}`:                                          outbox.StateSent,
		`{"success":false}`:                                         outbox.StateUnknown,
		`{"success":"true"}`:                                        outbox.StateUnknown,
		`{"messages":[]}`:                                           outbox.StateUnknown,
		`{"messages":[{"id":""}]}`:                                  outbox.StateUnknown,
		`{"messages":[{}]}`:                                         outbox.StateUnknown,
		`{}`:                                                        outbox.StateUnknown,
		`[]`:                                                        outbox.StateUnknown,
		``:                                                          outbox.StateUnknown,
		`<html>Welcome</html>`:                                      outbox.StateUnknown,
		`{"error":{"message":"no code"}}`:                           outbox.StateUnknown,
		`{"error":{"code":131026,"message":"no"}}`:                                outbox.StateFailed,
		`{"error":{"code":2,"message":"later"}}`:                                  outbox.StateQueued,
		`{"error":{"code":190,"message":"expired"}}`:                              outbox.StateQueued,
		`{"messages":[{"id":"wamid.1"}],"error":{"code":2,"message":"or what?"}}`: outbox.StateSent,
	} {
		t.Run(body, func(t *testing.T) {
			b := newHarness(t)
			var calls atomic.Int32
			o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
				calls.Add(1)
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: newBody(body), Request: req}, nil
			}), slowRetries())
			b.enqueue("a")
			run(t, o)
			status := b.until("a", string(want), func(s outbox.Status) bool { return s.State == want && (want != outbox.StateQueued || s.Graph != nil) })
			if want == outbox.StateFailed || want == outbox.StateQueued {
				require.NotNil(t, status.Graph)
			}
			assert.EqualValues(t, 1, calls.Load())
		})
	}
}

// Meta accepts each message of an account that cannot pay, and says later that it failed.
func TestFaultOfTheSenderByWebhookHoldsItsNumberAndFailsNoMessage(t *testing.T) {
	beside(t)
	for _, code := range []graphretry.Code{131031, 131042} {
		t.Run(fmt.Sprint(int(code)), func(t *testing.T) {
			beside(t)
			b := newHarness(t, outbox.WithRate(1e6),
				outbox.WithTransportOptions(graphretry.WithInitialInterval(10*time.Millisecond), graphretry.WithMaxInterval(40*time.Millisecond)))
			const messages = 60
			ids := b.enqueueMany(phoneNumberID, messages)
			var mended atomic.Bool
			handled := 0
			// meta sends webhooks until the function returns true.
			meta := func(done func() bool) {
				t.Helper()
				deadline := time.Now().Add(patience)
				for !done() {
					require.True(t, time.Now().Before(deadline), "%s", b.log)
					accepted := b.api.Accepted()
					for _, m := range accepted[handled:] {
						if mended.Load() {
							b.webhook(m, "sent")
						} else {
							b.webhook(m, "failed", code)
						}
					}
					if handled == len(accepted) {
						time.Sleep(time.Millisecond)
					}
					handled = len(accepted)
				}
			}
			run(t, b.Outbox)
			meta(func() bool { return handled >= messages })
			stats, err := b.Stats(t.Context())
			require.NoError(t, err)
			assert.Contains(t, stats.Numbers[phoneNumberID].HeldFor, fmt.Sprint(int(code)))
			counts := b.states(ids)
			assert.Zero(t, counts[outbox.StateFailed], "%v", counts)
			before := b.api.Totals().Calls
			meta(func() bool { return b.api.Totals().Calls >= before+5 })
			assert.Less(t, b.api.Totals().Calls, before+15, "one at a time, though each is accepted")
			mended.Store(true)
			meta(func() bool { return b.states(ids)[outbox.StateSent] == messages })
			assert.Contains(t, b.log.String(), "a phone number is held")
			assert.Contains(t, b.log.String(), "no longer held")
		})
	}
}

// Every webhook comes twice, in any order, while the answers are on their way.
func TestWebhooksInRandomOrderSendNothingTwice(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	b := newHarness(t, outbox.WithRate(1e6), outbox.WithWorkers(16))
	b.api.SetSlowShare(0.5, 20*time.Millisecond)
	b.api.AnswerShare(0.1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	const messages = 200
	ids := b.enqueueMany(phoneNumberID, messages)
	run(t, b.Outbox)
	type word struct {
		m            graphtest.Message
		status, more string
	}
	var pending []word
	failed := make(map[string]bool)
	handled, deadline := 0, time.Now().Add(patience)
	participant := func(n, code int) string {
		return fmt.Sprintf(`"recipient_type":"group","recipient_id":"g","recipient_participant_id":"1555%d","errors":[{"code":%d}]`, n, code)
	}
	for {
		require.True(t, time.Now().Before(deadline), "%s", b.log)
		accepted := b.api.Accepted()
		for _, m := range accepted[handled:] {
			var words []word
			switch handled++; {
			case failed[m.CallbackData]: // its second attempt
				words = []word{{m, "sent", ""}, {m, "delivered", ""}}
			case random.IntN(4) == 0:
				words = []word{{m, "failed", participant(1, 131000)}, {m, "failed", participant(2, 131026)}, {m, "delivered", `"recipient_type":"group"`}}
			case random.IntN(4) == 0:
				failed[m.CallbackData] = true
				words = []word{{m, "sent", ""}, {m, "failed", `"errors":[{"code":131000}]`}}
			default:
				words = []word{{m, "sent", ""}, {m, "delivered", ""}, {m, "read", ""}}
			}
			pending = append(append(pending, words...), words...)
		}
		if len(pending) == 0 {
			// A message that was reported as failed can be on its way again.
			if b.states(ids)[outbox.StateSent] == messages && handled == len(b.api.Accepted()) {
				break
			}
			time.Sleep(time.Millisecond)
			continue
		}
		i := random.IntN(len(pending))
		b.status(pending[i].m, pending[i].status, pending[i].more)
		deadline = time.Now().Add(patience) // as long as there is progress
		pending[i] = pending[len(pending)-1]
		pending = pending[:len(pending)-1]
	}
	times := make(map[string]int)
	for _, key := range b.api.AcceptedKeys() {
		times[key]++
	}
	for _, id := range ids {
		most := 1
		if failed[id] {
			most = 2
		}
		assert.LessOrEqual(t, times[id], most, id)
	}
	assert.NotEmpty(t, failed)
}

// refusing is a RoundTripper that refuses messages whose text begins with "bad". The others
// reach the API. refusals counts the refusals of each, and before counts those before the first
// of the others.
func (b *bench) refusing(refuse func() *http.Response) (next http.RoundTripper, refusals, before func() int) {
	var n, first atomic.Int32
	var once sync.Once
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(body, []byte(`"body":"bad`)) {
			n.Add(1)
			resp := refuse()
			resp.Request = req
			return resp, nil
		}
		once.Do(func() { first.Store(n.Load()) })
		req = req.Clone(req.Context())
		req.Body = newBody(string(body))
		return b.api.RoundTrip(req)
	}), func() int { return int(n.Load()) }, func() int { return int(first.Load()) }
}

func answerOf(status int, body string) func() *http.Response {
	return func() *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: newBody(body)}
	}
}

// Eight messages that are refused each time come before twenty others.
func TestMessagesThatAreRefusedForEverDoNotStopTheirNumber(t *testing.T) {
	beside(t)
	for name, test := range map[string]struct {
		refuse func() *http.Response
		reason string
		fails  bool
	}{
		"134011":                      {answerOf(400, `{"error":{"code":134011,"message":"terms"}}`), "", true},
		"a firewall's 403":            {answerOf(403, "<html>Forbidden</html>"), "refused 3 times", true},
		"131005 of one kind":          {answerOf(403, `{"error":{"code":131005,"message":"denied"}}`), "refused 3 times", true},
		"a token that fails for some": {answerOf(401, `{"error":{"code":190,"message":"expired"}}`), "", false},
	} {
		for _, workers := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s, %d workers", name, workers), func(t *testing.T) {
				beside(t)
				b := newHarness(t)
				next, _, before := b.refusing(test.refuse)
				o := b.open(next, outbox.WithWorkers(workers), outbox.WithTransportOptions(
					graphretry.WithInitialInterval(300*time.Millisecond), graphretry.WithMaxInterval(300*time.Millisecond)))
				var bad, good []string
				var batch []outbox.Message
				for i := range 28 {
					id := fmt.Sprint("good", i)
					if i < 8 {
						id = fmt.Sprint("bad", i)
						bad = append(bad, id)
					} else {
						good = append(good, id)
					}
					batch = append(batch, outbox.Message{ID: id, PhoneNumberID: phoneNumberID, Payload: payload(id)})
				}
				require.NoError(t, o.EnqueueAll(t.Context(), batch))
				run(t, o)
				assert.Equal(t, map[outbox.State]int{outbox.StateSent: 20}, b.settled(good))
				assert.LessOrEqual(t, before(), 8+3, "each has delayed the others by a probe, once the number was held")
				if !test.fails {
					assert.Zero(t, b.states(bad)[outbox.StateFailed])
					return
				}
				// Only after other messages are accepted is it known that the fault is the
				// message's.
				for i, deadline := 0, time.Now().Add(patience); b.states(bad)[outbox.StateFailed] < len(bad); i++ {
					require.True(t, time.Now().Before(deadline), "%v\n%s", b.states(bad), b.log)
					b.enqueue(fmt.Sprint("more", i))
					time.Sleep(20 * time.Millisecond)
				}
				status, err := o.Status(t.Context(), bad[0])
				require.NoError(t, err)
				assert.Contains(t, status.Reason, test.reason)
			})
		}
	}
}

// While no other message of the number is accepted, the fault may be the number's.
func TestMessagesThatAreRefusedWaitWhileNoOtherIsAccepted(t *testing.T) {
	b := newHarness(t)
	next, refusals, _ := b.refusing(answerOf(403, "<html>Forbidden</html>"))
	o := b.open(next)
	ids := []string{"bad 1", "bad 2"}
	b.enqueue(ids...)
	run(t, o)
	b.grows(12, refusals)
	assert.Zero(t, b.states(ids)[outbox.StateFailed])
}

// The token expires and is renewed again and again, whatever is under way.
func TestTokenThatExpiresOverAndOverFailsNoMessage(t *testing.T) {
	b := newHarness(t, outbox.WithRate(1e6))
	var mu sync.Mutex
	calls := 0
	o := b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		calls++
		expired := calls%10 < 5
		mu.Unlock()
		if expired {
			time.Sleep(2 * time.Millisecond)
			return answerOf(401, `{"error":{"code":190,"message":"expired"}}`)(), nil
		}
		return b.api.RoundTrip(req)
	}), outbox.WithTransportOptions(graphretry.WithInitialInterval(5*time.Millisecond), graphretry.WithMaxInterval(10*time.Millisecond)))
	ids := b.enqueueMany(phoneNumberID, 60)
	run(t, o)
	assert.Equal(t, map[outbox.State]int{outbox.StateSent: 60}, b.settled(ids))
	assert.Empty(t, b.api.Duplicates())
	assert.False(t, strings.Contains(b.log.String(), "has failed"))
}
