package graphretry_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
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
	chaosCalls = flag.Int("chaos.calls", 500, "how many calls the chaos test makes, 300 or more")
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
// callers come, who are to wait.
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

// send makes one call, as a caller does who reads what he gets.
func (c *chaos) send(ctx context.Context, transport http.RoundTripper, call *chaosCall) {
	if call.leaves > 0 {
		leaving, leave := context.WithCancel(ctx)
		time.AfterFunc(call.leaves, leave)
		ctx = leaving
	}
	url := fmt.Sprintf("%s/v25.0/%d", c.servers[call.number%2].URL, call.number)
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
