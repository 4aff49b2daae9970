package graphretry_test

import (
	"math"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// askedFor is the wait that these headers ask for, on an answer with this code.
func askedFor(t testing.TB, code graphretry.Code, header http.Header) time.Duration {
	t.Helper()
	resp := failedResponse(http.StatusServiceUnavailable, `{"error":{"code":`+strconv.Itoa(int(code))+`}}`)
	resp.Header = header
	e, ok := graphretry.ErrorFromResponse(resp)
	require.True(t, ok)
	return e.RetryAfter
}

func TestRetryAfterIsReadInSeconds(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	for value, want := range map[string]time.Duration{
		"0":          0,
		"1":          time.Second,
		"120":        2 * time.Minute,
		" 120\t":     2 * time.Minute,
		"007":        7 * time.Second,
		"9223372036": 9223372036 * time.Second,
		// What is beyond every duration is the longest, and not nothing.
		"9223372037":                     longest,
		"9223372036854775807":            longest,
		"9223372036854775808":            longest,
		"99999999999999999999999999999":  longest,
		"000000000000000000000000000060": time.Minute,
	} {
		assert.Equal(t, want, askedFor(t, 2, http.Header{"Retry-After": {value}}), "Retry-After: %s", value)
	}
}

func TestRetryAfterIsReadInThreeFormsOfDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for layout, name := range map[string]string{
			http.TimeFormat:                  "that of the Internet message format",
			"Monday, 02-Jan-06 15:04:05 GMT": "that of RFC 850",
			time.ANSIC:                       "that of asctime",
		} {
			for _, ahead := range []time.Duration{time.Second, 90 * time.Second, 40 * time.Hour} {
				date := time.Now().Add(ahead).UTC().Format(layout)
				assert.Equal(t, ahead, askedFor(t, 2, http.Header{"Retry-After": {date}}), "%s: %s", name, date)
			}
			for _, behind := range []time.Duration{0, time.Second, 40 * time.Hour} {
				date := time.Now().Add(-behind).UTC().Format(layout)
				assert.Zero(t, askedFor(t, 2, http.Header{"Retry-After": {date}}), "%s, past: %s", name, date)
			}
		}
		// The 8th has its space in front of it.
		assert.Equal(t, 7*24*time.Hour, askedFor(t, 2, http.Header{"Retry-After": {"Sat Jan  8 00:00:00 2000"}}))
		assert.Equal(t, time.Duration(math.MaxInt64), askedFor(t, 2, http.Header{"Retry-After": {"Fri, 31 Dec 9999 23:59:59 GMT"}}))
	})
}

func TestRetryAfterThatIsNegativeOrUnreadableIsIgnored(t *testing.T) {
	for _, value := range []string{
		"", " ", "-1", "-120", "+120", "1.5", "1e3", "0x10", "1_000", "two minutes", "120s", "soon, later", ",", "-1, -2", "١٢٠", "∞", "NaN",
		"Sat, 08 Jan 2100", "2100-01-08T00:00:00Z", "Sat, 08 Jan 2100 00:00:00 +0200", "Sat, 32 Jan 2100 00:00:00 GMT", "120\x00",
	} {
		assert.Zero(t, askedFor(t, 2, http.Header{"Retry-After": {value}}), "Retry-After: %q", value)
	}
	assert.Zero(t, askedFor(t, 2, http.Header{}))
	assert.Zero(t, askedFor(t, 2, nil))
	assert.Zero(t, askedFor(t, 2, http.Header{"Retry-After": {}}))
	assert.Zero(t, askedFor(t, 2, http.Header{"Retry-After": nil}))
}

