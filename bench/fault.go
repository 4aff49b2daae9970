package bench

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// fault is in front of an API. For a while it keeps the calls of one path from it, or all
// calls.
type fault struct {
	next        http.RoundTripper
	path        string // "": all
	from, until time.Time
	codes       []graphretry.Code // in turn; none: there is no connection

	mu    sync.Mutex
	calls int
	start time.Time
	kept  []int // in each second since the start
}

func (f *fault) RoundTrip(req *http.Request) (*http.Response, error) {
	now := time.Now()
	if now.Before(f.from) || !now.Before(f.until) || f.path != "" && f.path != req.URL.Path {
		return f.next.RoundTrip(req)
	}
	f.mu.Lock()
	turn := f.calls
	f.calls++
	f.kept = addAt(f.kept, int(now.Sub(f.start)/time.Second), 1)
	f.mu.Unlock()
	if len(f.codes) > 0 {
		return answerAfter(answerTime, req, f.codes[turn%len(f.codes)])
	}
	req.Body.Close()
	if err := wait(answerTime, req); err != nil {
		return nil, err
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// oneByOne is in front of an API that takes so many calls a second, one after the other. It
// answers a call with code 2 if the call would wait in line for longer than most.
type oneByOne struct {
	next     http.RoundTripper
	capacity int
	from     time.Time
	most     time.Duration

	mu      sync.Mutex
	free    time.Time // when the last one in line is through
	start   time.Time
	refused []int // in each second since the start
}

func (l *oneByOne) RoundTrip(req *http.Request) (*http.Response, error) {
	now := time.Now()
	l.mu.Lock()
	turn := max(0, l.free.Sub(now))
	switch {
	case now.Before(l.from):
		turn = 0
	case turn > l.most:
		l.refused = addAt(l.refused, int(now.Sub(l.start)/time.Second), 1)
		l.mu.Unlock()
		return answerAfter(answerTime, req, graphretry.CodeAPIService)
	default:
		l.free = now.Add(turn + time.Second/time.Duration(l.capacity))
	}
	l.mu.Unlock()
	if err := wait(turn, req); err != nil {
		return nil, err
	}
	return l.next.RoundTrip(req)
}

// poisoned stands before an API that fails for some messages whenever they are sent, and for
// no others.
type poisoned struct {
	next http.RoundTripper

	mu      sync.Mutex
	start   time.Time
	refused []int // in each second since the start
}

// isPoison reports whether message i is one of them: each tenth is.
func isPoison(i int) bool { return i%10 == 0 }

func (p *poisoned) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Body = io.NopCloser(bytes.NewReader(body))
	if !bytes.HasSuffix(body, []byte(`0"}`)) { // the message's number is the last thing in it
		return p.next.RoundTrip(req)
	}
	p.mu.Lock()
	p.refused = addAt(p.refused, int(time.Since(p.start)/time.Second), 1)
	p.mu.Unlock()
	return answerAfter(answerTime, req, graphretry.CodeAPIService)
}

// wait waits, and returns an error if the caller leaves before.
func wait(d time.Duration, req *http.Request) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-req.Context().Done():
		return req.Context().Err()
	}
}

// answerAfter answers a request with a code, after a time.
func answerAfter(d time.Duration, req *http.Request, code graphretry.Code) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	req.Body.Close()
	if err := wait(d, req); err != nil {
		return nil, err
	}
	body := graphtest.ErrorBody(code)
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}
