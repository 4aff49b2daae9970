package graphretry_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

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

// failedResponse is a failed answer whose body is told to be as long as it is.
func failedResponse(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

func TestPublishedAnswersAreReadFieldByField(t *testing.T) {
	for _, vector := range vectors(t) {
		t.Run(vector.Name, func(t *testing.T) {
			parsed, ok := graphretry.ParseError(vector.Status, []byte(vector.Body))
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
	e, ok := graphretry.ParseError(400, []byte(`{"error":{"code":1,"error_user_title":"A title","error_user_msg":"A text.\nOf two lines."}}`))
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
		e, ok := graphretry.ParseError(400, []byte(`{"error":{"error_data":`+data+`,"code":100}}`))
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
		e, ok := graphretry.ParseError(500, []byte(`{"error":{"code":`+code+`}}`))
		if assert.True(t, ok, code) {
			assert.Equal(t, want, e.Code, code)
		}
	}
	for _, code := range []string{
		`null`, `true`, `""`, `" "`, `" 2"`, `"2 "`, `"two"`, `"0x2"`, `"2.0"`, `"1_000"`, `2.5`, `1e-1`, `1e300`, `1e999`, `9007199254740994.0`, `[2]`, `{"code":2}`, `"\"2\""`,
		`99999999999999999999`, `"99999999999999999999"`, `-99999999999999999999`,
	} {
		e, ok := graphretry.ParseError(500, []byte(`{"error":{"message":"m","code":`+code+`}}`))
		assert.False(t, ok, code)
		assert.Nil(t, e, code)
	}
	_, ok := graphretry.ParseError(500, []byte(`{"error":{"message":"m"}}`))
	assert.False(t, ok, "no code at all")
}

func TestSubcodeIsANumberOrANumericString(t *testing.T) {
	for subcode, want := range map[string]int{
		`133010`: 133010, `"133010"`: 133010, `33`: 33, `0`: 0, `null`: 0, `"none"`: 0, `{}`: 0, `99999999999999999999`: 0,
	} {
		e, ok := graphretry.ParseError(400, []byte(`{"error":{"error_subcode":`+subcode+`,"code":100}}`))
		if assert.True(t, ok, subcode) {
			assert.Equal(t, want, e.Subcode, subcode)
		}
	}
}

func TestEveryFieldButTheCodeMayBeMissing(t *testing.T) {
	e, ok := graphretry.ParseError(500, []byte(`{"error":{"code":2}}`))
	require.True(t, ok)
	assert.Equal(t, &graphretry.Error{Status: 500, Code: 2, Raw: []byte(`{"code":2}`)}, e)
}

func TestFieldOfAnotherTypeIsAsGoodAsMissing(t *testing.T) {
	e, ok := graphretry.ParseError(500, []byte(`{"error":{"message":["m"],"type":7,"error_user_title":{},"error_user_msg":null,`+
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
			e, ok := graphretry.ParseError(503, []byte(body))
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
			_, ok := graphretry.ParseError(500, []byte(vector.Body[:length]))
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
		e, ok := graphretry.ParseError(503, []byte(body))
		if assert.True(t, ok, name) {
			assert.EqualValues(t, 2, e.Code, name)
			assert.Equal(t, "m", e.Message, name)
		}
	}
}

func TestNoTextIsEverMatched(t *testing.T) {
	policy := policyWith(t)
	for _, message := range []string{
		"", "(#131009) Parameter value is not valid", "(#2) Service temporarily unavailable",
		"Se ha producido un error inesperado. Vuelve a intentarlo más tarde.", "サービスは一時的に利用できません", "rate limit hit",
	} {
		text, err := json.Marshal(message)
		require.NoError(t, err)
		for code, retried := range map[graphretry.Code]bool{2: true, 131016: true, 1: false, 131009: false, 130429: false} {
			body := `{"error":{"message":` + string(text) + `,"error_data":{"details":` + string(text) + `},"type":` + string(text) +
				`,"code":` + strconv.Itoa(int(code)) + `}}`
			e, ok := graphretry.ParseError(500, []byte(body))
			require.True(t, ok)
			assert.Equal(t, message, e.Message)
			assert.Equal(t, retried, policy.Decide(e, 0).Retry, "%d %s", code, message)
		}
	}
}

func TestContentTypeDoesNotMatter(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "text/javascript; charset=UTF-8", "text/html", "image/png", "?"} {
		resp := failedResponse(400, `{"error":{"code":2}}`)
		resp.Header.Set("Content-Type", contentType)
		e, ok := graphretry.ErrorFromResponse(resp)
		if assert.True(t, ok, contentType) {
			assert.EqualValues(t, 2, e.Code)
		}
	}
}

func TestTraceIDIsKept(t *testing.T) {
	e, ok := graphretry.ParseError(500, []byte(`{"error":{"code":2,"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`))
	require.True(t, ok)
	assert.Equal(t, "AzXcvWbXnq1oPbnEGkx3SXJ", e.TraceID)
	assert.ErrorContains(t, e, "AzXcvWbXnq1oPbnEGkx3SXJ")
	assert.Contains(t, e.LogValue().String(), "AzXcvWbXnq1oPbnEGkx3SXJ")
	assert.ErrorContains(t, &graphretry.WaitError{Err: errors.New("x"), Graph: e, Attempts: 1}, "AzXcvWbXnq1oPbnEGkx3SXJ")
}

func TestErrorSharesNoMemoryWithTheBody(t *testing.T) {
	body := []byte(`{"error":{"message":"m","code":2}}`)
	e, ok := graphretry.ParseError(500, body)
	require.True(t, ok)
	for i := range body {
		body[i] = 'x'
	}
	assert.Equal(t, `{"message":"m","code":2}`, string(e.Raw))
	assert.Equal(t, "m", e.Message)
}

func TestClassIsThatOfTheWhatsAppCodeInTheSubcode(t *testing.T) {
	for _, test := range []struct {
		code    graphretry.Code
		subcode int
		class   graphretry.Class
	}{
		{2, 0, graphretry.ClassTransient},
		{100, 0, graphretry.ClassParameter},
		{100, 33, graphretry.ClassParameter},
		{10, 33, graphretry.ClassPermission},
		{2, 100, graphretry.ClassTransient},
		{100, 133010, graphretry.ClassPermission},
		{100, 131026, graphretry.ClassRecipient},
		{100, 131016, graphretry.ClassTransient},
		{2, 130472, graphretry.ClassExperiment},
		{2, 2494010, graphretry.ClassTransient}, // a subcode in no catalogue says nothing
		{131009, 2494010, graphretry.ClassParameter},
		{999999, 0, graphretry.ClassUnknown},
	} {
		e := &graphretry.Error{Code: test.code, Subcode: test.subcode}
		assert.Equal(t, test.class, e.Class(), "%d with subcode %d", test.code, test.subcode)
	}
}

func TestNoErrorHasNoTextNoClassAndNoFields(t *testing.T) {
	var e *graphretry.Error
	assert.Equal(t, "graphretry: no Graph error", e.Error())
	assert.Equal(t, graphretry.ClassUnknown, e.Class())
	assert.Equal(t, slog.Value{}, e.LogValue())
}

func TestErrorSaysWhatMetaSaid(t *testing.T) {
	for _, test := range []struct {
		e    graphretry.Error
		text string
	}{
		{graphretry.Error{Code: 2}, "graphretry: Graph error 2 (API Service)"},
		{graphretry.Error{Code: 999999}, "graphretry: Graph error 999999"},
		{
			graphretry.Error{Code: 131009, Message: "(#131009) Parameter value is not valid", Details: "text.body is required", TraceID: "A1"},
			"graphretry: Graph error 131009 (Parameter value is not valid): (#131009) Parameter value is not valid: text.body is required [fbtrace_id A1]",
		},
		{
			graphretry.Error{Status: 400, Code: 100, Subcode: 133010, Message: "(#100) Invalid parameter", Raw: []byte("not shown")},
			"graphretry: Graph error 100, subcode 133010 (Phone number Not Registered): (#100) Invalid parameter",
		},
	} {
		assert.EqualError(t, &test.e, test.text)
	}
}

func TestErrorIsOneLine(t *testing.T) {
	e := &graphretry.Error{
		Code: 2, Message: "first\nsecond\r\nlevel=ERROR msg=forged", Details: "a\tb\x1b[31mc\u2028d\u2029e\u202Ef\u2066g\u0085h", TraceID: "A\n1",
	}
	assert.NotRegexp(t, `[[:cntrl:]\x{80}-\x{9F}\x{2028}\x{2029}\x{202A}-\x{202E}\x{2066}-\x{2069}]`, e.Error())
	assert.Equal(t, "first\nsecond\r\nlevel=ERROR msg=forged", e.Message, "the field stays as Meta wrote it")
}

func TestErrorIsReadOutOfFailedAnswersAlone(t *testing.T) {
	for status, read := range map[int]bool{
		0: false, 101: false, 200: false, 204: false, 206: false, 302: false, 399: false,
		400: true, 404: true, 429: true, 500: true, 503: true, 599: true, 999: true,
	} {
		resp := failedResponse(status, "")
		body := &countedBody{rest: []byte(`{"error":{"code":2}}`)}
		resp.Body = body
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.Equal(t, read, ok, "status %d", status)
		assert.Equal(t, read, e != nil, "status %d", status)
		if !read {
			assert.Same(t, body, resp.Body, "status %d: not wrapped", status)
			assert.Zero(t, body.read, "status %d: not read", status)
		}
	}
}

func TestAnswerThatIsNoneHasNoError(t *testing.T) {
	for name, resp := range map[string]*http.Response{
		"nil":           nil,
		"zero":          {},
		"no body":       {StatusCode: 500},
		"no bytes":      {StatusCode: 500, Body: http.NoBody},
		"broken":        {StatusCode: 500, Body: io.NopCloser(iotest.ErrReader(errors.New("broken")))},
		"broken midway": {StatusCode: 500, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"error":{"code":2}`), iotest.ErrReader(errors.New("broken"))))},
	} {
		e, ok := graphretry.ErrorFromResponse(resp)
		assert.False(t, ok, name)
		assert.Nil(t, e, name)
	}
}

// countedBody counts what is read of it and how often it is closed.
type countedBody struct {
	rest    []byte
	atATime int   // 0: as much as there is room for
	end     error // nil: io.EOF
	endsBy  bool  // the end comes with the last bytes, not after them

	read, closed int
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.atATime > 0 && len(p) > b.atATime {
		p = p[:b.atATime]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	b.read += n
	if len(b.rest) == 0 && (n == 0 || b.endsBy) {
		if b.end != nil {
			return n, b.end
		}
		return n, io.EOF
	}
	return n, nil
}

func (b *countedBody) Close() error {
	b.closed++
	return nil
}

func TestBodyStaysReadableByteForByte(t *testing.T) {
	const peek = 64 << 10
	graph := `{"error":{"code":2,"x":"m"}}`
	for _, size := range []int{0, 1, len(graph), 511, 512, 513, 4096, peek - 1, peek, peek + 2, 2 * peek, 200 << 10, 1 << 20} {
		content := []byte(strings.Replace(graph, "m", strings.Repeat("m", max(1, size-len(graph)+1)), 1))[:size]
		for _, atATime := range []int{0, 1, 1000} {
			for _, contentLength := range []int64{-1, int64(size)} {
				for _, endsBy := range []bool{false, true} {
					body := &countedBody{rest: content, atATime: atATime, endsBy: endsBy}
					resp := failedResponse(503, "")
					resp.Body, resp.ContentLength = body, contentLength
					name := []any{"%d bytes, %d at a time, ContentLength %d, EOF with the last: %t", size, atATime, contentLength, endsBy}

					e, ok := graphretry.ErrorFromResponse(resp)
					assert.Equal(t, size >= len(graph) && size <= peek, ok, name...)
					assert.Equal(t, ok, e != nil, name...)
					assert.LessOrEqual(t, body.read, peek+1, name...) // one more tells the end from a cut
					assert.Equal(t, contentLength, resp.ContentLength, name...)
					assert.Zero(t, body.closed, name...)

					again, okAgain := graphretry.ErrorFromResponse(resp)
					assert.Equal(t, ok, okAgain, name...)
					assert.Equal(t, e, again, name...)

					after, err := io.ReadAll(resp.Body)
					assert.NoError(t, err, name...)
					assert.True(t, bytes.Equal(content, after), name...)
					assert.NoError(t, resp.Body.Close(), name...)
					assert.Equal(t, 1, body.closed, name...)
				}
			}
		}
	}
}

func TestErrorAtTheEndOfABodyIsTheCallersToo(t *testing.T) {
	broken := errors.New("connection reset")
	for _, size := range []int{0, 10, 64 << 10, 200 << 10} {
		for _, endsBy := range []bool{false, true} {
			content := bytes.Repeat([]byte("x"), size)
			resp := failedResponse(502, "")
			resp.Body = &countedBody{rest: content, end: broken, endsBy: endsBy}
			_, ok := graphretry.ErrorFromResponse(resp)
			assert.False(t, ok)
			after, err := io.ReadAll(resp.Body)
			assert.Equal(t, broken, err, "after %d bytes", size)
			assert.True(t, bytes.Equal(content, after), "%d bytes", size)
		}
	}
}

func TestCompressedBodyIsDecodedForTheReadingAlone(t *testing.T) {
	graph := `{"error":{"code":131016,"message":"` + strings.Repeat("m", 3000) + `"}}`
	gzipped, deflated := compressed(t, "gzip", graph), compressed(t, "deflate", graph)
	bomb := compressed(t, "gzip", `{"error":{"code":2,"message":"`+strings.Repeat("m", 4<<20)+`"}}`)
	require.Less(t, len(bomb), 64<<10+1)
	for _, test := range []struct {
		name, encoding string
		body           []byte
		ok             bool
	}{
		{"gzip", "gzip", gzipped, true},
		{"gzip in capitals", "GZIP", gzipped, true},
		{"gzip by its old name", "x-gzip", gzipped, true},
		{"gzip with spaces", " gzip ", gzipped, true},
		{"deflate", "deflate", deflated, true},
		{"identity", "identity", []byte(graph), true},
		{"gzip that is none", "gzip", []byte(graph), true},
		{"gzip that is deflate", "gzip", deflated, false},
		{"gzip that is not told", "", gzipped, false},
		{"gzip cut off", "gzip", gzipped[:len(gzipped)-20], false},
		{"gzip of nothing", "gzip", nil, false},
		{"gzip of 4 MiB", "gzip", bomb, false},
		{"an encoding we do not know", "br", []byte("\x0b\x02\x80"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := failedResponse(503, string(test.body))
			resp.Header.Set("Content-Encoding", test.encoding)
			e, ok := graphretry.ErrorFromResponse(resp)
			assert.Equal(t, test.ok, ok)
			if test.ok {
				assert.EqualValues(t, 131016, e.Code)
				assert.Len(t, e.Message, 3000)
			}
			assert.Equal(t, test.encoding, resp.Header.Get("Content-Encoding"))
			assert.EqualValues(t, len(test.body), resp.ContentLength)
			after, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(test.body, after), "the caller gets the compressed bytes")
		})
	}
}

// compressed is content with a Content-Encoding.
func compressed(t testing.TB, encoding, content string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	var encoder io.WriteCloser
	switch encoding {
	case "gzip":
		encoder = gzip.NewWriter(&buffer)
	case "deflate":
		encoder = zlib.NewWriter(&buffer)
	}
	_, err := io.WriteString(encoder, content)
	require.NoError(t, err)
	require.NoError(t, encoder.Close())
	return buffer.Bytes()
}

func TestErrorIsFoundInTheResponseThatATransportReturned(t *testing.T) {
	const body = `{"error":{"message":"(#131009) Parameter value is not valid","code":131009,"fbtrace_id":"A1"}}`
	transport, _ := eventsOf(t, roundTripper(func(*http.Request) (*http.Response, error) {
		resp := failedResponse(400, body)
		resp.Header.Set("Retry-After", "7")
		return resp, nil
	}))
	resp, err := transport.RoundTrip(message(t, t.Context()))
	require.NoError(t, err)
	for range 2 {
		e, ok := graphretry.ErrorFromResponse(resp)
		require.True(t, ok)
		assert.Equal(t, "A1", e.TraceID)
		assert.EqualValues(t, 7e9, e.RetryAfter)
	}
	after, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Equal(t, body, string(after))
}
