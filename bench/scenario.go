package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
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
	thenShare float64 // of those that do, from the end of the outage

	codes    []graphretry.Code // that it answers in turn while it is down, in place of code 2
	noDials  bool              // nobody gets a connection while it is down
	line     int               // calls a second that it takes one after the other, from the end of the outage
	lineMost time.Duration     // longer lines are answered with code 2

	numbers   int           // from which messages are sent; 0: one
	noisy     float64       // the share of the messages that are sent from the first of them
	media     bool          // every other call uploads media
	poison    bool          // every tenth message gets code 2 whenever it is sent
	failsPath bool          // in the outage the first number, or media, fails alone
	workers   int           // that send one message after the other, in place of the rate
	atOnce    int           // messages that arrive at the beginning, in place of the rate
	timeout   time.Duration // of the http.Client
	late      time.Duration // how late an error reaches it, as on a busy machine
	answers   time.Duration // how long an answer takes; 0: answerTime
	retried   *retried      // nil: what is retried by default

	collapsed  bool          // capacity holds from the beginning
	capacity   int           // calls a second above which the API collapses, from the end of the outage; 0: it does not
	brownout   time.Duration // for so long; 0: to the end
	slowErrors time.Duration // how long the API takes to say that it is asked for too much; 0: as for any answer
	spike      int           // so many times as many messages arrive ...
	spikeFor   time.Duration // ... for so long, from warmUp on

	processes int // how many send them; 0: one

	upFor, downFor time.Duration // over and over, from the beginning
	lateShare      float64       // of answers that come late
	lateUpTo       time.Duration

	deadline time.Duration // of each message, from its arrival; 0: none
	cancel   bool          // the callers cancel then, and tell nobody before

	full bool // measured with -full only
}

const (
	// warmUp is how long all is well before the outage.
	warmUp = time.Minute
	// answerTime is how long an answer takes.
	answerTime = 50 * time.Millisecond
	// prompt is what a message takes at most that did not have to wait.
	prompt = time.Second
)

func (s scenario) messages() int {
	if s.atOnce > 0 {
		return s.atOnce
	}
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
	// soonAfter is how many calls there were in the second that is 50 s after it.
	soonAfter int
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
	// others is of the messages whose path did not fail alone, and that are not poison.
	others group
	// withoutReason is how many calls returned an error that was not graphretry's
	// ErrOutage, and refused how many returned one that was.
	withoutReason, refused int
	// recovered is how long after the trouble the API takes as many messages as
	// arrive, and goes on to: from then on, for 10 s, 95 % of them in each 30 s.
	recovered time.Duration
}

// group is what became of some of the messages.
type group struct {
	messages int
	times    []time.Duration // of those that were delivered
}

func (g group) lost() int { return g.messages - len(g.times) }

func (g group) mean() time.Duration {
	var sum time.Duration
	for _, t := range g.times {
		sum += t
	}
	return sum / time.Duration(max(1, len(g.times)))
}

