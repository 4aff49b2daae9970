package graphretry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

var (
	chaosCalls = flag.Int("chaos.calls", 2000, "how many calls the chaos test makes, 300 or more")
	chaosSeed  = flag.Uint64("chaos.seed", 0, "the seed of the chaos test; 0: another each time")
)

const (
	chaosBuffer   = 4 << 10                // what is kept of a request's body
	chaosDowntime = 500 * time.Millisecond // from when the gate has noticed it
	chaosPatience = 5 * time.Minute        // with what takes moments, on a machine that has none to spare
)

// mostWhileDown bounds the requests of each downtime; with them it ends if the gate
// has not noticed. The gate does so after some 20 answers, while the other callers'
// requests are on their way, and then sends a probe each 4 to 40 ms. The second time
// it judges by the first, and takes three times as many.
var mostWhileDown = [...]int{200, 450}

// chaosKinds are the ways in which the API answers while it is up, and the share of
// each beyond the rehearsal. The last has what the others leave of 1.
var chaosKinds = []chaosKind{
	{"API service", 0.06, graphtest.Answer{Code: graphretry.CodeAPIService}},
	{"unavailable, compressed", 0.03, graphtest.Answer{Code: graphretry.CodeServiceUnavailable, Gzip: true}},
	{"something went wrong", 0.04, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong}},
	{"throttled", 0.01, graphtest.Answer{Code: graphretry.CodeRateLimitHit, RetryAfter: "0"}},
	{"maintenance, transient", 0.02, graphtest.Answer{Code: codeMaintenance, Transient: true}},
	{"experiment, transient", 0.02, graphtest.Answer{Code: graphretry.CodeUserExperiment, Transient: true}},
	{"parameter, compressed", 0.02, graphtest.Answer{Code: graphretry.CodeInvalidParameter, Gzip: true}},
	{"HTML", 0.02, graphtest.Answer{Status: http.StatusBadGateway}},
	// Longer than what the Transport reads ahead, so that it must close it.
	{"HTML, large", 0.02, graphtest.Answer{Status: http.StatusServiceUnavailable, Body: bytes.Repeat([]byte("<p>Sorry.</p>"), 6000)}},
	{"HTML, taken", 0.01, graphtest.Answer{Status: http.StatusGatewayTimeout, Accept: true}},
	{"reset", 0.02, graphtest.Answer{Fault: graphtest.FaultBreak}},
	{"reset, taken", 0.02, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}},
	{"hung", 0.0001, graphtest.Answer{Fault: graphtest.FaultHang}},
	{"hung, taken", 0.0001, graphtest.Answer{Fault: graphtest.FaultHang, Accept: true}},
	{"failure, truncated", 0.02, graphtest.Answer{Code: graphretry.CodeAPIService, Fault: graphtest.FaultTruncate}},
	{"success, truncated", 0.01, graphtest.Answer{Fault: graphtest.FaultTruncate}},
	{"success, slow", 0.05, graphtest.Answer{Delay: 5 * time.Millisecond}},
	{"success, compressed", 0.05, graphtest.Answer{Gzip: true}},
	{"success, closing", 0, graphtest.Answer{Header: closing}},
	{"success", 1, graphtest.Answer{}},
}

type chaosKind struct {
	name   string
	share  float64
	answer graphtest.Answer
}

// chaosRehearsed is how many calls, to begin with, meet each kind over each protocol,
// so that every run has them all. Their bodies can be sent again, their callers stay.
var chaosRehearsed = 2 * len(chaosKinds)

var (
	chaosDown       = chaosKind{name: "down", answer: graphtest.Answer{Code: graphretry.CodeServiceUnavailable}}
	chaosGarbled    = chaosKind{name: "garbled", answer: graphtest.Answer{Code: graphretry.CodeInvalidParameter}}
	closing         = http.Header{"Connection": {"close"}}
	codeMaintenance = graphretry.Code(131057)
)

