// Package jsonbody walks JSON without decoding it. It knows bytes, and nothing of what
// stands in them.
package jsonbody

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"strconv"
)

// Trim returns a body without what may stand around its JSON: a byte order mark
// before, and blanks or NUL after.
func Trim(body []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")), " \t\r\n\v\f\x00")
}

// Members walks the members of a JSON object: the keys without their quotes,
// the values as they stand. It has none for any other value. It only steps over
// strings and counts brackets, which is right for valid JSON and ends for any.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := bytes.TrimLeft(object, " \t\r\n")
		if len(rest) == 0 || rest[0] != '{' {
			return
		}
		for rest = rest[1:]; ; {
			rest = bytes.TrimLeft(rest, " \t\r\n,")
			keyEnd := valueEnd(rest)
			if keyEnd < len(`""`) {
				return // the closing brace
			}
			key := rest[1 : keyEnd-1]
			if bytes.IndexByte(key, '\\') >= 0 {
				key = []byte(Text(rest[:keyEnd]))
			}
			rest = bytes.TrimLeft(rest[keyEnd:], " \t\r\n:")
			end := valueEnd(rest)
			if !yield(key, rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// Member returns the value of a member of a JSON object, nil if it has none. Of
// several of that name it is the last, as in encoding/json.
func Member(object []byte, name string) (last []byte) {
	for key, value := range Members(object) {
		if string(key) == name {
			last = value
		}
	}
	return last
}

// Elements walks the elements of a JSON array, as [Members] does an object.
func Elements(array []byte) iter.Seq2[int, []byte] {
	return func(yield func(i int, value []byte) bool) {
		rest := bytes.TrimLeft(array, " \t\r\n")
		if len(rest) == 0 || rest[0] != '[' {
			return
		}
		rest = rest[1:]
		for i := 0; ; i++ {
			rest = bytes.TrimLeft(rest, " \t\r\n,")
			end := valueEnd(rest)
			if end == 0 || !yield(i, rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// valueEnd returns the length of the JSON value that text begins with, 0 if it
// begins with none.
func valueEnd(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case quoted && c != '"':
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return i
			}
			if depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c == ':' || c <= ' '):
			return i
		}
	}
	return len(text)
}

// Integer reads a JSON number that is an integer, however it is written, or a
// string of its digits.
func Integer(value []byte) (int, bool) {
	if n, err := strconv.Atoi(Unquoted(value)); err == nil {
		return n, true
	}
	// Beyond that a float64 does not have every integer.
	const largest = min(1<<53, math.MaxInt)
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > largest {
		return 0, false
	}
	return int(n), true
}

// Unquoted returns the text of a JSON string, and any other value as it stands.
func Unquoted(value []byte) string {
	if bytes.HasPrefix(value, []byte(`"`)) {
		return Text(value)
	}
	return string(value)
}

// Text reads a JSON string; any other value has no text.
func Text(value []byte) string {
	var s string
	if len(value) > 0 && value[0] == '"' {
		// The value stood in valid JSON, so it can only be a string.
		_ = json.Unmarshal(value, &s)
	}
	return s
}
