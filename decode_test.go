package graphretry_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// vector is an answer that somebody met and published.
type vector struct {
	Name   string
	Status int
	Body   string
	Want   *struct {
		Code      graphretry.Code
		Subcode   int
		Type      string
		Message   string
		Details   string
		Transient bool
		UserTitle string `json:"user_title"`
		TraceID   string `json:"trace_id"`
	}
}

// vectors reads testdata/vectors/errors.json.
func vectors(t testing.TB) []vector {
	t.Helper()
	file, err := os.ReadFile("testdata/vectors/errors.json")
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(file, &all))
	require.GreaterOrEqual(t, len(all), 8)
	return all
}

func TestPublishedAnswersAreReadFieldByField(t *testing.T) {
	for _, vector := range vectors(t) {
		t.Run(vector.Name, func(t *testing.T) {
			parsed, ok := graphretry.ParseError(vector.Status, nil, []byte(vector.Body))
			fromResponse, okToo := graphretry.ErrorFromResponse(failedResponse(max(400, vector.Status), vector.Body))
			if vector.Want == nil {
				assert.False(t, ok)
				assert.Nil(t, parsed)
				assert.False(t, okToo)
				assert.Nil(t, fromResponse)
				return
			}
			require.True(t, ok)
			require.True(t, okToo)
			assert.Equal(t, vector.Status, parsed.Status)
			assert.Equal(t, max(400, vector.Status), fromResponse.Status)
			assert.Equal(t, vector.Want.Code, parsed.Code)
			assert.Equal(t, vector.Want.Subcode, parsed.Subcode)
			assert.Equal(t, vector.Want.Type, parsed.Type)
			assert.Equal(t, vector.Want.Message, parsed.Message)
			assert.Equal(t, vector.Want.Details, parsed.Details)
			assert.Equal(t, vector.Want.Transient, parsed.Transient)
			assert.Equal(t, vector.Want.UserTitle, parsed.UserTitle)
			assert.Equal(t, vector.Want.TraceID, parsed.TraceID)
			assert.Zero(t, parsed.RetryAfter)

			var body struct{ Error json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(vector.Body), &body))
			assert.Equal(t, string(body.Error), string(parsed.Raw), "the error object as it was received")

			fromResponse.Status = parsed.Status
			assert.Equal(t, parsed, fromResponse)
		})
	}
}

func TestUserMessageIsRead(t *testing.T) {
	e, ok := graphretry.ParseError(400, nil, []byte(`{"error":{"code":1,"error_user_title":"A title","error_user_msg":"A text.\nOf two lines."}}`))
	require.True(t, ok)
	assert.Equal(t, "A title", e.UserTitle)
	assert.Equal(t, "A text.\nOf two lines.", e.UserMessage)
}

func TestErrorDataIsAnObjectAStringOrJSONInAString(t *testing.T) {
	for data, details := range map[string]string{
		`{"messaging_product":"whatsapp","details":"too long"}`: "too long",
		`{"details":"too long","blame_field_specs":[["a"]]}`:    "too long",
		`{ "details" : "too long" }`:                            "too long",
		`{"details":"\"{[\\"}`:                                  `"{[\`,
		`"too long"`:                                            "too long",
		`"{\"blame_field_specs\":[[\"time_stop\"]]}"`:           `{"blame_field_specs":[["time_stop"]]}`,
		`"{\"details\":\"too long\"}"`:                          `{"details":"too long"}`,
		`"{\"details\":"`:                                       `{"details":`,
		`""`:                                                    "",
		`{}`:                                                    "",
		`{"blame_field":"targeting"}`:                           "",
		`{"details":null}`:                                      "",
		`{"details":7}`:                                         "",
		`{"details":{"details":"deeper"}}`:                      "",
		`{"inner":{"details":"deeper"}}`:                        "",
		`null`:                                                  "",
		`7`:                                                     "",
		`[]`:                                                    "",
		`["too long"]`:                                          "",
		`[{"details":"too long"}]`:                              "",
		// Beside the code it stands where there is none in error_data.
		`null,"details":"too long"`:                      "too long",
		`{"details":"too long"},"details":"less exact"`:  "too long",
		`"too long","details":"less exact"`:              "too long",
		`{"messaging_product":"w"},"details":"too long"`: "too long",
		`{"details":7},"details":"too long"`:             "too long",
		`null,"details":{"details":"too long"}`:          "",
	} {
		e, ok := graphretry.ParseError(400, nil, []byte(`{"error":{"error_data":`+data+`,"code":100}}`))
		if assert.True(t, ok, data) {
			assert.Equal(t, details, e.Details, data)
			assert.EqualValues(t, 100, e.Code, data)
		}
	}
}

func TestCodeIsANumberOrANumericString(t *testing.T) {
	for code, want := range map[string]graphretry.Code{
		`2`: 2, `"2"`: 2, `0`: 0, `"0"`: 0, `131016`: 131016, `"131016"`: 131016, `-1`: -1, `131016.0`: 131016, `1.31016e5`: 131016, `2E0`: 2, `200e-2`: 2, `"-1"`: -1, `"\u0032"`: 2,
	} {
		e, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"code":`+code+`}}`))
		if assert.True(t, ok, code) {
			assert.Equal(t, want, e.Code, code)
		}
	}
	for _, code := range []string{
		`null`, `true`, `""`, `" "`, `" 2"`, `"2 "`, `"two"`, `"0x2"`, `"2.0"`, `"1_000"`, `2.5`, `1e-1`, `1e300`, `1e999`, `9007199254740994.0`, `[2]`, `{"code":2}`, `"\"2\""`,
		`99999999999999999999`, `"99999999999999999999"`, `-99999999999999999999`,
	} {
		e, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"message":"m","code":`+code+`}}`))
		assert.False(t, ok, code)
		assert.Nil(t, e, code)
	}
	_, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"message":"m"}}`))
	assert.False(t, ok, "no code at all")
}

