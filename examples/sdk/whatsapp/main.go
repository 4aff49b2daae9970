// Command whatsapp sends a message with github.com/piusalfred/whatsapp, an SDK
// that takes an *http.Client and gets one that retries.
//
// Without an account, to a fake API that is down at first:
//
//	go run ./whatsapp -fake 15550100001 "See you at nine."
//
// With one:
//
//	WHATSAPP_TOKEN=... WHATSAPP_PHONE_NUMBER_ID=... go run ./whatsapp -image ticket.jpg 15550100001 "Your ticket."
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"

	"github.com/piusalfred/whatsapp"
	"github.com/piusalfred/whatsapp/config"
	"github.com/piusalfred/whatsapp/media"
	"github.com/piusalfred/whatsapp/message"
	whttp "github.com/piusalfred/whatsapp/pkg/http"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("whatsapp", flag.ContinueOnError)
	fake := flags.Bool("fake", false, "send to a fake API that is down at first")
	image := flags.String("image", "", "send this JPEG file, with the text under it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("want two arguments: the recipient's phone number and a text")
	}
	to, text := flags.Arg(0), flags.Arg(1)

	client := &http.Client{}
	if *fake {
		api := graphtest.New()
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		client.Transport = api
	}
	// All that graphretry asks of a program:
	client, err := graphretry.WrapClient(client, graphretry.WithLogger(slog.Default()))
	if err != nil {
		return err
	}

	account := &config.Config{
		BaseURL:       whatsapp.BaseURL,
		APIVersion:    whatsapp.LowestSupportedAPIVersion,
		AccessToken:   os.Getenv("WHATSAPP_TOKEN"),
		PhoneNumberID: os.Getenv("WHATSAPP_PHONE_NUMBER_ID"),
	}
	if *fake {
		account.PhoneNumberID = "106540352242922"
	}
	var id string
	if *image != "" {
		id, err = sendImage(ctx, client, account, to, *image, text)
	} else {
		id, err = sendText(ctx, client, account, to, text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "accepted as", id)
	return err
}

func sendText(ctx context.Context, client *http.Client, account *config.Config, to, text string) (string, error) {
	sdk, err := messageClient(client, account)
	if err != nil {
		return "", err
	}
	return idOf(sdk.SendText(ctx, message.NewRequest(to, &message.Text{Body: text})))
}

func sendImage(ctx context.Context, client *http.Client, account *config.Config, to, path, caption string) (string, error) {
	uploaded, err := mediaClient(client, account).Upload(ctx, &media.UploadRequest{
		MediaType: media.TypeImageJPEG,
		Filepath:  path,
	})
	if err != nil {
		return "", err
	}
	sdk, err := messageClient(client, account)
	if err != nil {
		return "", err
	}
	return idOf(sdk.SendImage(ctx, message.NewRequest(to, &message.Image{ID: uploaded.ID, Caption: caption})))
}

// Each client of the SDK has a sender of its own. One that is not given a client
// uses http.DefaultClient, which does not retry.

func messageClient(client *http.Client, account *config.Config) (*message.BaseClient, error) {
	sender := whttp.NewSender(whttp.WithCoreClientHTTPClient[message.Message](client))
	return message.NewBaseClient(sender, readerOf(account))
}

func mediaClient(client *http.Client, account *config.Config) *media.BaseClient {
	sender := whttp.NewAnySender(whttp.WithCoreClientHTTPClient[any](client))
	return media.NewBaseClient(readerOf(account), sender)
}

func readerOf(account *config.Config) config.Reader {
	return config.ReaderFunc(func(context.Context) (*config.Config, error) { return account, nil })
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
