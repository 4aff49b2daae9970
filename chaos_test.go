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
	chaosCalls = flag.Int("chaos.calls", 2000, "how many calls TestChaos makes")
	chaosSeed  = flag.Uint64("chaos.seed", 0, "the seed of TestChaos; 0: another each time")
)

// TestChaos sends calls from many goroutines over real connections, HTTP/1.1 and
// HTTP/2, to an API that fails in every way it can. What each call meets is drawn
// from a seed that a failing run prints.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to run it again: go test -race -run '^TestChaos$' -chaos.calls %d -chaos.seed %d .", *chaosCalls, seed)
		}
	})
	calls := *chaosCalls
	if testing.Short() { // as for mutation testing, which runs it hundreds of times
		calls = min(calls, 300)
	}
	goroutines := runtime.NumGoroutine()
	servers := newChaosServers(t, seed)
	next := servers.client()
	transport, err := graphretry.NewTransport(next,
		graphretry.WithHosts("127.0.0.1"),
		graphretry.WithInitialInterval(2*time.Millisecond),
		graphretry.WithMaxInterval(50*time.Millisecond),
		graphretry.WithMaxElapsedTime(5*time.Minute),
		graphretry.WithAttemptTimeout(2*time.Second),
		graphretry.WithNetworkRetries(),
		graphretry.WithThrottleRetries(),
		graphretry.WithTransientFlag(),
		graphretry.WithMaxBufferedBody(4<<10),
	)
	require.NoError(t, err)

	numbers := make(chan int)
	var group sync.WaitGroup
	var outcomes chaosOutcomes
	for range 64 {
		group.Go(func() {
			for number := range numbers {
				servers.call(t, transport, seed, number, &outcomes)
			}
		})
	}
	for number := range calls {
		// Down twice: a third and two thirds of the way.
		if number == calls/3 || number == calls*2/3 {
			servers.api.DownAfter(0, 300*time.Millisecond, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
		}
		numbers <- number
	}
	close(numbers)
	group.Wait()

	totals := servers.api.Totals()
	t.Logf("%d calls: %d succeeded, %d failed for good, %d ambiguous, %d canceled; %d attempts, %d of them while down, %d messages accepted",
		calls, outcomes.succeeded.Load(), outcomes.failed.Load(), outcomes.ambiguous.Load(), outcomes.canceled.Load(),
		totals.Calls, totals.WhileDown, totals.Accepted)
	assert.EqualValues(t, calls, outcomes.succeeded.Load()+outcomes.failed.Load()+outcomes.ambiguous.Load()+outcomes.canceled.Load())
	assert.Empty(t, servers.api.Duplicates(), "accepted twice")
	assert.Greater(t, outcomes.succeeded.Load(), int64(calls/2), "the chaos was too much to show anything")
	for name, count := range map[string]int64{"failed": outcomes.failed.Load(), "ambiguous": outcomes.ambiguous.Load(), "canceled": outcomes.canceled.Load(), "while down": int64(totals.WhileDown)} {
		assert.Positive(t, count, "nothing was tried of: "+name)
	}

	transport.CloseIdleConnections()
	servers.close()
	assert.Eventually(t, func() bool { return servers.connections.Load() == 0 }, 10*time.Second, 10*time.Millisecond, "a connection was left")
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 }, 10*time.Second, 10*time.Millisecond, "a goroutine was left")
}

// chaosOutcomes counts how calls ended.
type chaosOutcomes struct {
	succeeded, failed, ambiguous, canceled atomic.Int64
}

// chaosServers are one fake API behind an HTTP/1.1 and an HTTP/2 server, and the
// bytes of every answer that they sent.
type chaosServers struct {
	api         *graphtest.API
	http1       *httptest.Server
	http2       *httptest.Server
	connections atomic.Int64
	answers     sync.Map // the answer's trace id: its bytes
}

