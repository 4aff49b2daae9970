package main

import (
	"net/http"
	"net/url"
	"testing"

	facebook "github.com/huandu/facebook/v2"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/examples/sdk/internal/program"
	"github.com/graphretry/graphretry/examples/sdk/internal/sdktest"
)

func TestFacebookThroughGraphretry(t *testing.T) {
	sdktest.Run(t, sdktest.SDK{
		Connect: connect,
		NewMessenger: func(client *http.Client, baseURL string) (program.Messenger, error) {
			messenger := newMessenger(client, program.FakeAccount)
			messenger.session.BaseURL = baseURL + "/"
			return messenger, nil
		},
		CodeAndTraceID: func(t *testing.T, err error) (int, string) {
			t.Helper()
			var told *facebook.Error
			require.ErrorAs(t, err, &told)
			return told.Code, told.TraceID
		},
		TextOnTheWire: url.QueryEscape(sdktest.Text),
	})
}
