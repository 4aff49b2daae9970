package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBadFlagsAreNamedTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want []string
	}{
		{"-rate 0", []string{"outage: -rate 0: want 1 to 1000\n"}},
		{"-rate 1001", []string{"outage: -rate 1001: want 1 to 1000\n"}},
		{"-one -rate 3", []string{"outage: -one and -rate are both given: want one of them\n"}},
		{"-outage -1s", []string{"outage: -outage -1s: want 0s to 24h\n"}},
		{"-outage 25h", []string{"outage: -outage 25h0m0s: want 0s to 24h\n"}},
		{"-outage 12", []string{`invalid value "12" for flag -outage`}},
		{"-interval 9ms", []string{"outage: -interval 9ms: want 10ms to 1m\n"}},
		{"-interval 61s", []string{"outage: -interval 1m1s: want 10ms to 1m\n"}},
		{"-code 0", []string{"outage: -code 0: want a Graph error code, such as 2,"}},
		{"-code x", []string{`outage: invalid value "x" for flag -code`}},
		{"-to 12ab", []string{`outage: -to "12ab": want a phone number`}},
		{"more", []string{`outage: ["more"]: want flags only`}},
		{"-unknown", []string{"outage: flag provided but not defined: -unknown (-h lists the flags)"}},
		{"-rate 0 -interval 0s", []string{"outage: -rate 0: ", "\noutage: -interval 0s: "}},
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
	for _, flag := range []string{"rate many", "one\n", "outage long", "interval long", "code code", "to number"} {
		assert.Contains(t, r.stdout, "\n  -"+flag)
	}
}
