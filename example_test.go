package graphretry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// The examples use a [graphtest.API] instead of graph.facebook.com, and intervals of
// milliseconds instead of the default of 5 seconds.
const (
	sendURL     = "https://graph.facebook.com/v25.0/106540352242922/messages"
	accessToken = "EAAJ-example"
	reminder    = `{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":"Tomorrow at nine."}}`
)

// sendReminder sends a message as any program does, and returns the status or the
// error.
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

// The API is down for two calls. The program sends the message once and does not
// notice.
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
	req.Header.Set("Authorization", "Bearer "+accessToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err) // no response: errors.Is(err, graphretry.ErrOutage) if the API is down
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		graph, _ := graphretry.ErrorFromResponse(resp) // the body stays readable
		log.Fatal(resp.Status, ": ", graph)
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

// All invalid options are reported in one error, before any call.
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

// A Transport can be used wherever a RoundTripper can, around the one that was
// there.
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

// An SDK that takes no client uses [http.DefaultTransport]. A nil next means its
// present value, so the Transport can replace it.
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

// A call that must not wait as long as the others has its own options.
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

// A user waits for the answer, and the API being down has three ways to arrive.
func Example_webHandler() {
	api := graphtest.New()
	client, err := graphretry.WrapClient(&http.Client{Transport: api}, graphretry.WithOutageThreshold(2))
	if err != nil {
		log.Fatal(err)
	}

	handler := func(w http.ResponseWriter, r *http.Request) {
		// The user's client waits for 10 s: one of them is for the answer.
		ctx, cancel := context.WithTimeout(r.Context(), 9*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, strings.NewReader(reminder))
		if err != nil {
			http.Error(w, "the message was not sent", http.StatusInternalServerError)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		var graph *graphretry.Error
		var wait *graphretry.WaitError
		if err == nil {
			defer resp.Body.Close()
			graph, _ = graphretry.ErrorFromResponse(resp)
		} else if errors.As(err, &wait) {
			graph = wait.Graph // of the last attempt: the wait after it was ended
		}
		switch {
		case err == nil && resp.StatusCode/100 == 2:
			fmt.Fprintln(w, "sent")
		case errors.Is(err, graphretry.ErrOutage), graphretry.NeverSent(err),
			graph != nil && graph.Class() == graphretry.ClassTransient:
			w.Header().Set("Retry-After", "60")
			http.Error(w, "WhatsApp is down: the message was not sent, try again in a minute", http.StatusServiceUnavailable)
		case graph != nil:
			http.Error(w, "the message cannot be sent", http.StatusBadGateway)
		default: // a broken connection, a timeout, a gateway's page
			http.Error(w, "the message may have been sent: do not send it again", http.StatusGatewayTimeout)
		}
	}

	for _, answer := range []graphtest.Answer{{}, {Code: 131009}, {Status: http.StatusBadGateway}, {Code: 2, RetryAfter: "60"}} {
		api.AnswerNext(1, answer)
		page := httptest.NewRecorder()
		handler(page, httptest.NewRequest(http.MethodPost, "/", nil))
		fmt.Println(page.Code, strings.TrimSpace(page.Body.String()))
	}
	// Output:
	// 200 sent
	// 502 the message cannot be sent
	// 504 the message may have been sent: do not send it again
	// 503 WhatsApp is down: the message was not sent, try again in a minute
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

// Here the first answer brings the host down; by default 20 do. The API is back when
// the first probe is sent.
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

// Here the first answer brings the host down; by default 20 do.
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

// A gauge needs a number: how many calls wait, whatever the state is.
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

// One of two phone numbers fails. It does not delay the other one.
func ExamplePathStatus() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/1001/") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(graphtest.ErrorBody(graphretry.CodeServiceUnavailable))
		}
	}))
	defer api.Close()
	client, err := graphretry.WrapClient(nil,
		graphretry.WithHosts(api.Listener.Addr().String()), graphretry.WithOutageThreshold(3), graphretry.WithoutWaiting())
	if err != nil {
		log.Fatal(err)
	}
	for _, number := range []string{"1001", "1002", "1001", "1001", "1001", "1002"} {
		resp, err := client.Post(api.URL+"/v25.0/"+number+"/messages", "application/json", strings.NewReader("{}"))
		if err != nil {
			fmt.Println(number, errors.Is(err, graphretry.ErrOutage))
			continue
		}
		resp.Body.Close()
		fmt.Println(number, resp.StatusCode)
	}
	host := client.Transport.(*graphretry.Transport).Hosts()[0]
	fmt.Println("the host is", host.State)
	for _, path := range host.Paths {
		fmt.Println(path.Path, "is", path.State)
	}
	// Output:
	// 1001 400
	// 1002 200
	// 1001 400
	// 1001 400
	// 1001 true
	// 1002 200
	// the host is up
	// /1001/messages is down
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
	eightTimes := graphretry.History{Retries: map[graphretry.Code]int{graphretry.CodeRateLimitHit: 8}}
	decision := policy.Decide(&graphretry.Error{Code: graphretry.CodeRateLimitHit}, eightTimes)
	fmt.Println(decision.Retry, decision.Reason)
	// Output: false no retries left
}

