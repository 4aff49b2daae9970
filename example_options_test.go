package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// schedule prints the waits before the first five retries of an error.
func schedule(e *graphretry.Error, opts ...graphretry.Option) {
	policy, err := graphretry.NewPolicy(opts...)
	if err != nil {
		log.Fatal(err)
	}
	var waits []any
	var history graphretry.History
	for range 5 {
		decision := policy.Decide(e, history)
		if !decision.Retry {
			waits = append(waits, decision.Reason)
			break
		}
		waits = append(waits, decision.Wait)
		history = decision.History
	}
	fmt.Println(waits...)
}

var serviceUnavailable = &graphretry.Error{Code: graphretry.CodeServiceUnavailable}

func ExampleWithInitialInterval() {
	schedule(serviceUnavailable, graphretry.WithInitialInterval(2*time.Second), graphretry.WithJitter(0))
	// Output: 2s 4s 8s 16s 32s
}

func ExampleWithMultiplier() {
	schedule(serviceUnavailable, graphretry.WithMultiplier(3), graphretry.WithJitter(0))
	// Output: 5s 15s 45s 2m15s 3m0s
}

func ExampleWithMaxInterval() {
	schedule(serviceUnavailable, graphretry.WithMaxInterval(30*time.Second), graphretry.WithJitter(0))
	// Output: 5s 10s 20s 30s 30s
}

// Jitter lengthens a wait by up to the given share and never shortens it.
func ExampleWithJitter() {
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0.5))
	if err != nil {
		log.Fatal(err)
	}
	wait := policy.Decide(serviceUnavailable, graphretry.History{}).Wait
	fmt.Println(wait >= 5*time.Second, wait <= 7500*time.Millisecond)
	// Output: true true
}

func ExampleWithMaxRetries() {
	schedule(serviceUnavailable, graphretry.WithMaxRetries(3), graphretry.WithJitter(0))
	// Output: 5s 10s 20s no retries left
}

// Any schedule of cenkalti/backoff can be used, or your own. A new one is made for
// each call.
func ExampleWithBackOff() {
	schedule(serviceUnavailable, graphretry.WithBackOff(func() backoff.BackOff {
		return backoff.WithMaxRetries(backoff.NewConstantBackOff(time.Minute), 2)
	}))
	// Output: 1m0s 1m0s no retries left
}

// A wait that does not fit into the maximum is not begun: the call returns the
// answer to its last attempt at once.
func ExampleWithMaxElapsedTime() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable, RetryAfter: "3600"})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithMaxElapsedTime(10*time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sendReminder(context.Background(), client))
	// Output: 500 Internal Server Error
}

// 131057, Account in maintenance mode, passes within minutes; by default it is
// not retried.
func ExampleWithRetryOn() {
	schedule(&graphretry.Error{Code: 131057}, graphretry.WithRetryOn(131057, 3), graphretry.WithJitter(0))
	// Output: 5s 10s 20s no retries left
}

// 131000 is retried once by default. Here a message that may arrive twice is
// worse than one that does not arrive.
func ExampleWithoutRetryOn() {
	e := &graphretry.Error{Code: graphretry.CodeSomethingWentWrong}
	schedule(e, graphretry.WithJitter(0))
	schedule(e, graphretry.WithoutRetryOn(graphretry.CodeSomethingWentWrong))
	// Output:
	// 5s no retries left
	// this failure is not retried
}

// The limit on one sender and one recipient has the schedule that Meta advises; all
// others have the usual one, unless the answer says how long to wait.
func ExampleWithThrottleRetries() {
	throttled := []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithJitter(0)}
	schedule(&graphretry.Error{Code: graphretry.CodeRateLimitHit}, throttled...)
	schedule(&graphretry.Error{Code: graphretry.CodeRateLimitIssues, RetryAfter: 15 * time.Second}, throttled...)
	schedule(&graphretry.Error{Code: graphretry.CodePairRateLimitHit}, throttled...)
	// Output:
	// 5s 10s 20s 40s 1m20s
	// 15s 15s 20s 40s 1m20s
	// 1s 4s 16s 1m4s 3m0s
}

// Meta marks some errors as temporary that this package does not retry by default.
func ExampleWithTransientFlag() {
	e := &graphretry.Error{Code: graphretry.CodeAPIUnknown, Transient: true}
	schedule(e)
	schedule(e, graphretry.WithTransientFlag(), graphretry.WithJitter(0))
	// Output:
	// this failure is not retried
	// 5s 10s 20s 40s 1m20s
}

// A connection breaks. A GET can be sent again; a message may have arrived, and
// is not.
func ExampleWithNetworkRetries() {
	api := graphtest.New()
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithNetworkRetries(), graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}

	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	resp, err := client.Get("https://graph.facebook.com/v25.0/106540352242922")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println("GET:", resp.Status)

	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	_, err = client.Post(sendURL, "application/json", strings.NewReader(reminder))
	fmt.Println("POST failed:", err != nil, "- accepted:", api.Totals().Accepted)
	// Output:
	// GET: 200 OK
	// POST failed: true - accepted: 1
}

