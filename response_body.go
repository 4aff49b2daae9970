package graphretry

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// peekLimit is how much of a failed answer's body is read to find the Graph
// error in it. Those that Meta publishes have less than 1 KiB.
const peekLimit = 64 << 10

// peekedBody is a response body of which the first bytes were read ahead. Who
// reads it finds every byte, and the end or the error where they were.
type peekedBody struct {
	resp    *http.Response
	trailer http.Header   // resp's, as it is at the end of the body
	peeked  []byte        // what was read ahead
	unread  []byte        // what of it the caller has not read yet
	err     error         // what came after peeked; nil: more follows in rest
	rest    io.ReadCloser // the body itself
	closed  atomic.Bool   // net/http lets a body be closed while it is read
	sent    *http.Request // what it is the answer to, as it left; nil: not known
}

// peek reads ahead in the body of resp, up to [peekLimit], and puts it back. It
// can be called again for the same response. The answer to a HEAD has none.
func peek(resp *http.Response) *peekedBody {
	if body, ok := resp.Body.(*peekedBody); ok && len(body.unread) == len(body.peeked) {
		return body
	}
	body := &peekedBody{resp: resp, rest: resp.Body}
	if resp.Body == nil {
		// What was no body stays none: this one is for our reading alone.
		body.rest, body.err = http.NoBody, io.EOF
		return body
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		// There is nothing to read, and so nothing to wait for or to put back.
		return body
	}
	size := int64(512)
	if 0 <= resp.ContentLength && resp.ContentLength < peekLimit {
		// One more, so that the reading ends at the end and not before it.
		size = resp.ContentLength + 1
	}
	before := resp.Trailer.Clone()
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
	// The trailers come with the end of the body, for the caller too.
	if body.err == io.EOF {
		body.trailer, resp.Trailer = resp.Trailer, before
	}
	return body
}

// Read reads the peeked bytes, then what follows them.
func (b *peekedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.unread) > 0 {
		n := copy(p, b.unread)
		b.unread = b.unread[n:]
		return n, nil
	}
	if b.err == nil {
		return b.rest.Read(p)
	}
	if b.err == io.EOF {
		b.showTrailer()
	}
	return 0, b.err
}

// showTrailer has the response carry the trailers. Those that were announced came
// with the header, and are filled in where they stand, for a copy of the response
// too.
func (b *peekedBody) showTrailer() {
	if b.resp.Trailer == nil {
		b.resp.Trailer = b.trailer
	}
	maps.Copy(b.resp.Trailer, b.trailer)
}

// Close closes the body itself.
func (b *peekedBody) Close() error {
	b.closed.Store(true)
	return b.rest.Close()
}

// release hands the connection back before a wait, if nothing is left to read
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
