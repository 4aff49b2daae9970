package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/piusalfred/whatsapp/config"
	"github.com/piusalfred/whatsapp/media"
	whatsapperrors "github.com/piusalfred/whatsapp/pkg/errors"
	whttp "github.com/piusalfred/whatsapp/pkg/http"
	"github.com/piusalfred/whatsapp/uploads"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/sdktest"
	"github.com/graphretry/graphretry/graphtest"
)

const recipient = "15550100001"

// accountOn is an account whose Graph API is the fake one.
func accountOn(server *sdktest.Server) *config.Config {
	return &config.Config{
		BaseURL:       server.URL,
		APIVersion:    "v24.0",
		AccessToken:   "EAAfakefakefakefake",
		PhoneNumberID: "106540352242922",
	}
}

func TestMessageIsSent(t *testing.T) {
	server := sdktest.Start(t)

	id, err := sendText(t.Context(), server.Client(t), accountOn(server), recipient, "See you at nine.")

	require.NoError(t, err)
	assert.Equal(t, []int{200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
}

func TestTemporaryFailureIsRiddenOut(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeAPIService})

	id, err := sendText(t.Context(), server.Client(t), accountOn(server), recipient, "See you at nine.")

	require.NoError(t, err)
	assert.Equal(t, []int{503, 503, 200}, server.Statuses())
	require.Len(t, server.API.Accepted(), 1)
	assert.Equal(t, server.API.Accepted()[0].ID, id)
	bodies := server.Bodies()
	assert.Contains(t, string(bodies[0]), "See you at nine.")
	assert.Equal(t, [][]byte{bodies[0], bodies[0], bodies[0]}, bodies)
}

// The SDK's error is the same, to the last field, as without graphretry.
func TestWrongParameterIsSentOnceAndToldAsItCame(t *testing.T) {
	server := sdktest.Start(t)
	refusal := graphtest.Answer{Body: graphtest.ErrorBody(graphretry.CodeInvalidParameter), Status: http.StatusBadRequest}
	server.API.AnswerNext(2, refusal)

	_, plain := sendText(t.Context(), server.PlainClient(), accountOn(server), recipient, "See you at nine.")
	_, err := sendText(t.Context(), server.Client(t), accountOn(server), recipient, "See you at nine.")

	assert.Equal(t, plain, err)
	assert.Equal(t, []int{400, 400}, server.Statuses(), "once each")
	var told *whatsapperrors.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeInvalidParameter), told.Code)
	assert.NotEmpty(t, told.FBTraceID)
}

func TestErrorOfTheSDKSurvivesExhaustion(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(3, graphtest.Answer{Code: graphretry.CodeAPIService})
	client := server.Client(t, graphretry.WithMaxRetries(2))

	_, err := sendText(t.Context(), client, accountOn(server), recipient, "See you at nine.")

	assert.Equal(t, []int{503, 503, 503}, server.Statuses())
	var told *whatsapperrors.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeAPIService), told.Code)
	assert.Equal(t, server.API.Calls()[2].TraceID, told.FBTraceID, "the trace of the last attempt, for Meta's support")
}

// The SDK holds the form in memory, so that net/http can make it again, whatever
// its size: WithMaxBufferedBody is not needed.
func TestImageUploadIsReplayedByteForByte(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	path, content := sdktest.File(t, "ticket.jpg", 2<<20)

	_, err := sendImage(t.Context(), server.Client(t), accountOn(server), recipient, path, "Your ticket.")

	require.NoError(t, err)
	require.Equal(t, []int{500, 500, 200, 200}, server.Statuses(), "the upload, twice again, and the message")
	sdktest.AssertReplayed(t, server.Bodies()[:3], content)
}

// A chunk of a resumable upload is streamed out of the file, which net/http
// closes after the first attempt: the retries come out of graphretry's buffer.
func TestChunkOfAFileIsReplayedByteForByte(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	path, content := sdktest.File(t, "ticket.jpg", 300<<10)

	err := uploadChunk(t, server, path)

	require.NoError(t, err)
	require.Equal(t, []int{500, 500, 200}, server.Statuses())
	sdktest.AssertReplayed(t, server.Bodies(), content)
}

// The SDK tells the error of the only attempt. The caller goes on with a new
// reader, or makes the buffer larger.
func TestChunkLongerThanTheBufferIsSentOnce(t *testing.T) {
	server := sdktest.Start(t)
	server.API.AnswerNext(2, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	path, _ := sdktest.File(t, "ticket.jpg", 300<<10)

	err := uploadChunk(t, server, path, graphretry.WithMaxBufferedBody(299<<10))

	assert.Equal(t, []int{500}, server.Statuses())
	var told *whatsapperrors.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeServiceUnavailable), told.Code)
}

func uploadChunk(t *testing.T, server *sdktest.Server, path string, opts ...graphretry.Option) error {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	sender := whttp.NewAnySender(whttp.WithCoreClientHTTPClient[any](server.Client(t, opts...)))
	_, err = uploads.NewBaseClient(readerOf(accountOn(server)), sender).UploadChunk(t.Context(), &uploads.UploadChunkRequest{
		UploadSessionID: "upload:MTphdHRhY2htZW50",
		FileReader:      file,
	})
	return err
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

	_, err := sendText(ctx, client, accountOn(server), recipient, "See you at nine.")

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

	_, err := sendText(ctx, server.PatientClient(t), accountOn(server), recipient, "See you at nine.")

	require.NoError(t, ctx.Err(), "it waited for the deadline")
	var told *whatsapperrors.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, int(graphretry.CodeAPIService), told.Code)
}

// What the SDK repeats by itself is a download: at once, whatever the error, and
// twice if it is not told otherwise.
func TestRetriesOfTheSDKMultiplyOursUnlessSwitchedOff(t *testing.T) {
	for _, test := range []struct {
		name     string
		options  []media.DownloadOptionFunc
		attempts int
	}{
		{"as it comes", nil, 6},
		{"switched off", []media.DownloadOptionFunc{media.WithDownloadRetries(0)}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := sdktest.Start(t)
			server.API.AnswerNext(1, graphtest.Answer{Body: []byte(`{"url":"` + server.URL + `/attachments?mid=1"}`)})
			server.API.AnswerNext(10, graphtest.Answer{Code: graphretry.CodeAPIService})
			client := server.Client(t, graphretry.WithMaxRetries(1))
			decoder := whttp.ResponseDecoderFunc(func(_ context.Context, response *http.Response) error {
				return errors.New(response.Status)
			})

			err := mediaClient(client, accountOn(server)).DownloadByMediaID(t.Context(),
				&media.BaseRequest{MediaID: "1234567890123456"}, decoder, test.options...)

			require.ErrorContains(t, err, "503")
			assert.Len(t, server.Statuses(), 1+test.attempts, "one for the address, and the attempts to download")
		})
	}
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
