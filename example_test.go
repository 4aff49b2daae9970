package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// In the examples a [graphtest.API] stands for graph.facebook.com, and intervals
// of milliseconds for the 5 seconds of the default.
const (
	sendURL  = "https://graph.facebook.com/v23.0/106540352242922/messages"
	reminder = `{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":"Tomorrow at nine."}}`
)

// sendReminder sends a message as any program would, and tells how that ended.
func sendReminder(ctx context.Context, client *http.Client) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, strings.NewReader(reminder))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	return resp.Status
}

// The API is down for two calls. The program sends once, and knows nothing of it.
func Example() {
	api := graphtest.New()
	api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})

	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Post(sendURL, "application/json", strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println("calls that reached the API:", api.Totals().Calls)
	// Output:
	// 200 OK
	// calls that reached the API: 3
}

// A call may block for 15 minutes, so its context has a deadline.
func Example_deadline() {
	existing := &http.Client{Transport: graphtest.New()}

	client, err := graphretry.WrapClient(existing, graphretry.WithLogger(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err) // no response: errors.Is(err, graphretry.ErrOutage) if the API is down
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		graph, _ := graphretry.ErrorFromResponse(resp) // the body stays readable
		log.Fatal(graph)
	}
	fmt.Println(resp.Status)
	// Output:
	// 200 OK
}

func ExampleWrapClient() {
	existing := &http.Client{Transport: graphtest.New(), Timeout: 5 * time.Minute}

	client, err := graphretry.WrapClient(existing, graphretry.WithLogger(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Post(sendURL, "application/json", strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println("the existing client is as it was:", existing.Transport != client.Transport)
	// Output:
	// 200 OK
	// the existing client is as it was: true
}

// What is wrong with the options is told in one error, before any call.
func ExampleWrapClient_badOptions() {
	_, err := graphretry.WrapClient(nil,
		graphretry.WithMaxInterval(time.Second),
		graphretry.WithRetryOn(graphretry.CodeInvalidParameter, 3),
	)
	fmt.Println(err)
	// Output:
	// graphretry: WithRetryOn(100, 3): code 100 (Invalid parameter) is never retried: the same request would get the same answer
	// graphretry: WithInitialInterval(5s) (the default) is above WithMaxInterval(1s): want an initial interval of at most the maximum
}

// A Transport goes wherever a RoundTripper goes, around the one that was there.
func ExampleNewTransport() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})

	transport, err := graphretry.NewTransport(api, graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	fmt.Println(sendReminder(context.Background(), client))
	// Output: 200 OK
}

// An SDK that takes no client uses [http.DefaultTransport]. A nil next is what
// stands there now, so that the Transport can take its place.
func ExampleNewTransport_default() {
	standing := http.DefaultTransport
	defer func() { http.DefaultTransport = standing }()

	transport, err := graphretry.NewTransport(nil)
	if err != nil {
		log.Fatal(err)
	}
	http.DefaultTransport = transport

	fmt.Printf("%T\n", http.DefaultTransport)
	// Output: *graphretry.Transport
}

// A call with less patience than the rest has options of its own.
func ExampleContextWithOptions() {
	api := graphtest.New()
	api.DownAfter(0, time.Minute, graphtest.Answer{Code: graphretry.CodeAPIService})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}

	ctx := graphretry.ContextWithOptions(context.Background(), graphretry.WithMaxRetries(2))
	fmt.Println(sendReminder(ctx, client))
	fmt.Println("calls that reached the API:", api.Totals().Calls)
	// Output:
	// 503 Service Unavailable
	// calls that reached the API: 3
}

func ExampleContextBypass() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	client, err := graphretry.WrapClient(&http.Client{Transport: api})
	if err != nil {
		log.Fatal(err)
	}

	ctx := graphretry.ContextBypass(context.Background())
	fmt.Println(sendReminder(ctx, client))
	// Output: 503 Service Unavailable
}

// schedule prints the waits before the first five retries of an error.
func schedule(e *graphretry.Error, opts ...graphretry.Option) {
	policy, err := graphretry.NewPolicy(opts...)
	if err != nil {
		log.Fatal(err)
	}
	var waits []any
	for retries := range 5 {
		decision := policy.Decide(e, retries)
		if !decision.Retry {
			waits = append(waits, decision.Reason)
			break
		}
		waits = append(waits, decision.Wait)
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
	wait := policy.Decide(serviceUnavailable, 0).Wait
	fmt.Println(wait >= 5*time.Second, wait <= 7500*time.Millisecond)
	// Output: true true
}

func ExampleWithMaxRetries() {
	schedule(serviceUnavailable, graphretry.WithMaxRetries(3), graphretry.WithJitter(0))
	// Output: 5s 10s 20s no retries left
}

// Any schedule of cenkalti/backoff will do, and any of one's own. It is made anew
// for each call.
func ExampleWithBackOff() {
	schedule(serviceUnavailable, graphretry.WithBackOff(func() backoff.BackOff {
		return backoff.WithMaxRetries(backoff.NewConstantBackOff(time.Minute), 2)
	}))
	// Output: 1m0s 1m0s no retries left
}

// A wait that does not fit into the maximum is not begun: the call gets the
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
	// not among what is retried
}