// TestNothingIsLostOrSentTwiceInChaos sends calls from many goroutines over real
// connections, HTTP/1.1 and HTTP/2, to an API that fails in every way it can.
//
// The seed, which a failing run prints, decides what each call is and what its
// first, second, third request gets from an API that is up, whoever comes first.
// The API goes down when half and when three quarters of the calls have begun. Left
// to the scheduler is which requests meet a downtime, whether a caller leaves before
// or after an answer, and which requests an HTTP/2 connection loses as it closes.
func TestNothingIsLostOrSentTwiceInChaos(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	chaos := newChaos(t)
	transport := newTransport(t, chaos,
		graphretry.WithHosts("127.0.0.1"),
		graphretry.WithInitialInterval(20*time.Millisecond),
		graphretry.WithMaxInterval(40*time.Millisecond),
		graphretry.WithMaxElapsedTime(chaosPatience),
		graphretry.WithAttemptTimeout(10*time.Second),
		graphretry.WithNetworkRetries(),
		graphretry.WithThrottleRetries(),
		graphretry.WithTransientFlag(),
		graphretry.WithMaxBufferedBody(chaosBuffer),
		graphretry.WithObserver(chaos.observe),
	)
	// To cancel it sooner would free what the Transport has left open.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		chaos.sendAll(ctx, t, transport)
	}()
	select {
	case <-ended:
	case <-time.After(chaosPatience + time.Duration(len(chaos.calls))*10*time.Millisecond):
		require.Fail(t, "a call has not ended")
	}

	assert.Eventually(t, func() bool {
		transport.CloseIdleConnections() // again, since a stream that was canceled takes a moment
		return chaos.connections.Load() == 0 && chaos.serving.Load() == 0
	}, chaosPatience, 10*time.Millisecond, "a connection or a request was left")
	for _, server := range chaos.servers {
		server.Close()
	}
	assert.Eventually(t, func() bool { // in a goroutine of its own
		return runtime.NumGoroutine() <= goroutines+1
	}, chaosPatience, 10*time.Millisecond, "a goroutine was left")
	chaos.assertEachCallWentRight(t)
	chaos.assertEverythingHappened(t)
}

// chaos is the API behind two servers, the wire to them, and what went over it.
type chaos struct {
	seed                 uint64
	callers              int // to begin with; each outage brings half as many more
	calls                []*chaosCall
	servers              [2]*httptest.Server // of HTTP/1.1 and HTTP/2
	wire                 *http.Transport
	connections, serving atomic.Int64 // of the servers: connections and requests

	come         func(callers int)
	began, ended atomic.Int64 // outages, as the gate has it

	mu        sync.Mutex // guards the downtimes
	upAt      time.Time
	toCome    int   // calls that are to begin before
	whileDown []int // requests, by downtime
	noticed   int   // of the downtimes, by the gate
}

// chaosCall is a call, and what became of it.
type chaosCall struct {
	number  int // if odd, over HTTP/2
	method  string
	padding int           // of the message
	getBody bool          // the request has it
	sized   bool          // the request tells the body's length
	encoded bool          // the caller asks for gzip himself
	leaves  time.Duration // when the caller does so, 0 for never

	began   int // the downtime in which it began, 0 for none
	request *http.Request
	resp    *http.Response
	body    []byte // resp's
	broke   error  // what reading that ended with
	err     error
	left    bool // the caller had left when it ended

	mu        sync.Mutex // guards it from requests that arrive when it has ended
	met       []*chaosMeeting
	draws     int
	metBefore int          // when the last attempt was sent
	wireErr   error        // what came of that in place of an answer
	answer    *watchedBody // the answer's
	leftOpen  bool         // an answer was not closed before the next attempt
}

// chaosMeeting is a request at the API, and what it is sent.
type chaosMeeting struct {
	http.ResponseWriter
	kind     chaosKind
	downtime int  // 0 for none
	garbled  bool // the request was not what the caller made
	accepted int

	status, length int // as the header has it
	trace          string
	sent           bytes.Buffer
}

