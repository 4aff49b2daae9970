package graphretry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

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
		if err := call.check(); err != nil {
			text := fmt.Sprintf("call %d, %s over HTTP/%d, repeatable %t, met", call.number, call.method, call.number%2+1, call.repeatable())
			for _, meeting := range call.met {
				text += fmt.Sprintf(" %q", meeting.kind.name)
			}
			wrong = append(wrong, fmt.Sprint(text, ": ", err))
		}
	}
	assert.Empty(t, wrong[:min(len(wrong), 20)], "%d calls went wrong", len(wrong))
}

// check returns what is wrong with how the call went, nil if nothing is.
func (call *chaosCall) check() error {
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
