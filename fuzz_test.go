package graphretry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// addErrorBodies seeds a fuzz target with the vectors, and with one body for
// each documented code.
func addErrorBodies(f *testing.F, add func(status int, body string)) {
	f.Helper()
	for _, vector := range vectors(f) {
		add(vector.Status, vector.Body)
	}
	for _, code := range documentedNumbers(f) {
		add(graphtest.Status(code), string(graphtest.ErrorBody(code)))
	}
	for _, body := range []string{
		"", "[]", "null", `{"error":null}`, `{"error":{"code":"2"}}`, `{"error":{"code":2,"code":"x"}}`, `{"error":{"code":1e999}}`,
		`{"error":{"error_data":"{\"details\":\"d\"}","code":100,"error_subcode":"133010"}}`,
		`{"error":{"message":"\ud800\u0000\"}{","code":2,"is_transient":true}}`,
		`{"\u0065rror":{"c\u006fde":2}}`, `{"error":{"code":2.0}}`, `{"error":{"code":2e0}}`, `{"error":{"code":2.5}}`, "{\"error\":{\"x\":\"\xff\",\"code\":2}}",
	} {
		add(500, body)
	}
}

// readIndependently reads a Graph error as encoding/json sees it: the code, and
// the whole error object, if there are such.
func readIndependently(body []byte) (code int, object map[string]any, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var answer map[string]any
	if decoder.Decode(&answer) != nil || !json.Valid(body) {
		return 0, nil, false
	}
	object, _ = answer["error"].(map[string]any)
	switch value := object["code"].(type) {
	case json.Number:
		if code, err := strconv.Atoi(string(value)); err == nil {
			return code, object, true
		}
		// An integer can be written as 2.0 and 2e0 too.
		number, err := value.Float64()
		isInteger := err == nil && number == math.Trunc(number) && math.Abs(number) <= min(1<<53, math.MaxInt)
		return int(number), object, isInteger
	case string:
		code, err := strconv.Atoi(value)
		return code, object, err == nil
	}
	return 0, nil, false
}

func FuzzParseError(f *testing.F) {
	addErrorBodies(f, func(status int, body string) { f.Add(status, []byte(body)) })
	policy, err := graphretry.NewPolicy(everyOptIn()...)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		before := bytes.Clone(body)
		e, ok := graphretry.ParseError(status, nil, body)
		require.Equal(t, before, body, "the body is only read")
		code, object, want := readIndependently(body)
		require.Equal(t, want, ok)
		require.Equal(t, ok, e != nil)
		if !ok {
			return
		}
		require.Equal(t, status, e.Status)
		require.EqualValues(t, code, e.Code)
		require.True(t, json.Valid(e.Raw))
		require.True(t, bytes.Contains(body, e.Raw))
		if transient, isBool := object["is_transient"].(bool); isBool {
			require.Equal(t, transient, e.Transient)
		}
		if message, _ := object["message"].(string); message != "" && !strings.Contains(message, "EAA") && !strings.Contains(message, "://") {
			require.Equal(t, message, e.Message)
		}
		if data, isText := object["error_data"].(string); isText && !strings.Contains(data, "EAA") && !strings.Contains(data, "://") {
			require.Equal(t, data, e.Details)
		}
		require.Zero(t, e.RetryAfter)
		require.NotContains(t, e.Error(), "\n")
		require.NotEmpty(t, e.LogValue().Group())

		decision := decide(policy, e, 0)
		require.Equal(t, decision.Retry, decision.Wait > 0)
		if isNever(e.Code) || e.Subcode >= 130000 && isNever(graphretry.Code(e.Subcode)) {
			require.Equal(t, retryDecision{Reason: graphretry.ReasonNever}, decision)
		}
	})
}

