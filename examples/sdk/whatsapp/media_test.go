package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/piusalfred/whatsapp/media"
	whatsapperrors "github.com/piusalfred/whatsapp/pkg/errors"
	whttp "github.com/piusalfred/whatsapp/pkg/http"
	"github.com/piusalfred/whatsapp/uploads"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/program"
	"github.com/graphretry/graphretry/examples/sdk/internal/sdktest"
	"github.com/graphretry/graphretry/graphtest"
)

// What this SDK does with files besides the upload of an image, which is in the
// suite of all SDKs.

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

			err := filesOf(t, server, client).DownloadByMediaID(t.Context(),
				&media.BaseRequest{MediaID: "1234567890123456"}, decoder, test.options...)

			require.ErrorContains(t, err, "503")
			assert.Len(t, server.Statuses(), 1+test.attempts, "one for the address, and the attempts to download")
		})
	}
}

func uploadChunk(t *testing.T, server *sdktest.Server, path string, opts ...graphretry.Option) error {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	files := filesOf(t, server, server.Client(t, opts...))
	_, err = uploads.NewBaseClient(files.ConfReader, files.Sender).UploadChunk(t.Context(), &uploads.UploadChunkRequest{
		UploadSessionID: "upload:MTphdHRhY2htZW50",
		FileReader:      file,
	})
	return err
}

// filesOf is the program's own client for files, at the fake API of server.
func filesOf(t *testing.T, server *sdktest.Server, client *http.Client) *media.BaseClient {
	t.Helper()
	messenger, err := newMessenger(client, server.URL, program.FakeAccount)
	require.NoError(t, err)
	return messenger.files
}
