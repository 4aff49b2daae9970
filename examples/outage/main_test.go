package main

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// output is a place to print to from many goroutines.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// outage runs the program.
func outage(t *testing.T, environment map[string]string, args ...string) (int, string) {
	t.Helper()
	var out output
	code := run(t.Context(), args, &out, func(name string) string { return environment[name] })
	return code, out.String()
}

func TestMessageIsDeliveredAfterTheOutage(t *testing.T) {
	code, out := outage(t, nil, "-speed", "100")
	assert.Equal(t, delivered, code)
	assert.Contains(t, out, "attempt 1 failed: HTTP 503, code 2 API Service")
	assert.Regexp(t, `next attempt in [56]\.\d s`, out)
	assert.Regexp(t, `attempt \d delivered\n +wamid\.`, out)
	assert.NotContains(t, out, "\x1b", "no colours where there is no terminal")
	for line := range strings.Lines(out) {
		assert.LessOrEqual(t, len(line), 100, "lines are to fit a terminal")
	}
}

func TestCodeThatIsNeverRetriedIsSentOnce(t *testing.T) {
	for _, never := range []string{"131009", "130472"} {
		code, out := outage(t, nil, "-speed", "100", "-code", never)
		assert.Equal(t, notDelivered, code)
		assert.Contains(t, out, "not retried: this code is never retried")
		assert.Contains(t, out, "after 1 attempt.")
		assert.Contains(t, out, "What to do: ")
	}
}

func TestManySendersLoseNothing(t *testing.T) {
	code, out := outage(t, nil, "-speed", "10", "-senders", "30", "-outage", "10s")
	assert.Equal(t, delivered, code)
	assert.Contains(t, out, "the gate is shut: graphretry: Graph error 2")
	assert.Contains(t, out, "the gate is open again")
	assert.Regexp(t, regexp.MustCompile(`690 messages sent, 690 delivered, 0 lost, 0 twice; \d+ calls reached`), out)
}

func TestInterruptedProgramSaysWhatBecameOfTheMessage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	var out output
	assert.Equal(t, notDelivered, run(ctx, nil, &out, func(string) string { return "" }))
	assert.Contains(t, out.String(), "interrupted: the message was not delivered, after 1 attempt")
}

func TestBadFlagsAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"-senders", "0"}, {"-senders", "10001"}, {"-outage", "-1s"}, {"-speed", "0"}, {"-speed", "NaN"}, {"-code", "0"}, {"-code", "x"}, {"more"}, {"-unknown"},
	} {
		code, out := outage(t, nil, args...)
		assert.Equal(t, wrongUse, code, args)
		assert.Contains(t, out, strings.TrimPrefix(args[0], "-"), args)
	}
}

func TestRealAPIIsUsedOnlyWithANumberToSendTo(t *testing.T) {
	environment := map[string]string{"WHATSAPP_TOKEN": "EAAsecret", "WHATSAPP_PHONE_NUMBER_ID": "1"}
	code, out := outage(t, environment)
	assert.Equal(t, wrongUse, code)
	assert.Contains(t, out, "-to")
	assert.NotContains(t, out, "EAAsecret")
}