func newChaosServers(t *testing.T, seed uint64) *chaosServers {
	t.Helper()
	s := &chaosServers{api: graphtest.New(graphtest.WithSeed(seed))}
	for _, chaos := range []struct {
		share  float64
		answer graphtest.Answer
	}{
		{0.08, graphtest.Answer{Code: graphretry.CodeAPIService}},
		{0.04, graphtest.Answer{Code: graphretry.CodeServiceUnavailable, Gzip: true}},
		{0.03, graphtest.Answer{Code: graphretry.CodeServiceUnavailable, Header: http.Header{"Connection": {"close"}}}},
		{0.03, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong}},
		{0.03, graphtest.Answer{Code: graphretry.CodeRateLimitHit, RetryAfter: "0"}},
		{0.02, graphtest.Answer{Code: graphretry.CodeInvalidParameter, Gzip: true}},
		{0.02, graphtest.Answer{Code: graphretry.CodeUserExperiment, Transient: true}},
		{0.02, graphtest.Answer{Code: 131057, Transient: true}},
		{0.02, graphtest.Answer{Status: http.StatusBadGateway}},
		{0.01, graphtest.Answer{Status: http.StatusServiceUnavailable, Body: bytes.Repeat([]byte("<p>Sorry.</p>"), 10_000)}},
		{0.01, graphtest.Answer{Status: http.StatusGatewayTimeout, Accept: true}},
		{0.02, graphtest.Answer{Fault: graphtest.FaultBreak}},
		{0.02, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}},
		{0.02, graphtest.Answer{Code: graphretry.CodeAPIService, Fault: graphtest.FaultTruncate}},
		{0.01, graphtest.Answer{Fault: graphtest.FaultTruncate}},
		{0.002, graphtest.Answer{Fault: graphtest.FaultHang}},
		{0.002, graphtest.Answer{Fault: graphtest.FaultHang, Accept: true}},
	} {
		s.api.AnswerShare(chaos.share, chaos.answer)
	}
	s.api.SetSlowShare(0.05, 5*time.Millisecond)
	start := func(http2 bool) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.connections.Add(-1)
			}
		}
		if server.EnableHTTP2 = http2; http2 {
			server.StartTLS()
		} else {
			server.Start()
		}
		return server
	}
	s.http1, s.http2 = start(false), start(true)
	return s
}

// client is a RoundTripper for both servers.
func (s *chaosServers) client() *http.Transport {
	transport := s.http2.Client().Transport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return transport
}

func (s *chaosServers) close() {
	for _, server := range []*httptest.Server{s.http1, s.http2} {
		server.CloseClientConnections()
		server.Close()
	}
}

// serve answers as the API does, and keeps what it sends.
func (s *chaosServers) serve(w http.ResponseWriter, r *http.Request) {
	sent := &sentAnswer{ResponseWriter: w}
	defer func() { s.answers.Store(w.Header().Get("X-Fb-Trace-Id"), sent.bytes.Bytes()) }()
	s.api.ServeHTTP(sent, r)
}

// sentAnswer is a ResponseWriter that keeps what is written.
type sentAnswer struct {
	http.ResponseWriter
	bytes bytes.Buffer
}

func (s *sentAnswer) Write(p []byte) (int, error) {
	s.bytes.Write(p)
	return s.ResponseWriter.Write(p)
}

