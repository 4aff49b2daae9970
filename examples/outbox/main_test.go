package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain makes this binary the program itself when the tests start it.
func TestMain(m *testing.M) {
	if os.Getenv("OUTBOX_EXAMPLE_IS_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// patience bounds what takes a second or two.
const patience = 30 * time.Second

// program is the terminal of a new user.
type program struct {
	t   *testing.T
	dir string
}

func (p program) command(args ...string) (*exec.Cmd, *output) {
	p.t.Helper()
	out := &output{}
	cmd := exec.Command(os.Args[0], append([]string{args[0], "-dir", p.dir}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "OUTBOX_EXAMPLE_IS_PROGRAM=1", "WHATSAPP_TOKEN=")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// does runs a command to its end.
func (p program) does(args ...string) string {
	p.t.Helper()
	cmd, out := p.command(args...)
	require.NoError(p.t, cmd.Run(), "%s", out)
	return out.String()
}

// begins starts a command that keeps running.
func (p program) begins(args ...string) (kill func(), out *output) {
	p.t.Helper()
	cmd, out := p.command(args...)
	require.NoError(p.t, cmd.Start())
	var once sync.Once
	kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill() // SIGKILL
			_ = cmd.Wait()
		})
	}
	p.t.Cleanup(kill)
	return kill, out
}

func (p program) saw(out *output, text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(out.String(), text) }, patience, time.Millisecond, "want %q in %s", text, out)
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestKilledDuringAnOutageAndAfterItDeliversEachMessageOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	p := program{t, t.TempDir()}
	p.does("enqueue", "-n", "30")
	p.does("enqueue", "-n", "30")

	for range 3 {
		kill, out := p.begins("run", "-fake", "-down", "1h")
		p.saw(out, "the fake API is down")
		time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
		kill()
		assert.Contains(t, p.does("status"), " 0 sent, 0 failed, ")
	}

	for want := 1; want <= 15; want += 7 {
		kill, _ := p.begins("run", "-fake")
		require.Eventually(t, func() bool {
			all, _, err := acceptedBy(p.dir)
			return err == nil && all >= want
		}, patience, time.Millisecond)
		kill()
	}

	p.does("run", "-fake", "-until-done")
	time.Sleep(time.Second) // until the fake API sends the webhooks of the last messages
	p.does("run", "-fake", "-until-done")
	// A person decides about messages that have a mark and never reached the API.
	status := p.does("status")
	for line := range strings.Lines(status) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "unknown" {
			t.Logf("resend %s", fields[0])
			p.does("resend", fields[0])
		}
	}
	p.does("run", "-fake", "-until-done")

	status = p.does("status")
	assert.Contains(t, status, "0 queued, 0 sending, 30 sent, 0 failed, 0 unknown")
	assert.Contains(t, status, "the fake API has accepted 30, 0 of them twice")
	messages, err := accepted(p.dir)
	require.NoError(t, err)
	for _, message := range messages {
		assert.Contains(t, status, message.ID)
	}
}

func TestStatusAndEnqueueWorkWhileItRuns(t *testing.T) {
	p := program{t, t.TempDir()}
	_, out := p.begins("run", "-fake", "-down", "1h")
	p.saw(out, "running")
	p.does("enqueue", "-n", "2")
	assert.Contains(t, p.does("status"), "reminder-2")
	p.saw(out, "the fake API is down")
	p.does("drop", "reminder-1")
	assert.Contains(t, p.does("status", "reminder-1"), "dropped")
}

func TestCtrlCEndsItInOrder(t *testing.T) {
	p := program{t, t.TempDir()}
	p.does("enqueue", "-n", "5")
	cmd, out := p.command("run", "-fake", "-down", "1h")
	require.NoError(t, cmd.Start())
	p.saw(out, "the fake API is down")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), "%s", out)
	assert.Contains(t, out.String(), "stopped")
	assert.Contains(t, p.does("status"), "5 queued, 0 sending")
}

func TestWrongUseIsExplained(t *testing.T) {
	p := program{t, t.TempDir()}
	for want, args := range map[string][]string{
		"set WHATSAPP_TOKEN":          {"run"},
		`there is no command "walk"`:  {"walk"},
		"want 1 or more":              {"enqueue", "-n", "0"},
		"want 0 or more":              {"run", "-fake", "-down", "-1s"},
		"takes flags alone":           {"run", "-fake", "x"},
		"want the ids of messages":    {"resend"},
		"there is no such message":    {"drop", "x"},
		"want the digits of the id":   {"enqueue", "-from", "+1"},
		"flag provided but not defin": {"status", "-x"},
	} {
		cmd, out := p.command(args...)
		assert.Error(t, cmd.Run(), args)
		assert.Contains(t, out.String(), want)
	}
}