func newChaos(t *testing.T) *chaos {
	calls := *chaosCalls
	if testing.Short() {
		calls = min(calls, 300)
	}
	c := &chaos{seed: *chaosSeed, callers: min(64, calls/10)}
	for c.seed == 0 {
		c.seed = rand.Uint64()
	}
	t.Logf("to run it again: go test -race -run '^%s$' . -chaos.calls %d -chaos.seed %d", t.Name(), calls, c.seed)
	for number := range calls {
		c.calls = append(c.calls, c.newCall(number))
	}

	for i := range c.servers {
		server := httptest.NewUnstartedServer(c)
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				c.connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				c.connections.Add(-1)
			}
		}
		if server.EnableHTTP2 = i == 1; server.EnableHTTP2 {
			server.StartTLS()
		} else {
			server.Start()
		}
		t.Cleanup(server.CloseClientConnections)
		c.servers[i] = server
	}
	c.wire = c.servers[1].Client().Transport.(*http.Transport).Clone()
	c.wire.MaxIdleConnsPerHost = 2 * c.callers
	return c
}

// newCall draws what a call is.
func (c *chaos) newCall(number int) *chaosCall {
	random := rand.New(rand.NewPCG(c.seed, uint64(number)<<32))
	call := &chaosCall{
		number: number, method: http.MethodPost,
		padding: random.IntN(3 << 10), sized: random.IntN(2) == 0, encoded: random.IntN(2) == 0,
	}
	switch kind := random.IntN(10); {
	case kind < 3:
		call.method = http.MethodGet
	case kind < 6 || number < chaosRehearsed:
		call.getBody = true
	case kind < 7:
		call.padding += chaosBuffer // too long to be kept
	}
	if random.IntN(50) == 0 && number >= chaosRehearsed {
		call.leaves = 1 + time.Duration(random.IntN(int(20*time.Millisecond)))
	}
	return call
}

// draw draws what a call's next request gets, and the seed of the names in it.
func (c *chaos) draw(call *chaosCall) (chaosKind, uint64) {
	call.draws++
	random := rand.New(rand.NewPCG(c.seed, uint64(call.number)<<32|uint64(call.draws)))
	names := random.Uint64()
	if call.number < chaosRehearsed {
		// What is refused is refused again: 131000 is to be retried once.
		if kind := chaosKinds[call.number/2]; call.draws == 1 || call.draws == 2 && kind.answer.Code != 0 {
			return kind, names
		}
	}
	i, drawn := 0, random.Float64()
	for drawn >= chaosKinds[i].share {
		drawn -= chaosKinds[i].share
		i++
	}
	kind := chaosKinds[i]
	// An HTTP/2 connection that closes takes the requests on their way with it, and
	// net/http waits for seconds with those to which it happens again: once will do.
	if call.number%2 == 0 && random.IntN(30) == 0 {
		kind.answer.Header = closing
	}
	return kind, names
}

// repeatable tells whether the call's body, if any, can be sent again.
func (call *chaosCall) repeatable() bool {
	return call.method == http.MethodGet || call.getBody || call.padding < chaosBuffer
}

// message is the call's body.
func (call *chaosCall) message() string {
	if call.method == http.MethodGet {
		return ""
	}
	return fmt.Sprintf(`{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":%q},"biz_opaque_callback_data":"chaos-%d"}`,
		strings.Repeat("x", call.padding), call.number)
}

// sendAll makes the calls, and takes the API down twice.
func (c *chaos) sendAll(ctx context.Context, t *testing.T, transport http.RoundTripper) {
	queue := make(chan *chaosCall)
	var group sync.WaitGroup
	c.come = func(callers int) {
		for range callers {
			group.Go(func() {
				for call := range queue {
					c.send(ctx, transport, call)
				}
			})
		}
	}
	// If all came at once, each would make a connection, which takes a slow machine
	// seconds.
	c.come(c.callers / 4)
	for _, call := range c.calls {
		if call.number == chaosRehearsed {
			c.come(c.callers * 3 / 4)
		}
		if call.number == len(c.calls)/2 || call.number == len(c.calls)*3/4 {
			// An API that falls while it is recovering is in the same outage still.
			assert.Eventually(t, func() bool { return c.ended.Load() == c.began.Load() },
				chaosPatience, time.Millisecond, "the gate has not opened again")
			c.mu.Lock()
			c.upAt, c.whileDown = time.Now().Add(chaosPatience), append(c.whileDown, 0)
			c.mu.Unlock()
		}
		queue <- call
	}
	close(queue)
	group.Wait()
}