func TestThrottlingWaitIsTheLongestOfTheHeaders(t *testing.T) {
	const usage = `{"102290129340398":[{"type":"whatsapp","call_count":100,"total_cputime":25,"total_time":25,"estimated_time_to_regain_access":19}]}`
	for _, test := range []struct {
		name              string
		code              graphretry.Code
		usage, retryAfter string
		want              time.Duration
	}{
		{"minutes", 80008, usage, "", 19 * time.Minute},
		{"Retry-After is longer", 80008, usage, "1141", 1141 * time.Second},
		{"Retry-After is shorter", 80008, usage, "1139", 19 * time.Minute},
		{"Retry-After is past", 80008, usage, "Sat, 01 Jan 2000 00:00:00 GMT", 19 * time.Minute},
		{"every throttling code has it", 130429, usage, "", 19 * time.Minute},
		{"those that no option retries too", 133016, usage, "", 19 * time.Minute},
		{"no other code has it", 2, usage, "", 0},
		{"no other code has it, Retry-After it has", 131000, usage, "60", time.Minute},
		{
			"the longest of several limits", 4,
			`{"1":[{"estimated_time_to_regain_access":3},{"estimated_time_to_regain_access":7}],"2":[],"3":[{"estimated_time_to_regain_access":5}]}`, "",
			7 * time.Minute,
		},
		{"a part of a minute", 4, `{"1":[{"estimated_time_to_regain_access":0.5}]}`, "", 30 * time.Second},
		{"none to wait", 4, `{"1":[{"estimated_time_to_regain_access":0}]}`, "", 0},
		{"not told", 4, `{"1":[{"type":"whatsapp","call_count":1}]}`, "", 0},
		{"negative", 4, `{"1":[{"estimated_time_to_regain_access":-5}]}`, "2", 2 * time.Second},
		{"longer than any duration", 4, `{"1":[{"estimated_time_to_regain_access":1e300}]}`, "", math.MaxInt64},
		{"a number in quotes", 4, `{"1":[{"estimated_time_to_regain_access":"7"}]}`, "", 7 * time.Minute},
		{"another type beside it", 4, `{"1":[{"estimated_time_to_regain_access":"soon"},7,{"estimated_time_to_regain_access":3}],"2":{}}`, "", 3 * time.Minute},
		{"a number beyond floats beside it", 4, `{"1":[{"estimated_time_to_regain_access":1e999},{"estimated_time_to_regain_access":3}]}`, "", 3 * time.Minute},
		{"one limit in place of the list", 4, `{"1":{"type":"whatsapp","estimated_time_to_regain_access":3}}`, "", 3 * time.Minute},
		{"one limit in quotes in place of the list", 4, `{"1": {"estimated_time_to_regain_access":"3"} }`, "", 3 * time.Minute},
		{"one limit beside a list", 4, `{"1":{"estimated_time_to_regain_access":3},"2":[{"estimated_time_to_regain_access":7}],"3":{"estimated_time_to_regain_access":5}}`, "", 7 * time.Minute},
		{"another type in place of the list", 4, `{"1":"soon","2":7,"3":null,"4":{"estimated_time_to_regain_access":[9]},"5":[[{"estimated_time_to_regain_access":9}]],"6":{"estimated_time_to_regain_access":3}}`, "", 3 * time.Minute},
		{"null", 4, `null`, "", 0},
		{"an array", 4, `[{"estimated_time_to_regain_access":3}]`, "", 0},
		{"cut off", 4, usage[:len(usage)-1], "9", 9 * time.Second},
		{"no JSON", 4, `19`, "", 0},
		{"empty", 4, ``, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{}
			header.Set("X-Business-Use-Case-Usage", test.usage)
			header.Set("Retry-After", test.retryAfter)
			assert.Equal(t, test.want, askedFor(t, test.code, header))
		})
	}
}

func TestWhatTheHeadersAskForRaisesTheWaitOfACall(t *testing.T) {
	for _, test := range []struct {
		name, header, value string
		code                graphretry.Code
		want                time.Duration
	}{
		{"seconds", "Retry-After", "60", 2, time.Minute},
		{"fewer seconds than the schedule has", "Retry-After", "3", 2, 5 * time.Second},
		{"a date", "Retry-After", "Sat, 01 Jan 2000 00:10:00 GMT", 131000, 10 * time.Minute}, // a bubble begins with 2000
		{"a date that is past", "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT", 131000, 5 * time.Second},
		{"nonsense", "Retry-After", "soon", 131016, 5 * time.Second},
		{"minutes", "X-Business-Use-Case-Usage", `{"1":[{"estimated_time_to_regain_access":2}]}`, 80008, 2 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls int
				transport, events := eventsOf(t, roundTripper(func(*http.Request) (*http.Response, error) {
					if calls++; calls > 1 {
						return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
					}
					resp := failedResponse(503, `{"error":{"code":`+strconv.Itoa(int(test.code))+`}}`)
					resp.Header.Set(test.header, test.value)
					return resp, nil
				}), graphretry.WithThrottleRetries())
				start := time.Now()
				assert.Equal(t, 200, sentStatus(t, transport, t.Context()))
				assert.Equal(t, test.want, time.Since(start))
				assert.Equal(t, test.want, events()[0].Wait)
			})
		})
	}
}

