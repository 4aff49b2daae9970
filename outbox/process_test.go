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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

// The tests that kill processes start this binary again, in one of these roles.
const roleVariable = "OUTBOX_TEST_ROLE"

var roles = map[string]func() error{
	"worker":   workerRole,
	"node":     nodeRole,
	"enqueuer": enqueuerRole,
	"server":   serverRole,
	"full":     fullDiskRole,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// connect connects to servers that may not be there for a while.
func connect(urls string) (*nats.Conn, jetstream.JetStream, error) {
	connection, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(connection)
	return connection, js, err
}

// proofOptions are what the workers of the proof and their parent open the
// outbox with.
func proofOptions(api string) []outbox.Option {
	return []outbox.Option{
		outbox.WithBaseURL(api),
		outbox.WithAckWait(3 * time.Second),
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
	connection, js, err := connect(os.Getenv("OUTBOX_TEST_NATS"))
	if err != nil {
		return err
	}
	defer connection.Close()
	api := os.Getenv("OUTBOX_TEST_API")
	opts := append(proofOptions(api),
		outbox.WithTokenSource(faultyTokens),
		// The parent has to know which messages nobody could vouch for.
		outbox.WithOutcome(func(_ context.Context, outcome outbox.Outcome) {
			if outcome.Kind == outbox.OutcomeUnknown {
				resp, err := http.PostForm(api+"/unknown", url.Values{"id": {outcome.Status.ID}})
				if err != nil {
					fmt.Fprintln(os.Stderr, "worker: cannot tell of an unknown message:", err)
					return
				}
				resp.Body.Close()
			}
		}),
		outbox.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))))
	for ctx.Err() == nil {
		opening, cancel := context.WithTimeout(ctx, 30*time.Second)
		o, err := outbox.Open(opening, js, nil, opts...)
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, "worker: cannot open yet:", err)
			continue
		}
		defer o.Close()
		return o.Run(ctx)
	}
	return nil
}

// expiredToken is one that the API of the proof refuses.
const expiredToken = "expired"

// faultyTokens gives one of the numbers a bad token at times, or none.
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

// nodeRole is one server of a cluster.
func nodeRole() error {
	port, err := strconv.Atoi(os.Getenv("OUTBOX_TEST_PORT"))
	if err != nil {
		return err
	}
	clusterPort, err := strconv.Atoi(os.Getenv("OUTBOX_TEST_CLUSTER_PORT"))
	if err != nil {
		return err
	}
	var routes []*url.URL
	for route := range strings.SplitSeq(os.Getenv("OUTBOX_TEST_ROUTES"), ",") {
		u, err := url.Parse(route)
		if err != nil {
			return err
		}
		routes = append(routes, u)
	}
	node, err := server.NewServer(&server.Options{
		ServerName: os.Getenv("OUTBOX_TEST_NAME"),
		Host:       "127.0.0.1", Port: port,
		Cluster:   server.ClusterOpts{Name: "proof", Host: "127.0.0.1", Port: clusterPort},
		Routes:    routes,
		JetStream: true, StoreDir: os.Getenv("OUTBOX_TEST_DIR"),
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		return err
	}
	node.Start()
	node.WaitForShutdown()
	return nil
}

// enqueuerRole has a server in this process, enqueues without end, and prints
// each id once Enqueue has confirmed it.
func enqueuerRole() error {
	server, err := outbox.Embedded(os.Getenv("OUTBOX_TEST_DIR"))
	if err != nil {
		return err
	}
	o, err := outbox.Open(context.Background(), server.JetStream(), nil)
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

// serverRole is a server for others. It prints its URL.
func serverRole() error {
	server, err := outbox.Embedded(os.Getenv("OUTBOX_TEST_DIR"), outbox.WithListen("127.0.0.1:0"))
	if err != nil {
		return err
	}
	fmt.Println(server.URL())
	select {}
}

// url waits for the URL that a server prints.
func (p *process) url(t *testing.T) string {
	t.Helper()
	var line string
	require.Eventually(t, func() bool {
		text, _, ok := strings.Cut(p.output.String(), "\n")
		line = text
		return ok
	}, patience, time.Millisecond)
	return line
}

// process is this binary in one of its roles.
type process struct {
	*exec.Cmd
	output *syncBuffer
	exited chan struct{}
	once   sync.Once
}

func start(t *testing.T, role string, environment ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0]), output: &syncBuffer{}, exited: make(chan struct{})}
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

// kill kills the process as nothing can be prepared for, and looks at what it
// has said until then.
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
