package graphretry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
)

// alwaysOK is a next RoundTripper that costs next to nothing.
func alwaysOK() roundTripper {
	resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
	return func(*http.Request) (*http.Response, error) { return resp, nil }
}

const parameterError = `{"error":{"message":"(#131009) Parameter value is not valid","type":"OAuthException","code":131009,` +
	`"error_data":{"messaging_product":"whatsapp","details":"Parameter value is not valid: text.body is required"},` +
	`"error_subcode":2494010,"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`

// alwaysRefused is a next RoundTripper whose answers are not retried.
func alwaysRefused() roundTripper {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusBadRequest, Header: http.Header{}, ContentLength: int64(len(parameterError)),
			Body: io.NopCloser(strings.NewReader(parameterError)),
		}, nil
	}
}

// peekedByHand wraps next in what a careful user of a retry library writes, who
// looks for the code in the body of a failure.
func peekedByHand(next http.RoundTripper) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil || resp.StatusCode < http.StatusBadRequest {
			return resp, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		var answer struct{ Error struct{ Code int } }
		if json.Unmarshal(body, &answer) == nil && answer.Error.Code == 2 {
			panic("not to be retried")
		}
		return resp, nil
	}
}

func TestSuccessAllocatesNothing(t *testing.T) {
	observer := graphretry.WithObserver(func(context.Context, graphretry.Event) { t.Error("a success has no event") })
	// To watch whether a request gets a connection takes a trace.
	const trace = 6
	for name, test := range map[string]struct {
		options []graphretry.Option
		most    float64
	}{
		"by default":           {nil, 0},
		"with more codes":      {[]graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithTransientFlag()}, 0},
		"without a gate":       {[]graphretry.Option{graphretry.WithOutageThreshold(0)}, 0},
		"with network retries": {[]graphretry.Option{graphretry.WithNetworkRetries()}, trace},
		"with an observer":     {[]graphretry.Option{observer}, trace},
	} {
		for body, req := range map[string]*http.Request{
			"no body": messageRequest(t, nil), "http.NoBody": messageRequest(t, http.NoBody), "GetBody": messageRequest(t, strings.NewReader(messageBody)),
		} {
			transport := newTransport(t, alwaysOK(), test.options...)
			allocations := testing.AllocsPerRun(1000, func() {
				if _, err := transport.RoundTrip(req); err != nil {
					t.Error(err)
				}
			})
			assert.LessOrEqual(t, allocations, test.most, "%s, %s", name, body)
		}
	}
}

func TestCallToAnotherHostAllocatesNothing(t *testing.T) {
	transport := newTransport(t, alwaysOK(), graphretry.WithHosts("example.com"))
	req := messageRequest(t, nil)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := transport.RoundTrip(req); err != nil {
			t.Error(err)
		}
	}))
}

func TestErrorThatIsNotRetriedAllocatesNoMoreThanAPeekByHand(t *testing.T) {
	measure := func(transport http.RoundTripper) float64 {
		req := messageRequest(t, strings.NewReader(messageBody))
		return testing.AllocsPerRun(1000, func() {
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Error(err)
			}
			resp.Body.Close()
		})
	}
	ours := measure(newTransport(t, alwaysRefused()))
	byHand := measure(peekedByHand(alwaysRefused()))
	t.Logf("%v allocations, %v by hand", ours, byHand)
	assert.LessOrEqual(t, ours, byHand+morePeekAllocations)
}

// contender is a RoundTripper in a benchmark.
type contender struct {
	name string
	http.RoundTripper
}

// race runs a benchmark for each contender.
func race(b *testing.B, body io.Reader, contenders ...contender) {
	for _, contender := range contenders {
		b.Run(contender.name, func(b *testing.B) {
			req := messageRequest(b, body)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := contender.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// BenchmarkSuccess measures what a success costs more than the next RoundTripper
// alone: the difference of its two lines.
func BenchmarkSuccess(b *testing.B) {
	race(b, strings.NewReader(messageBody),
		contender{"next", alwaysOK()}, contender{"graphretry", newTransport(b, alwaysOK())})
}

// BenchmarkSuccessInParallel shows that calls do not wait for each other.
func BenchmarkSuccessInParallel(b *testing.B) {
	for _, contender := range []contender{{"next", alwaysOK()}, {"graphretry", newTransport(b, alwaysOK())}} {
		b.Run(contender.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				req := messageRequest(b, strings.NewReader(messageBody))
				for pb.Next() {
					if _, err := contender.RoundTrip(req); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkOtherHost measures what a call costs that is none of ours.
func BenchmarkOtherHost(b *testing.B) {
	race(b, nil,
		contender{"next", alwaysOK()}, contender{"graphretry", newTransport(b, alwaysOK(), graphretry.WithHosts("example.com"))})
}

// BenchmarkNotRetried measures an error that is not retried against a peek by
// hand.
func BenchmarkNotRetried(b *testing.B) {
	race(b, strings.NewReader(messageBody),
		contender{"by hand", peekedByHand(alwaysRefused())}, contender{"graphretry", newTransport(b, alwaysRefused())})
}

// BenchmarkRecordedBody measures what it costs to keep a body without GetBody.
func BenchmarkRecordedBody(b *testing.B) {
	ok := alwaysOK()
	next := roundTripper(func(req *http.Request) (*http.Response, error) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		return ok(req)
	})
	for _, contender := range []contender{{"next", next}, {"graphretry", newTransport(b, next)}} {
		b.Run(contender.name, func(b *testing.B) {
			content := strings.NewReader("")
			req := messageRequest(b, io.LimitReader(content, 1<<20))
			b.ReportAllocs()
			for b.Loop() {
				content.Reset(messageBody)
				req.Body = io.NopCloser(content)
				if _, err := contender.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseError(b *testing.B) {
	body := []byte(parameterError)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := graphretry.ParseError(http.StatusBadRequest, nil, body); !ok {
			b.Fatal("no error found")
		}
	}
}
