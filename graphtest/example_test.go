package graphtest_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// sendReminder stands for the code under test in the examples.
func sendReminder(client *http.Client, url, id string) error {
	body := `{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":"Tomorrow at nine."},` +
		`"biz_opaque_callback_data":"` + id + `"}`
	response, err := client.Post(url+"/v25.0/106540352242922/messages", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

// The test of the package's overview.
func TestReminderOutlastsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.Down(3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})

		client, err := graphretry.WrapClient(&http.Client{Transport: api})
		require.NoError(t, err)
		require.NoError(t, sendReminder(client, "https://graph.facebook.com", "reminder-1"))

		require.Empty(t, api.Lost("reminder-1"))
		require.Empty(t, api.Duplicates())
		require.NotZero(t, api.Totals().WhileDown)
	})
}

// In memory: the API is the client's Transport.
func Example() {
	api := graphtest.New()
	api.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client := &http.Client{Transport: api}

	for range 3 {
		err := sendReminder(client, "https://graph.facebook.com", "reminder-1")
		fmt.Println(err == nil)
	}
	fmt.Println(api.AcceptedKeys())
	// Output:
	// false
	// false
	// true
	// [reminder-1]
}

// t takes the place of a test's t, which an example does not have.
var t = struct{ testing.TB }{new(testing.B)}

// The code under test keeps its URLs.
func ExampleNewServer() {
	server := graphtest.NewServer(t)
	server.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	client, err := graphretry.WrapClient(server.Client(), graphretry.WithInitialInterval(time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sendReminder(client, "https://graph.facebook.com", "reminder-1"))
	fmt.Println("calls:", server.Totals().Calls)
	// Output:
	// <nil>
	// calls: 2
}

// Over HTTP: the API is a server's Handler.
func Example_http() {
	api := graphtest.New()
	server := httptest.NewServer(api)
	defer server.Close()

	fmt.Println(sendReminder(server.Client(), server.URL, "reminder-1"))
	fmt.Println(api.Calls()[0].Path)
	// Output:
	// <nil>
	// /v25.0/106540352242922/messages
}

// A message that is sent again because its connection broke arrives twice.
func ExampleAPI_Duplicates() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	client := &http.Client{Transport: api}

	for range 5 {
		if sendReminder(client, "https://graph.facebook.com", "reminder-1") == nil {
			break
		}
		// A careless loop: it cannot know that the message was taken.
	}
	for _, message := range api.Duplicates() {
		fmt.Println(message.Key, "was sent twice")
	}
	// Output:
	// reminder-1 was sent twice
}

func ExampleAPI_Lost() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeRateLimitHit})
	client := &http.Client{Transport: api}

	for _, id := range []string{"reminder-1", "reminder-2", "reminder-3"} {
		_ = sendReminder(client, "https://graph.facebook.com", id) // and it does not try again
	}
	fmt.Println(api.Lost("reminder-1", "reminder-2", "reminder-3"))
	// Output:
	// [reminder-1]
}

func ExampleAPI_SetLimit() {
	api := graphtest.New()
	api.SetLimit(80, graphtest.Answer{Code: graphretry.CodeRateLimitHit, RetryAfter: "1"})
	client := &http.Client{Transport: api}

	refused := 0
	for i := range 100 {
		if sendReminder(client, "https://graph.facebook.com", fmt.Sprint("reminder-", i)) != nil {
			refused++
		}
	}
	fmt.Println(refused)
	// Output:
	// 20
}

func ExampleStatusWebhook() {
	api := graphtest.New()
	client := &http.Client{Transport: api}
	_ = sendReminder(client, "https://graph.facebook.com", "reminder-1")

	// What an endpoint for webhooks is sent when the message cannot be delivered.
	body := graphtest.StatusWebhook(api.Accepted()[0], "failed", graphretry.CodeSomethingWentWrong)
	fmt.Println(strings.Contains(string(body), `"biz_opaque_callback_data":"reminder-1"`))
	// Output:
	// true
}

func ExampleStatus() {
	fmt.Println(graphtest.Status(graphretry.CodeAPIService), graphtest.Status(graphretry.CodeServiceUnavailable))
	// Output:
	// 503 500
}

func ExampleErrorBody() {
	fmt.Println(string(graphtest.ErrorBody(graphretry.CodeAPIService)))
	// Output:
	// {"error":{"message":"(#2) API Service","type":"OAuthException","code":2,"fbtrace_id":"AGraphtestTraceIDxxxxxx"}}
}

// The same seed and the same calls give the same failures, so a test that failed
// fails again.
func ExampleWithSeed() {
	failures := func(seed uint64) (failed []int) {
		api := graphtest.New(graphtest.WithSeed(seed))
		api.AnswerShare(0.3, graphtest.Answer{Code: graphretry.CodeAPIService})
		for i := range 100 {
			if sendReminder(&http.Client{Transport: api}, "https://graph.facebook.com", fmt.Sprint("reminder-", i)) != nil {
				failed = append(failed, i)
			}
		}
		return failed
	}
	fmt.Println(slices.Equal(failures(1), failures(1)))
	fmt.Println(slices.Equal(failures(1), failures(2)))
	// Output:
	// true
	// false
}

// The API gives each of these answers once, in this order, and succeeds after that.
func ExampleAnswer() {
	api := graphtest.New()
	for _, answer := range []graphtest.Answer{
		{Code: graphretry.CodeAPIService, Transient: true},
		{Code: graphretry.CodeAPITooManyCalls, RetryAfter: "30"},
		{Status: http.StatusBadGateway},
		{},
	} {
		api.AnswerNext(1, answer)
		response, err := (&http.Client{Transport: api}).Get("https://graph.facebook.com/v25.0/106540352242922")
		if err != nil {
			fmt.Println(err)
			continue
		}
		response.Body.Close()
		fmt.Printf("%d %q\n", response.StatusCode, response.Header.Get("Retry-After"))
	}
	// Output:
	// 503 ""
	// 400 "30"
	// 502 ""
	// 200 ""
}

// The connection breaks before the API has accepted the message, and after it.
func ExampleFault() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
	client := &http.Client{Transport: api}

	for _, id := range []string{"reminder-1", "reminder-2"} {
		fmt.Println(sendReminder(client, "https://graph.facebook.com", id) == nil)
	}
	fmt.Println(api.AcceptedKeys())
	// Output:
	// false
	// false
	// [reminder-2]
}

func ExampleCall() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	_ = sendReminder(&http.Client{Transport: api}, "https://graph.facebook.com", "reminder-1")

	for _, call := range api.Calls() {
		fmt.Println(call.Method, call.Path, call.Status)
	}
	// Output:
	// POST /v25.0/106540352242922/messages 500
}

func ExampleMessage() {
	api := graphtest.New()
	_ = sendReminder(&http.Client{Transport: api}, "https://graph.facebook.com", "reminder-1")

	for _, message := range api.Accepted() {
		fmt.Println(message.Key, "to", message.RecipientID)
	}
	// Output:
	// reminder-1 to 16505551234
}

// A program that tries again at once puts more calls on an API that is down.
func ExampleTotals() {
	api := graphtest.New()
	api.Down(time.Hour, graphtest.Answer{Code: graphretry.CodeAPIService})
	for range 10 {
		_ = sendReminder(&http.Client{Transport: api}, "https://graph.facebook.com", "reminder-1")
	}
	totals := api.Totals()
	fmt.Println(totals.Calls, totals.WhileDown, totals.Accepted)
	// Output:
	// 10 10 0
}
