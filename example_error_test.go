package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func ExampleParseError() {
	body := []byte(`{"error":{"message":"(#131009) Parameter value is not valid","type":"OAuthException","code":131009,` +
		`"error_data":{"messaging_product":"whatsapp","details":"text.body is required"},"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`)

	e, ok := graphretry.ParseError(http.StatusBadRequest, nil, body)
	fmt.Println(ok, e.Code, e.Details, e.TraceID)

	_, ok = graphretry.ParseError(http.StatusBadGateway, nil, []byte("<html>Sorry, something went wrong.</html>"))
	fmt.Println(ok)
	// Output:
	// true 131009 text.body is required AzXcvWbXnq1oPbnEGkx3SXJ
	// false
}

// After that the body of the response can still be read.
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

// A webhook reports that a message was accepted and not delivered. A webhook handler
// that sends a message again if its failure is temporary.
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
			if failure.ParticipantID != "" || failure.ParticipantUserID != "" {
				continue // one participant of a group; others may have the message
			}
			// A new History: this message was not sent again yet.
			decision := policy.Decide(failure.Graph, graphretry.History{})
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

// Anybody can post to a webhook's URL, so a handler checks the signature first.
func ExampleVerifyWebhook() {
	appSecret := []byte("0123456789abcdef0123456789abcdef") // from where the program keeps its secrets
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20)) // Meta sends 3 MB at most
		if err != nil {
			http.Error(w, "cannot read the body", http.StatusBadRequest)
			return
		}
		if err := graphretry.VerifyWebhook(body, r.Header.Get("X-Hub-Signature-256"), appSecret); err != nil {
			http.Error(w, "not signed by Meta", http.StatusForbidden)
			return
		}
		fmt.Println("from Meta:", string(body)) // and now ParseWebhook
	})

	for _, signature := range []string{"sha256=813cf09fed9f8eb4ebe6634d2739169e848c66f3833e8838e705511bea627036", ""} {
		r := httptest.NewRequest(http.MethodPost, "/webhook", strings.NewReader(`{"entry":[]}`))
		r.Header.Set("X-Hub-Signature-256", signature)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		fmt.Println(answer.Code)
	}
	fmt.Println(graphretry.VerifyWebhook([]byte(`{"entry":[]}`), "", appSecret))
	// Output:
	// from Meta: {"entry":[]}
	// 200
	// 403
	// graphretry: webhook has no signature: want the header X-Hub-Signature-256 of Meta's request
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

// The caller cancels during a wait. The error wraps the cause and the last Graph
// error.
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

// An error that proves that nothing was sent is safe to send again, whatever the method.
func ExampleNeverSent() {
	refused := &url.Error{Op: "Post", URL: sendURL, Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	broken := &url.Error{Op: "Post", URL: sendURL, Err: io.ErrUnexpectedEOF}
	fmt.Println(graphretry.NeverSent(refused), graphretry.NeverSent(broken))
	// Output: true false
}
