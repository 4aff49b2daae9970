package queuetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry/graphtest"
)

// api is the fake API. It knows a message by its text, and not by what the worker under
// test says of it.
type api struct {
	*graphtest.API
	plan plan

	mu sync.Mutex // also around each call, so that the answer queued for it is its own
	// The counts of a message, by its number.
	accepted, wrong   map[int]int
	downAt, expiredAt time.Time      // zero: not yet
	whileDown         map[string]int // calls, by the process that makes them
	expired           int            // calls
	foreign           []string       // bodies that are no message of ours
}

// plan is what happens when.
type plan struct {
	messages int
	// The API is down, and takes the token for expired, for so long, the first after a
	// quarter of the messages has arrived and the second after half of them.
	down, expired time.Duration
	// How long a worker process lives, at least and at most.
	life [2]time.Duration
	// How many are ended.
	kills int
}

func newAPI(plan plan) *api {
	return &api{API: graphtest.New(), plan: plan, accepted: map[int]int{}, wrong: map[int]int{}, whileDown: map[string]int{}}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // half a request
	}
	// A worker is killed before its message is accepted, or after it. Either way Meta
	// goes on.
	delay()
	resp, err := a.answer(r, body)
	delay()
	if err != nil {
		panic(http.ErrAbortHandler) // breaks the connection
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the caller may be gone
}

// delay waits for up to half a second.
func delay() { time.Sleep(rand.N(500 * time.Millisecond)) }

// answer has the API of graphtest answer a call.
func (a *api) answer(r *http.Request, body []byte) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.AnswerNext(1, a.choose(processOf(r), body))
	call := r.Clone(context.WithoutCancel(r.Context()))
	call.Body = io.NopCloser(bytes.NewReader(body))
	before := a.Totals().Accepted
	resp, err := a.RoundTrip(call)
	if number, ok := number(body); ok && a.Totals().Accepted > before {
		a.accepted[number]++
	}
	return resp, err
}

// choose returns the answer to a call, and counts it.
func (a *api) choose(process string, body []byte) graphtest.Answer {
	number, ok := number(body)
	if !ok {
		a.foreign = append(a.foreign, string(body))
		return graphtest.Answer{Code: 131009}
	}
	now := time.Now()
	begin := func(at *time.Time, share float64, lasts time.Duration) (during bool) {
		if at.IsZero() && float64(len(a.accepted)) >= share*float64(a.plan.messages) {
			*at = now
		}
		return !at.IsZero() && now.Before(at.Add(lasts))
	}
	if begin(&a.downAt, 0.25, a.plan.down) {
		a.whileDown[process]++
		return graphtest.Answer{Code: 2}
	}
	if begin(&a.expiredAt, 0.5, a.plan.expired) {
		a.expired++
		return graphtest.Answer{Code: 190, Status: http.StatusUnauthorized}
	}
	answer := kindOf(number).answer(a.wrong[number])
	if answer.Code == 131000 {
		a.wrong[number]++
	}
	return answer
}

// number returns the number of the message in a call.
func number(body []byte) (int, bool) {
	var message struct {
		Text struct {
			Body string `json:"body"`
		} `json:"text"`
	}
	if json.Unmarshal(body, &message) != nil {
		return 0, false
	}
	number, err := numberOf(message.Text.Body)
	return number, err == nil
}

// processOf returns the process that makes a call: its version of the API.
func processOf(r *http.Request) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return version
}
