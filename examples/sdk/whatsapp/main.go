// Command whatsapp sends a message with github.com/piusalfred/whatsapp, an SDK
// that takes an *http.Client and gets one that retries. -fake needs no account: it
// sends to a fake API that is down at first.
//
//	go run ./whatsapp -fake 15550100001 "See you at nine."
//	WHATSAPP_TOKEN=... WHATSAPP_PHONE_NUMBER_ID=... go run ./whatsapp -image ticket.jpg 15550100001 "Your ticket."
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/piusalfred/whatsapp"
	"github.com/piusalfred/whatsapp/config"
	"github.com/piusalfred/whatsapp/media"
	"github.com/piusalfred/whatsapp/message"
	whttp "github.com/piusalfred/whatsapp/pkg/http"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/program"
)

func main() { program.Main("whatsapp", connect) }

// connect does all that graphretry asks of a program, and hands over the client.
func connect(client *http.Client, account program.Account) (program.Messenger, error) {
	client, err := graphretry.WrapClient(client, graphretry.WithLogger(slog.Default()))
	if err != nil {
		return nil, err
	}
	return newMessenger(client, whatsapp.BaseURL, account)
}

type messenger struct {
	messages *message.BaseClient
	files    *media.BaseClient
}

// Each client of the SDK has a sender of its own. One that is not given a client
// uses http.DefaultClient, which does not retry.
func newMessenger(client *http.Client, baseURL string, account program.Account) (*messenger, error) {
	reader := config.ReaderFunc(func(context.Context) (*config.Config, error) {
		return &config.Config{
			BaseURL:       baseURL,
			APIVersion:    "v25.0",
			AccessToken:   account.Token,
			PhoneNumberID: account.PhoneNumberID,
		}, nil
	})
	messages, err := message.NewBaseClient(whttp.NewSender(whttp.WithCoreClientHTTPClient[message.Message](client)), reader)
	files := media.NewBaseClient(reader, whttp.NewAnySender(whttp.WithCoreClientHTTPClient[any](client)))
	return &messenger{messages, files}, err
}

func (m *messenger) SendText(ctx context.Context, to, text string) (string, error) {
	return idOf(m.messages.SendText(ctx, message.NewRequest(to, &message.Text{Body: text})))
}

func (m *messenger) SendImage(ctx context.Context, to, path, caption string) (string, error) {
	uploaded, err := m.files.Upload(ctx, &media.UploadRequest{MediaType: media.TypeImageJPEG, Filepath: path})
	if err != nil {
		return "", err
	}
	return idOf(m.messages.SendImage(ctx, message.NewRequest(to, &message.Image{ID: uploaded.ID, Caption: caption})))
}

func idOf(response *message.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if len(response.Messages) == 0 {
		return "", errors.New("the answer has no message id")
	}
	return response.Messages[0].ID, nil
}
