package outbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// copyable returns a database, a function that copies it, and one that opens the copy.
func copyable(t *testing.T) (where place, take func() (restore func() place)) {
	t.Helper()
	if os.Getenv(kindVariable) == "postgres" {
		server := pgtest.Start(t)
		where = place{"postgres", server.Schema(t)}
		return where, func() func() place {
			restore := server.Backup(t)
			return func() place { return place{"postgres", restore().URL(server, where.where)} }
		}
	}
	where = newPlace(t)
	return where, func() func() place {
		db, _, err := where.connect()
		require.NoError(t, err)
		defer db.Close()
		file := filepath.Join(t.TempDir(), "copy.db")
		_, err = db.Exec("VACUUM INTO '" + file + "'")
		require.NoError(t, err)
		return func() place { return place{"sqlite", file} }
	}
}

// A server from a backup has forgotten what was sent since. After ParkAll before its first Run
// it sends none of that again.
func TestProofServerFromABackupThatIsParkedSendsNothingThatHadGoneOut(t *testing.T) {
	b := newHarness(t)
	where, take := copyable(t)
	b.database = func() outbox.Database { return where.open(t) }
	b.Outbox = b.open(nil, outbox.WithWorkers(4))
	n := transactions()
	ids := b.enqueueMany(phoneNumberID, n)
	tomorrow := time.Now().Add(12 * time.Hour)
	require.NoError(t, b.Enqueue(t.Context(), "tomorrow", phoneNumberID, payload("tomorrow"), outbox.NotBefore(tomorrow)))
	b.insertRow(where, "row")
	o, held, release := b.holding()
	stop := run(t, o)
	for range 4 {
		<-held // the copy has some of each: queued, claimed, being sent
	}
	restore, asOf := take(), time.Now()
	close(release)
	ended := make(chan bool)
	defer close(ended)
	go func() {
		for {
			select {
			case <-held:
			case <-ended:
				return
			}
		}
	}()
	for _, id := range append(ids, "row") {
		b.becomes(id, outbox.StateSent)
	}
	stop()
	require.Len(t, b.api.Accepted(), n+1)

	// The machine is gone, with its database.
	copied := restore()
	b.database = func() outbox.Database { return copied.open(t) }
	b.Outbox = b.open(nil)
	outbox.SetLife(b.Outbox, 100*time.Millisecond, time.Second) // the copy has a Run that is dead
	require.NoError(t, b.Enqueue(t.Context(), "while it was restored", phoneNumberID, payload("x"), outbox.NotBefore(tomorrow)))
	parked, err := b.ParkAll(t.Context(), outbox.Filter{ChangedAfter: asOf})
	require.NoError(t, err)
	assert.Greater(t, parked, n-8)
	b.enqueue("new")
	run(t, b.Outbox)
	b.becomes("new", outbox.StateSent)
	for _, id := range append(ids, "row") {
		b.becomes(id, outbox.StateUnknown)
	}
	assert.Equal(t, outbox.StateQueued, b.becomes("tomorrow", outbox.StateQueued).State, "it cannot have gone out")
	b.becomes("while it was restored", outbox.StateUnknown)
	assert.Len(t, b.api.Accepted(), n+2)
	assert.Empty(t, b.api.Duplicates())

	// Webhooks settle these messages, and a person may resend the others.
	require.NoError(t, b.HandleWebhook(t.Context(), webhookOf(b.api.Accepted()[0])))
	b.becomes(b.api.Accepted()[0].CallbackData, outbox.StateSent)
}

func webhookOf(m graphtest.Message) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{"statuses":[
		{"id":%q,"status":"delivered","timestamp":"1790000000","biz_opaque_callback_data":%q}]}}]}]}`, m.ID, m.CallbackData)
}

// insertRow inserts a message by plain SQL.
func (b *bench) insertRow(where place, id string) {
	b.t.Helper()
	db, _, err := where.connect()
	require.NoError(b.t, err)
	defer db.Close()
	_, err = db.Exec("INSERT INTO graphretry_message (id, phone_number_id, payload) VALUES ($1, $2, $3)", id, phoneNumberID, string(payload(id)))
	require.NoError(b.t, err)
}
