package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	facebook "github.com/huandu/facebook/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/sdktest"
	"github.com/graphretry/graphretry/graphtest"
)

const (
	recipient     = "15550100001"
	phoneNumberID = "106540352242922"
)

// sessionOn is a session whose Graph API is the fake one.
func sessionOn(server *sdktest.Server, client *http.Client) *facebook.Session {
	session := newSession(client, "EAAfakefakefakefake")
	session.BaseURL = server.URL + "/"
	return session
}

func TestMessageIsSent(t *testing.T) {
	server := sdktest.Start(t)

	id, err := sendText(t.Context(), sessionOn(server, server.Client(t)), phoneNumberID, recipient, "See you at nine.")

	require.NoError(t, err)
	assert.Equal(t, []int{200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
}

func TestTemporaryFailureIsRiddenOut(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})

	id, err := sendText(t.Context(), sessionOn(server, server.Client(t)), phoneNumberID, recipient, "See you at nine.")

	require.NoError(t, err)
	assert.Equal(t, []int{503, 503, 200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
	bodies := server.Bodies()
	assert.Contains(t, string(bodies[0]), "See+you+at+nine.")
	assert.Equal(t, [][]byte{bodies[0], bodies[0], bodies[0]}, bodies)
}

// The SDK's error is the same, to the last field, as without graphretry.
func TestWrongParameterIsSentOnceAndToldAsItCame(t *testing.T) {
	server := sdktest.Start(t)
	refusal := graphtest.Answer{Body: graphtest.ErrorBody(graphretry.CodeInvalidParameter), Status: http.StatusBadRequest}
	server.API.AnswerNext(2, refusal)

	_, plain := sendText(t.Context(), sessionOn(server, server.PlainClient()), phoneNumberID, recipient, "See you at nine.")
	_, err := sendText(t.Context(), sessionOn(server, server.Client(t)), phoneNumberID, recipient, "See you at nine.")

	assert.Equal(t, plain, err)
	assert.Equal(t, []int{400, 400}, server.Statuses(), "once each")
	var told *facebook.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeInvalidParameter), told.Code)
	assert.NotEmpty(t, told.TraceID)
}

func TestErrorOfTheSDKSurvivesExhaustion(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(3, graphtest.Answer{Code: graphretry.CodeAPIService})
	client := server.Client(t, graphretry.WithMaxRetries(2))

	_, err := sendText(t.Context(), sessionOn(server, client), phoneNumberID, recipient, "See you at nine.")

	assert.Equal(t, []int{503, 503, 503}, server.Statuses())
	var told *facebook.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeAPIService), told.Code)
	assert.Equal(t, server.API.Calls()[2].TraceID, told.TraceID, "the trace of the last attempt, for Meta's support")
}

// The SDK holds the form in memory, so that net/http can make it again, whatever
// its size: WithMaxBufferedBody is not needed.
func TestImageUploadIsReplayedByteForByte(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	path, content := sdktest.File(t, "ticket.jpg", 2<<20)

	_, err := sendImage(t.Context(), sessionOn(server, server.Client(t)), phoneNumberID, recipient, path, "Your ticket.")

	require.NoError(t, err)
	require.Equal(t, []int{500, 500, 200, 200}, server.Statuses(), "the upload, twice again, and the message")
	sdktest.AssertReplayed(t, server.Bodies()[:3], content)
}

func TestCallerEndsTheWait(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := server.PatientClient(t, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
		assert.Equal(t, graphretry.EventRetrying, event.Kind)
		cancel() // just before the wait
	}))

	_, err := sendText(ctx, sessionOn(server, client), phoneNumberID, recipient, "See you at nine.")

	require.ErrorIs(t, err, context.Canceled)
	var wait *graphretry.WaitError
	require.ErrorAs(t, err, &wait, "the SDK hides what graphretry says")
	assert.Equal(t, 1, wait.Attempts)
	assert.Equal(t, graphretry.CodeAPIService, wait.Graph.Code)
	assert.Equal(t, []int{503}, server.Statuses())
}

// A deadline is better than a cancellation: a wait that cannot end before it is
// not begun, and the SDK gets the answer that there is.
func TestWaitBeyondTheDeadlineIsNotBegun(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	_, err := sendText(ctx, sessionOn(server, server.PatientClient(t)), phoneNumberID, recipient, "See you at nine.")

	require.NoError(t, ctx.Err(), "it waited for the deadline")
	var told *facebook.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeAPIService), told.Code)
}

func TestFakeRunNeedsNoAccount(t *testing.T) {
	path, _ := sdktest.File(t, "ticket.jpg", 1<<10)
	for _, args := range [][]string{
		{"-fake", recipient, "See you at nine."},
		{"-fake", "-image", path, recipient, "Your ticket."},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			began := time.Now()
			require.NoError(t, run(t.Context(), args, &out))
			assert.Contains(t, out.String(), "accepted as wamid.")
			assert.GreaterOrEqual(t, time.Since(began), 5*time.Second, "nothing was retried")
		})
	}
}
