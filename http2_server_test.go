package graphretry_test

import (
	"encoding/binary"
	"io"
	"net"
)

// The frames, flags and error codes of HTTP/2 that the tests send or look at
// (RFC 9113, sections 6 and 7).
const (
	frameData, frameHeaders, frameReset, frameSettings, frameGoAway byte = 0x0, 0x1, 0x3, 0x4, 0x7

	flagEndStream byte = 0x1

	codeNone, codeProtocol, codeInternal, codeRefused, codeCancel, codeCalm uint32 = 0x0, 0x1, 0x2, 0x7, 0x8, 0xb
)

// framedConn is the server's side of an HTTP/2 connection, frame by frame.
type framedConn struct{ net.Conn }

// acceptFrames begins an HTTP/2 connection.
func acceptFrames(conn net.Conn) (framedConn, error) {
	if _, err := io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return framedConn{}, err
	}
	c := framedConn{conn}
	c.send(frameSettings, 0, nil)
	return c, nil
}

// request reads until a request has arrived whole, and returns its stream.
func (c framedConn) request() (uint32, error) {
	for {
		var header [9]byte
		if _, err := io.ReadFull(c, header[:]); err != nil {
			return 0, err
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, c, length); err != nil {
			return 0, err
		}
		if kind, flags := header[3], header[4]; (kind == frameHeaders || kind == frameData) && flags&flagEndStream != 0 {
			return binary.BigEndian.Uint32(header[5:]), nil
		}
	}
}

// send sends a frame.
func (c framedConn) send(kind byte, stream uint32, payload []byte) {
	frame := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, 0}
	frame = binary.BigEndian.AppendUint32(frame, stream)
	c.Write(append(frame, payload...))
}

// reset sends a RST_STREAM.
func (c framedConn) reset(stream, code uint32) {
	c.send(frameReset, stream, binary.BigEndian.AppendUint32(nil, code))
}

// goAway sends a GOAWAY.
func (c framedConn) goAway(last, code uint32) {
	c.send(frameGoAway, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), code))
}