// retryAfterIndependently reads Retry-After as a list of which each element, or each two
// with the comma between them, can be a wait: the longest counts. The precision is that of
// a float, or of a date, which counts from a moment that is over.
func retryAfterIndependently(value string) (longest, precision time.Duration) {
	precision = 1024
	elements := strings.Split(value, ",")
	for i, element := range elements {
		element = strings.TrimSpace(element)
		if element != "" && strings.Trim(element, "0123456789") == "" {
			wait := time.Duration(math.MaxInt64)
			if seconds, err := strconv.ParseUint(element, 10, 64); err == nil && seconds <= math.MaxInt64/uint64(time.Second) {
				wait = time.Duration(seconds) * time.Second
			}
			longest = max(longest, wait)
		}
		dates := []string{element}
		if i+1 < len(elements) {
			dates = append(dates, element+","+strings.TrimRight(elements[i+1], " \t"))
		}
		for _, text := range dates {
			if date, err := http.ParseTime(text); err == nil {
				longest, precision = max(longest, time.Until(date)), time.Minute
			}
		}
	}
	return longest, precision
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "1", "120", " 120 ", "-1", "+1", "1.5", "9223372036", "9223372037", "99999999999999999999", "soon",
		"Sat, 01 Jan 2000 01:00:00 GMT", "Saturday, 01-Jan-00 01:00:00 GMT", "Sat Jan  1 01:00:00 2000", "Fri, 31 Dec 9999 23:59:59 GMT",
		",1", "7, 30,,", "soon, 30", "30, Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT,Sat Jan  1 01:00:00 2000",
	} {
		f.Add(value, `{"1":[{"estimated_time_to_regain_access":19}]}`)
	}
	for _, usage := range []string{
		"", "null", "{}", "[]", `{"1":[]}`, `{"1":[{"estimated_time_to_regain_access":-1}]}`, `{"1":[{"estimated_time_to_regain_access":1e300}]}`,
		`{"1":[{"estimated_time_to_regain_access":"x"},{"estimated_time_to_regain_access":0.5}]}`,
	} {
		f.Add("5", usage)
	}
	f.Fuzz(func(t *testing.T, value, usage string) {
		header := http.Header{"Retry-After": {value}}
		asked := askedFor(t, 2, header)
		require.GreaterOrEqual(t, asked, time.Duration(0))

		want, precision := retryAfterIndependently(value)
		require.InDelta(t, float64(want), float64(asked), float64(precision))

		header.Set("X-Business-Use-Case-Usage", usage)
		throttled := askedFor(t, 80008, header)
		require.GreaterOrEqual(t, throttled, time.Duration(0))
		require.InDelta(t, max(asked.Seconds(), throttled.Seconds()), throttled.Seconds(), 60, "it only raises the wait")
	})
}

