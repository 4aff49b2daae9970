package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

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
	exit := run(ctx, func() {}, args, &stdout, &stderr, func(name string) string { return environment[name] })
	return result{exit, stdout.String(), stderr.String()}
}

// inVirtualTime runs the program to its end.
func inVirtualTime(t *testing.T, args ...string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r = outage(t.Context(), nil, args...) })
	return r
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

func (i *interrupt) WriteString(s string) (int, error) { return i.Write([]byte(s)) }

// interrupted runs the program, and ends it once a text has been printed.
func interrupted(t *testing.T, at string, args ...string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stdout, stderr := &interrupt{at: at, cancel: cancel}, &strings.Builder{}
		exit := run(ctx, func() {}, args, stdout, stderr, func(string) string { return "" })
		require.Contains(t, stdout.String(), at)
		r = result{exit, stdout.String(), stderr.String()}
	})
	return r
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

const secret = "EAAJsecretsecretsecret"

func TestRealAPIIsUsedOnlyWithAllThatItTakes(t *testing.T) {
	t.Parallel()
	all := map[string]string{"WHATSAPP_TOKEN": secret, "WHATSAPP_PHONE_NUMBER_ID": "106540352242922"}

	r := outage(ended(), all)
	assert.Contains(t, flat(r.stdout), "-to is not given: this is the fake API, and nothing leaves the machine.")
	assert.Contains(t, r.stdout, "a fake API down for 7s")

	for name := range all {
		r := outage(ended(), map[string]string{name: all[name]}, "-to", "16505551234")
		assert.Equal(t, exitWrongUse, r.exit)
		assert.Contains(t, r.stderr, "only one of WHATSAPP_TOKEN and WHATSAPP_PHONE_NUMBER_ID is set")
		assert.NotContains(t, r.stderr, secret)
	}

	r = outage(ended(), all, "-to", "16505551234", "-rate", "10")
	assert.Equal(t, exitWrongUse, r.exit)
	assert.Contains(t, r.stderr, "-rate: this is for the fake API")

	r = outage(ended(), map[string]string{"WHATSAPP_TOKEN": secret, "WHATSAPP_PHONE_NUMBER_ID": "../me"}, "-to", "16505551234")
	assert.Equal(t, exitWrongUse, r.exit)
	assert.Contains(t, r.stderr, `WHATSAPP_PHONE_NUMBER_ID="../me": want an id of digits`)

	r = outage(ended(), all, "-to", "16505551234")
	assert.Equal(t, exitNotDelivered, r.exit)
	assert.Contains(t, flat(r.stdout), "THE REAL API: this sends a WhatsApp message, the template hello_world, to 16505551234 through graph.facebook.com.")
	assert.NotContains(t, r.stdout+r.stderr, secret)
}
