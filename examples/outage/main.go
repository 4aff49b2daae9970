// Command outage shows what graphretry is for. It starts a fake Graph API on a
// loopback port, takes it down, and sends a message through a client that
// graphretry wraps.
//
//	go run ./examples/outage                 # one message, 12 s of outage, the true schedule
//	go run ./examples/outage -code 131009    # an error that is never retried
//	go run ./examples/outage -senders 50     # 50 messages a second, and the outage gate
//	go run ./examples/outage -h              # every flag
//
// With WHATSAPP_TOKEN, WHATSAPP_PHONE_NUMBER_ID and -to it sends the template
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
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// wrap is all that a program does to have graphretry: it wraps the client that
// it has, once. The rest of the program stays as it was; see send.
func wrap(client *http.Client, s settings, observe func(context.Context, graphretry.Event)) (*http.Client, error) {
	return graphretry.WrapClient(client,
		graphretry.WithObserver(observe), // WithLogger(slog.Default()) does for most programs

		// The rest is for the demo alone: a fake API, and -speed. These are the
		// default intervals.
		graphretry.WithHosts("graph.facebook.com", "127.0.0.1"),
		graphretry.WithInitialInterval(s.scaled(5*time.Second)),
		graphretry.WithMaxInterval(s.scaled(3*time.Minute)),
		graphretry.WithMaxElapsedTime(s.scaled(15*time.Minute)),
	)
}

// send sends one message, as a program does that knows nothing of retries. It
// gives the id that the API gave the message.
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
		return "", &refusal{response.Status, body}
	}
	return answer.Messages[0].ID, nil
}

// destination is where messages go.
type destination struct {
	url   string
	token string // "" for the fake API
}

// refusal is an answer other than that the message was accepted.
type refusal struct {
	status string
	body   []byte
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// run is the program. It gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
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
	screen := newScreen(stdout, getenv)
	if s.token != "" {
		screen.headline("THE REAL API: this sends a WhatsApp message, the template hello_world, to " + s.to +
			" through graph.facebook.com.")
		to := destination{"https://graph.facebook.com/v23.0/" + s.phoneNumberID + "/messages", s.token}
		return sendOne(ctx, screen, s, to, nil)
	}

	api := graphtest.New()
	api.SetLatency(s.scaled(50 * time.Millisecond))
	host, stop, err := serve(api)
	if err != nil {
		fmt.Fprintf(stderr, "outage: the fake API cannot be started: %v\n", err)
		return exitNotDelivered
	}
	defer stop()
	to := destination{url: "http://" + host + "/v23.0/106540352242922/messages"}
	if s.realButForTo {
		screen.prose("WHATSAPP_TOKEN is set, but -to is not given: this is the fake API, and nothing leaves the machine.", "")
	}
	if s.senders > 1 {
		return sendMany(ctx, screen, s, to, api)
	}
	if s.outage > 0 {
		screen.headline(fmt.Sprintf("A fake Graph API at %s is down for %v: it answers every call with code %s.",
			host, s.outage, named(s.code)))
	} else {
		screen.headline(fmt.Sprintf("A fake Graph API at %s is up.", host))
	}
	api.DownAfter(0, s.scaled(s.outage), graphtest.Answer{Code: s.code})
	return sendOne(ctx, screen, s, to, api)
}

// serve answers for api at a port of the loopback interface, until stop.
func serve(api http.Handler) (host string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // it ends in ErrServerClosed
	return listener.Addr().String(), func() { _ = server.Close(); serving.Wait() }, nil
}

// sendOne sends one message and tells what happens to it. api is nil if it goes
// to the real one.
func sendOne(ctx context.Context, screen *screen, s settings, to destination, api *graphtest.API) int {
	began := time.Now()
	elapsed := func() time.Duration { return s.story(time.Since(began)) }

	var last graphretry.Event // that of the last failed attempt
	endWait := func() {}
	client, err := wrap(&http.Client{}, s, func(_ context.Context, event graphretry.Event) {
		if event.Kind == graphretry.EventRecovered {
			return
		}
		endWait()
		last = event
		screen.failed(elapsed(), event, s.story(event.Wait))
		if event.Kind == graphretry.EventRetrying {
			endWait = screen.countDown(event.Attempt+1, event.Wait, s.story)
		}
	})
	if err != nil {
		screen.prose(err.Error())
		return exitWrongUse
	}
	defer client.CloseIdleConnections()

	message := textMessage(s.to, "Your code is 493817.", "demo")
	if api == nil {
		message = templateMessage(s.to)
	}
	screen.at(elapsed(), "sending", plain, "one client.Do, and the program waits for it")
	wamid, err := send(ctx, client, to, message)
	took := elapsed()
	endWait()
	if err == nil {
		screen.delivered(took, last.Attempt+1, wamid)
		if last.Attempt == 0 {
			screen.closing("Delivered at the first attempt: there was nothing for graphretry to do.")
			return exitDelivered
		}
		screen.closing(
			fmt.Sprintf("client.Do returned once, after %s, with a success.", seconds(took)),
			"Without graphretry attempt 1 would have been the end: one failed send.")
		return exitDelivered
	}

	var waiting *graphretry.WaitError
	var refused *refusal
	switch {
	case errors.As(err, &waiting):
		screen.closing(fmt.Sprintf("Interrupted in the wait for attempt %d. The API has refused the message so far (%s), and nothing is on its way: it was not delivered.",
			waiting.Attempts+1, count(waiting.Attempts, "attempt")))
	case ctx.Err() != nil:
		screen.closing(fmt.Sprintf("Interrupted while attempt %d was on its way: whether the API took the message, nobody here can know.", last.Attempt))
	case errors.As(err, &refused) && last.Graph != nil:
		if api == nil {
			screen.closing(fmt.Sprintf("Not delivered, after %s.", count(last.Attempt, "attempt")))
		} else {
			screen.closing(fmt.Sprintf("Not delivered. The API saw %s, and client.Do returned the last answer as it came, with a nil error:",
				count(api.Totals().Calls, "call")))
			screen.line(screen.paint(grey, string(refused.body)))
		}
		if last.Attempt == 1 {
			screen.prose("Without graphretry it would have been the same: one send, and this answer.")
		}
		screen.prose("What to do: " + last.Graph.Code.Advice())
	default:
		screen.closing("Not delivered: " + err.Error() + ".")
	}
	return exitNotDelivered
}

