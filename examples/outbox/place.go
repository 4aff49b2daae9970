package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/graphretry/graphretry/outbox"
)

// place is where the messages are.
type place struct {
	dir      string
	url      string // "": a server inside this process, in dir
	replicas int
}

// urlFile is where "run" writes how others reach its server, so that "status"
// and "enqueue" can be called meanwhile.
const urlFile = "server-url"

// open returns the JetStream, and what to call at the end.
func (p place) open(ctx context.Context, listen bool) (jetstream.JetStream, func(), error) {
	if p.url != "" {
		return connect(p.url)
	}
	var opts []outbox.EmbeddedOption
	if listen {
		opts = append(opts, outbox.WithListen("127.0.0.1:0"))
	}
	// Whoever has the directory may listen, may be about to, or may be done soon.
	for try := 0; ; try++ {
		server, err := outbox.Embedded(p.dir, opts...)
		if err == nil {
			return p.serve(server, listen)
		}
		if !errors.Is(err, outbox.ErrInUse) {
			return nil, nil, err
		}
		if url, err := os.ReadFile(filepath.Join(p.dir, urlFile)); err == nil {
			if js, leave, err := connect(strings.TrimSpace(string(url))); err == nil {
				return js, leave, nil
			}
		}
		if try == 20 {
			return nil, nil, fmt.Errorf("%w, and it cannot be reached", err)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

func (p place) serve(server *outbox.Server, listen bool) (jetstream.JetStream, func(), error) {
	leave := func() { _ = server.Close() }
	if listen {
		file := filepath.Join(p.dir, urlFile)
		// For this user alone: the URL holds the token.
		if err := os.WriteFile(file, []byte(server.URL()), 0o600); err != nil {
			leave()
			return nil, nil, err
		}
		leave = func() { _ = os.Remove(file); _ = server.Close() }
	}
	return server.JetStream(), leave, nil
}

func connect(url string) (jetstream.JetStream, func(), error) {
	connection, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect to NATS: %w", err)
	}
	js, err := jetstream.New(connection)
	if err != nil {
		connection.Close()
		return nil, nil, err
	}
	return js, connection.Close, nil
}

// options are those that belong to the place.
func (p place) options() []outbox.Option {
	switch {
	case p.url == "":
		// So that who restarts a killed program need not wait long.
		return []outbox.Option{outbox.WithAckWait(3 * time.Second)}
	case p.replicas != 0:
		return []outbox.Option{outbox.WithReplicas(p.replicas)}
	}
	return nil
}