// A 131000 has one retry, whatever was retried before it.
func ExamplePolicy_Decide() {
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	var history graphretry.History
	for _, code := range []graphretry.Code{2, 131000, 131000} {
		decision := policy.Decide(&graphretry.Error{Code: code}, history)
		fmt.Println(code, decision.Outcome, decision.Wait, decision.Reason)
		history = decision.History
	}
	// Output:
	// 2 retry 5s temporary failure
	// 131000 retry 10s retried at most once
	// 131000 failed 0s no retries left
}

func ExampleDecision() {
	policy, err := graphretry.NewPolicy(graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}
	for _, code := range []graphretry.Code{2, 190, 131009, 131047} {
		decision := policy.Decide(&graphretry.Error{Code: code}, graphretry.History{})
		fmt.Println(code, decision.Outcome, decision.Wait, decision.Cause)
	}
	// Output:
	// 2 retry 5s temporary failure: Graph error 2 (API Service)
	// 190 held 5s Graph error 190 (Access token has expired)
	// 131009 failed 0s this code is never retried: Graph error 131009 (Parameter value is not valid)
	// 131047 failed 0s this failure is not retried: Graph error 131047 (Re-engagement message)
}

func ExampleOutcome() {
	policy, err := graphretry.NewPolicy()
	if err != nil {
		log.Fatal(err)
	}
	page := &http.Response{StatusCode: http.StatusBadGateway, Body: io.NopCloser(strings.NewReader("<html>Bad gateway</html>"))}
	if decision := policy.Next(page, nil, graphretry.History{}); decision.Outcome == graphretry.OutcomeUnknown {
		fmt.Println("park it:", decision.Cause)
	}
	// Output: park it: may have been carried out: HTTP status 502 and no Graph error
}

// A queue stores the History with the job.
func ExampleHistory() {
	policy, err := graphretry.NewPolicy()
	if err != nil {
		log.Fatal(err)
	}
	decision := policy.Decide(&graphretry.Error{Code: graphretry.CodeAPIService}, graphretry.History{})
	stored, err := json.Marshal(decision.History)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(stored))
	// Output: {"retries":{"2":1}}
}

func ExampleReason() {
	policy, err := graphretry.NewPolicy()
	if err != nil {
		log.Fatal(err)
	}
	e := &graphretry.Error{Code: graphretry.CodeUserExperiment}
	switch policy.Decide(e, graphretry.History{}).Reason {
	case graphretry.ReasonNever:
		fmt.Println("drop it:", e.Code.Advice())
	case graphretry.ReasonRetriesExhausted:
		fmt.Println("it had its retries")
	}
	// Output: drop it: Do not resend: Meta withholds marketing from this number for an experiment; use another channel.
}
