package message

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// life is a message whose life is written line by line. A line is an event:
type life struct {
	t      testing.TB
	rules  *Rules
	now    time.Time
	record Record
}

func newLife(t testing.TB) *life {
	t.Helper()
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0), graphretry.WithMaxRetries(5))
	require.NoError(t, err)
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	return &life{t: t, rules: &Rules{Policy: policy, MaxAge: 24 * time.Hour}, now: now,
		record: Record{ID: "a", State: StateQueued, Enqueued: now, Changed: now, Place: now, Due: now}}
}

func (l *life) event(line string) Event {
	l.t.Helper()
	words := strings.Fields(line)
	code := func(text string) *graphretry.Error {
		n, err := strconv.Atoi(text)
		require.NoError(l.t, err, line)
		return &graphretry.Error{Code: graphretry.Code(n)}
	}
	switch words[0] {
	case "gone":
		return Event{Kind: Abandoned, Token: words[1]}
	case "resend":
		return Event{Kind: Resent}
	case "drop":
		return Event{Kind: Dropped}
	case "answer":
		e := Event{Kind: Answered, Token: words[1]}
		switch answer := words[2]; {
		case answer == "broke":
			e.Decision = l.rules.Policy.Next(nil, io.ErrUnexpectedEOF, l.record.History)
		case answer[0] >= 'A':
			e.MessageID = answer
			e.Decision = l.rules.Policy.Next(&http.Response{StatusCode: 200}, nil, l.record.History)
		default:
			e.Decision = l.rules.Policy.Decide(code(answer), l.record.History)
		}
		return e
	}
	e := Event{MessageID: words[0], At: l.now}
	switch words[1] {
	case "sent":
		e.Kind = Accepted
	case "delivered":
		e.Kind = Delivered
	case "read":
		e.Kind = Read
	case "failed":
		e.Kind, e.Graph = Undelivered, code(words[2])
		if len(words) > 3 {
			e.Participant = words[4]
		}
	default:
		l.t.Fatal(line)
	}
	return e
}

// happens applies a line, and returns the outcomes.
func (l *life) happens(line string) []OutcomeKind {
	l.t.Helper()
	l.now = l.now.Add(time.Second)
	if words := strings.Fields(line); words[0] == "mark" { // which is the store's
		require.Equal(l.t, StateQueued, l.record.State)
		l.record.State, l.record.Token = StateSending, words[1]
		return nil
	}
	next, effects := Step(l.record, l.event(line), l.now, l.rules)
	l.record = next
	return effects.Outcomes
}

// TestLives describes whole lives. After each line are the state and the outcomes that follow.
func TestLives(t *testing.T) {
	for name, lines := range map[string]string{
		"accepted, and then it failed": `
			mark t             -> sending
			answer t A         -> sent: sent
			A sent             -> sent
			A failed 131000    -> queued
			A failed 131000    -> queued
			mark u             -> sending
			answer u B         -> sent: sent
			A failed 131000    -> sent
			B failed 131000    -> failed: failed`,
		"a device has what failed, before it is sent again": `
			mark t             -> sending
			answer t A         -> sent: sent
			A failed 131000    -> queued
			A delivered        -> sent: sent delivered
			A failed 131000    -> sent
			A read             -> sent: read`,
		"a device has what failed, while it is sent again": `
			mark t             -> sending
			answer t A         -> sent: sent
			A failed 131000    -> queued
			mark u             -> sending
			A delivered        -> sent: sent delivered
			answer u 2         -> sent
			B failed 131000    -> sent`,
		"a failure overtakes the answer": `
			mark t             -> sending
			A failed 131000    -> sending
			answer t A         -> queued
			mark u             -> sending
			answer u B         -> sent: sent`,
		"a failure overtakes an answer that is lost": `
			mark t             -> sending
			A failed 131026    -> sending
			answer t broke     -> failed: failed
			A delivered        -> sent: sent delivered`,
		"the first of two is heard of last": `
			mark t             -> sending
			answer t broke     -> unknown: unknown
			resend             -> queued
			mark u             -> sending
			answer u B         -> sent: sent
			A sent             -> sent
			B failed 131000    -> sent
			A failed 131000    -> queued`,
		"nobody knows which of two has failed": `
			mark t             -> sending
			answer t broke     -> unknown: unknown
			resend             -> queued
			mark u             -> sending
			A sent             -> sent: sent
			A failed 131000    -> unknown: unknown
			answer u B         -> sent: sent`,
		"nor whether the other was accepted": `
			mark t             -> sending
			answer t broke     -> unknown: unknown
			drop               -> failed: failed
			resend             -> queued
			mark u             -> sending
			A failed 131000    -> sending
			answer u broke     -> unknown: unknown
			B failed 131000    -> queued`,
		"a late answer": `
			mark t             -> sending
			gone t             -> unknown: unknown
			resend             -> queued
			answer t A         -> sent: sent`,
		"a late answer, of what is sent again": `
			mark t             -> sending
			gone t             -> unknown: unknown
			resend             -> queued
			mark u             -> sending
			answer t A         -> sent: sent
			answer u 2         -> sent
			A failed 131000    -> queued`,
		"a group": `
			mark t                -> sending
			A failed 131000 of 1  -> sent: sent
			answer t A            -> sent
			A failed 131000 of 2  -> sent
			A delivered           -> sent: delivered
			A failed 131026       -> sent`,
		"the account is locked": `
			mark t             -> sending
			answer t A         -> sent: sent
			A failed 131031    -> queued
			mark u             -> sending
			answer u B         -> sent: sent
			B delivered        -> sent: delivered`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			for line := range strings.Lines(strings.TrimSpace(lines)) {
				line, want, _ := strings.Cut(strings.TrimSpace(line), "->")
				told := l.happens(line)
				got := string(l.record.State)
				for i, kind := range told {
					got += []string{":", ""}[min(i, 1)] + " " + string(kind)
				}
				assert.Equal(t, strings.TrimSpace(want), got, "after %q: %+v", strings.TrimSpace(line), l.record)
			}
		})
	}
}

