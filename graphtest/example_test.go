package graphtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	response, err := client.Post(url+"/v23.0/106540352242922/messages", "application/json", strings.NewReader(body))
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
		api.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})

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

// Over HTTP: the API is a server's Handler.
func Example_http() {
	api := graphtest.New()
	server := httptest.NewServer(api)
	defer server.Close()

	fmt.Println(sendReminder(server.Client(), server.URL, "reminder-1"))
	fmt.Println(api.Calls()[0].Path)
	// Output:
	// <nil>
	// /v23.0/106540352242922/messages
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

func ExampleErrorBody() {
	fmt.Println(graphtest.Status(graphretry.CodeAPIService), string(graphtest.ErrorBody(graphretry.CodeAPIService)))
	// Output:
	// 503 {"error":{"message":"(#2) API Service","type":"OAuthException","code":2,"fbtrace_id":"AGraphtestTraceIDxxxxxx"}}
}
