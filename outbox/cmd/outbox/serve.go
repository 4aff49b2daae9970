package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"time"

	"github.com/graphretry/graphretry/outbox/page"
)

// serveGrace is how long requests that are under way may take to end.
const serveGrace = 10 * time.Second

var serveVerb = verb{
	name:  "serve",
	short: "Shows the outbox in a browser, on loopback.",
	about: "The pages also resend, drop, park, delete, pause and resume. An interrupt ends it. It has no login, so it listens on loopback only: " +
		"for other users, mount package page behind a login of yours. Decisions are logged on standard error with your user's name.",
	define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) {
		address := flags.String("addr", "127.0.0.1:8080", "loopback `address` to listen at; port 0 is any free port\n")
		payloads := flags.Bool("payloads", false, "show the payloads of messages")
		return func([]string) (action, error) {
			host, _, err := net.SplitHostPort(*address)
			if err != nil {
				return nil, wrongUsage("serve", "serve has -addr %q: want an address such as 127.0.0.1:8080", *address)
			}
			if !isLoopback(host) {
				return nil, wrongUsage("serve", "serve has -addr %q: want a loopback address such as 127.0.0.1:8080, since there is no login; for other users, mount package page behind a login of yours", *address)
			}
			return func(ctx context.Context) error { return c.serve(ctx, *address, *payloads) }, nil
		}
	},
}

type serveDocument struct {
	URL string `json:"url"`
}

// serve shows the outbox in a browser.
func (c *command) serve(ctx context.Context, address string, payloads bool) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen at %s: %w", address, err)
	}
	options := []page.Option{page.WithLogger(slog.New(slog.NewTextHandler(c.err, nil)))}
	if me, err := user.Current(); err == nil {
		options = append(options, page.WithUser(func(*http.Request) string { return me.Username }))
	}
	if payloads {
		options = append(options, page.WithPayload())
	}
	server := &http.Server{Handler: onLoopback(page.Handler(c.Outbox, options...)), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	url := fmt.Sprintf("http://%s/", listener.Addr())
	if err := c.print(serveDocument{url}, url); err != nil {
		server.Close()
		<-ended
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done(): // an interrupt
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveGrace)
	defer cancel()
	err = server.Shutdown(ending)
	server.Close()
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// onLoopback refuses requests for another host. There is no login, so a site could otherwise
// let its own name resolve to the loopback address, and read the pages as the same origin.
func onLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "This is only for localhost.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether a host is localhost or a loopback address.
func isLoopback(host string) bool {
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
