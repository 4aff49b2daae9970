package sdktest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/program"
	"github.com/graphretry/graphretry/graphtest"
)

// Text is the text of the messages that the suite sends.
const Text = "See you at nine."

const recipient = "15550100001"

// SDK is what the suite has to know of an SDK.
type SDK struct {
	// Connect is the program's own, which goes to Meta or to the program's fake API.
	Connect program.Connect

	// NewMessenger hands client to the SDK as it is, and sends its calls to the Graph
	// API at baseURL, which has no slash at the end.
	NewMessenger func(client *http.Client, baseURL string) (program.Messenger, error)

	// CodeAndTraceID finds the SDK's own error in err, or fails the test.
	CodeAndTraceID func(t *testing.T, err error) (code int, traceID string)

	// TextOnTheWire is Text as the SDK encodes it.
	TextOnTheWire string
}

// Run tests that the SDK and graphretry get on with each other.
func Run(t *testing.T, sdk SDK) {
	t.Run("message is sent", sdk.messageIsSent)
	t.Run("temporary failure is ridden out", sdk.temporaryFailureIsRiddenOut)
	t.Run("wrong parameter is sent once and told as it came", sdk.wrongParameterIsSentOnceAndToldAsItCame)
	t.Run("error of the SDK survives exhaustion", sdk.errorSurvivesExhaustion)
	t.Run("image upload is replayed byte for byte", sdk.imageUploadIsReplayedByteForByte)
	t.Run("caller ends the wait", sdk.callerEndsTheWait)
	t.Run("wait beyond the deadline is not begun", sdk.waitBeyondTheDeadlineIsNotBegun)
	t.Run("fake run of the program needs no account", sdk.fakeRunNeedsNoAccount)
}

func (sdk SDK) messageIsSent(t *testing.T) {
	server := Start(t)

	id, err := sdk.sendText(t, t.Context(), server, server.Client(t))

	require.NoError(t, err)
	assert.Equal(t, []int{200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
}

func (sdk SDK) temporaryFailureIsRiddenOut(t *testing.T) {
	server := Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})

	id, err := sdk.sendText(t, t.Context(), server, server.Client(t))

	require.NoError(t, err)
	assert.Equal(t, []int{503, 503, 200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
	bodies := server.Bodies()
	assert.Contains(t, string(bodies[0]), sdk.TextOnTheWire)
	assert.Equal(t, [][]byte{bodies[0], bodies[0], bodies[0]}, bodies)
}

// The SDK's error is the same, to the last field, as without graphretry.
func (sdk SDK) wrongParameterIsSentOnceAndToldAsItCame(t *testing.T) {
	server := Start(t)
	refusal := graphtest.Answer{Body: graphtest.ErrorBody(graphretry.CodeInvalidParameter), Status: http.StatusBadRequest}
	server.API.AnswerNext(2, refusal)

	_, plain := sdk.sendText(t, t.Context(), server, server.PlainClient())
	_, err := sdk.sendText(t, t.Context(), server, server.Client(t))

	assert.Equal(t, plain, err)
	assert.Equal(t, []int{400, 400}, server.Statuses(), "once each")
	code, traceID := sdk.CodeAndTraceID(t, err)
	assert.Equal(t, int(graphretry.CodeInvalidParameter), code)
	assert.NotEmpty(t, traceID)
}

func (sdk SDK) errorSurvivesExhaustion(t *testing.T) {
	server := Start(t)
	server.API.AnswerNext(3, graphtest.Answer{Code: graphretry.CodeAPIService})
	client := server.Client(t, graphretry.WithMaxRetries(2))

	_, err := sdk.sendText(t, t.Context(), server, client)

	require.Equal(t, []int{503, 503, 503}, server.Statuses())
	code, traceID := sdk.CodeAndTraceID(t, err)
	assert.Equal(t, int(graphretry.CodeAPIService), code)
	assert.Equal(t, server.API.Calls()[2].TraceID, traceID, "the trace of the last attempt, for Meta's support")
}

// The file is longer than graphretry's own buffer. An SDK that keeps the form in
// memory lets net/http make it again, whatever its size: WithMaxBufferedBody is not
// needed.
func (sdk SDK) imageUploadIsReplayedByteForByte(t *testing.T) {
	server := Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	path, content := File(t, "ticket.jpg", 2<<20)

	_, err := sdk.messenger(t, server, server.Client(t)).SendImage(t.Context(), recipient, path, "Your ticket.")

	require.NoError(t, err)
	require.Equal(t, []int{500, 500, 200, 200}, server.Statuses(), "the upload, twice again, and the message")
	AssertReplayed(t, server.Bodies()[:3], content)
}

func (sdk SDK) callerEndsTheWait(t *testing.T) {
	server := Start(t)
	server.API.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := server.PatientClient(t, graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
		assert.Equal(t, graphretry.EventRetrying, event.Kind)
		cancel() // just before the wait
	}))

	_, err := sdk.sendText(t, ctx, server, client)

	require.ErrorIs(t, err, context.Canceled)
	var wait *graphretry.WaitError
	require.ErrorAs(t, err, &wait, "the SDK hides what graphretry says")
	assert.Equal(t, 1, wait.Attempts)
	assert.Equal(t, graphretry.CodeAPIService, wait.Graph.Code)
	assert.Equal(t, []int{503}, server.Statuses())
}

// A deadline is better than a cancellation: a wait that cannot end before it is
// not begun, and the SDK gets the answer that there is.
func (sdk SDK) waitBeyondTheDeadlineIsNotBegun(t *testing.T) {
	server := Start(t)
	server.API.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	_, err := sdk.sendText(t, ctx, server, server.PatientClient(t))

	require.NoError(t, ctx.Err(), "it waited for the deadline")
	code, _ := sdk.CodeAndTraceID(t, err)
	assert.Equal(t, int(graphretry.CodeAPIService), code)
}

func (sdk SDK) fakeRunNeedsNoAccount(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	t.Setenv("WHATSAPP_PHONE_NUMBER_ID", "")
	path, _ := File(t, "ticket.jpg", 1<<10)
	for _, args := range [][]string{
		{"-fake", recipient, Text},
		{"-fake", "-image", path, recipient, "Your ticket."},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			began := time.Now()
			require.NoError(t, program.Run(t.Context(), "program", args, &out, sdk.Connect))
			assert.Contains(t, out.String(), "accepted as wamid.")
			assert.GreaterOrEqual(t, time.Since(began), 5*time.Second, "nothing was retried")
		})
	}
}

func (sdk SDK) messenger(t *testing.T, server *Server, client *http.Client) program.Messenger {
	t.Helper()
	messenger, err := sdk.NewMessenger(client, server.URL)
	require.NoError(t, err)
	return messenger
}

func (sdk SDK) sendText(t *testing.T, ctx context.Context, server *Server, client *http.Client) (id string, err error) {
	t.Helper()
	return sdk.messenger(t, server, client).SendText(ctx, recipient, Text)
}
