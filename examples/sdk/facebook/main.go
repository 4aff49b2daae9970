// Command facebook sends a WhatsApp message with github.com/huandu/facebook/v2, a
// client for the Graph API at large that takes an *http.Client and gets one that
// retries.
//
// Without an account, to a fake API that is down at first:
//
//	go run ./facebook -fake 15550100001 "See you at nine."
//
// With one:
//
//	WHATSAPP_TOKEN=... WHATSAPP_PHONE_NUMBER_ID=... go run ./facebook -image ticket.jpg 15550100001 "Your ticket."
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

	facebook "github.com/huandu/facebook/v2"

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
	flags := flag.NewFlagSet("facebook", flag.ContinueOnError)
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

	phoneNumberID := os.Getenv("WHATSAPP_PHONE_NUMBER_ID")
	if *fake {
		phoneNumberID = "106540352242922"
	}
	session := newSession(client, os.Getenv("WHATSAPP_TOKEN"))
	var id string
	if *image != "" {
		id, err = sendImage(ctx, session, phoneNumberID, to, *image, text)
	} else {
		id, err = sendText(ctx, session, phoneNumberID, to, text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "accepted as", id)
	return err
}

func newSession(client *http.Client, token string) *facebook.Session {
	session := &facebook.Session{HttpClient: client, Version: "v24.0"}
	session.SetAccessToken(token)
	// Else the token stands in the query of a GET, and so in proxies' logs.
	session.UseAuthorizationHeader()
	return session
}

func sendText(ctx context.Context, session *facebook.Session, phoneNumberID, to, text string) (string, error) {
	return send(ctx, session, phoneNumberID, facebook.Params{
		"to":   to,
		"type": "text",
		"text": facebook.Params{"body": text},
	})
}

func sendImage(ctx context.Context, session *facebook.Session, phoneNumberID, to, path, caption string) (string, error) {
	uploaded, err := session.WithContext(ctx).Post("/"+phoneNumberID+"/media", facebook.Params{
		"messaging_product": "whatsapp",
		"type":              "image/jpeg",
		"file":              facebook.FileAliasWithContentType("image.jpg", path, "image/jpeg"),
	})
	if err != nil {
		return "", err
	}
	var mediaID string
	if err := uploaded.DecodeField("id", &mediaID); err != nil {
		return "", err
	}
	return send(ctx, session, phoneNumberID, facebook.Params{
		"to":    to,
		"type":  "image",
		"image": facebook.Params{"id": mediaID, "caption": caption},
	})
}

func send(ctx context.Context, session *facebook.Session, phoneNumberID string, params facebook.Params) (string, error) {
	params["messaging_product"] = "whatsapp"
	accepted, err := session.WithContext(ctx).Post("/"+phoneNumberID+"/messages", params)
	if err != nil {
		return "", err
	}
	var id string
	err = accepted.DecodeField("messages.0.id", &id)
	return id, err
}
