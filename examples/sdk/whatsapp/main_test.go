package main

import (
	"net/http"
	"testing"

	whatsapperrors "github.com/piusalfred/whatsapp/pkg/errors"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/examples/sdk/internal/program"
	"github.com/graphretry/graphretry/examples/sdk/internal/sdktest"
)

func TestWhatsAppThroughGraphretry(t *testing.T) {
	sdktest.Run(t, sdktest.SDK{
		Connect: connect,
		NewMessenger: func(client *http.Client, baseURL string) (program.Messenger, error) {
			return newMessenger(client, baseURL, program.FakeAccount)
		},
		CodeAndTraceID: func(t *testing.T, err error) (int, string) {
			t.Helper()
			var told *whatsapperrors.Error
			require.ErrorAs(t, err, &told)
			return told.Code, told.FBTraceID
		},
		TextOnTheWire: sdktest.Text,
	})
}