// The clocks of the two machines can differ.
func TestRetryAfterThatIsADateCountsFromTheAnswersDate(t *testing.T) {
	const date, asked = "Sat, 08 Jan 2000 23:00:00 GMT", "Sat, 08 Jan 2000 23:00:37 GMT"
	for name, now := range map[string]time.Duration{
		"clocks agree": 0, "ours is an hour ahead": time.Hour, "ours is an hour behind": -time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			sent, err := http.ParseTime(date)
			require.NoError(t, err)
			time.Sleep(time.Until(sent.Add(now)))
			for layout, value := range map[string]string{
				"IMF-fixdate": asked, "RFC 850": "Saturday, 08-Jan-00 23:00:37 GMT", "asctime": "Sat Jan  8 23:00:37 2000",
			} {
				assert.Equal(t, 37*time.Second, askedFor(t, 2, http.Header{"Retry-After": {value}, "Date": {date}}), "%s, %s", name, layout)
			}
			for _, unreadable := range []string{"", "yesterday", "0"} {
				assert.Equal(t, max(0, 37*time.Second-now), askedFor(t, 2, http.Header{"Retry-After": {asked}, "Date": {unreadable}}), "%s, Date: %q", name, unreadable)
			}
			assert.Equal(t, 30*time.Second, askedFor(t, 2, http.Header{"Retry-After": {"30"}, "Date": {date}}), "seconds have no date")
		})
	}
}

func TestLongestOfSeveralRetryAfterApplies(t *testing.T) {
	const date, in50 = "Sat, 08 Jan 2000 23:00:00 GMT", "Sat, 08 Jan 2000 23:00:50 GMT"
	for _, test := range []struct {
		fields []string
		want   time.Duration
	}{
		{[]string{"30", "7"}, 30 * time.Second},
		{[]string{"7", "30"}, 30 * time.Second},
		{[]string{"30, 7"}, 30 * time.Second},
		{[]string{"7,30,,"}, 30 * time.Second},
		{[]string{"30, soon"}, 30 * time.Second},
		{[]string{"soon, 30"}, 30 * time.Second},
		{[]string{"soon", "30", ""}, 30 * time.Second},
		{[]string{"-60, 30"}, 30 * time.Second},
		{[]string{in50, "30"}, 50 * time.Second},
		{[]string{"30, " + in50}, 50 * time.Second},
		{[]string{in50 + ", 70"}, 70 * time.Second},
		{[]string{"70 , " + in50 + " , 7"}, 70 * time.Second},
		{[]string{in50 + "," + date}, 50 * time.Second},
		{[]string{"Sat Jan  8 23:00:50 2000, 7"}, 50 * time.Second},
	} {
		assert.Equal(t, test.want, askedFor(t, 2, http.Header{"Retry-After": test.fields, "Date": {date}}), "%q", test.fields)
	}
}

func TestUsageOfAnAdAccountIsInSeconds(t *testing.T) {
	const account, business = "X-Ad-Account-Usage", "X-Business-Use-Case-Usage"
	for _, test := range []struct {
		code   graphretry.Code
		header http.Header
		want   time.Duration
	}{
		{613, http.Header{account: {`{"acc_id_util_pct":100,"reset_time_duration":90,"ads_api_access_tier":"standard_access"}`}}, 90 * time.Second},
		{613, http.Header{account: {`{"reset_time_duration":"90"}`}}, 90 * time.Second},
		{17, http.Header{account: {`{"reset_time_duration":90}`, `{"reset_time_duration":7}`}}, 90 * time.Second},
		{17, http.Header{account: {`{"reset_time_duration":90}`}, business: {`{"1":[{"estimated_time_to_regain_access":"2"}]}`}}, 2 * time.Minute},
		{17, http.Header{business: {`{"1":[{"estimated_time_to_regain_access":1}]}`, `{"1":[{"estimated_time_to_regain_access":3}]}`}}, 3 * time.Minute},
		{17, http.Header{account: {`{"reset_time_duration":90}`}, "Retry-After": {"91"}}, 91 * time.Second},
		{17, http.Header{account: {`{"reset_time_duration":"soon"}`, `[]`, ``, `{`, `{"reset_time_duration":"NaN"}`, `{"reset_time_duration":null}`}}, 0},
		{2, http.Header{account: {`{"reset_time_duration":90}`}}, 0},
	} {
		assert.Equal(t, test.want, askedFor(t, test.code, test.header), "%d: %v", test.code, test.header)
	}
}