func TestSubcodeIsANumberOrANumericString(t *testing.T) {
	for subcode, want := range map[string]int{
		`133010`: 133010, `"133010"`: 133010, `33`: 33, `0`: 0, `null`: 0, `"none"`: 0, `{}`: 0, `99999999999999999999`: 0,
	} {
		e, ok := graphretry.ParseError(400, nil, []byte(`{"error":{"error_subcode":`+subcode+`,"code":100}}`))
		if assert.True(t, ok, subcode) {
			assert.Equal(t, want, e.Subcode, subcode)
		}
	}
}

func TestEveryFieldButTheCodeMayBeMissing(t *testing.T) {
	e, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"code":2}}`))
	require.True(t, ok)
	assert.Equal(t, &graphretry.Error{Status: 500, Code: 2, Raw: []byte(`{"code":2}`)}, e)
}

func TestFieldOfAnotherTypeIsAsGoodAsMissing(t *testing.T) {
	e, ok := graphretry.ParseError(500, nil, []byte(`{"error":{"message":["m"],"type":7,"error_user_title":{},"error_user_msg":null,`+
		`"is_transient":"yes","fbtrace_id":12,"title":{"a":"b"},"code":2}}`))
	require.True(t, ok)
	e.Raw = nil
	assert.Equal(t, &graphretry.Error{Status: 500, Code: 2}, e)
}

func TestBodyThatIsNoGraphErrorIsSimplyNotOne(t *testing.T) {
	page := "<!DOCTYPE html><html><head><title>Error</title></head><body>" +
		strings.Repeat("<p>We're working on it.</p>\n", 200<<10/28) + `<script>{"error":{"code":2}}</script></body></html>`
	require.Greater(t, len(page), 200<<10-100)
	for name, body := range map[string]string{
		"empty":                         "",
		"white space":                   " \r\n\t",
		"HTML":                          "<html><body><h1>502 Bad Gateway</h1></body></html>",
		"a page of 200 KB":              page,
		"200 KB of JSON":                `{"padding":"` + strings.Repeat("x", 200<<10) + `"}`,
		"200 KB of brackets":            strings.Repeat("[", 200<<10),
		"200 KB of closed brackets":     strings.Repeat("[", 100<<10) + strings.Repeat("]", 100<<10),
		"200 KB of objects":             strings.Repeat(`{"error":`, 20<<10),
		"text":                          "upstream connect error or disconnect/reset before headers",
		"a bare array":                  `[]`,
		"a bare array of errors":        `[{"error":{"code":2}}]`,
		"a bare error object":           `{"message":"m","code":2}`,
		"a bare array of error objects": `[{"message":"m","code":2}]`,
		"null":                          `null`,
		"true":                          `true`,
		"a number":                      `2`,
		"a string":                      `"error"`,
		"a string with an error in it":  `"{\"error\":{\"code\":2}}"`,
		"an empty object":               `{}`,
		"a success":                     `{"messages":[{"id":"wamid.1"}]}`,
		"error null":                    `{"error":null}`,
		"error a string":                `{"error":"invalid_request","error_description":"d","code":2}`,
		"error a number":                `{"error":2}`,
		"error an array":                `{"error":[{"code":2}]}`,
		"error an empty object":         `{"error":{}}`,
		"error in capitals":             `{"Error":{"Code":2}}`,
		"code in capitals":              `{"error":{"CODE":2}}`,
		"code one level too deep":       `{"error":{"error_data":{"code":2},"message":"m"}}`,
		"error one level too deep":      `{"data":{"error":{"code":2}}}`,
		"errors in the plural":          `{"errors":[{"code":2}]}`,
		"something after it":            `{"error":{"code":2}}<!-- -->`,
		"something before it":           `for(;;);{"error":{"code":2}}`,
		"two byte order marks":          "\ufeff\ufeff" + `{"error":{"code":2}}`,
		"UTF-16":                        "\xff\xfe{\x00\"\x00e\x00",
		"NUL in it":                     `{"error":` + "\x00" + `{"code":2}}`,
		"NUL before it":                 "\x00" + `{"error":{"code":2}}`,
		"two of them":                   `{"error":{"code":2}}{"error":{"code":2}}`,
		"comma too many":                `{"error":{"code":2,}}`,
		"quotes of the wrong kind":      `{'error':{'code':2}}`,
		"not UTF-8 nor JSON":            "\xff\xfe\x00",
		"NULs":                          "\x00\x00\x00\x00",
		"the last code is none":         `{"error":{"code":2,"code":"x"}}`,
		"the last error is none":        `{"error":{"code":2},"error":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := graphretry.ParseError(503, nil, []byte(body))
			assert.False(t, ok)
			assert.Nil(t, e)
			resp := failedResponse(503, body)
			e, ok = graphretry.ErrorFromResponse(resp)
			assert.False(t, ok)
			assert.Nil(t, e)
			after, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.True(t, body == string(after), "the body stays as it was")
		})
	}
}

