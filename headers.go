package graphretry

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter is the wait that a Retry-After header asks for (RFC 9110, section
// 10.2.3): seconds, or a date in any of the three forms of HTTP. It is 0 where
// there is no header, or one that is negative, past or none of these.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			// All digits and out of range: an age, not nothing.
			return math.MaxInt64
		}
		return times(float64(seconds), time.Second)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, time.Until(date))
}

// regainAccess is the longest estimated_time_to_regain_access, which Meta gives
// in minutes, in a X-Business-Use-Case-Usage header: an object that has, for
// each business, a list of its limits. See
// https://developers.facebook.com/docs/graph-api/overview/rate-limiting.
func regainAccess(header http.Header) time.Duration {
	value := header.Get("X-Business-Use-Case-Usage")
	if value == "" {
		return 0
	}
	var usage map[string][]struct {
		Minutes float64 `json:"estimated_time_to_regain_access"`
	}
	// What has another type than Meta's is left out, and what stands beside it
	// is read.
	_ = json.Unmarshal([]byte(value), &usage)
	var longest float64
	for _, limits := range usage {
		for _, limit := range limits {
			longest = max(longest, limit.Minutes)
		}
	}
	return times(longest, time.Minute)
}