func FuzzParseWebhook(f *testing.F) {
	f.Add(publishedWebhook(f))
	for _, code := range documentedNumbers(f) {
		f.Add(graphtest.StatusWebhook(graphtest.Message{
			ID: "wamid.1", RecipientID: "16505551234", PhoneNumberID: "106540352242922", CallbackData: "reminder-1",
		}, "failed", code))
	}
	for _, body := range []string{
		"", "[]", "{}", `{"entry":[{"changes":[{"value":{"messages":[{"id":"wamid.2","timestamp":1,"errors":[{"code":"131051"}]}],"errors":[{"code":1,"title":"t"}]}}]}]}`,
		`{"entry":[{"changes":[{"value":{"errors":[{"code":1.0},{"code":1.5}]}}]}]}`,
		`{"entry":[7,{"changes":7},{"changes":[{"value":7},{"value":{"statuses":[7,{"errors":[7,{"code":2}]}]}}]}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		failures, err := graphretry.ParseWebhook(body)
		require.Equal(t, before, body, "the body is only read")

		var object map[string]json.RawMessage
		isObject := json.Unmarshal(body, &object) == nil && object != nil
		require.Equal(t, isObject, err == nil)
		if err != nil {
			require.Nil(t, failures)
			return
		}
		for _, failure := range failures {
			require.NotNil(t, failure.Graph)
			require.Zero(t, failure.Graph.Status)
			require.Zero(t, failure.Graph.RetryAfter)
			require.True(t, bytes.Contains(body, failure.Graph.Raw))
			// The same object in an answer's place is the same error.
			code, _, ok := readIndependently(slices.Concat([]byte(`{"error":`), failure.Graph.Raw, []byte(`}`)))
			require.True(t, ok)
			require.EqualValues(t, code, failure.Graph.Code)
			require.Equal(t, failure.Time, failure.Time.UTC())
		}
		again, err := graphretry.ParseWebhook(body)
		require.NoError(t, err)
		require.Equal(t, failures, again)
	})
}

func FuzzErrorBodyIsUntouched(f *testing.F) {
	addErrorBodies(f, func(status int, body string) {
		f.Add([]byte(body), status, uint16(7), "", int64(len(body)), false, false)
		f.Add(compressed(f, "gzip", body), status, uint16(0), "gzip", int64(-1), true, false)
		f.Add(compressed(f, "deflate", body), status, uint16(1), "deflate", int64(0), false, true)
	})
	large := bytes.Repeat([]byte("<p>We're working on it.</p>\n"), 200<<10/28)
	f.Add(large, 502, uint16(0), "", int64(-1), false, false)
	f.Add(large, 502, uint16(1000), "gzip", int64(64<<10), true, true)

	broken := errors.New("connection reset")
	f.Fuzz(func(t *testing.T, content []byte, status int, atATime uint16, encoding string, contentLength int64, endsBy, breaks bool) {
		if status < 400 || status > 599 {
			status = 400 + int(uint(status)%200)
		}
		var end error
		if breaks {
			end = broken
		}
		var body *countedBody
		answer := func() *http.Response {
			body = &countedBody{rest: content, atATime: int(atATime), end: end, endsBy: endsBy}
			return &http.Response{
				StatusCode: status, Body: body, ContentLength: contentLength,
				Header: http.Header{"Content-Encoding": {encoding}, "Retry-After": {"7"}},
			}
		}
		untouched := func(resp *http.Response, what string) {
			require.Zero(t, body.closed, what)
			require.Equal(t, status, resp.StatusCode, what)
			require.Equal(t, contentLength, resp.ContentLength, what)
			require.Equal(t, http.Header{"Content-Encoding": {encoding}, "Retry-After": {"7"}}, resp.Header, what)
			after, err := io.ReadAll(resp.Body)
			require.Equal(t, end, err, what)
			require.True(t, bytes.Equal(content, after), what)
			require.NoError(t, resp.Body.Close(), what)
			require.Equal(t, 1, body.closed, what)
		}

		resp := answer()
		e, ok := graphretry.ErrorFromResponse(resp)
		require.Equal(t, ok, e != nil)
		if ok && encoding == "" {
			_, _, found := readIndependently(content[:min(len(content), body.read)])
			require.True(t, found)
		}
		untouched(resp, "after ErrorFromResponse")

		// No wait fits, so the first response is the last.
		transport, err := graphretry.NewTransport(roundTripper(func(*http.Request) (*http.Response, error) { return answer(), nil }),
			append(everyOptIn(), graphretry.WithMaxElapsedTime(1))...)
		require.NoError(t, err)
		resp, err = transport.RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		untouched(resp, "after RoundTrip")

		resp, err = transport.RoundTrip(message(t, graphretry.ContextWithOptions(t.Context(), graphretry.WithAttemptTimeout(time.Hour))))
		require.NoError(t, err)
		again, okAgain := graphretry.ErrorFromResponse(resp)
		assert.Equal(t, ok, okAgain)
		assert.Equal(t, e, again)
		untouched(resp, "after RoundTrip with a timeout")
	})
}

// A secret that a request brings along comes back in Meta's texts, or in the error
// of a RoundTripper below, as it was or escaped. None of it is put into words.
func FuzzNoSecretComesOut(f *testing.F) {
	for place := range uint8(secretPlaces) {
		for _, secret := range []string{"", "s3cr3t", "a b", `"\`, "a&b=c", "ü/?#%25", "a;b,c"} {
			f.Add(place, secret, uint16(2))
			f.Add(place, secret, uint16(190))
		}
	}
	f.Fuzz(func(t *testing.T, place uint8, secret string, code uint16) {
		const head, tail = "zq9x", "x9qz"
		if !utf8.ValidString(secret) || strings.ContainsFunc(secret, unicode.IsControl) {
			t.Skip("is no text that comes back as it was")
		}
		req, err := http.NewRequest(http.MethodPost, messagesURL, strings.NewReader("{}"))
		require.NoError(t, err)
		planted := plantSecret(req, place%secretPlaces, head+secret+tail)
		if planted == nil {
			t.Skip("cannot stand there")
		}

		var said outlets
		echo := strings.Join(planted, " and ")
		body := mustJSON(t, map[string]any{"error": map[string]any{
			"message": echo, "type": echo, "error_user_title": echo, "error_user_msg": echo, "fbtrace_id": echo,
			"error_data": map[string]string{"details": echo}, "code": code,
		}})
		for _, answer := range []func() (*http.Response, error){
			func() (*http.Response, error) { return failedResponse(400, body), nil },
			func() (*http.Response, error) { return nil, errors.New("cannot send " + echo) },
		} {
			next := roundTripper(func(*http.Request) (*http.Response, error) { return answer() })
			transport, err := graphretry.NewTransport(next, append(said.options(), graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Hour))...)
			require.NoError(t, err)
			if resp, err := transport.RoundTrip(req); err == nil {
				graph, _ := graphretry.ErrorFromResponse(resp)
				said.graph(graph)
				fmt.Fprintln(&said, &graphretry.WaitError{Err: graphretry.ErrOutage, Graph: graph})
			}
		}
		assert.NotContains(t, said.String(), head)
		assert.NotContains(t, said.String(), tail)
	})
}