// settings are what the flags and the environment say.
type settings struct {
	senders int
	outage  time.Duration
	code    graphretry.Code
	speed   float64
	to      string

	// For the real API; "" for the fake one.
	token, phoneNumberID string
	// realButForTo is set if all is there to use the real API but -to.
	realButForTo bool
}

// scaled is how long a time of the story takes on the clock.
func (s settings) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.speed)
}

// story is how long a time on the clock is in the story.
func (s settings) story(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.speed)
}

var (
	phoneNumber = regexp.MustCompile(`^\+?[0-9]{5,15}$`)
	digits      = regexp.MustCompile(`^[0-9]+$`)
)

// mostMessages is how many messages a second the demo can send and still show
// the library, not the limits of the machine.
const mostMessages = 1000

// parse reads the flags and the environment. All that is wrong is told at once.
func parse(args []string, stdout io.Writer, getenv func(string) string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("outage", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&s.senders, "senders", 1, "how `many` senders; if more than one, each sends a message every second")
	flags.DurationVar(&s.outage, "outage", 12*time.Second, "how `long` the API is down")
	flags.IntVar((*int)(&s.code), "code", int(graphretry.CodeAPIService), "the Graph error `code` that the API answers with while it is down")
	flags.Float64Var(&s.speed, "speed", 1, "how many `times` as fast time runs: 10 makes 5 s half a second")
	flags.StringVar(&s.to, "to", "16505551234", "the phone `number` to send to, with its country code")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: go run ./examples/outage [flags]   or   make demo ARGS=\"[flags]\"")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		fmt.Fprintln(stdout, "With WHATSAPP_TOKEN, WHATSAPP_PHONE_NUMBER_ID and -to it sends through the real API.")
		return s, err
	} else if err != nil {
		return s, fmt.Errorf("%w (-h tells the flags)", err)
	}

	var faults []error
	fault := func(is bool, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(flags.NArg() > 0, "%q: want flags only", flags.Args())
	fault(s.senders < 1 || s.senders > mostMessages, "-senders %d: want 1 to %d", s.senders, mostMessages)
	fault(s.outage < 0 || s.outage > 24*time.Hour, "-outage %v: want 0s to 24h", s.outage)
	fault(s.code < 1, "-code %d: want a Graph error code, such as 2, 131000, 131009, 131016 or 130472", s.code)
	fault(!(s.speed >= 0.1 && s.speed <= 1000), "-speed %v: want 0.1 to 1000", s.speed)
	fault(!phoneNumber.MatchString(s.to), "-to %q: want a phone number with its country code, such as 16505551234", s.to)
	if len(faults) == 0 && s.senders > 1 {
		fault(float64(s.senders)*s.speed > mostMessages, "-senders %d -speed %v: these are %v messages a second; want at most %d", s.senders, s.speed, float64(s.senders)*s.speed, mostMessages)
	}

	token, id := getenv("WHATSAPP_TOKEN"), getenv("WHATSAPP_PHONE_NUMBER_ID")
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case token == "" && id == "":
	case !given["to"]:
		s.realButForTo = token != "" && id != ""
	case token == "" || id == "":
		fault(true, "-to is given, and only one of WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is set: set both for the real API, or none for the fake one")
	default:
		s.token, s.phoneNumberID = token, id
		fault(!digits.MatchString(id), "WHATSAPP_PHONE_NUMBER_ID=%q: want an id of digits, such as 106540352242922", id)
		for _, name := range []string{"senders", "outage", "code", "speed"} {
			fault(given[name], "-%s: this is for the fake API, and -to with WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is for the real one", name)
		}
	}
	return s, errors.Join(faults...)
}

func textMessage(to, text, callbackData string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":%q,"type":"text","text":{"body":%q},"biz_opaque_callback_data":%q}`, to, text, callbackData)
}

func templateMessage(to string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":%q,"type":"template","template":{"name":"hello_world","language":{"code":"en_US"}}}`, to)
}