func (s *sentAnswer) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// call makes one call, and checks all that can be checked of it alone.
func (s *chaosServers) call(t *testing.T, transport http.RoundTripper, seed uint64, number int, outcomes *chaosOutcomes) {
	random := rand.New(rand.NewPCG(seed, uint64(number)))
	url, method := s.http1.URL, http.MethodPost
	if random.IntN(2) == 0 {
		url = s.http2.URL
	}
	var body io.Reader
	switch random.IntN(4) {
	case 0:
		method, url = http.MethodGet, url+"/v23.0/1"
	case 1: // longer than what is kept, so that it has one attempt
		body = io.MultiReader(strings.NewReader(chaosMessage(number, 6<<10)))
	case 2: // without GetBody
		body = io.MultiReader(strings.NewReader(chaosMessage(number, random.IntN(3<<10))))
	default:
		body = strings.NewReader(chaosMessage(number, random.IntN(3<<10)))
	}
	if method == http.MethodPost {
		url += "/v23.0/1/messages"
	}
	repeatable := method == http.MethodGet
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	leaves := random.IntN(50) == 0
	if leaves {
		time.AfterFunc(time.Duration(random.IntN(int(20*time.Millisecond))), cancel)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if !assert.NoError(t, err) {
		return
	}
	replayed := req.GetBody != nil || method == http.MethodGet
	encoded := random.IntN(2) == 0
	if encoded {
		req.Header.Set("Accept-Encoding", "gzip")
	}

	resp, err := transport.RoundTrip(req)
	if !assert.False(t, (resp == nil) == (err == nil), "call %d: neither or both of a response and an error", number) {
		return
	}
	if err != nil {
		switch {
		case leaves && errors.Is(err, context.Canceled):
			outcomes.canceled.Add(1)
		case !repeatable:
			outcomes.ambiguous.Add(1)
		default:
			t.Errorf("call %d: a network failure of a GET was not retried: %v", number, err)
		}
		return
	}
	received, readErr := io.ReadAll(resp.Body)
	resp.Body.Close()
	s.checkBytes(t, resp, received, readErr)
	if resp.Request != req {
		t.Errorf("call %d: the response's request is not the caller's", number)
	}
	graph, isGraph := graphretry.ParseError(resp.StatusCode, decompressed(resp, received))
	switch {
	case leaves && readErr != nil:
		outcomes.canceled.Add(1)
	case resp.StatusCode == http.StatusOK && readErr == nil:
		outcomes.succeeded.Add(1)
	case !isGraph:
		if repeatable && resp.StatusCode >= 500 {
			t.Errorf("call %d: a gateway's failure of a GET was not retried", number)
		}
		outcomes.ambiguous.Add(1)
	default:
		retryable := graph.Code == graphretry.CodeAPIService || graph.Code == graphretry.CodeServiceUnavailable ||
			graph.Code == graphretry.CodeRateLimitHit || graph.Code == 131057
		if retryable && replayed {
			t.Errorf("call %d: lost, though it was definitely refused and could be retried: %v", number, graph)
		}
		outcomes.failed.Add(1)
	}
}

// checkBytes compares what the caller got with what a server sent.
func (s *chaosServers) checkBytes(t *testing.T, resp *http.Response, received []byte, readErr error) {
	trace := resp.Header.Get("X-Fb-Trace-Id")
	value, ok := s.answers.Load(trace)
	for i := 0; !ok && i < 1000; i++ { // the server's goroutine may still be about to keep it
		time.Sleep(time.Millisecond)
		value, ok = s.answers.Load(trace)
	}
	if !ok {
		t.Errorf("no server sent the answer %q", trace)
		return
	}
	sent := value.([]byte)
	if resp.Uncompressed {
		reader, err := gzip.NewReader(bytes.NewReader(sent))
		if err == nil {
			sent, err = io.ReadAll(reader)
		}
		if err != nil && readErr == nil {
			t.Errorf("answer %s: %v", trace, err)
		}
	}
	if readErr == nil && !bytes.Equal(sent, received) || readErr != nil && !bytes.HasPrefix(sent, received) {
		t.Errorf("answer %s: sent %d bytes, received %d others (%v)", trace, len(sent), len(received), readErr)
	}
}

// decompressed is a response's body as its caller would read it.
func decompressed(resp *http.Response, body []byte) []byte {
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return body
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	decompressed, _ := io.ReadAll(reader)
	return decompressed
}

// chaosMessage is a message that no other call sends, of some length.
func chaosMessage(number, length int) string {
	return fmt.Sprintf(`{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":%q},"biz_opaque_callback_data":"chaos-%d"}`,
		strings.Repeat("x", length), number)
}
