package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
)

var roles = map[string]func() error{
	"worker":   workerRole,
	"enqueuer": enqueuerRole,
}

// whereVariable has the place of the tables, beside kindVariable.
const whereVariable = "OUTBOX_TEST_WHERE"

// openRole opens the outbox that the environment names, however long that takes.
func openRole(opts ...outbox.Option) (*outbox.Outbox, error) {
	_, database, err := place{os.Getenv(kindVariable), os.Getenv(whereVariable)}.connect()
	for try := 0; err == nil; try++ {
		var o *outbox.Outbox
		if o, err = outbox.Open(context.Background(), database, nil, opts...); err == nil {
			outbox.SetLife(o, 200*time.Millisecond, 2*time.Second)
			outbox.SetReporting(o, 50*time.Millisecond, 4*time.Second)
			return o, nil
		}
		if fmt.Fprintln(os.Stderr, "cannot open yet:", err); try < 20 {
			err = nil
		}
	}
	return nil, err
}

// proofOptions are the options of the workers of the proof and of their parent.
func proofOptions(api string) []outbox.Option {
	return []outbox.Option{
		outbox.WithBaseURL(api),
		outbox.WithAttemptTimeout(5 * time.Second),
		outbox.WithTransportOptions(
			graphretry.WithInitialInterval(100*time.Millisecond),
			graphretry.WithMaxInterval(time.Second),
		),
	}
}

// workerRole runs an outbox until SIGTERM or, more often, SIGKILL.
func workerRole() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	api := os.Getenv("OUTBOX_TEST_API")
	opts := append(proofOptions(api),
		outbox.WithTokenSource(faultyTokens), outbox.WithRecipientOrder(),
		// The parent has to know which messages became unknown, and that each outcome is
		// reported.
		outbox.WithOutcome(func(_ context.Context, outcome outbox.Outcome) error {
			resp, err := http.PostForm(api+"/outcome", url.Values{"id": {outcome.Status.ID}, "kind": {string(outcome.Kind)}})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status) // now and then, as somebody's service does
			}
			return nil
		}),
		outbox.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))))
	o, err := openRole(opts...)
	if err != nil {
		return err
	}
	defer o.Close()
	return o.Run(ctx)
}

// expiredToken is a token that the API of the proof refuses.
const expiredToken = "expired"

// faultyTokens returns a bad token, or none, for one of the numbers at times.
func faultyTokens(_ context.Context, number string) (string, error) {
	if number == proofNumbers[0] {
		switch rand.IntN(10) {
		case 0:
			return expiredToken, nil
		case 1:
			return "", errors.New("the vault is sealed")
		}
	}
	return "token", nil
}

// enqueuerRole enqueues without end, and prints each id once Enqueue has confirmed it.
func enqueuerRole() error {
	o, err := openRole()
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", os.Getenv("OUTBOX_TEST_NAME"), i)
		if err := o.Enqueue(context.Background(), id, phoneNumberID, payload(id)); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// process is this binary in one of its roles.
type process struct {
	*exec.Cmd
	output *outboxtest.Buffer
	exited chan struct{}
	once   sync.Once
}

func start(t *testing.T, role string, environment ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0]), output: &outboxtest.Buffer{}, exited: make(chan struct{})}
	p.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	p.Stdout, p.Stderr = p.output, p.output
	require.NoError(t, p.Start())
	go func() {
		defer close(p.exited)
		_ = p.Wait()
	}()
	t.Cleanup(func() { p.kill(t) })
	return p
}

// kill kills the process with SIGKILL, and reads what it has printed until then.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.once.Do(func() {
		select {
		case <-p.exited:
			assert.Failf(t, "a process has ended by itself", "%s", p.output)
		default:
		}
		_ = p.Process.Kill()
		<-p.exited
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error"} {
			assert.NotContains(t, p.output.String(), bad)
		}
	})
}
