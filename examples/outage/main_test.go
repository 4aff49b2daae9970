package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// result is what a run of the program left.
type result struct {
	exit           int
	stdout, stderr string
}

// outage runs the program to its end.
func outage(ctx context.Context, environment map[string]string, args ...string) result {
	var stdout, stderr strings.Builder
	exit := run(ctx, args, &stdout, &stderr, func(name string) string { return environment[name] })
	return result{exit, stdout.String(), stderr.String()}
}

// ended is a context that has ended: nothing is dialled, not even by a program
// that takes what it should refuse.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// flat is a text without its line breaks, which depend on the width.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// requirePlain fails if a text is not fit for a log file.
func requirePlain(t *testing.T, text string) {
	t.Helper()
	require.NotContains(t, text, "\x1b", "no colours where there is no terminal")
	require.NotContains(t, text, "\r", "no line is rewritten where there is no terminal")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") { // an answer is printed as it came
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), textWidth, line)
		}
	}
}

// interrupt is a writer that ends the context, as Ctrl-C does, once a text has
// been printed.
type interrupt struct {
	strings.Builder
	at     string
	cancel context.CancelFunc
}

func (i *interrupt) Write(p []byte) (int, error) {
	n, err := i.Builder.Write(p)
	if strings.Contains(i.String(), i.at) {
		i.cancel()
	}
	return n, err
}

// interrupted runs the program, and ends it once a text has been printed.
func interrupted(t *testing.T, at string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := &interrupt{at: at, cancel: cancel}, &strings.Builder{}
	exit := run(ctx, args, stdout, stderr, func(string) string { return "" })
	require.Contains(t, stdout.String(), at)
	return result{exit, stdout.String(), stderr.String()}
}

func TestMessageIsDeliveredAfterTheOutage(t *testing.T) {
	t.Parallel()
	for _, code := range []graphretry.Code{graphretry.CodeAPIService, graphretry.CodeServiceUnavailable} {
		r := outage(t.Context(), nil, "-speed", "20", "-code", fmt.Sprint(int(code)))
		assert.Equal(t, exitDelivered, r.exit)
		requirePlain(t, r.stdout)
		assert.Empty(t, r.stderr)
		assert.Contains(t, flat(r.stdout), fmt.Sprintf("is down for 12s: it answers every call with code %d (%s).", code, code.Title()))
		assert.Regexp(t, fmt.Sprintf(`attempt 1 HTTP %d, code %d \(%s\)\n +fbtrace_id A\S{22}\n +retrying in [56]\.\d s \(temporary failure\)\n`,
			graphtest.Status(code), code, code.Title()), r.stdout)
		assert.Regexp(t, `attempt \d HTTP 200, delivered\n +wamid\.\S+\n\n`, r.stdout)
		assert.Regexp(t, `client\.Do returned once, after \d+\.\d s, with a success\.`, r.stdout)
		assert.Contains(t, r.stdout, "Without graphretry attempt 1 would have been the end: one failed send.")
	}
}

func TestMessageIsDeliveredAtOnceWithoutAnOutage(t *testing.T) {
	t.Parallel()
	r := outage(t.Context(), nil, "-outage", "0s")
	assert.Equal(t, exitDelivered, r.exit)
	assert.Contains(t, r.stdout, "is up.")
	assert.Contains(t, r.stdout, "Delivered at the first attempt")
	assert.NotContains(t, r.stdout, "Without graphretry")
}

func TestCodeThatIsNeverRetriedIsSentOnceAndItsAnswerIsIntact(t *testing.T) {
	t.Parallel()
	for _, code := range []graphretry.Code{graphretry.CodeParameterInvalid, graphretry.CodeUserExperiment} {
		r := outage(t.Context(), nil, "-speed", "50", "-outage", "5m", "-code", fmt.Sprint(int(code)))
		assert.Equal(t, exitNotDelivered, r.exit)
		requirePlain(t, r.stdout)
		assert.Contains(t, r.stdout, "not retried: this code is never retried")
		assert.Contains(t, r.stdout, "The API saw 1 call,")
		assert.Contains(t, flat(r.stdout), "What to do: "+code.Advice())

		_, rest, found := strings.Cut(r.stdout, "\n{")
		require.True(t, found, "the answer itself is shown")
		body, _, _ := strings.Cut("{"+rest, "\n")
		graph, isGraph := graphretry.ParseError(graphtest.Status(code), []byte(body))
		require.True(t, isGraph, body)
		assert.Equal(t, code, graph.Code)
		assert.Contains(t, r.stdout, "fbtrace_id "+graph.TraceID+"\n", "the answer shown is the one that was reported")
	}
}

