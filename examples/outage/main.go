// Command outage shows what graphretry is for. It takes a fake Graph API down
// while messages are sent to it, and shows how they are queued and released, beside
// the same messages with a plain backoff loop for each.
//
//	go run ./examples/outage                 # 20 messages a second, 7 s of outage
//	go run ./examples/outage -one            # one message, attempt by attempt
//	go run ./examples/outage -code 131009    # an error that is never retried
//	go run ./examples/outage -h              # every flag
//
// The fake API is in this process, and nothing leaves the machine. Only with
// WHATSAPP_TOKEN, WHATSAPP_PHONE_NUMBER_ID and -to it sends the template
// hello_world through the real API instead.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// wrap is all that a program needs to use graphretry: it wraps the transport of its
// client, once. The rest of the program stays as it was; see send.
func wrap(next http.RoundTripper, s settings, observe func(context.Context, graphretry.Event)) (*graphretry.Transport, error) {
	return graphretry.NewTransport(next,
		graphretry.WithObserver(observe), // WithLogger(slog.Default()) does for most programs
		graphretry.WithInitialInterval(s.interval),
	)
}

// The defaults of graphretry, for the loop it is compared with.
const (
	maxInterval    = 3 * time.Minute
	maxElapsedTime = 15 * time.Minute
)

// send sends one message, as a program without retries does. It returns the id that
// the API gave the message.
func send(ctx context.Context, client *http.Client, to destination, message []byte) (wamid string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, bytes.NewReader(message))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	if to.token != "" {
		request.Header.Set("Authorization", "Bearer "+to.token)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Messages []struct{ ID string }
	}
	if response.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || len(answer.Messages) == 0 {
		return "", refusedBy(response, body)
	}
	return answer.Messages[0].ID, nil
}

// destination is where messages go.
type destination struct {
	url   string
	token string // "" for the fake API
}

// fakeDestination is the fake API's. Its client has the API for a transport, so
// nothing goes to that host.
var fakeDestination = destination{url: "https://graph.facebook.com/" + graphtest.APIVersion + "/106540352242922/messages"}

// refusal is an answer other than that the message was accepted.
type refusal struct {
	status string
	code   graphretry.Code // 0 if it is no Graph error
	body   []byte
}

func refusedBy(response *http.Response, body []byte) *refusal {
	r := &refusal{status: response.Status, body: body}
	if graph, ok := graphretry.ParseError(response.StatusCode, nil, body); ok {
		r.code = graph.Code
	}
	return r
}

// Error leaves the body out: Meta's texts can echo the token.
func (r *refusal) Error() string { return "the API answered " + r.status }

// The exit codes.
const (
	exitDelivered = iota
	exitNotDelivered
	exitWrongUse
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(run(ctx, stop, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// run is the program. It returns the exit code. Once the context has ended and the
// terminal is as it was, stopSignals is called: from then on a second Ctrl-C ends
// the program at once.
func run(ctx context.Context, stopSignals func(), args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	s, err := parse(args, stdout, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDelivered
	case err != nil:
		for fault := range strings.Lines(err.Error() + "\n") {
			fmt.Fprint(stderr, "outage: "+fault)
		}
		return exitWrongUse
	}
	terminal := newTerminal(stdout, getenv)
	if s.token != "" {
		context.AfterFunc(ctx, stopSignals)
		terminal.headline("THE REAL API: this sends a WhatsApp message, the template hello_world, to " + s.to +
			" through graph.facebook.com.")
		to := destination{"https://graph.facebook.com/" + graphtest.APIVersion + "/" + s.phoneNumberID + "/messages", s.token}
		return sendOne(ctx, terminal, s, to, nil)
	}
	if s.realButForTo {
		terminal.prose("WHATSAPP_TOKEN is set, but -to is not given: this is the fake API, and nothing leaves the machine.", "")
	}
	if !s.one {
		return sendMany(ctx, stopSignals, terminal, s)
	}

	context.AfterFunc(ctx, stopSignals)
	api := graphtest.New()
	api.SetLatency(latency)
	api.DownAfter(0, s.outage, graphtest.Answer{Code: s.code})
	terminal.headline(fmt.Sprintf("Demo: one message, and a fake Graph API that is down for %v with code %s. For the flags: -h.", s.outage, named(s.code)))
	return sendOne(ctx, terminal, s, fakeDestination, api)
}

func textMessage(to, text, callbackData string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":%q,"type":"text","text":{"body":%q},"biz_opaque_callback_data":%q}`, to, text, callbackData)
}

func templateMessage(to string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":%q,"type":"template","template":{"name":"hello_world","language":{"code":"en_US"}}}`, to)
}