// observe ends a downtime some time after the gate has noticed it. Until then other
// callers come, whom it is to hold back.
func (c *chaos) observe(_ context.Context, event graphretry.Event) {
	switch event.Kind {
	case graphretry.EventOutageBegan:
		c.began.Add(1)
		c.mu.Lock()
		isDown := len(c.whileDown) > c.noticed
		if isDown {
			c.noticed = len(c.whileDown)
			c.upAt, c.toCome = time.Now().Add(chaosDowntime), c.callers/4
		}
		c.mu.Unlock()
		if isDown {
			c.come(c.callers / 2)
		}
	case graphretry.EventOutageEnded:
		c.ended.Add(1)
	}
}

// downtime is the number of the downtime, 0 for none, that calls which begin, or
// requests which arrive, meet.
func (c *chaos) downtime(calls, requests int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.whileDown)
	if n == 0 || c.whileDown[n-1] > mostWhileDown[n-1] || c.toCome <= 0 && time.Now().After(c.upAt) {
		return 0
	}
	c.toCome -= calls
	c.whileDown[n-1] += requests
	return n
}

// send makes one call, as a caller does who reads what he gets.
func (c *chaos) send(ctx context.Context, transport http.RoundTripper, call *chaosCall) {
	if call.leaves > 0 {
		leaving, leave := context.WithCancel(ctx)
		time.AfterFunc(call.leaves, leave)
		ctx = leaving
	}
	url := fmt.Sprintf("%s/v23.0/%d", c.servers[call.number%2].URL, call.number)
	var body io.Reader
	if call.method == http.MethodPost {
		url, body = url+"/messages", strings.NewReader(call.message())
		if !call.getBody {
			body = io.MultiReader(body) // for which net/http makes none
		}
	}
	var req *http.Request
	if req, call.err = http.NewRequestWithContext(ctx, call.method, url, body); call.err != nil {
		return
	}
	if call.sized && body != nil {
		req.ContentLength = int64(len(call.message()))
	}
	if call.encoded {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	call.request, call.began = req, c.downtime(1, 0)
	if call.resp, call.err = transport.RoundTrip(req); call.resp != nil {
		call.body, call.broke = io.ReadAll(call.resp.Body)
		call.resp.Body.Close()
	}
	call.left = ctx.Err() != nil
}

// callOf finds the call by its number, which is the node in the request's path.
func (c *chaos) callOf(req *http.Request) *chaosCall {
	number, _ := strconv.Atoi(strings.Split(req.URL.Path, "/")[2])
	return c.calls[number]
}

// RoundTrip is the wire under the Transport, where each attempt comes by.
func (c *chaos) RoundTrip(req *http.Request) (*http.Response, error) {
	call := c.callOf(req)
	call.mu.Lock()
	call.leftOpen = call.leftOpen || call.answer != nil && call.answer.closed() == 0
	call.metBefore, call.answer = len(call.met), nil
	call.mu.Unlock()

	resp, err := c.wire.RoundTrip(req)
	if call.wireErr = err; err == nil {
		call.answer = &watchedBody{from: resp.Body}
		resp.Body = call.answer
	}
	return resp, err
}

func (c *chaos) CloseIdleConnections() { c.wire.CloseIdleConnections() }

// ServeHTTP is the API. It reads a request whole before it answers: otherwise it
// would be up to the moment whether the body can be sent again.
func (c *chaos) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.serving.Add(1)
	defer c.serving.Add(-1)
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))

	call := c.callOf(r)
	meeting := &chaosMeeting{ResponseWriter: w, garbled: err != nil || string(body) != call.message()}
	names := rand.Uint64()
	call.mu.Lock()
	call.met = append(call.met, meeting)
	switch meeting.downtime = c.downtime(0, 1); {
	case meeting.garbled:
		meeting.kind = chaosGarbled
	case meeting.downtime > 0:
		meeting.kind = chaosDown
	default:
		meeting.kind, names = c.draw(call)
	}
	call.mu.Unlock()

	api := graphtest.New(graphtest.WithSeed(names))
	api.AnswerNext(1, meeting.kind.answer)
	defer func() { meeting.accepted = api.Totals().Accepted }() // also if it panics, to break the connection
	api.ServeHTTP(meeting, r)
}

