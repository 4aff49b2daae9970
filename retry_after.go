package graphretry

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/internal/jsonbody"
)

// retryAfter returns the wait that Retry-After asks for (RFC 9110, section
// 10.2.3): seconds, or a date in any of the three forms of HTTP. Of several, in one
// field or in more, the longest applies. A date counts from the answer's own Date,
// since the clocks of the two machines can differ; without one, from now. It is 0
// where there is none, or one that is negative, past or none of these.
func retryAfter(header http.Header) time.Duration {
	var longest time.Duration
	for _, field := range header["Retry-After"] {
		for len(field) > 0 {
			var wait time.Duration
			wait, field = firstWait(field, header)
			longest = max(longest, wait)
		}
	}
	return longest
}

// firstWait returns the first wait in a list of them, and what stands behind it.
func firstWait(list string, header http.Header) (wait time.Duration, rest string) {
	first, rest, _ := strings.Cut(list, ",")
	if first = strings.TrimSpace(first); first == "" {
		return 0, rest
	}
	if strings.Trim(first, "0123456789") == "" {
		seconds, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return math.MaxInt64, rest // digits alone, so the number is too large
		}
		return times(float64(seconds), time.Second), rest
	}
	date, err := http.ParseTime(first)
	if err != nil {
		// Two of the three forms have a comma behind the day of the week.
		day, behind, _ := strings.Cut(rest, ",")
		if date, err = http.ParseTime(first + "," + strings.TrimRight(day, " \t")); err != nil {
			return 0, rest
		}
		rest = behind
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, date.Sub(now)), rest
}

// usageWait returns the longest wait that the usage headers of a throttled answer
// ask for: estimated_time_to_regain_access, in minutes, of each limit of each
// business, and reset_time_duration, in seconds, of an ad account. See
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting and
// https://developers.facebook.com/docs/marketing-api/overview/rate-limiting.
func usageWait(header http.Header) time.Duration {
	var longest time.Duration
	// What has another type than Meta's is left out, and what stands beside it is
	// read.
	for _, field := range header["X-Business-Use-Case-Usage"] {
		var usage map[string]usageLimits
		_ = json.Unmarshal([]byte(field), &usage)
		for _, limits := range usage {
			for _, limit := range limits {
				longest = max(longest, times(float64(limit.Minutes), time.Minute))
			}
		}
	}
	for _, field := range header["X-Ad-Account-Usage"] {
		var usage struct {
			Seconds usageNumber `json:"reset_time_duration"`
		}
		_ = json.Unmarshal([]byte(field), &usage)
		longest = max(longest, times(float64(usage.Seconds), time.Second))
	}
	return longest
}

// usageLimits are the limits of one business: a list, or one limit in its place.
type usageLimits []struct {
	Minutes usageNumber `json:"estimated_time_to_regain_access"`
}

// UnmarshalJSON implements [json.Unmarshaler]. Any other value has no limits.
func (l *usageLimits) UnmarshalJSON(value []byte) error {
	if bytes.HasPrefix(value, []byte("{")) {
		value = slices.Concat([]byte("["), value, []byte("]"))
	}
	type list usageLimits // without this method
	_ = json.Unmarshal(value, (*list)(l))
	return nil
}

// usageNumber is a JSON number, also one in quotes.
type usageNumber float64

// UnmarshalJSON implements [json.Unmarshaler]. Any other value is 0.
func (n *usageNumber) UnmarshalJSON(value []byte) error {
	if parsed, err := strconv.ParseFloat(jsonbody.Unquoted(value), 64); err == nil && !math.IsNaN(parsed) {
		*n = usageNumber(parsed)
	}
	return nil
}
