package bench

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

// BenchmarkSuccess measures a call that succeeds at once.
func BenchmarkSuccess(b *testing.B) { benchmarkAll(b, succeeding) }

// BenchmarkPermanentError measures a call whose error is not retried: code 131009, a
// parameter is wrong.
func BenchmarkPermanentError(b *testing.B) { benchmarkAll(b, failingForGood) }

func benchmarkAll(b *testing.B, next http.RoundTripper) {
	for _, subject := range peeking {
		b.Run(subject.name, func(b *testing.B) { benchmarkCalls(b, subject.wrapped(next)) })
	}
}

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// succeeding reads the request, as every RoundTripper does, and allocates nothing. It sets
// the body of its response anew each time, since some subjects wrap it.
var succeeding = func() roundTripper {
	resp := &http.Response{StatusCode: http.StatusOK}
	return func(req *http.Request) (*http.Response, error) {
		resp.Body = http.NoBody
		_, err := io.Copy(io.Discard, req.Body)
		return resp, err
	}
}()

var failingForGood = func() roundTripper {
	body := string(graphtest.ErrorBody(131009))
	header := http.Header{"Content-Type": {"application/json; charset=UTF-8"}}
	return func(req *http.Request) (*http.Response, error) {
		_, err := io.Copy(io.Discard, req.Body)
		return &http.Response{
			StatusCode: http.StatusBadRequest, Header: header, Request: req,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, err
	}
}()

// sender sends one request over and over, and allocates nothing for it.
type sender struct {
	content *strings.Reader
	body    io.ReadCloser
	req     *http.Request
}

func newSender(tb testing.TB) *sender {
	tb.Helper()
	content := strings.NewReader(`{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"Hello"}}`)
	req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v25.0/106540352242922/messages", content)
	require.NoError(tb, err)
	return &sender{content, req.Body, req}
}

func (s *sender) send(client http.RoundTripper) error {
	if _, err := s.content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.req.Body = s.body // some put a body of their own here
	resp, err := client.RoundTrip(s.req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func benchmarkCalls(b *testing.B, client http.RoundTripper) {
	s := newSender(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.send(client); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSuccessCostsNoAllocation(t *testing.T) {
	allocations := func(subject subject) float64 {
		s, client := newSender(t), subject.wrapped(succeeding)
		return testing.AllocsPerRun(1000, func() {
			if err := s.send(client); err != nil {
				t.Error(err)
			}
		})
	}
	require.Zero(t, allocations(nextAlone), "the measure itself allocates")
	require.Zero(t, allocations(ours))
}

// TestCost publishes the benchmarks side by side. The subjects take turns in rounds, and
// the best round of each counts, since the machine may be busy now and then.
func TestCost(t *testing.T) {
	const rounds = 5
	benchTime := flag.Lookup("test.benchtime").Value
	before := benchTime.String()
	require.NoError(t, benchTime.Set("50ms"))
	defer func() { require.NoError(t, benchTime.Set(before)) }()

	var text strings.Builder
	for _, kind := range []struct {
		name string
		next http.RoundTripper
	}{{"a success", succeeding}, {"an error that is not retried, 131009", failingForGood}} {
		best := make([]testing.BenchmarkResult, len(peeking))
		for range rounds {
			for i, subject := range peeking {
				result := testing.Benchmark(func(b *testing.B) { benchmarkCalls(b, subject.wrapped(kind.next)) })
				require.NotZero(t, result.N, "the benchmark of %s failed", subject.name)
				if best[i].N == 0 || nanoseconds(result) < nanoseconds(best[i]) {
					best[i] = result
				}
			}
		}
		var lines [][]string
		for i, subject := range peeking {
			added := nanoseconds(best[i]) - nanoseconds(best[0])
			line := []string{subject.name, fmt.Sprintf("%.0f ns", nanoseconds(best[i])), "", "",
				fmt.Sprint(best[i].AllocsPerOp()), count(float64(best[i].AllocedBytesPerOp()))}
			if i > 0 {
				line[2] = fmt.Sprintf("%.0f ns", added)
				line[3] = fmt.Sprintf("%.2f", added/(nanoseconds(best[1])-nanoseconds(best[0])))
			}
			lines = append(lines, line)
		}
		text.WriteString(table([]string{kind.name, "a call", "added", "added, against rehttp", "allocations", "bytes"}, lines) + "\n")
	}
	report.publish(costs, text.String())
}

func nanoseconds(r testing.BenchmarkResult) float64 {
	return float64(r.T.Nanoseconds()) / float64(r.N)
}