// TestLivesInRandomOrder delivers Meta's webhooks in any order, each up to three times, before
// the answer and long after it, and a person makes mistakes. Then no message is sent again
// while Meta may have an attempt of which no person has said that it was not sent, nor after a
// device has it.
func TestLivesInRandomOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	again, resent := 0, 0
	for range 20_000 {
		l := newLife(t)
		var history []string
		happens := func(line string) {
			l.happens(line)
			history = append(history, line+" -> "+string(l.record.State))
		}
		type attempt struct {
			wamid  string // "" if Meta has not accepted it
			fate   string // what Meta says of the wamid in the end
			isDead bool   // it was refused, or Meta has said that it failed
			byHand bool   // a person has said that it was not sent
		}
		var attempts []*attempt
		var pending []string // what is going to happen
		isDelivered, willBeDelivered := false, false
		for step := 0; step < 60; step++ {
			if l.record.State == StateQueued && random.IntN(3) > 0 {
				for _, a := range attempts {
					require.True(t, a.isDead || a.byHand, "sent twice:\n%s", strings.Join(history, "\n"))
				}
				require.False(t, isDelivered, "sent again after a device had it:\n%s", strings.Join(history, "\n"))
				if len(attempts) > 0 {
					again++
				}
				token := fmt.Sprint("t", len(attempts))
				happens("mark " + token)
				a := &attempt{}
				attempts = append(attempts, a)
				end := "broke"
				switch random.IntN(4) {
				case 0:
					end = "2"
				case 1:
				default:
					a.wamid = fmt.Sprint("W", len(attempts))
					if random.IntN(3) > 0 {
						end = a.wamid
					}
				}
				pending = append(pending, "answer "+token+" "+end)
				if random.IntN(4) == 0 {
					pending = append(pending, "gone "+token)
				}
				if a.wamid != "" {
					var fates []string
					switch random.IntN(5) {
					case 0:
						a.fate, fates = "delivered", []string{"sent", "delivered", "read"}
					case 1:
						a.fate, fates = "sent", []string{"sent"}
					case 2: // Meta contradicts itself
						a.fate, fates = "delivered", []string{"failed 131000", "delivered"}
					case 3:
						a.fate, fates = "group", []string{"failed 131000 of 1", "failed 131026 of 2", "sent"}
					default:
						a.fate, fates = "failed", []string{"sent", "failed 131000"}
					}
					willBeDelivered = willBeDelivered || a.fate == "delivered"
					for _, fate := range fates {
						for range 1 + random.IntN(3) {
							pending = append(pending, a.wamid+" "+fate)
						}
					}
				}
				random.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
				continue
			}
			if l.record.State == StateUnknown && random.IntN(5) == 0 {
				for _, a := range attempts {
					a.byHand = true
				}
				happens([]string{"resend", "drop"}[random.IntN(2)])
				resent++
				continue
			}
			if len(pending) == 0 {
				break
			}
			line := pending[0]
			pending = pending[1:]
			for i, a := range attempts {
				a.isDead = a.isDead || a.wamid != "" && line == a.wamid+" failed 131000" || line == fmt.Sprintf("answer t%d 2", i)
			}
			isDelivered = isDelivered || strings.HasSuffix(line, " delivered") || strings.HasSuffix(line, " read")
			happens(line)
		}
		if len(pending) > 0 || l.record.State == StateQueued {
			continue
		}
		if willBeDelivered {
			assert.Equal(t, StateSent, l.record.State, strings.Join(history, "\n"))
			assert.False(t, l.record.Delivered.IsZero())
		}
		if slices.ContainsFunc(attempts, func(a *attempt) bool { return a.fate == "sent" || a.fate == "group" }) {
			assert.Equal(t, StateSent, l.record.State, strings.Join(history, "\n"))
		}
		if t.Failed() {
			return
		}
	}
	assert.Greater(t, again, 1000)
	assert.Greater(t, resent, 1000)
}
