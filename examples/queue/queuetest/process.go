//go:build unix

package queuetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Process is what a worker process is told.
type Process struct {
	// Server is what [Run] was told of the queue's server.
	Server string
	// BaseURL is that of the fake API, with a version of its own for each process.
	BaseURL string
}

// Options are those of the worker's client and of its policy: the host of the fake API, and
// short intervals.
func (p Process) Options() []graphretry.Option {
	host, _, _ := strings.Cut(strings.TrimPrefix(p.BaseURL, "http://"), "/")
	return []graphretry.Option{
		graphretry.WithHosts(host),
		graphretry.WithInitialInterval(250 * time.Millisecond),
		graphretry.WithMaxInterval(2 * time.Second),
	}
}

// processVariable makes a test's program a worker process.
const processVariable = "QUEUETEST_PROCESS"

// Main runs the tests, and in a worker process it works, until ctx ends by a SIGTERM.
func Main(m *testing.M, work func(context.Context, Process) error) {
	told := os.Getenv(processVariable)
	if told == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var process Process
	err := json.Unmarshal([]byte(told), &process)
	if err == nil {
		err = work(ctx, process)
	}
	if err != nil && ctx.Err() == nil { // it may be told to stop while it starts
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

// worker is a worker process that runs.
type worker struct {
	*exec.Cmd
}

// start starts a worker process. What it says goes where the test's program says it.
func start(t *testing.T, process Process) *worker {
	t.Helper()
	told, err := json.Marshal(process)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), processVariable+"="+string(told))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // if the test has failed before its end
	return &worker{cmd}
}

// end ends the process, and waits until it has.
func (w *worker) end(t *testing.T, how syscall.Signal) {
	t.Helper()
	require.NoError(t, w.Process.Signal(how))
	err := w.Wait()
	// A signal that comes before the program has begun ends it too.
	if status := w.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != how {
		require.NoError(t, err, "a worker did not stop in order")
	}
}