// Hosts replace the default, so name graph.facebook.com too if it is needed.
func ExampleWithHosts() {
	api := graphtest.New()
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithHosts("graph.facebook.com", "graph.instagram.com"), graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	for _, url := range []string{"https://graph.instagram.com/me", "https://example.com/me"} {
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		resp, err := client.Get(url)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(url, resp.Status)
	}
	// Output:
	// https://graph.instagram.com/me 200 OK
	// https://example.com/me 503 Service Unavailable
}

// A body of an unknown kind has no GetBody. It is kept as it is sent, up to the
// limit; 0 keeps nothing, and such a call has one attempt.
func ExampleWithMaxBufferedBody() {
	for _, limit := range []int64{1 << 20, 0} {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		client, err := graphretry.WrapClient(&http.Client{Transport: api},
			graphretry.WithMaxBufferedBody(limit), graphretry.WithInitialInterval(time.Millisecond))
		if err != nil {
			log.Fatal(err)
		}
		stream := io.MultiReader(strings.NewReader(reminder))
		resp, err := client.Post(sendURL, "application/json", stream)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(limit, resp.Status)
	}
	// Output:
	// 1048576 200 OK
	// 0 503 Service Unavailable
}

// A job queue waits by itself. Its calls have one attempt, and do not wait for the end of
// an outage.
func ExampleWithoutWaiting() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithoutWaiting(),
		graphretry.WithOutageThreshold(1))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Post(sendURL, "application/json", strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	graph, _ := graphretry.ErrorFromResponse(resp)
	fmt.Println(graph.Code)

	_, err = client.Post(sendURL, "application/json", strings.NewReader(reminder))
	var wait *graphretry.WaitError
	if errors.As(err, &wait) && errors.Is(err, graphretry.ErrOutage) {
		fmt.Println("the next probe may be sent later:", wait.Wait > 0)
	}
	// Output:
	// 131016
	// the next probe may be sent later: true
}

// The first attempt hangs. It is ambiguous, so it is sent again only with
// [WithNetworkRetries], and with a method that may be carried out twice.
func ExampleWithAttemptTimeout() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithAttemptTimeout(20*time.Millisecond),
		graphretry.WithNetworkRetries(),
		graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Get("https://graph.facebook.com/v25.0/106540352242922")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Here the first answer brings the host down; by default 20 do. Then a call that
// cannot wait for the next probe is not sent.
func ExampleWithOutageThreshold() {
	api := graphtest.New()
	api.DownAfter(0, time.Minute, graphtest.Answer{Code: graphretry.CodeAPIService})
	client, err := graphretry.WrapClient(&http.Client{Transport: api, Timeout: time.Second}, graphretry.WithOutageThreshold(1))
	if err != nil {
		log.Fatal(err)
	}

	resp, err := client.Post(sendURL, "application/json", strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)

	_, err = client.Post(sendURL, "application/json", strings.NewReader(reminder))
	fmt.Println("an outage:", errors.Is(err, graphretry.ErrOutage))
	fmt.Println("calls that reached the API:", api.Totals().Calls)
	// Output:
	// 503 Service Unavailable
	// an outage: true
	// calls that reached the API: 1
}

func ExampleWithLogger() {
	withoutTime := func(_ []string, attribute slog.Attr) slog.Attr {
		if attribute.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return attribute
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))

	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithLogger(logger),
		graphretry.WithInitialInterval(time.Millisecond), graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sendReminder(context.Background(), client))
	// Output:
	// level=WARN msg="graphretry: retrying" http.request.method=POST server.address=graph.facebook.com url.path=/v25.0/106540352242922/messages graphretry.wait_s=0.001 graphretry.reason="temporary failure" error.type=transient http.response.status_code=500 graph.code=131016 graph.class=transient graph.title="Service unavailable" graph.message="(#131016) Service unavailable" graph.details="Service unavailable" graph.fbtrace_id=AkVEzfBgLZzKxgWrcdG7OZQ graph.advice="Follow Meta's status page: a part of the Cloud API is down; see what is overdue once it is back."
	// level=INFO msg="graphretry: recovered" http.request.method=POST server.address=graph.facebook.com url.path=/v25.0/106540352242922/messages http.request.resend_count=1 graphretry.after_code=131016
	// 200 OK
}

// Retries by code and class, for a program's metrics.
func ExampleWithObserver() {
	counter := map[string]int{}
	observe := func(_ context.Context, event graphretry.Event) {
		if event.Kind == graphretry.EventRetrying && event.Graph != nil {
			counter[fmt.Sprintf("retries{code=%d, class=%s}", event.Graph.Code, event.Graph.Class())]++
		}
	}

	api := graphtest.New()
	api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithObserver(observe), graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	sendReminder(context.Background(), client)
	fmt.Println(counter)
	// Output: map[retries{code=131016, class=transient}:2]
}
