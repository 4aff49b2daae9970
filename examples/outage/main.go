// Command outage shows what graphretry is for. It starts a fake Graph API on a
// loopback port, takes it down, and sends a message through a client that
// graphretry wraps.
//
//	go run ./examples/outage                       # one message, an outage of 12 s, the true schedule
//	go run ./examples/outage -code 131009          # an error that is never retried
//	go run ./examples/outage -senders 50           # the outage gate at work
//	go run ./examples/outage -senders 50 -outage 3m -speed 10
//
// With WHATSAPP_TOKEN, WHATSAPP_PHONE_NUMBER_ID and -to it sends the template
// hello_world through the real API instead.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// send is all that a program has to do with graphretry: wrap its client once,
// and send through it as before.
func send(ctx context.Context, client *http.Client, to destination) (messageID string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, strings.NewReader(to.message))
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
	if graph, failed := graphretry.ErrorFromResponse(response); failed {
		return "", graph
	}
	var answer struct {
		Messages []struct{ ID string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK || len(answer.Messages) == 0 {
		return "", errors.New("unexpected answer: " + response.Status)
	}
	return answer.Messages[0].ID, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Getenv)
	stop()
	os.Exit(code)
}

// destination is where a message goes, and the message.
type destination struct {
	url, token, message string
}

// settings are what the flags say.
type settings struct {
	senders int
	outage  time.Duration
	code    graphretry.Code
	speed   float64
	to      string
}

// The exit codes.
const (
	delivered = iota
	notDelivered
	wrongUse
)

// run is the program.
func run(ctx context.Context, args []string, out io.Writer, getenv func(string) string) int {
	var s settings
	flags := flag.NewFlagSet("outage", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&s.senders, "senders", 1, "how many `senders`; each of more than one sends a message a second")
	flags.DurationVar(&s.outage, "outage", 12*time.Second, "how long the API is down")
	flags.IntVar((*int)(&s.code), "code", 2, "the `code` that the API answers with while it is down")
	flags.Float64Var(&s.speed, "speed", 1, "how many times as fast time runs")
	flags.StringVar(&s.to, "to", "16505551234", "the phone `number` to send to")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return delivered
	case err != nil:
		return wrongUse
	}
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{flags.NArg() > 0, fmt.Sprintf("%q: want flags only", flags.Args())},
		{s.senders < 1 || s.senders > 10_000, fmt.Sprintf("-senders %d: want 1 to 10000", s.senders)},
		{s.outage < 0, fmt.Sprintf("-outage %v: want 0s or more", s.outage)},
		{!(s.speed >= 0.1 && s.speed <= 1000), fmt.Sprintf("-speed %v: want 0.1 to 1000", s.speed)},
		{s.code < 1, fmt.Sprintf("-code %d: want a Graph error code, such as 2, 131016 or 131009", s.code)},
	} {
		if bad.is {
			fmt.Fprintln(out, "outage: "+bad.text)
			return wrongUse
		}
	}

	screen := newScreen(out, getenv)
	if token, id := getenv("WHATSAPP_TOKEN"), getenv("WHATSAPP_PHONE_NUMBER_ID"); token != "" && id != "" {
		if !isSet(flags, "to") {
			fmt.Fprintln(out, "outage: WHATSAPP_TOKEN is set, so this would send a real message: say to whom with -to")
			return wrongUse
		}
		return sendOne(ctx, screen, s, destination{
			url:     "https://graph.facebook.com/v23.0/" + id + "/messages",
			token:   token,
			message: templateMessage(s.to),
		}, "real API at graph.facebook.com: this sends the template hello_world to "+s.to)
	}

	api := graphtest.New()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(out, "outage: "+err.Error())
		return notDelivered
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // it ends in ErrServerClosed, by the next line
	defer server.Close()
	url := fmt.Sprintf("http://%s/v23.0/106540352242922/messages", listener.Addr())

	if s.senders > 1 {
		return load(ctx, screen, s, api, url)
	}
	api.DownAfter(0, s.scaled(s.outage), graphtest.Answer{Code: s.code, Transient: s.code == 2})
	return sendOne(ctx, screen, s, destination{url: url, message: textMessage(s.to, "Your code is 493817", "demo")},
		fmt.Sprintf("fake Graph API at %s, down for %v with code %d (%s)", listener.Addr(), s.outage, s.code, s.code.Title()))
}

// client is a client that graphretry wraps, whose time runs as fast as s says.
func (s settings) client(observe func(context.Context, graphretry.Event)) (*http.Client, error) {
	return graphretry.WrapClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		graphretry.WithHosts("graph.facebook.com", "127.0.0.1"),
		graphretry.WithInitialInterval(s.scaled(5*time.Second)),
		graphretry.WithMaxInterval(s.scaled(3*time.Minute)),
		graphretry.WithMaxElapsedTime(s.scaled(15*time.Minute)),
		graphretry.WithObserver(observe),
	)
}

// scaled is a time of the story as the clock shows it.
func (s settings) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.speed)
}

// story is a time that the clock shows as one of the story.
func (s settings) story(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.speed)
}

// sendOne sends one message and tells what happens to it.
func sendOne(ctx context.Context, screen *screen, s settings, to destination, headline string) int {
	began := time.Now()
	elapsed := func() time.Duration { return s.story(time.Since(began)) }
	screen.headline(headline)
	attempts := 1
	client, err := s.client(func(_ context.Context, event graphretry.Event) {
		attempts = event.Attempt
		if event.Kind == graphretry.EventRecovered || event.Graph == nil {
			return
		}
		screen.failed(elapsed(), event)
		if event.Kind == graphretry.EventRetrying {
			screen.countDown(ctx, event.Wait, s.story)
		}
	})
	if err != nil {
		screen.line(err.Error())
		return wrongUse
	}
	defer client.CloseIdleConnections()
	screen.at(elapsed(), "sending the message, once, by an ordinary client.Do")
	id, err := send(ctx, client, to)
	screen.endCountDown()
	var graph *graphretry.Error
	switch {
	case err == nil:
		screen.success(elapsed(), fmt.Sprintf("attempt %d delivered", attempts))
		screen.line(screen.paint(grey, "        "+id))
		if attempts > 1 {
			screen.line("",
				"The caller saw one call that took its time. Without graphretry it would have",
				"seen the first failure, and the message would be lost.")
		}
		return delivered
	case ctx.Err() != nil:
		screen.at(elapsed(), fmt.Sprintf("interrupted: the message was not delivered, after %s", count(attempts, "attempt")))
	case errors.As(err, &graph):
		screen.line("",
			fmt.Sprintf("Not delivered, after %s. The caller got Meta's answer as it came.", count(attempts, "attempt")),
			"What to do: "+graph.Code.Advice())
	default:
		screen.line("", "Not delivered: "+err.Error())
	}
	return notDelivered
}

func textMessage(to, text, callback string) string {
	return fmt.Sprintf(`{"messaging_product":"whatsapp","to":%q,"type":"text","text":{"body":%q},"biz_opaque_callback_data":%q}`, to, text, callback)
}

func templateMessage(to string) string {
	return fmt.Sprintf(`{"messaging_product":"whatsapp","to":%q,"type":"template","template":{"name":"hello_world","language":{"code":"en_US"}}}`, to)
}

func isSet(flags *flag.FlagSet, name string) (set bool) {
	flags.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// count is a number of things, in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
