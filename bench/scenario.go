package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// scenario is what an API goes through, and how much is sent to it meanwhile.
// All of it happens in virtual time.
type scenario struct {
	name string
	rate int           // messages a second, each a goroutine of its own
	send time.Duration // for so long

	down  time.Duration // once, after warmUp
	limit int           // calls a second that the API takes; 0: any number
	over  graphretry.Code
	share float64 // of calls that fail at random

	upFor, downFor time.Duration // over and over, from the beginning
	lateShare      float64       // of answers that come late
	lateUpTo       time.Duration

	deadline time.Duration // of each message, from its arrival; 0: none
}

const (
	// warmUp is how long all is well before the outage.
	warmUp = time.Minute
	// answerTime is how long an answer takes.
	answerTime = 50 * time.Millisecond
	// prompt is what a message takes at most that was not held up.
	prompt = time.Second
)

func (s scenario) messages() int { return s.rate * int(s.send/time.Second) }

// result is what became of a scenario.
type result struct {
	messages, delivered int
	calls, whileDown    int
	// inVain is how many messages the API took when their callers had left.
	inVain int
	// busiest is the largest number of calls in one second after the outage.
	busiest int
	// lastOut is how long after the outage the last message was delivered that
	// had to wait.
	lastOut time.Duration
	// meanDelivery is the mean time from a message's arrival to its success.
	meanDelivery time.Duration
	// perSecond is how many calls reached the API in each second.
	perSecond []int
}

func (r result) lost() int { return r.messages - r.delivered }

// run sends a scenario's messages through a subject. It must be called in a
// synctest bubble. The seed decides what fails; the jitter of the subjects is
// their own and has no seed.
func (s scenario) run(subject subject, seed uint64) result {
	start := time.Now()
	api := graphtest.New(graphtest.WithSeed(seed))
	s.script(api, start)
	client := subject.wrap(api)

	result := result{messages: s.messages()}
	outageEnd := start.Add(warmUp + s.down)
	var mu sync.Mutex
	var delivery time.Duration
	var calls sync.WaitGroup
	gap := time.Second / time.Duration(s.rate)
	for i := range s.messages() {
		time.Sleep(time.Until(start.Add(time.Duration(i) * gap)))
		calls.Go(func() {
			arrival := time.Now()
			ctx := context.Background()
			if s.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, s.deadline)
				defer cancel()
			}
			if !deliver(ctx, client, "https", i) {
				return
			}
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			result.delivered++
			delivery += now.Sub(arrival)
			if now.Sub(arrival) > prompt {
				result.lastOut = max(result.lastOut, now.Sub(outageEnd))
			}
		})
	}
	calls.Wait()

	totals := api.Totals()
	result.calls, result.whileDown = totals.Calls, totals.WhileDown
	result.inVain = totals.Accepted - result.delivered
	result.perSecond = api.CallsPerSecond(start)
	if after := int(outageEnd.Sub(start) / time.Second); after < len(result.perSecond) {
		result.busiest = slices.Max(result.perSecond[after:])
	}
	if result.delivered > 0 {
		result.meanDelivery = delivery / time.Duration(result.delivered)
	}
	return result
}

// script tells the API what to go through.
func (s scenario) script(api *graphtest.API, start time.Time) {
	outage := graphtest.Answer{Code: graphretry.CodeAPIService, Status: http.StatusServiceUnavailable}
	api.SetLatency(answerTime)
	if s.down > 0 {
		api.DownAfter(warmUp, s.down, outage)
	}
	if s.limit > 0 {
		api.SetLimit(s.limit, graphtest.Answer{Code: s.over})
	}
	if s.share > 0 {
		api.AnswerShare(s.share, outage)
	}
	if s.lateShare > 0 {
		api.SetSlowShare(s.lateShare, s.lateUpTo)
	}
	if s.downFor > 0 {
		end := start.Add(s.send + 2*maxElapsedTime) // nobody waits longer
		for up := start; up.Before(end); up = up.Add(s.upFor + s.downFor) {
			api.DownBetween(up.Add(s.upFor), up.Add(s.upFor+s.downFor), outage)
		}
	}
}

// deliver sends message i and tells whether the call returned with success.
func deliver(ctx context.Context, client http.RoundTripper, scheme string, i int) bool {
	body := fmt.Appendf(nil, `{"messaging_product":"whatsapp","recipient_type":"individual","to":"1555%07d","type":"text",`+
		`"text":{"body":"Your parcel will be with you today."},"biz_opaque_callback_data":"message-%d"}`, i, i)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://graph.facebook.com/v23.0/106540352242922/messages", bytes.NewReader(body))
	if err != nil {
		panic(err) // the request is the same but for numbers
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