const secretPlaces = 15

// plantSecret puts a secret somewhere into a request, and returns how it can come
// back; nil if it cannot stand there.
func plantSecret(req *http.Request, place uint8, secret string) []string {
	asItIs := []string{secret, url.QueryEscape(secret), url.PathEscape(secret)}
	word := strings.Trim(secret, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch place {
	case 0:
		req.URL.RawQuery = "a=b&access_token=" + url.QueryEscape(secret)
	case 1:
		req.URL.RawQuery = "redirect=" + url.QueryEscape("https://example.com/?x=y&appsecret_proof="+url.QueryEscape(secret))
		return []string{url.QueryEscape(secret), "appsecret_proof=" + url.QueryEscape(secret)}
	case 2:
		req.Header.Set("Authorization", "Bearer "+secret)
		return []string{secret}
	case 3:
		req.Header.Set("D360-Api-Key", secret)
	case 4:
		if strings.ContainsAny(secret, `;,"`) || strings.Trim(secret, " ") != secret {
			return nil
		}
		req.Header.Set("Cookie", "a=b; session="+secret+"; c=d")
	case 5:
		req.URL.User = url.UserPassword("user", secret)
	case 6:
		if !word {
			return nil
		}
		req.URL.Path += "&appsecret_proof=" + secret
	case 7:
		if !word {
			return nil
		}
		return []string{"EAAG" + secret + "0123456789ab", "%3DIGQVJ" + secret + "0123456789", "_THAA" + secret + "0123456789", "1234567|" + secret}
	case 8:
		return []string{"access_token=" + url.QueryEscape(secret), "access_token%3D" + url.QueryEscape(secret), "/me&app_secret=" + url.QueryEscape(secret)}
	case 9:
		return []string{`{"access_token":` + strconv.Quote(secret) + `}`}
	case 10:
		plantBody(req, "to=1&client_secret="+url.QueryEscape(secret))
	case 11:
		quoted, _ := json.Marshal(secret)
		plantBody(req, `{"to":"1","template":{"flow_token":`+string(quoted)+`}}`)
	case 12:
		plantBody(req, "--x\r\nContent-Disposition: form-data; name=\"access_token\"\r\n\r\n"+secret+"\r\n--x--\r\n")
	case 13:
		quoted, _ := json.Marshal("me?access_token=" + url.QueryEscape(secret))
		plantBody(req, "batch="+url.QueryEscape(`[{"method":"GET","relative_url":`+string(quoted)+`}]`))
	case 14:
		if strings.ContainsAny(secret, `"'`) {
			return nil
		}
		return []string{`access_token="` + secret + `"`, `'app_secret' => '` + secret + `'`}
	}
	return asItIs
}

// plantBody gives a request a body, as [http.NewRequest] does.
func plantBody(req *http.Request, body string) {
	req.Body = io.NopCloser(strings.NewReader(body))
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
}