// The limit on one sender and one recipient has the schedule that Meta advises;
// all others have the usual one, unless the answer says when to come back.
func ExampleWithThrottleRetries() {
	throttled := []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithJitter(0)}
	schedule(&graphretry.Error{Code: graphretry.CodeRateLimitHit}, throttled...)
	schedule(&graphretry.Error{Code: graphretry.CodeRateLimitIssues, RetryAfter: 15 * time.Second}, throttled...)
	schedule(&graphretry.Error{Code: graphretry.CodePairRateLimitHit}, throttled...)
	// Output:
	// 5s 10s 20s 40s 1m20s
	// 15s 15s 20s 40s 1m20s
	// 1s 4s 16s 1m4s 4m16s
}

// Meta marks some errors as temporary that this package does not know to be.
func ExampleWithTransientFlag() {
	e := &graphretry.Error{Code: graphretry.CodeAPIUnknown, Transient: true}
	schedule(e)
	schedule(e, graphretry.WithTransientFlag(), graphretry.WithJitter(0))
	// Output:
	// not among what is retried
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
	resp, err := client.Get("https://graph.facebook.com/v23.0/106540352242922")
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

// Hosts replace the default, so name graph.facebook.com too where it is meant.
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

// The first attempt hangs. It is ambiguous, so it takes [WithNetworkRetries] and
// a method that may be carried out twice to have it sent again.
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
	resp, err := client.Get("https://graph.facebook.com/v23.0/106540352242922")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// The first answer shuts the gate here, where 20 do by default. While it is
// shut, a call that cannot wait for the next probe does not reach the API.
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
	// level=WARN msg="graphretry: retrying" method=POST host=graph.facebook.com path=/v23.0/106540352242922/messages attempt=1 wait=1ms reason="temporary failure" status=500 code=131016 class=transient title="Service unavailable" message="(#131016) Service unavailable" details="Service unavailable" fbtrace_id=AkVEzfBgLZzKxgWrcdG7OZQ advice="Follow Meta's status page: a part of the Cloud API is down; see what is overdue once it is back."
	// level=INFO msg="graphretry: recovered" method=POST host=graph.facebook.com path=/v23.0/106540352242922/messages attempt=2 after_code=131016
	// 200 OK
}

// Retries by code and class, as a program's metrics would count them.
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

func ExampleEvent() {
	observe := func(_ context.Context, event graphretry.Event) {
		switch event.Kind {
		case graphretry.EventRetrying:
			fmt.Printf("attempt %d: %v, again in %v\n", event.Attempt, event.Graph, event.Wait)
		case graphretry.EventGaveUp, graphretry.EventNotRetried:
			fmt.Printf("attempt %d: %v, %v\n", event.Attempt, event.Graph, event.Reason)
		case graphretry.EventRecovered:
			fmt.Printf("attempt %d: it worked\n", event.Attempt)
		case graphretry.EventOutageBegan, graphretry.EventOutageEnded:
			fmt.Println(event.Kind, event.Request.URL.Host)
		}
	}

	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithObserver(observe),
		graphretry.WithInitialInterval(time.Millisecond), graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sendReminder(context.Background(), client))
	// Output:
	// attempt 1: graphretry: Graph error 131000 (Something went wrong): (#131000) Something went wrong: Something went wrong [fbtrace_id AkVEzfBgLZzKxgWrcdG7OZQ], again in 1ms
	// attempt 2: it worked
	// 200 OK
}

// The first answer shuts the gate here, where 20 do by default. The API is back
// by the time of the first probe.
func ExampleEventKind() {
	observe := func(_ context.Context, event graphretry.Event) { fmt.Println(event.Kind) }

	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithObserver(observe),
		graphretry.WithOutageThreshold(1), graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	sendReminder(context.Background(), client)
	// Output:
	// outage began
	// retrying
	// outage ended
	// recovered
}

