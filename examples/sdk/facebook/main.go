// Command facebook sends a WhatsApp message with github.com/huandu/facebook/v2, a
// client for the Graph API at large that takes an *http.Client and gets one that
// retries. -fake needs no account: it sends to a fake API that is down at first.
//
//	go run ./facebook -fake 15550100001 "See you at nine."
//	WHATSAPP_TOKEN=... WHATSAPP_PHONE_NUMBER_ID=... go run ./facebook -image ticket.jpg 15550100001 "Your ticket."
package main

import (
	"context"
	"log/slog"
	"net/http"

	facebook "github.com/huandu/facebook/v2"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/sdk/internal/program"
)

func main() { program.Main("facebook", connect) }

// connect does all that graphretry asks of a program, and hands over the client.
func connect(client *http.Client, account program.Account) (program.Messenger, error) {
	client, err := graphretry.WrapClient(client, graphretry.WithLogger(slog.Default()))
	if err != nil {
		return nil, err
	}
	return newMessenger(client, account), nil
}

type messenger struct {
	session       *facebook.Session
	phoneNumberID string
}

func newMessenger(client *http.Client, account program.Account) *messenger {
	session := &facebook.Session{HttpClient: client, Version: "v25.0"}
	session.SetAccessToken(account.Token)
	// Else the token stands in the query of a GET, and so in proxies' logs.
	session.UseAuthorizationHeader()
	return &messenger{session, account.PhoneNumberID}
}

func (m *messenger) SendText(ctx context.Context, to, text string) (string, error) {
	message := facebook.Params{"to": to, "type": "text", "text": facebook.Params{"body": text}}
	return m.post(ctx, "messages", message, "messages.0.id")
}

func (m *messenger) SendImage(ctx context.Context, to, path, caption string) (string, error) {
	file := facebook.FileAliasWithContentType("image.jpg", path, "image/jpeg")
	mediaID, err := m.post(ctx, "media", facebook.Params{"type": "image/jpeg", "file": file}, "id")
	if err != nil {
		return "", err
	}
	message := facebook.Params{"to": to, "type": "image", "image": facebook.Params{"id": mediaID, "caption": caption}}
	return m.post(ctx, "messages", message, "messages.0.id")
}

// post returns the id that the answer has in the named field.
func (m *messenger) post(ctx context.Context, edge string, params facebook.Params, field string) (id string, err error) {
	params["messaging_product"] = "whatsapp"
	answer, err := m.session.WithContext(ctx).Post("/"+m.phoneNumberID+"/"+edge, params)
	if err != nil {
		return "", err
	}
	err = answer.DecodeField(field, &id)
	return id, err
}
