package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

	down      time.Duration // once, after warmUp
	upAgain   time.Duration // and then, if downAgain is set, up for so long ...
	downAgain time.Duration // ... and down for so long
	limit     int           // calls a second that the API takes; 0: any number
	over      graphretry.Code
	share     float64 // of calls that fail at random

	capacity int           // calls a second above which the API collapses, from the end of the outage; 0: it does not
	brownout time.Duration // for so long; 0: to the end
	spike    int           // so many times as many messages arrive ...
	spikeFor time.Duration // ... for so long, from warmUp on

	processes int // how many send them; 0: one

	upFor, downFor time.Duration // over and over, from the beginning
	lateShare      float64       // of answers that come late
	lateUpTo       time.Duration

	deadline time.Duration // of each message, from its arrival; 0: none

	full bool // measured with -full only
}

const (
	// warmUp is how long all is well before the outage.
	warmUp = time.Minute
	// answerTime is how long an answer takes.
	answerTime = 50 * time.Millisecond
	// prompt is what a message takes at most that was not held up.
	prompt = time.Second
)

func (s scenario) messages() int {
	extra := max(0, s.spike-1) * s.rate * int(s.spikeFor/time.Second)
	return s.rate*int(s.send/time.Second) + extra
}

// trouble is how long the trouble lasts that begins at warmUp.
func (s scenario) trouble() time.Duration {
	return max(s.down+s.upAgain+s.downAgain, s.brownout, s.spikeFor)
}

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
	// served is how many messages it took in each second.
	served []int
	// whileDownAgain is how many calls reached the API in its second outage.
	whileDownAgain int
	// inTrouble is how many messages a second the API took while it was overloaded.
	inTrouble float64
	// recovered is how long after the trouble the API takes as many messages as
	// arrive, and goes on to: from then on, for 10 s, 95 % of them in each 30 s.
	recovered time.Duration
}

func (r result) lost() int { return r.messages - r.delivered }

// run sends a scenario's messages through a subject. It must be called in a
// synctest bubble. The seed decides what fails; the jitter of the subjects is
// their own and has no seed.
func (s scenario) run(subject subject, seed uint64) result {
	start := time.Now()
	api := graphtest.New(graphtest.WithSeed(seed))
	s.script(api, start)
	end := start.Add(warmUp + s.trouble())
	reached := &overload{next: api, start: start, random: rand.New(rand.NewPCG(seed, 1)), capacity: s.capacity, from: start.Add(warmUp + s.down)}
	next := http.RoundTripper(api)
	if s.capacity > 0 {
		next = reached
		if s.brownout > 0 {
			reached.until = end
		}
	}
	client := s.client(subject, next, seed)

	result := result{messages: s.messages()}
	var mu sync.Mutex
	var delivery time.Duration
	var calls sync.WaitGroup
	arrives := start
	for i := range s.messages() {
		time.Sleep(time.Until(arrives))
		gap := time.Second / time.Duration(s.rate)
		if since := arrives.Sub(start); s.spike > 0 && since >= warmUp && since < warmUp+s.spikeFor {
			gap /= time.Duration(s.spike)
		}
		arrives = arrives.Add(gap)
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
			result.served = addAt(result.served, int(now.Sub(start)/time.Second), 1)
			if now.Sub(arrival) > prompt {
				result.lastOut = max(result.lastOut, now.Sub(end))
			}
		})
	}
	calls.Wait()

	totals := api.Totals()
	result.calls, result.whileDown = totals.Calls, totals.WhileDown
	result.inVain = totals.Accepted - result.delivered
	result.perSecond = api.CallsPerSecond(start)
	for second, refused := range reached.refused {
		result.perSecond = addAt(result.perSecond, second, refused)
		result.calls += refused
	}
	after := int((warmUp + s.trouble()) / time.Second)
	if after < len(result.perSecond) {
		result.busiest = slices.Max(result.perSecond[after:])
	}
	if s.downAgain > 0 {
		result.whileDownAgain = sum(result.perSecond[after-int(s.downAgain/time.Second) : after])
	}
	if result.delivered > 0 {
		result.meanDelivery = delivery / time.Duration(result.delivered)
	}
	if s.capacity > 0 {
		result.inTrouble = float64(sum(result.served[int(warmUp/time.Second):after])) / s.trouble().Seconds()
		result.recovered = recovered(result.served, after, s.rate)
	}
	return result
}

// client is the subject, in one process or in several.
func (s scenario) client(subject subject, next http.RoundTripper, seed uint64) http.RoundTripper {
	if s.processes == 0 {
		return subject.wrap(next)
	}
	all := &processes{random: rand.New(rand.NewPCG(seed, 2))}
	for range s.processes {
		all.clients = append(all.clients, subject.wrap(next))
	}
	return all
}

// recovered is how long after a second it is that as much is served as arrives.
func recovered(served []int, after, rate int) time.Duration {
	const over, goesOn = 30, 10 // seconds
	good := 0
	for second := after; second+over <= len(served); second++ {
		if good++; sum(served[second:second+over]) < over*rate*95/100 {
			good = 0
		}
		if good == goesOn {
			return time.Duration(second+1-goesOn-after) * time.Second
		}
	}
	return never
}

// never is how long a recovery takes that does not happen.
const never = 24 * time.Hour

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

// addAt adds to the number in that place, and makes the place first if need be.
func addAt(numbers []int, place, n int) []int {
	for len(numbers) <= place {
		numbers = append(numbers, 0)
	}
	numbers[place] += n
	return numbers
}

// script tells the API what to go through.
func (s scenario) script(api *graphtest.API, start time.Time) {
	outage := graphtest.Answer{Code: graphretry.CodeAPIService, Status: http.StatusServiceUnavailable}
	api.SetLatency(answerTime)
	if s.down > 0 {
		api.DownAfter(warmUp, s.down, outage)
	}
	if s.downAgain > 0 {
		api.DownAfter(warmUp+s.down+s.upAgain, s.downAgain, outage)
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

// deliver sends message i and reports whether the call returned with success.
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
