package graphretry

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// requestBody is the body of a call, with what it takes to send it again.
type requestBody struct {
	recordLimit int64 // how much of a body without GetBody is kept for a retry, in bytes; 0: nothing
	mayBeCutOff bool  // an attempt has a timeout, and must not hang in a Read of its body

	present bool                          // asked before a RoundTripper below could change the request
	upload  *upload                       // the last attempt's body, if it is recorded or may be cut off
	getBody func() (io.ReadCloser, error) // makes the body of a retry; nil: it cannot be sent again
}

// first returns the request of the first attempt: req itself, or a copy if its
// body is recorded for a retry or an attempt timeout may cut it off.
func (b *requestBody) first(req *http.Request) *http.Request {
	b.present = req.Body != nil && req.Body != http.NoBody
	b.getBody = req.GetBody
	if !b.present || b.getBody != nil && !b.mayBeCutOff {
		return req
	}
	if b.getBody == nil {
		b.getBody = inMemory(req.Body)
	}
	limit := int64(-1) // nothing is recorded
	if b.getBody == nil && b.recordLimit > 0 && req.ContentLength <= b.recordLimit {
		limit = b.recordLimit
	}
	if limit < 0 && (!b.mayBeCutOff || cannotStall(req.Body)) {
		return req
	}
	b.upload = newUpload(req.Body, req.ContentLength, limit)
	clone := *req
	clone.Body = b.upload
	return &clone
}

// keep ends the recording after the first attempt: what was recorded can be sent
// again from now on, if it is the whole body.
func (b *requestBody) keep() {
	if b.getBody == nil && b.upload != nil {
		b.getBody = b.upload.replay()
	}
}

// withBody returns the request that was sent, or else req, with the GetBody that was
// made for a body in memory: its secrets are to be found as well.
func (b *requestBody) withBody(sent, req *http.Request) *http.Request {
	if !b.present || b.getBody == nil || req.GetBody != nil {
		return sent
	}
	if sent == nil {
		sent = req
	}
	clone := *sent
	clone.GetBody = b.getBody
	return &clone
}

// repeatable reports whether the body can be sent again.
func (b *requestBody) repeatable() bool { return !b.present || b.getBody != nil }

// again returns the request of a retry, with a fresh body and a header of its own:
// net/http may still send the last attempt as a RoundTripper below sets a field. The
// trailer stays the caller's, who may set its values at the end of each body.
func (b *requestBody) again(req *http.Request) (*http.Request, error) {
	clone := *req
	clone.Header = req.Header.Clone()
	if !b.present {
		return &clone, nil
	}
	body, err := b.getBody()
	if err != nil {
		return nil, err
	}
	if body == nil {
		// Else the call would be sent without what it says, or net/http's
		// error would stand in place of the last response.
		return nil, errors.New("graphretry: Request.GetBody returned a nil body: want a new reader of the whole body each time")
	}
	if b.upload = nil; b.mayBeCutOff && !cannotStall(body) {
		b.upload = newUpload(body, req.ContentLength, -1)
		body = b.upload
	}
	// net/http may use GetBody for what never left, such as a request on a
	// connection that was closed as it was taken.
	clone.Body, clone.GetBody = body, b.getBody
	return &clone, nil
}

// cannotStall reports whether a Read of body always comes back at once: it is in
// memory, or a file. net/http knows these bodies, too: it sends one in memory in
// one write with the header, and has the kernel send a file, unless it is wrapped.
func cannotStall(body io.ReadCloser) bool {
	if file, ok := body.(*os.File); ok {
		info, err := file.Stat()
		return err == nil && info.Mode().IsRegular()
	}
	return inMemory(body) != nil
}

// nopClosers are the types of io.NopCloser: of a reader, and of one that has
// WriteTo.
var nopClosers = []reflect.Type{reflect.TypeOf(io.NopCloser(nil)), reflect.TypeOf(io.NopCloser(new(bytes.Buffer)))}

// inMemory returns what makes fresh copies of a body that is in memory, as far as
// it is still unread, and nil for any other. [http.NewRequest] sets GetBody for
// these readers, but not where they are in an [io.NopCloser].
func inMemory(body io.ReadCloser) func() (io.ReadCloser, error) {
	value := reflect.ValueOf(body)
	if !slices.Contains(nopClosers, value.Type()) {
		return nil
	}
	switch reader := value.Field(0).Interface().(type) {
	case *bytes.Buffer:
		unread := reader.Bytes()
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(unread)), nil }
	case *bytes.Reader:
		unread := *reader
		return func() (io.ReadCloser, error) { fresh := unread; return io.NopCloser(&fresh), nil }
	case *strings.Reader:
		unread := *reader
		return func() (io.ReadCloser, error) { fresh := unread; return io.NopCloser(&fresh), nil }
	}
	return nil
}

// release drops what was recorded.
func (b *requestBody) release() {
	if b.upload != nil {
		b.upload.stop()
	}
}

// upload is the body of an attempt, as the next RoundTripper reads it. It keeps
// what is read, up to a limit, so that a body without GetBody can be sent again.
// Nothing is read ahead: a stream streams, and a reader that stalls stalls only
// whom it would have stalled anyway. And it can be cut off when its attempt has
// ended.
//
// net/http may read on in another goroutine after it has answered, hence the
// mutex.
type upload struct {
	body   io.ReadCloser
	length int64 // what the body is said to have; 0 or less: unknown

	closing  sync.Once
	closeErr error

	mu      sync.Mutex
	room    int64       // how much more may be kept; negative: nothing is kept any more
	kept    int64       // how much was kept
	chunks  [][]byte    // what was read, in pieces that are never copied
	whole   bool        // the body was read to its end, and all of it was kept
	begun   bool        // it was read from
	reading bool        // it is being read from
	ended   bool        // it was cut off, or closed after it was begun
	stalled *time.Timer // closes a body that is cut off in a Read
}

