//go:build unix

package queuetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Postgres starts a PostgreSQL server of the test's own, and returns what connects to it.
// Without PostgreSQL's programs in PATH the test is skipped.
func Postgres(t *testing.T) string {
	t.Helper()
	initdb := program(t, "initdb", "get-postgres", "postgresql")
	postgres := program(t, "postgres", "get-postgres", "postgresql")
	folder := folder(t)
	account := account(t)
	if account != nil {
		require.NoError(t, os.Chown(folder, int(account.Uid), int(account.Gid)))
	}
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = folder
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
		return cmd
	}
	data := filepath.Join(folder, "data")
	said, err := as(initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", said)
	// The server itself is never killed, so nothing is lost without fsync.
	serve(t, folder, as(postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"))
	return fmt.Sprintf("host=%s user=postgres dbname=postgres", folder)
}

// Redis starts a Redis server of the test's own, and returns the path of its socket.
// Without redis-server in PATH the test is skipped.
func Redis(t *testing.T) string {
	t.Helper()
	redis := program(t, "redis-server", "get-redis", "redis-server")
	folder := folder(t)
	socket := filepath.Join(folder, "redis.sock")
	serve(t, folder, exec.Command(redis, "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--appendonly", "no"))
	return socket
}

// program returns the path of a program.
func program(t *testing.T, name, tool, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("skipped: there is no %s here, so this is not tested; Debian's package %s has it, and PATH=$(../../tools/%s):$PATH finds or unpacks it", name, debian, tool)
	}
	return path
}

// folder returns a folder with a short path, since that of a socket has 108 bytes at most.
func folder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "queuetest")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// account returns whom PostgreSQL runs as, which refuses to run as root; nil: as we do.
func account(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if account, err := user.Lookup(name); err == nil {
			uid, err := strconv.ParseUint(account.Uid, 10, 32)
			require.NoError(t, err)
			gid, err := strconv.ParseUint(account.Gid, 10, 32)
			require.NoError(t, err)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Skip("skipped: this is root, as which PostgreSQL refuses to run, and there is no user postgres and no nobody")
	return nil
}

// serve runs a server until the test ends, and returns when it is ready.
func serve(t *testing.T, folder string, cmd *exec.Cmd) {
	t.Helper()
	said, err := os.Create(filepath.Join(folder, "said"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = said.Close() })
	cmd.Stdout, cmd.Stderr, cmd.Env = said, said, append(os.Environ(), "LC_ALL=C")
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // both stop at once, and in order
		<-ended
	})
	for {
		text, err := os.ReadFile(said.Name())
		require.NoError(t, err)
		if bytes.Contains(text, []byte("ready to accept connections")) {
			return // both say it in these words
		}
		select {
		case <-ended:
			t.Fatalf("%s did not start: %s", cmd.Path, text)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