// percentile is what a share of them took at most.
func (g group) percentile(share float64) time.Duration {
	if len(g.times) == 0 {
		return never
	}
	slices.Sort(g.times)
	return g.times[min(len(g.times)-1, int(share*float64(len(g.times))))]
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
	reached := &overload{next: api, start: start, random: rand.New(rand.NewPCG(seed, 1)), capacity: s.capacity, from: start.Add(warmUp + s.down), refusalTakes: max(answerTime, s.slowErrors)}
	if s.collapsed {
		reached.from = start
	}
	next := http.RoundTripper(api)
	if s.capacity > 0 {
		next = reached
		if s.brownout > 0 {
			reached.until = end
		}
	}
	inLine := &oneByOne{next: next, capacity: s.line, from: start.Add(warmUp + s.down), most: s.lineMost, start: start}
	if s.line > 0 {
		next = inLine
	}
	broken := &fault{next: next, path: s.failing(), codes: s.codes, start: start}
	if s.failsPath || s.codes != nil || s.noDials {
		broken.from, broken.until = start.Add(warmUp), start.Add(warmUp+s.down)
		next = broken
	}
	poison := &poisoned{next: next, start: start}
	if s.poison {
		next = poison
	}
	client := s.client(subject, next, seed)

	result := result{messages: s.messages()}
	var mu sync.Mutex
	var delivery time.Duration
	var calls sync.WaitGroup
	send := func(i int, path string) {
		arrival := time.Now()
		ctx := context.Background()
		switch {
		case s.cancel:
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer time.AfterFunc(s.deadline, cancel).Stop()
			defer cancel()
		case s.deadline > 0:
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.deadline)
			defer cancel()
		}
		ok, err := deliverTo(ctx, client, "https", path, i)
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		isOther := s.failsPath && path != broken.path || s.poison && !isPoison(i)
		if isOther {
			result.others.messages++
		}
		switch {
		case errors.Is(err, graphretry.ErrOutage):
			result.refused++
		case err != nil:
			result.withoutReason++
		}
		if !ok {
			return
		}
		result.delivered++
		delivery += now.Sub(arrival)
		if isOther {
			result.others.times = append(result.others.times, now.Sub(arrival))
		}
		result.served = addAt(result.served, int(now.Sub(start)/time.Second), 1)
		if now.Sub(arrival) > prompt {
			result.lastOut = max(result.lastOut, now.Sub(end))
		}
	}
	for worker := range s.workers {
		calls.Go(func() {
			for i := worker; time.Since(start) < s.send; i += s.workers {
				mu.Lock()
				result.messages++
				mu.Unlock()
				send(i, messagesOf(0))
			}
		})
	}
	arrives, choice := start, rand.New(rand.NewPCG(seed, 3))
	for i := range s.messages() {
		time.Sleep(time.Until(arrives))
		if s.atOnce == 0 {
			gap := time.Second / time.Duration(s.rate)
			if since := arrives.Sub(start); s.spike > 0 && since >= warmUp && since < warmUp+s.spikeFor {
				gap /= time.Duration(s.spike)
			}
			arrives = arrives.Add(gap)
		}
		path := s.path(i, choice)
		calls.Go(func() { send(i, path) })
	}
	calls.Wait()

	totals := api.Totals()
	result.calls, result.whileDown = totals.Calls, totals.WhileDown
	result.inVain = totals.Accepted - result.delivered
	result.perSecond = api.CallsPerSecond(start)
	result.whileDown += sum(broken.kept)
	for _, before := range [][]int{reached.refused, inLine.refused, broken.kept, poison.refused} {
		for second, calls := range before {
			result.perSecond = addAt(result.perSecond, second, calls)
			result.calls += calls
		}
	}
	after := int((warmUp + s.trouble()) / time.Second)
	if after < len(result.perSecond) {
		result.busiest = slices.Max(result.perSecond[after:])
	}
	if after+50 < len(result.perSecond) {
		result.soonAfter = result.perSecond[after+50]
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
	what := byDefault
	if s.retried != nil {
		what = *s.retried
	}
	switch {
	case s.timeout > 0:
		return &timeLimited{http.Client{Transport: &lateErrors{subject.wrap(next, what), s.late}, Timeout: s.timeout}}
	case s.processes == 0:
		return subject.wrap(next, what)
	}
	all := &processes{random: rand.New(rand.NewPCG(seed, 2))}
	for range s.processes {
		all.clients = append(all.clients, subject.wrap(next, what))
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
	api.SetLatency(cmp.Or(s.answers, answerTime))
	if s.down > 0 && !s.failsPath && s.codes == nil && !s.noDials {
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
	if s.thenShare > 0 {
		time.AfterFunc(warmUp+s.down, func() { api.AnswerShare(s.thenShare, outage) })
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

// path is where message i is sent to.
func (s scenario) path(i int, choice *rand.Rand) string {
	switch {
	case s.media && i%2 == 1:
		return media
	case s.numbers <= 1, choice.Float64() < s.noisy:
		return messagesOf(0)
	default:
		return messagesOf(1 + choice.IntN(s.numbers-1))
	}
}

// failing is the path that fails alone, "" for none.
func (s scenario) failing() string {
	switch {
	case !s.failsPath:
		return ""
	case s.media:
		return media
	default:
		return messagesOf(0)
	}
}

// media is where media are uploaded.
const media = "/v25.0/106540352242922/media"

// messagesOf is where messages of a phone number are sent.
func messagesOf(number int) string {
	return fmt.Sprintf("/v25.0/%d/messages", 106540352242922+number)
}

// deliver sends message i and reports whether the call returned with success.
func deliver(ctx context.Context, client http.RoundTripper, scheme string, i int) bool {
	ok, _ := deliverTo(ctx, client, scheme, messagesOf(0), i)
	return ok
}

// deliverTo sends message i, or uploads it as media, and reports whether the call returned
// with success, and its error.
func deliverTo(ctx context.Context, client http.RoundTripper, scheme, path string, i int) (bool, error) {
	body := fmt.Appendf(nil, `{"messaging_product":"whatsapp","recipient_type":"individual","to":"1555%07d","type":"text",`+
		`"text":{"body":"Your parcel will be with you today."},"biz_opaque_callback_data":"message-%d"}`, i, i)
	contentType := "application/json"
	if path == media {
		body = []byte("--b\r\nContent-Disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n" +
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"parcel.txt\"\r\nContent-Type: text/plain\r\n\r\nhere\r\n--b--\r\n")
		contentType = "multipart/form-data; boundary=b"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://graph.facebook.com"+path, bytes.NewReader(body))
	if err != nil {
		panic(err) // the request is the same but for numbers
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.RoundTrip(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK, err
}

// lateErrors is what a client calls on a machine that is too busy to return an error at once.
type lateErrors struct {
	next http.RoundTripper
	by   time.Duration
}

func (l *lateErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		time.Sleep(l.by)
	}
	return resp, err
}

// timeLimited is a client whose Timeout ends calls.
type timeLimited struct{ client http.Client }

func (t *timeLimited) RoundTrip(req *http.Request) (*http.Response, error) { return t.client.Do(req) }