// newUpload is an upload that keeps up to limit bytes; negative: none.
func newUpload(body io.ReadCloser, length, limit int64) *upload {
	return &upload{body: body, length: length, room: limit}
}

// Read reads from the body and keeps what it read.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	if u.ended {
		u.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	u.begun, u.reading = true, true
	u.mu.Unlock()

	n, err := u.body.Read(p)

	u.mu.Lock()
	defer u.mu.Unlock()
	u.reading = false
	if u.stalled != nil {
		u.stalled.Stop()
	}
	if u.ended && err == io.EOF {
		// Many a reader returns this once it is closed. A body that was cut off must
		// not be sent as if it were whole, neither now nor by a retry.
		err = http.ErrBodyReadAfterClose
	}
	u.keep(p[:n])
	switch err {
	case nil:
		// Where net/http knows the length, the answer to the last byte can come
		// before it has looked for the end.
		u.whole = u.room >= 0 && u.length > 0 && u.kept == u.length
	case io.EOF:
		u.whole = u.room >= 0
	default:
		u.whole = false
		u.drop()
	}
	return n, err
}

// stallTime is how long a Read may still take once its upload is cut off.
const stallTime = 250 * time.Millisecond

// cutOff has the upload fail at its next Read, so that whoever sends it comes to
// an end. The body is theirs to close, as always: to close it beside a Read is a
// data race for many a body, a [multipart.Part] for one. Only where a Read does
// not come back is that the lesser evil. Over HTTP/1.1 net/http waits for that
// Read, and so the call would not obey its context.
func (u *upload) cutOff() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	if u.reading {
		u.stalled = time.AfterFunc(stallTime, func() { u.Close() })
	}
}

// keep adds p to the chunks. Each new chunk is as large as all before it, so
// that they are few, and none reaches over the limit, so that together they
// never keep more than that.
func (u *upload) keep(p []byte) {
	if int64(len(p)) > u.room {
		u.drop()
		return
	}
	u.room -= int64(len(p))
	u.kept += int64(len(p))
	for len(p) > 0 {
		if last := len(u.chunks) - 1; last >= 0 {
			chunk := u.chunks[last]
			n := copy(chunk[len(chunk):cap(chunk)], p)
			u.chunks[last] = chunk[:len(chunk)+n]
			p = p[n:]
		}
		if len(p) > 0 {
			const smallest = 512
			var size int64
			for _, chunk := range u.chunks {
				size += int64(len(chunk))
			}
			size = min(max(size, smallest, int64(len(p))), u.room+int64(len(p)))
			u.chunks = append(u.chunks, make([]byte, 0, size))
		}
	}
}

// drop forgets what was kept, for good.
func (u *upload) drop() {
	u.room, u.chunks = -1, nil
}

// Close closes the body, once: net/http can close it more often. Over HTTP/2 it
// also closes one that nobody has read, when the connection goes away under it,
// and sends the same one on the next connection. Whether that works is for the
// body to say, as it would be without us.
func (u *upload) Close() error {
	u.mu.Lock()
	u.ended = u.ended || u.begun
	u.mu.Unlock()
	u.closing.Do(func() { u.closeErr = u.body.Close() })
	return u.closeErr
}

// replay ends the keeping. If the body was read to its end within the limit,
// it returns what makes a fresh copy, as in [http.Request.GetBody]; else nil, and
// what was kept is dropped.
func (u *upload) replay() func() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	chunks := u.chunks
	// Whoever still reads must not write to them.
	u.drop()
	if !u.whole {
		return nil
	}
	return func() (io.ReadCloser, error) {
		// Reading net.Buffers uses up the slice it reads from.
		buffers := net.Buffers(slices.Clone(chunks))
		return io.NopCloser(&buffers), nil
	}
}

// stop ends a keeping that nobody needs.
func (u *upload) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop()
}

// headInMemory returns the head of a body that is in memory, else "".
func headInMemory(req *http.Request, mayAsk bool) string {
	if req.Body == nil || req.Body == http.NoBody {
		return ""
	}
	body := req.Body
	if sent, ok := body.(*upload); ok {
		body = sent.body
	}
	value := reflect.ValueOf(body)
	inNopCloser := slices.Contains(nopClosers, value.Type())
	if inNopCloser {
		// Of these, what was read can be read again, also while net/http still reads.
		// ReadAt and Size touch nothing that a Read changes.
		switch reader := value.Field(0).Interface().(type) {
		case *bytes.Reader:
			return headOf(reader, reader.Size())
		case *strings.Reader:
			return headOf(reader, reader.Size())
		}
	}
	if req.GetBody == nil || !mayAsk && !inNopCloser {
		return ""
	}
	fresh, err := req.GetBody()
	if err != nil || fresh == nil {
		return ""
	}
	defer fresh.Close()
	if inMemory(fresh) == nil {
		return ""
	}
	head, _ := io.ReadAll(io.LimitReader(fresh, peekLimit))
	return string(head)
}

func headOf(reader io.ReaderAt, size int64) string {
	head := make([]byte, min(size, peekLimit))
	n, _ := reader.ReadAt(head, 0)
	return string(head[:n])
}
