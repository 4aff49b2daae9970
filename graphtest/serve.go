package graphtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ServeHTTP answers over HTTP/1.1 and HTTP/2, for
// [net/http/httptest.NewServer].
//
// To break a connection it closes it. Over HTTP/2, where it cannot, it panics with
// [http.ErrAbortHandler], as net/http documents. A server's Close waits for the
// calls that hang in [FaultHang] or [FaultStall], so end those calls first.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := readRequest(r, r.Body)
	reply, misuse := a.handle(request)
	if misuse != nil {
		http.Error(w, misuse.Error(), http.StatusInternalServerError)
		return
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if wait(r, reply.delay) != nil {
		panic(http.ErrAbortHandler)
	}
	switch reply.fault {
	case FaultBreak:
		if reset(w) {
			return
		}
		panic(http.ErrAbortHandler)
	case FaultHang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}

	header := w.Header()
	for name, values := range reply.header {
		header[name] = values
	}
	if !bodyForbidden(reply.status) {
		header.Set("Content-Length", strconv.Itoa(len(reply.body)))
	}
	w.WriteHeader(reply.status)
	sent := reply.body
	if reply.fault != FaultNone {
		sent = sent[:len(sent)/2]
	}
	_, _ = w.Write(sent) // a caller that has left is no concern of ours
	if reply.fault == FaultNone {
		return
	}
	_ = http.NewResponseController(w).Flush()
	if reply.fault == FaultStall {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

// reset closes an HTTP/1.1 connection so that the caller sees a reset rather
// than an end. It is false where the connection cannot be had, as over HTTP/2.
func reset(w http.ResponseWriter) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	raw := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn() // closing TLS would send its farewell first
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
	return true
}

// RoundTrip answers in memory, without a connection and without a goroutine, so it
// can be called in a [testing/synctest] bubble. It keeps the contract of
// [http.RoundTripper], and does as [http.Transport] does: a body must have the
// length of the request's ContentLength, and a call ends when its context ends or
// its Cancel channel is closed. After that the answer's Body cannot be read.
func (a *API) RoundTrip(r *http.Request) (*http.Response, error) {
	body := &onceBody{ReadCloser: r.Body}
	defer body.Close()
	if r.URL == nil {
		return nil, errors.New("graphtest: the request has no URL")
	}
	if err := left(r); err != nil {
		return nil, err
	}

	// A body that stalls is closed when the call ends, as net/http does.
	stop := context.AfterFunc(r.Context(), func() { body.Close() })
	request, err := readRequest(r, body.reader())
	stop()
	if err == nil && r.ContentLength > 0 && request.size != r.ContentLength {
		err = fmt.Errorf("graphtest: ContentLength=%d with Body length %d", r.ContentLength, request.size)
		request.broken = true
	}
	reply, misuse := a.handle(request)
	if misuse != nil {
		return nil, misuse
	}
	if err != nil {
		if gone := left(r); gone != nil {
			err = gone
		}
		return nil, err
	}
	if err := wait(r, reply.delay); err != nil {
		return nil, err
	}
	switch reply.fault {
	case FaultBreak:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	case FaultHang:
		return nil, untilLeft(r)
	}
	return a.response(r, reply), nil
}

func (a *API) response(r *http.Request, reply *reply) *http.Response {
	response := &http.Response{
		Status:        strconv.Itoa(reply.status) + " " + http.StatusText(reply.status),
		StatusCode:    reply.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        reply.header,
		ContentLength: int64(len(reply.body)),
		Close:         reply.header.Get("Connection") == "close",
		Request:       r,
	}
	body := &responseBody{api: a, request: r, fault: reply.fault, closed: make(chan struct{})}
	switch {
	case bodyForbidden(reply.status):
		response.ContentLength = 0
	case r.Method == http.MethodHead:
		response.Header.Set("Content-Length", strconv.Itoa(len(reply.body)))
	default:
		response.Header.Set("Content-Length", strconv.Itoa(len(reply.body)))
		body.rest = reply.body
		if reply.fault != FaultNone {
			body.rest = body.rest[:len(body.rest)/2]
		}
	}
	a.open.Add(1)
	response.Body = body
	return response
}

// responseBody is the Body of an answer given in memory.
type responseBody struct {
	api     *API
	request *http.Request
	fault   Fault

	once   sync.Once
	closed chan struct{}
	rest   []byte // what is still to be read
}

func (b *responseBody) Read(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	default:
	}
	if err := left(b.request); err != nil {
		return 0, err
	}
	if len(b.rest) > 0 {
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	}
	switch b.fault {
	case FaultTruncate:
		return 0, io.ErrUnexpectedEOF
	case FaultStall:
		select {
		case <-b.closed:
			return 0, http.ErrBodyReadAfterClose
		case <-b.request.Context().Done():
		case <-canceled(b.request):
		}
		return 0, left(b.request)
	}
	return 0, io.EOF
}

func (b *responseBody) Close() error {
	b.once.Do(func() {
		close(b.closed)
		b.api.open.Add(-1)
	})
	return nil
}

// onceBody is a request's body that is closed once, whoever is first.
type onceBody struct {
	io.ReadCloser // nil for a request without a body
	once          sync.Once
}

func (b *onceBody) Close() error {
	var err error
	if b.ReadCloser != nil {
		b.once.Do(func() { err = b.ReadCloser.Close() })
	}
	return err
}

// reader is nil, not a nil in an interface, for a request without a body.
func (b *onceBody) reader() io.Reader {
	if b.ReadCloser == nil {
		return nil
	}
	return b.ReadCloser
}

var errCanceled = errors.New("graphtest: the request's Cancel channel is closed")

// canceled is the channel that older code closes to leave a call.
func canceled(r *http.Request) <-chan struct{} {
	//lint:ignore SA1019 http.Client.Timeout still leaves a call by it
	return r.Cancel
}

// left is the error of a call whose caller has left, nil while it is there.
func left(r *http.Request) error {
	select {
	case <-r.Context().Done():
		return context.Cause(r.Context())
	case <-canceled(r):
		return errCanceled
	default:
		return nil
	}
}

// untilLeft waits for the caller to leave.
func untilLeft(r *http.Request) error {
	select {
	case <-r.Context().Done():
	case <-canceled(r):
	}
	return left(r)
}

// wait lets time pass, unless the caller leaves first.
func wait(r *http.Request, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.Context().Done():
	case <-canceled(r):
	}
	return left(r)
}

// bodyForbidden tells the statuses that never have a body, RFC 9110 section 6.4.1.
func bodyForbidden(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
