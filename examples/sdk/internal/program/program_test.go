package program_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/examples/sdk/internal/program"
)

func TestWrongCallSaysWhatIsWantedAndConnectsToNothing(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		token   string
		message string
	}{
		{"no text", []string{"-fake", "15550100001"}, "", `a text, not ["15550100001"]`},
		{"flag at the end", []string{"15550100001", "Hello.", "-fake"}, "", `after the flags, the recipient's phone number and a text`},
		{"unknown flag", []string{"-video", "ticket.mp4"}, "", "not defined: -video"},
		{"image that is not named", []string{"-image"}, "", "needs an argument: -image"},
		{"no account", []string{"15550100001", "Hello."}, "", "set WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID to send to Meta, or give -fake"},
		{"half an account", []string{"15550100001", "Hello."}, "EAAfakefakefakefake", "set WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			setAccount(t, test.token, "")
			var out strings.Builder

			err := program.Run(t.Context(), "whatsapp", test.args, &out, func(*http.Client, program.Account) (program.Messenger, error) {
				t.Error("it connected")
				return nil, errors.New("connected")
			})

			require.ErrorContains(t, err, test.message)
			assert.Empty(t, out.String())
		})
	}
}

func TestAccountComesFromTheEnvironment(t *testing.T) {
	setAccount(t, "EAAanotheranother", "106540352249999")
	var out strings.Builder
	sent := &recorder{}

	err := program.Run(t.Context(), "whatsapp", []string{"15550100001", "Hello."}, &out,
		func(client *http.Client, account program.Account) (program.Messenger, error) {
			assert.Nil(t, client.Transport, "a client of the fake API")
			assert.Equal(t, program.Account{Token: "EAAanotheranother", PhoneNumberID: "106540352249999"}, account)
			return sent, nil
		})

	require.NoError(t, err)
	assert.Equal(t, []string{"15550100001", "Hello."}, sent.text)
	assert.Equal(t, "accepted as wamid.1\n", out.String())
}

func setAccount(t *testing.T, token, phoneNumberID string) {
	t.Helper()
	t.Setenv("WHATSAPP_TOKEN", token)
	t.Setenv("WHATSAPP_PHONE_NUMBER_ID", phoneNumberID)
}

// recorder is a Messenger that sends nothing.
type recorder struct{ text []string }

func (r *recorder) SendText(_ context.Context, to, text string) (string, error) {
	r.text = []string{to, text}
	return "wamid.1", nil
}

func (r *recorder) SendImage(context.Context, string, string, string) (string, error) {
	return "", errors.New("no image was to be sent")
}