func (m *chaosMeeting) WriteHeader(status int) {
	m.status, m.trace = status, m.Header().Get("X-Fb-Trace-Id")
	m.length, _ = strconv.Atoi(m.Header().Get("Content-Length"))
	m.ResponseWriter.WriteHeader(status)
}

func (m *chaosMeeting) Write(p []byte) (int, error) {
	m.sent.Write(p)
	return m.ResponseWriter.Write(p)
}

func (m *chaosMeeting) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (c *chaos) assertEachCallWentRight(t *testing.T) {
	t.Helper()
	var wrong []string
	for _, call := range c.calls {
		if err := call.verdict(); err != nil {
			text := fmt.Sprintf("call %d, %s over HTTP/%d, repeatable %t, met", call.number, call.method, call.number%2+1, call.repeatable())
			for _, meeting := range call.met {
				text += fmt.Sprintf(" %q", meeting.kind.name)
			}
			wrong = append(wrong, fmt.Sprint(text, ": ", err))
		}
	}
	assert.Empty(t, wrong[:min(len(wrong), 20)], "%d calls went wrong", len(wrong))
}

// verdict tells what is wrong with how the call went, nil if nothing.
func (call *chaosCall) verdict() error {
	accepted, last := 0, call.last()
	for i, meeting := range call.met {
		accepted += meeting.accepted
		switch {
		case meeting == last && call.left: // anything can have come of it
		case meeting.garbled:
			return fmt.Errorf("request %d arrived changed, or not whole", i+1)
		case meeting == last && call.retried(i):
			return fmt.Errorf("lost, though request %d was to be retried", i+1)
		case meeting != last && !call.retried(i):
			return fmt.Errorf("sent again, though request %d was not to be retried", i+1)
		}
	}
	switch {
	case (call.resp == nil) == (call.err == nil):
		return errors.New("it has neither or both of a response and an error")
	case accepted > 1:
		return fmt.Errorf("accepted %d times", accepted)
	case call.leftOpen || call.answer != nil && call.answer.closed() == 0:
		return errors.New("an answer was not closed")
	case call.err != nil && !call.hasErrorOf(last):
		return fmt.Errorf("nothing that it met explains its error: %w", call.err)
	case call.err == nil && !call.hasResponseOf(last):
		return fmt.Errorf("its response, with the status %d, %d bytes and then %v, is not what it was sent", call.resp.StatusCode, len(call.body), call.broke)
	}
	return nil
}

// last is what the last attempt met, nil if it did not arrive.
func (call *chaosCall) last() *chaosMeeting {
	if len(call.met) == call.metBefore {
		return nil
	}
	return call.met[len(call.met)-1]
}

// retried tells whether a request is one after which the Transport tries again, as
// its documentation has it.
func (call *chaosCall) retried(i int) bool {
	meeting := call.met[i]
	switch answer := meeting.kind.answer; {
	case answer.Code == 0 || answer.Fault != graphtest.FaultNone: // no Graph error
		return call.method == http.MethodGet && (meeting.status == 0 || meeting.status >= http.StatusBadGateway)
	case answer.Code == graphretry.CodeSomethingWentWrong: // once
		return call.repeatable() && !slices.ContainsFunc(call.met[:i], func(earlier *chaosMeeting) bool {
			return earlier.kind.answer.Code == answer.Code
		})
	default:
		return call.repeatable() && slices.Contains([]graphretry.Code{
			graphretry.CodeAPIService, graphretry.CodeServiceUnavailable, graphretry.CodeRateLimitHit, codeMaintenance,
		}, answer.Code)
	}
}