func TestTruncatedBodyIsNoGraphError(t *testing.T) {
	for _, vector := range vectors(t) {
		for length := range len(vector.Body) {
			_, ok := graphretry.ParseError(500, nil, []byte(vector.Body[:length]))
			if !assert.False(t, ok, "%s cut off after %d bytes", vector.Name, length) {
				break
			}
		}
	}
}

func TestErrorIsFoundHoweverItsJSONIsWritten(t *testing.T) {
	for name, body := range map[string]string{
		"white space":              " \r\n\t{ \"error\" :\n{\t\"code\" : 2 , \"message\" : \"m\" } }\n ",
		"the code last":            `{"error":{"message":"m","error_data":{"code":100},"code":2}}`,
		"the code first":           `{"error":{"code":2,"error_data":{"code":100},"message":"m"}}`,
		"other members around":     `{"a":[1,{"error":{"code":100}}],"error":{"message":"m","code":2},"z":"}"}`,
		"brackets in strings":      `{"x":"}]{[","error":{"x":"{\"code\":100}","message":"m","code":2}}`,
		"escapes in strings":       `{"x":"\\\"","error":{"x":"\\","message":"m","code":2}}`,
		"escapes in the message":   `{"error":{"message":"\u006d","code":2}}`,
		"escapes in the names":     `{"\u0065rror":{"m\u0065ssage":"m","\u0063\u006f\u0064\u0065":2}}`,
		"an array in it":           `{"error":{"x":[[],[{}],"]"],"message":"m","code":2}}`,
		"the last code counts":     `{"error":{"code":100,"message":"m","code":2}}`,
		"the last error counts":    `{"error":{"code":100},"error":{"message":"m","code":2}}`,
		"an empty name":            `{"":1,"error":{"":2,"message":"m","code":2}}`,
		"a name of a quote":        `{"\"":1,"error":{"\\":2,"message":"m","code":2}}`,
		"not UTF-8 in a string":    "{\"error\":{\"x\":\"\xff\",\"message\":\"m\",\"code\":2}}",
		"every other JSON value":   `{"error":{"a":null,"b":true,"c":-1.5e+3,"d":"","e":[],"f":{},"message":"m","code":2}}`,
		"a byte order mark before": "\ufeff" + `{"error":{"message":"m","code":2}}`,
		"NUL and blanks after it":  `{"error":{"message":"m","code":2}}` + "\x00 \r\n\t\v\f\x00",
		"a long number before it":  `{"n":` + strings.Repeat("9", 1000) + `,"error":{"message":"m","code":2}}`,
	} {
		e, ok := graphretry.ParseError(503, nil, []byte(body))
		if assert.True(t, ok, name) {
			assert.EqualValues(t, 2, e.Code, name)
			assert.Equal(t, "m", e.Message, name)
		}
	}
}

func TestErrorSharesNoMemoryWithTheBody(t *testing.T) {
	body := []byte(`{"error":{"message":"m","code":2}}`)
	e, ok := graphretry.ParseError(500, nil, body)
	require.True(t, ok)
	for i := range body {
		body[i] = 'x'
	}
	assert.Equal(t, `{"message":"m","code":2}`, string(e.Raw))
	assert.Equal(t, "m", e.Message)
}
