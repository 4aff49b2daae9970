// Package jsonbody says what may stand around the JSON in a body of Meta's.
package jsonbody

import "bytes"

// Trim returns a body without what may stand around its JSON: a byte order mark
// before, and blanks or NUL after.
func Trim(body []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")), " \t\r\n\v\f\x00")
}
