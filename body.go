package graphretry

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// peekLimit is how much of a failed answer's body is read to find the Graph
// error in it. Those that Meta publishes have less than 1 KiB.
const peekLimit = 64 << 10

// peekedBody is a response body of which the first bytes were read ahead. Who
// reads it finds every byte, and the end or the error where they were.
type peekedBody struct {
	peeked []byte        // what was read ahead
	unread []byte        // what of it the caller has not read yet
	err    error         // what came after peeked; nil: more follows in rest
	rest   io.ReadCloser // the body itself
	closed atomic.Bool   // net/http lets a body be closed while it is read
	sent   *http.Request // what it is the answer to, as it left; nil: not known
}

// peek reads ahead in the body of resp, up to [peekLimit], and puts it back. It
// can be called again for the same response.
func peek(resp *http.Response) *peekedBody {
	if body, ok := resp.Body.(*peekedBody); ok && len(body.unread) == len(body.peeked) {
		return body
	}
	body := &peekedBody{rest: resp.Body}
	if resp.Body == nil {
		// What was no body stays none: this one is for our reading alone.
		body.rest, body.err = http.NoBody, io.EOF
		return body
	}
	size := int64(512)
	if 0 <= resp.ContentLength && resp.ContentLength < peekLimit {
		// One more, so that the reading ends at the end and not before it.
		size = resp.ContentLength + 1
	}
	buffer := make([]byte, 0, size)
	for body.err == nil && len(buffer) <= peekLimit {
		if len(buffer) == cap(buffer) {
			buffer = slices.Grow(buffer, len(buffer))
		}
		var n int
		n, body.err = resp.Body.Read(buffer[len(buffer):min(cap(buffer), peekLimit+1)])
		buffer = buffer[:len(buffer)+n]
	}
	body.peeked, body.unread = buffer, buffer
	resp.Body = body
	return body
}

// Read gives the peeked bytes, then what follows them.
func (b *peekedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.unread) > 0 {
		n := copy(p, b.unread)
		b.unread = b.unread[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.rest.Read(p)
}

// Close closes the body itself.
func (b *peekedBody) Close() error {
	b.closed.Store(true)
	return b.rest.Close()
}

// release gives the connection back before a wait, if nothing is left to read
// from it: net/http uses it again then. What was peeked stays readable, for the
// caller whose time runs out. A longer body, which is never a Graph error,
// keeps its connection, since the caller may have to get it whole.
func (b *peekedBody) release() {
	if b.err != nil {
		b.rest.Close()
		b.rest = http.NoBody
	}
}

// decoded is the peeked bytes without their Content-Encoding, as far as they
// make sense. The bytes that the caller reads stay encoded. net/http has
// decoded them already unless the caller asked for an encoding itself; of those
// that the caller can ask for, the standard library knows gzip and deflate.
func (b *peekedBody) decoded(resp *http.Response) []byte {
	var decoder io.Reader
	var err error
	switch strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))) {
	case "gzip", "x-gzip":
		decoder, err = gzip.NewReader(bytes.NewReader(b.peeked))
	case "deflate":
		decoder, err = zlib.NewReader(bytes.NewReader(b.peeked))
	default:
		return b.peeked
	}
	if err != nil {
		return b.peeked
	}
	// A decoder that fails has decoded what it could; the JSON is whole or not.
	decoded, _ := io.ReadAll(io.LimitReader(decoder, peekLimit))
	return decoded
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
		// Many a reader gives this once it is closed. A body that was cut off must
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
// never hold more than that.
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
// it gives what makes a fresh copy, as in [http.Request.GetBody]; else nil, and
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