// The first answer brings the host down here, where 20 do by default.
func ExampleTransport_Hosts() {
	api := graphtest.New()
	api.DownAfter(0, time.Minute, graphtest.Answer{Code: graphretry.CodeAPIService})
	transport, err := graphretry.NewTransport(api, graphretry.WithOutageThreshold(1))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport, Timeout: time.Second}
	sendReminder(context.Background(), client)

	health := func(w http.ResponseWriter, _ *http.Request) {
		for _, host := range transport.Hosts() {
			if host.State == graphretry.HostDown {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintf(w, "%s is down: code %d, %d calls wait", host.Host, host.Cause.Code, host.Waiting)
			}
		}
	}
	page := httptest.NewRecorder()
	health(page, nil)
	fmt.Println(page.Code, page.Body)
	// Output: 503 graph.facebook.com is down: code 2, 0 calls wait
}

// A gauge wants a number: how many calls wait, whatever the state.
func ExampleHostStatus() {
	gauge := func(host graphretry.HostStatus) string {
		return fmt.Sprintf("graph_waiting{host=%q,state=%q} %d", host.Host, host.State, host.Waiting)
	}
	transport, err := graphretry.NewTransport(graphtest.New(), graphretry.WithHosts("graph.facebook.com", "graph.example.com:8443"))
	if err != nil {
		log.Fatal(err)
	}
	for _, host := range transport.Hosts() {
		fmt.Println(gauge(host))
	}
	// Output:
	// graph_waiting{host="graph.facebook.com",state="up"} 0
	// graph_waiting{host="graph.example.com:8443",state="up"} 0
}

func ExampleHostState() {
	fmt.Println(graphretry.HostUp, graphretry.HostDown, graphretry.HostRecovering)
	// Output: up down recovering
}

func ExampleNewPolicy() {
	policy, err := graphretry.NewPolicy(graphretry.WithMaxRetries(8), graphretry.WithThrottleRetries())
	if err != nil {
		log.Fatal(err)
	}
	decision := policy.Decide(&graphretry.Error{Code: graphretry.CodeRateLimitHit}, 8)
	fmt.Println(decision.Retry, decision.Reason)
	// Output: false no retries left
}

// job is a piece of work in a queue.
type job struct {
	message string
	retries int
	delay   time.Duration
}

// A worker of a queue does not wait in a call: no wait fits into a second, so each
// call has one attempt, and the policy says when the queue is to bring it again.
func ExamplePolicy_Decide() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithMaxElapsedTime(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}

	work := job{message: reminder, retries: 2}
	resp, err := client.Post(sendURL, "application/json", strings.NewReader(work.message))
	if errors.Is(err, graphretry.ErrOutage) {
		work.delay = time.Minute // it was never sent
		return
	}
	if err != nil {
		log.Fatal(err) // ambiguous: the message may be on its way
	}
	defer resp.Body.Close()
	if graph, failed := graphretry.ErrorFromResponse(resp); failed {
		if decision := policy.Decide(graph, work.retries); decision.Retry {
			work.retries++
			work.delay = decision.Wait
		}
	}
	fmt.Println("again in", work.delay)
	// Output: again in 20s
}

func ExampleDecision() {
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	for _, code := range []graphretry.Code{2, 131009, 131047} {
		decision := policy.Decide(&graphretry.Error{Code: code}, 0)
		fmt.Println(code, decision.Retry, decision.Wait, decision.Reason)
	}
	// Output:
	// 2 true 5s temporary failure
	// 131009 false 0s this code is never retried
	// 131047 false 0s not among what is retried
}

func ExampleReason() {
	policy, err := graphretry.NewPolicy()
	if err != nil {
		log.Fatal(err)
	}
	e := &graphretry.Error{Code: graphretry.CodeUserExperiment}
	switch policy.Decide(e, 0).Reason {
	case graphretry.ReasonNever:
		fmt.Println("drop it:", e.Code.Advice())
	case graphretry.ReasonRetriesExhausted:
		fmt.Println("it had its retries")
	}
	// Output: drop it: Do not resend: Meta withholds marketing from this number for an experiment; use another channel.
}

func ExampleParseError() {
	body := []byte(`{"error":{"message":"(#131009) Parameter value is not valid","type":"OAuthException","code":131009,` +
		`"error_data":{"messaging_product":"whatsapp","details":"text.body is required"},"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`)

	e, ok := graphretry.ParseError(http.StatusBadRequest, body)
	fmt.Println(ok, e.Code, e.Details, e.TraceID)

	_, ok = graphretry.ParseError(http.StatusBadGateway, []byte("<html>Sorry, something went wrong.</html>"))
	fmt.Println(ok)
	// Output:
	// true 131009 text.body is required AzXcvWbXnq1oPbnEGkx3SXJ
	// false
}