func TestSomethingWentWrongIsRetriedOnce(t *testing.T) {
	t.Parallel()
	short := outage(t.Context(), nil, "-speed", "10", "-code", "131000", "-outage", "4s")
	assert.Equal(t, exitDelivered, short.exit)
	assert.Contains(t, short.stdout, "attempt 2 HTTP 200, delivered")

	long := outage(t.Context(), nil, "-speed", "50", "-code", "131000", "-outage", "5m")
	assert.Equal(t, exitNotDelivered, long.exit)
	assert.Contains(t, long.stdout, "gave up: no retries left")
	assert.Contains(t, long.stdout, "The API saw 2 calls,")
	assert.NotContains(t, long.stdout, "attempt 3")
}

func TestManySendersLoseNothingAndSendNothingTwice(t *testing.T) {
	t.Parallel()
	// Enough time for 20 answers while the API is down, however busy the machine.
	// The rest, and most of the test's time, is the pace of the recovery.
	r := outage(t.Context(), nil, "-senders", "2", "-speed", "10", "-outage", "20s")
	assert.Equal(t, exitDelivered, r.exit)
	requirePlain(t, r.stdout)
	assert.Regexp(t, ` 1 s  up +\d+ +\d+ +\d+`, r.stdout)
	assert.Regexp(t, ` s  DOWN +0 +[1-9]`, r.stdout, "the gate holds calls back")
	assert.Regexp(t, `\d s  recovering +\d`, r.stdout)
	began := strings.Index(r.stdout, "OUTAGE BEGAN")
	ended := strings.Index(r.stdout, "OUTAGE ENDED")
	assert.Positive(t, began)
	assert.Greater(t, ended, began)

	var sent, delivered int
	_, summary, _ := strings.Cut(r.stdout, "\n\n")
	_, summary, _ = strings.Cut(summary, "\n\n")
	_, summary, _ = strings.Cut(summary, "\n\n")
	n, err := fmt.Sscanf(summary, "%d messages sent, %d delivered, 0 lost, 0 duplicates.", &sent, &delivered)
	require.NoError(t, err, r.stdout)
	require.Equal(t, 2, n)
	assert.Equal(t, sent, delivered)
	assert.Regexp(t, `Without graphretry: [1-9]\d* failed sends, one for each message that was sent meanwhile\.`, flat(r.stdout))
}

func TestManySendersWithAnErrorThatIsNotRetriedAreToldSo(t *testing.T) {
	t.Parallel()
	r := outage(t.Context(), nil, "-senders", "5", "-speed", "20", "-outage", "8s", "-code", "131009")
	assert.Equal(t, exitNotDelivered, r.exit)
	lost := regexp.MustCompile(`, ([1-9]\d*) lost, 0 duplicates\.`).FindStringSubmatch(r.stdout)
	require.NotNil(t, lost, r.stdout)
	assert.Contains(t, flat(r.stdout), lost[1]+" messages failed, and Meta's answer is with the sender.")
	assert.Contains(t, flat(r.stdout), lost[1]+" calls reached the API while it was down.", "each was sent once")
	assert.Contains(t, flat(r.stdout), graphretry.CodeParameterInvalid.Advice())
	assert.Contains(t, flat(r.stdout), "The gate stayed open")
}

// A retry goes after 5, 10, 20, 40 and 80 s, each 10 % longer in the mean for the
// jitter. So of 50 messages a second and 20 s, all are sent, those of the first
// 14.5 s again, and those of the first 3.5 s a third time.
func TestCallsWithoutTheGateAreThoseOfOneBackoffForEachMessage(t *testing.T) {
	t.Parallel()
	for down, expected := range map[time.Duration]float64{20 * time.Second: 1900, 3 * time.Minute: 38330} {
		l := &load{settings: settings{outage: down, code: graphretry.CodeAPIService}}
		for at := time.Duration(0); at < before+down+after; at += time.Second / 50 {
			l.messages = append(l.messages, message{at: at})
		}
		assert.InEpsilon(t, expected, l.withoutGate(), 0.02, down)
	}
}

func TestInterruptedInAWaitItSaysThatNothingIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := interrupted(t, "retrying in")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Contains(t, flat(r.stdout), "Interrupted in the wait for attempt 2. The API has refused the message so far (1 attempt), and nothing is on its way: it was not delivered.")
}

