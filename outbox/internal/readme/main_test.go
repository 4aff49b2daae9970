package main

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

// fakeAPI accepts messages in place of Meta's API, and then interrupts the program.
type fakeAPI struct{ *graphtest.API }

func (f fakeAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	defer interrupt()
	return f.API.RoundTrip(req)
}

func interrupt() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Signal(os.Interrupt)
	}
}

// patience bounds what usually takes milliseconds.
const patience = 30 * time.Second

func TestProgramOfTheReadmeSendsItsMessage(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself on Windows")
	}
	t.Chdir(t.TempDir())
	t.Setenv("WHATSAPP_TOKEN", "EAAG")
	api := graphtest.New()
	before := http.DefaultTransport
	http.DefaultTransport = fakeAPI{api}
	defer func() { http.DefaultTransport = before }()

	defer time.AfterFunc(patience, interrupt).Stop()
	main()
	require.Len(t, api.Accepted(), 1)
	assert.Equal(t, "order-4711", api.Accepted()[0].CallbackData)
	db, err := sqlite.Open("shop.db")
	require.NoError(t, err)
	defer db.Close()
	o, err := outbox.Open(context.Background(), outbox.SQLite(db), nil)
	require.NoError(t, err)
	defer o.Close()
	status, err := o.Status(t.Context(), "order-4711")
	require.NoError(t, err)
	assert.Equal(t, outbox.StateSent, status.State)
}
