package outbox_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// What Enqueue has confirmed outlives a process that has no time to prepare.
func TestEmbeddedServerKilledLosesNothingConfirmed(t *testing.T) {
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var confirmed []string
	for _, round := range []string{"first", "second", "third"} {
		p := start(t, "enqueuer", "OUTBOX_TEST_DIR="+dir, "OUTBOX_TEST_NAME="+round)
		require.Eventually(t, func() bool { return strings.Contains(p.output.String(), "\n") }, patience, time.Millisecond, "%s", p.output)
		time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		p.kill(t)
		lines := strings.Split(p.output.String(), "\n")
		confirmed = append(confirmed, lines[:len(lines)-1]...) // the last one may be cut off
	}
	require.Greater(t, len(confirmed), 3)

	server, err := outbox.Embedded(dir)
	require.NoError(t, err)
	defer server.Close()
	api := graphtest.New()
	o, err := outbox.Open(t.Context(), server.JetStream(), api, fast()...)
	require.NoError(t, err)
	defer o.Close()
	run(t, o)
	require.Eventually(t, func() bool { return len(api.Lost(confirmed...)) == 0 }, time.Minute, 10*time.Millisecond)
	assert.Empty(t, api.Duplicates())
	t.Logf("%d confirmed before three kills, %d accepted", len(confirmed), api.Totals().Accepted)
}

func TestEmbeddedDirectoryServesOneServer(t *testing.T) {
	dir := t.TempDir()
	server, err := outbox.Embedded(dir)
	require.NoError(t, err)
	_, err = outbox.Embedded(dir)
	require.ErrorIs(t, err, outbox.ErrInUse)
	assert.ErrorContains(t, err, dir)
	assert.Empty(t, server.URL(), "it does not listen")
	require.NoError(t, server.Close())

	server, err = outbox.Embedded(dir)
	require.NoError(t, err, "it is free again")
	require.NoError(t, server.Close())
}

func TestEmbeddedServerThatListensAsksForItsToken(t *testing.T) {
	server, err := outbox.Embedded(t.TempDir(), outbox.WithListen("127.0.0.1:0"))
	require.NoError(t, err)
	defer server.Close()
	connection, err := nats.Connect(server.URL())
	require.NoError(t, err)
	connection.Close()
	_, address, _ := strings.Cut(server.URL(), "@")
	_, err = nats.Connect("nats://" + address)
	assert.ErrorIs(t, err, nats.ErrAuthorization)
}

func TestEmbeddedRefusesWhatCannotBe(t *testing.T) {
	_, err := outbox.Embedded("")
	assert.ErrorContains(t, err, "outbox: Embedded without a directory")
	for _, address := range []string{"", "127.0.0.1", ":4222", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:65536"} {
		_, err = outbox.Embedded(t.TempDir(), outbox.WithListen(address))
		assert.ErrorContains(t, err, `want "host:port"`, address)
	}
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = outbox.Embedded(file)
	assert.ErrorContains(t, err, "outbox: cannot make the directory")

	taken, err := outbox.Embedded(t.TempDir(), outbox.WithListen("127.0.0.1:0"))
	require.NoError(t, err)
	defer taken.Close()
	_, address, _ := strings.Cut(taken.URL(), "@")
	dir := t.TempDir()
	_, err = outbox.Embedded(dir, outbox.WithListen(address))
	assert.ErrorContains(t, err, "cannot start a server")
	assert.ErrorContains(t, err, "address already in use")
	free, err := outbox.Embedded(dir, outbox.EmbeddedOption{})
	require.NoError(t, err, "a failed start leaves nothing behind")
	require.NoError(t, free.Close())
}

func TestEncryptedDirectoryHoldsNoPlainText(t *testing.T) {
	for encrypted, opts := range map[bool][]outbox.EmbeddedOption{false: nil, true: {outbox.WithEncryptionKey(make([]byte, 32))}} {
		dir := t.TempDir()
		send := func(id string) {
			server, err := outbox.Embedded(dir, opts...)
			require.NoError(t, err)
			o, err := outbox.Open(t.Context(), server.JetStream(), nil)
			require.NoError(t, err)
			require.NoError(t, o.Enqueue(t.Context(), id, phoneNumberID, payload("my secret is 4711")))
			_, err = o.Status(t.Context(), "a")
			require.NoError(t, err)
			require.NoError(t, o.Close())
			require.NoError(t, server.Close())
		}
		send("a")
		send("b") // after a restart with the same key
		found := false
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			found = found || strings.Contains(string(data), "my secret is 4711")
			return err
		}))
		assert.Equal(t, !encrypted, found)
	}
	_, err := outbox.Embedded(t.TempDir(), outbox.WithEncryptionKey([]byte("short secret")))
	assert.ErrorContains(t, err, "want at least 32")
	assert.NotContains(t, err.Error(), "short secret")
}
