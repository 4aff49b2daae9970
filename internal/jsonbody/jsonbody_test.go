package jsonbody

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestWhatStandsAroundTheJSONIsTrimmed(t *testing.T) {
	for body, want := range map[string]string{
		"\ufeff{}": "{}", "{}\x00 \r\n\t\v\f": "{}", "{}": "{}", "": "", "\ufeff\ufeff{}": "\ufeff{}", " {}": " {}", "\x00{}": "\x00{}",
	} {
		assert.Equal(t, want, string(Trim([]byte(body))), "%q", body)
	}
}

// What is no valid JSON never gets so far, and would do no harm if it did.
func TestMembersEndWhereverTheirObjectBreaksOff(t *testing.T) {
	const object = `{"error": {"code": 2, "error_data": "a \"word\"", "list": [1, {"a": null}]}, "last": true}`
	for end := range len(object) + 1 {
		found := 0
		for _, value := range Members([]byte(object[:end])) {
			Text(value)
			Integer(value)
			for range Members(value) {
				found++
			}
			found++
		}
		assert.LessOrEqual(t, found, 5, object[:end])
	}
}

func TestMembersAndElementsAreThoseOfTheValue(t *testing.T) {
	const object = " \n{ \"a\" : [1, {\"b\":\"}]\\\"\"} , null],\t\"a\\u0062\":true,\"\":-1.5e3 }"
	found := map[string]string{}
	for key, value := range Members([]byte(object)) {
		found[string(key)] = string(value)
	}
	assert.Equal(t, map[string]string{"a": `[1, {"b":"}]\""} , null]`, "ab": "true", "": "-1.5e3"}, found)
	var elements []string
	for i, value := range Elements(Member([]byte(object), "a")) {
		assert.Equal(t, len(elements), i)
		elements = append(elements, string(value))
	}
	assert.Equal(t, []string{"1", `{"b":"}]\""}`, "null"}, elements)

	for _, none := range []string{"", "null", "12", `"a"`, "[]", "{}"} {
		for range Members([]byte(none)) {
			assert.Fail(t, "a member", none)
		}
		for range Elements([]byte(none)) {
			assert.Fail(t, "an element", none)
		}
	}
	for range Members([]byte(object)) {
		break
	}
	for range Elements([]byte("[1,2]")) {
		break
	}
}

func TestMemberIsTheLastOfItsName(t *testing.T) {
	assert.Equal(t, "2", string(Member([]byte(`{"a":1,"b":3,"a":2}`), "a")))
	assert.Nil(t, Member([]byte(`{"a":1}`), "b"))
}

func TestIntegerHoweverItIsWritten(t *testing.T) {
	for value, want := range map[string]int{"2": 2, `"131016"`: 131016, "-1": -1, "2.0": 2, "1e2": 100, "131000.000": 131000} {
		got, ok := Integer([]byte(value))
		assert.True(t, ok, value)
		assert.Equal(t, want, got, value)
	}
	for _, value := range []string{"", "2.5", `"2.0"`, `"x"`, "null", "true", "1e400", "1e17", "{}", `""`} {
		_, ok := Integer([]byte(value))
		assert.False(t, ok, value)
	}
}

func TestTextOfAStringAndOfAnyOtherValue(t *testing.T) {
	assert.Equal(t, `a"b`, Text([]byte(`"a\"b"`)))
	assert.Empty(t, Text([]byte("12")))
	assert.Empty(t, Text(nil))
	assert.Equal(t, `a"b`, Unquoted([]byte(`"a\"b"`)))
	assert.Equal(t, "12", Unquoted([]byte("12")))
}

// Of valid JSON the walk is that of encoding/json; of anything else it ends.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":[true,"x\"",{}]}`, `[[],{"":null}]`, `{"a":{"a":"\u0041"}}`, `{"a`, "[1,,2]", "\x00", `{"a" 1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		body = Trim(body)
		var want map[string]json.RawMessage
		decoded := json.Unmarshal(body, &want) == nil && utf8.Valid(body)
		got := map[string]json.RawMessage{}
		for key, value := range Members(body) {
			if decoded {
				got[string(key)] = value
			}
		}
		for range Elements(body) {
		}
		if !decoded {
			return
		}
		assert.Len(t, got, len(want))
		for key, value := range want {
			assert.Equal(t, string(value), string(got[key]), "%q", key)
		}
	})
}