// The body of the response can be read after that as if nothing had been.
func ExampleErrorFromResponse() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeInvalidParameter, Details: "to is no phone number"})
	client := &http.Client{Transport: api}

	resp, err := client.Post(sendURL, "application/json", strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	if graph, failed := graphretry.ErrorFromResponse(resp); failed {
		fmt.Println(graph.Status, graph.Code, graph.Details)
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Println(len(body) > 0, err)
	// Output:
	// 400 100 to is no phone number
	// true <nil>
}

// An Error has what Meta said, and what a person on call should do.
func ExampleError() {
	e := &graphretry.Error{
		Status:  http.StatusUnauthorized,
		Code:    190,
		Message: "Error validating access token",
		TraceID: "AzXcvWbXnq1oPbnEGkx3SXJ",
	}
	fmt.Println(e)
	fmt.Println(e.Class(), "-", e.Code.Advice())
	// Output:
	// graphretry: Graph error 190 (Access token has expired): Error validating access token [fbtrace_id AzXcvWbXnq1oPbnEGkx3SXJ]
	// permission - Replace the expired or revoked token; a system user's permanent token keeps it from happening again.
}

func ExampleCode_Title() {
	fmt.Println(graphretry.Code(131047).Title())
	fmt.Printf("%q\n", graphretry.Code(999999).Title())
	// Output:
	// Re-engagement message
	// ""
}

func ExampleCode_Advice() {
	fmt.Println(graphretry.Code(131047).Advice())
	// Output: More than 24 hours since the person last wrote: send an approved template instead.
}

func ExampleClass() {
	for _, code := range []graphretry.Code{2, 131000, 130429, 131009, 190, 131048, 131047, 130472} {
		fmt.Println(code, code.Class())
	}
	// Output:
	// 2 transient
	// 131000 retry once
	// 130429 throttle
	// 131009 parameter
	// 190 permission
	// 131048 policy
	// 131047 recipient
	// 130472 experiment
}

// A webhook reports that a message was accepted and not delivered.
// A handler of webhooks that has what is temporary sent again.
func ExampleParseWebhook() {
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	enqueue := func(messageID string, wait time.Duration) { fmt.Println("send again", messageID, "in", wait) }
	handle := func(w http.ResponseWriter, body []byte) {
		failures, err := graphretry.ParseWebhook(body)
		if err != nil {
			http.Error(w, "not a webhook of Meta's", http.StatusBadRequest)
			return
		}
		for _, failure := range failures {
			decision := policy.Decide(failure.Graph, 0) // 0: this message was not sent again yet
			if decision.Retry {
				enqueue(failure.MessageID, decision.Wait)
			}
		}
	}

	answer := httptest.NewRecorder()
	handle(answer, []byte(`{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{
		"metadata":{"phone_number_id":"106540352242922"},
		"statuses":[{"id":"wamid.HBgL","status":"failed","timestamp":"1751142888","recipient_id":"16505551234",
			"errors":[{"code":131000,"title":"Something went wrong"}]}]}}]}]}`))
	fmt.Println(answer.Code)
	handle(answer, []byte("<html>"))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// send again wamid.HBgL in 5s
	// 200
	// 400 not a webhook of Meta's
}

func ExampleFailure() {
	failure := graphretry.Failure{
		Graph:       &graphretry.Error{Code: 131026},
		MessageID:   "wamid.HBgL",
		RecipientID: "16505551234",
		Time:        time.Unix(1751142888, 0).UTC(),
	}
	fmt.Println(failure.Time.Format(time.DateTime), failure.RecipientID, failure.Graph.Code.Title())
	// Output: 2025-06-28 20:34:48 16505551234 Message Undeliverable
}

// The caller leaves during a wait. Its own cause is in the error, and what Meta
// had said.
func ExampleWaitError() {
	ctx, cancel := context.WithCancelCause(context.Background())
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	client, err := graphretry.WrapClient(&http.Client{Transport: api},
		graphretry.WithObserver(func(context.Context, graphretry.Event) { cancel(errors.New("the program is shutting down")) }))
	if err != nil {
		log.Fatal(err)
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, strings.NewReader(reminder))
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Do(req)
	var wait *graphretry.WaitError
	if errors.As(err, &wait) {
		fmt.Println("sent:", wait.Attempts)
		fmt.Println("why:", wait.Err)
		fmt.Println("Meta said:", wait.Graph.Code, wait.Graph.Code.Title())
	}
	// Output:
	// sent: 1
	// why: context canceled: the program is shutting down
	// Meta said: 2 API Service
}