func TestInterruptedOnTheWayItSaysThatNobodyKnows(t *testing.T) {
	t.Parallel()
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultHang})
	ctx, cancel := context.WithCancel(t.Context())
	host, stop, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		api.ServeHTTP(w, r)
	}))
	require.NoError(t, err)
	defer stop()
	var stdout strings.Builder
	exit := sendOne(ctx, &screen{out: &stdout}, settings{speed: 1, to: "16505551234"}, destination{url: "http://" + host + "/1/messages"}, api)
	assert.Equal(t, exitNotDelivered, exit)
	assert.Contains(t, flat(stdout.String()), "Interrupted while attempt 1 was on its way: whether the API took the message, nobody here can know.")
}

func TestInterruptedSendersSayWhatWaited(t *testing.T) {
	t.Parallel()
	r := interrupted(t, " 7 s  DOWN", "-senders", "5", "-speed", "20", "-outage", "1h")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Regexp(t, `\nInterrupted: \d+ messages sent, \d+ delivered, 0 duplicates\.\n[1-9]\d* messages waiting, and given up\.\n`, r.stdout)
}

func TestBadFlagsAreNamedTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want []string
	}{
		{"-senders 0", []string{"outage: -senders 0: want 1 to 1000\n"}},
		{"-senders 1001", []string{"outage: -senders 1001: want 1 to 1000\n"}},
		{"-senders 500 -speed 10", []string{"outage: -senders 500 -speed 10: these are 5000 messages a second; want at most 1000\n"}},
		{"-outage -1s", []string{"outage: -outage -1s: want 0s to 24h\n"}},
		{"-outage 25h", []string{"outage: -outage 25h0m0s: want 0s to 24h\n"}},
		{"-outage 12", []string{`invalid value "12" for flag -outage`}},
		{"-speed 0", []string{"outage: -speed 0: want 0.1 to 1000\n"}},
		{"-speed NaN", []string{"outage: -speed NaN: want 0.1 to 1000\n"}},
		{"-speed 1001", []string{"outage: -speed 1001: want 0.1 to 1000\n"}},
		{"-code 0", []string{"outage: -code 0: want a Graph error code, such as 2,"}},
		{"-code x", []string{`outage: invalid value "x" for flag -code`}},
		{"-to 12ab", []string{`outage: -to "12ab": want a phone number`}},
		{"more", []string{`outage: ["more"]: want flags only`}},
		{"-unknown", []string{"outage: flag provided but not defined: -unknown"}},
		{"-senders 0 -speed 0", []string{"outage: -senders 0: ", "\noutage: -speed 0: "}},
	} {
		r := outage(ended(), nil, strings.Fields(c.args)...)
		assert.Equal(t, exitWrongUse, r.exit, c.args)
		assert.Empty(t, r.stdout, c.args)
		for _, want := range c.want {
			assert.Contains(t, r.stderr, want, c.args)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	t.Parallel()
	r := outage(t.Context(), nil, "-h")
	assert.Equal(t, exitDelivered, r.exit)
	for _, flag := range []string{"senders", "outage", "code", "speed", "to"} {
		assert.Contains(t, r.stdout, "\n  -"+flag+" ")
	}
}

const secret = "EAAJsecretsecretsecret"

func TestRealAPIIsUsedOnlyWithAllThatItTakes(t *testing.T) {
	t.Parallel()
	all := map[string]string{"WHATSAPP_TOKEN": secret, "WHATSAPP_PHONE_NUMBER_ID": "106540352242922"}

	r := outage(ended(), all)
	assert.Contains(t, flat(r.stdout), "-to is not given: this is the fake API, and nothing leaves the machine.")
	assert.Contains(t, r.stdout, "A fake Graph API at 127.0.0.1")

	for name := range all {
		r := outage(ended(), map[string]string{name: all[name]}, "-to", "16505551234")
		assert.Equal(t, exitWrongUse, r.exit)
		assert.Contains(t, r.stderr, "only one of WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is set")
		assert.NotContains(t, r.stderr, secret)
	}

	r = outage(ended(), all, "-to", "16505551234", "-speed", "10")
	assert.Equal(t, exitWrongUse, r.exit)
	assert.Contains(t, r.stderr, "-speed: this is for the fake API")

	r = outage(ended(), map[string]string{"WHATSAPP_TOKEN": secret, "WHATSAPP_PHONE_NUMBER_ID": "../me"}, "-to", "16505551234")
	assert.Equal(t, exitWrongUse, r.exit)
	assert.Contains(t, r.stderr, `WHATSAPP_PHONE_NUMBER_ID="../me": want an id of digits`)

	r = outage(ended(), all, "-to", "16505551234")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Contains(t, flat(r.stdout), "THE REAL API: this sends a WhatsApp message, the template hello_world, to 16505551234 through graph.facebook.com.")
	assert.NotContains(t, r.stdout+r.stderr, secret)
}

func TestTokenIsSentAndNeverPrinted(t *testing.T) {
	t.Parallel()
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
	api.AnswerNext(1, graphtest.Answer{Code: 190, Message: "Malformed access token " + secret, Details: "The token is " + secret})
	var mu sync.Mutex
	var authorization []string
	host, stop, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		authorization = append(authorization, r.Header.Get("Authorization"))
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	require.NoError(t, err)
	defer stop()

	var stdout strings.Builder
	s := settings{speed: 50, to: "16505551234", token: secret, phoneNumberID: "1"}
	exit := sendOne(t.Context(), &screen{out: &stdout, inPlace: true, colours: true}, s,
		destination{"http://" + host + "/v23.0/1/messages", secret}, nil)
	assert.Equal(t, exitNotDelivered, exit)
	assert.Equal(t, []string{"Bearer " + secret, "Bearer " + secret}, authorization)
	assert.Contains(t, stdout.String(), "code 190")
	assert.Contains(t, stdout.String(), "The token is", "what Meta said is told, but for the token")
	assert.NotContains(t, stdout.String(), secret)
}

func TestAnswerThatIsNoGraphErrorIsToldAsSuch(t *testing.T) {
	t.Parallel()
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Status: http.StatusBadGateway})
	host, stop, err := serve(api)
	require.NoError(t, err)
	defer stop()
	var stdout strings.Builder
	exit := sendOne(t.Context(), &screen{out: &stdout}, settings{speed: 50, to: "16505551234"}, destination{url: "http://" + host + "/1/messages"}, api)
	assert.Equal(t, exitNotDelivered, exit)
	assert.Contains(t, stdout.String(), "an answer that is no Graph error")
	assert.Contains(t, stdout.String(), "Not delivered: the API answered 502 Bad Gateway.")
}