// hasErrorOf tells whether the call's error is what its last attempt ended in.
func (call *chaosCall) hasErrorOf(last *chaosMeeting) bool {
	var timeout net.Error
	isTheWires := call.err == call.wireErr
	isTimeout := errors.As(call.err, &timeout) && timeout.Timeout() && !errors.Is(call.err, context.DeadlineExceeded)
	switch {
	case call.left:
		return isTheWires || errors.Is(call.err, context.Canceled)
	case last == nil:
		// An HTTP/2 connection has closed, and net/http had no GetBody to try again.
		return call.number%2 == 1 && call.method == http.MethodPost && !call.getBody && isTheWires
	default:
		fault := last.kind.answer.Fault
		return fault == graphtest.FaultBreak && isTheWires || fault == graphtest.FaultHang && isTimeout
	}
}

// hasResponseOf tells whether the call's response is what its last attempt was sent.
func (call *chaosCall) hasResponseOf(last *chaosMeeting) bool {
	if last == nil {
		return false
	}
	sent, length := last.sent.Bytes(), last.length
	whole := len(sent) == length
	if reader, err := gzip.NewReader(bytes.NewReader(sent)); call.resp.Uncompressed && err == nil {
		sent, _ = io.ReadAll(reader)
		length = -1
	}
	return call.resp.Header.Get("X-Fb-Trace-Id") == last.trace && call.resp.StatusCode == last.status &&
		call.resp.ContentLength == int64(length) && call.resp.Request == call.request &&
		(call.broke == nil && whole && bytes.Equal(call.body, sent) ||
			call.broke != nil && (call.left || !whole) && bytes.HasPrefix(sent, call.body))
}

// assertEverythingHappened asserts that the chaos was all that it is to be, and
// that the gate kept from the API what it could not take.
func (c *chaos) assertEverythingHappened(t *testing.T) {
	t.Helper()
	requests, endings := [...]map[string]int{{}, {}}, map[string]int{}
	held := make([]int, len(c.whileDown)+1)
	for _, call := range c.calls {
		wasDown := 0
		for _, meeting := range call.met {
			requests[call.number%2][meeting.kind.name]++
			wasDown = max(wasDown, meeting.downtime)
		}
		switch {
		case call.left:
			endings["left"]++
		case call.resp == nil:
			endings["error"]++
		case call.broke != nil || call.resp.StatusCode != http.StatusOK:
			endings["failure"]++
		default:
			endings["delivered"]++
			if wasDown > 0 {
				endings["delivered, refused while down"]++
			} else if call.began > 0 {
				held[call.began]++
			}
			if len(call.met) > 1 && call.method == http.MethodPost && !call.getBody {
				endings["delivered, recorded"]++
			}
		}
	}
	for _, kind := range append(chaosKinds, chaosDown) {
		assert.Positive(t, requests[0][kind.name], "over HTTP/1.1: "+kind.name)
		assert.Positive(t, requests[1][kind.name], "over HTTP/2: "+kind.name)
	}
	for _, ending := range []string{"left", "error", "failure", "delivered, refused while down", "delivered, recorded"} {
		assert.Positive(t, endings[ending], ending)
	}
	assert.Greater(t, endings["delivered"], len(c.calls)/2, "the chaos was too much to show anything")
	assert.Equal(t, len(mostWhileDown), c.noticed, "downtimes that the gate has noticed")
	// A quarter of the threshold is enough where it takes as long as the initial
	// interval, which is 20 ms here: on a busy machine chance brings that about.
	const byChance = 2
	assert.LessOrEqual(t, int(c.began.Load()), len(mostWhileDown)+byChance, "outages, as the gate has it")
	for i, most := range mostWhileDown {
		assert.LessOrEqual(t, c.whileDown[i], most, "requests in downtime %d", i+1)
		assert.GreaterOrEqual(t, held[i+1], c.callers/8, "calls that were held back in downtime %d and delivered after it", i+1)
	}
	t.Logf("%d calls: %v; requests while down %v, delivered after being held back %v", len(c.calls), endings, c.whileDown, held[1:])
}