func TestAPIThatCannotBeReachedIsToldAsSuch(t *testing.T) {
	t.Parallel()
	host, stop, err := serve(graphtest.New())
	require.NoError(t, err)
	stop()
	var stdout strings.Builder
	exit := sendOne(t.Context(), &screen{out: &stdout}, settings{speed: 50, to: "16505551234"}, destination{url: "http://" + host + "/1/messages"}, nil)
	assert.Equal(t, exitNotDelivered, exit)
	assert.Contains(t, stdout.String(), "attempt 1 no answer\n"+indent+"not retried\n")
	assert.Contains(t, flat(stdout.String()), "Not delivered: Post")
}

func TestTerminalHasColoursAndACountdownInPlace(t *testing.T) {
	t.Parallel()
	api := graphtest.New()
	host, stop, err := serve(api)
	require.NoError(t, err)
	defer stop()
	for _, colours := range []bool{true, false} {
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeAPIService})
		var stdout strings.Builder
		exit := sendOne(t.Context(), &screen{out: &stdout, inPlace: true, colours: colours}, settings{speed: 5, to: "16505551234"},
			destination{url: "http://" + host + "/1/messages"}, api)
		assert.Equal(t, exitDelivered, exit)
		assert.Regexp(t, `\r\S* +attempt 2 in [56]\.\d s`, stdout.String())
		assert.Regexp(t, `\r\S* +attempt 2 in [0-4]\.\d s`, stdout.String(), "it counts down")
		assert.Equal(t, colours, strings.Contains(stdout.String(), "\x1b["))
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	defer write.Close()
	for _, out := range []*os.File{file, write} {
		screen := newScreen(out, func(string) string { return "" })
		assert.False(t, screen.colours)
		assert.False(t, screen.inPlace)
	}
}

func TestTerminalMayRefuseColoursAndMore(t *testing.T) {
	t.Parallel()
	// A character device, as terminals are.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	for _, c := range []struct {
		environment      map[string]string
		colours, inPlace bool
	}{
		{map[string]string{"TERM": "xterm-256color"}, true, true},
		{map[string]string{"TERM": "xterm-256color", "NO_COLOR": "1"}, false, true},
		{map[string]string{"TERM": "dumb"}, false, false},
	} {
		screen := newScreen(device, func(name string) string { return c.environment[name] })
		assert.Equal(t, c.colours, screen.colours, c.environment)
		assert.Equal(t, c.inPlace, screen.inPlace, c.environment)
	}
}
