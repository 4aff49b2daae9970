package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTextIsCutBetweenWords(t *testing.T) {
	const text = "Business eligibility payment issue (131042)"
	for columns, want := range map[int]string{
		0: text, 43: text, 42: "Business eligibility payment issue...", 38: "Business eligibility payment issue...",
		36: "Business eligibility payment...", 12: "Business...", 8: "Busin...", 3: "Bus",
	} {
		assert.Equal(t, want, cut(text, columns), columns)
	}
	assert.Equal(t, "nähe...", cut("nähern können", 7))
}

func TestIDIsShortenedInItsMiddle(t *testing.T) {
	assert.Equal(t, "5f0c2a9e-8a...5f7f6a0b7d", shortened("5f0c2a9e-8a0e-4a1a-9c1f-2f5f7f6a0b7d", 24))
	assert.Equal(t, "short", shortened("short", 24))
	assert.Equal(t, "short", shortened("short", 0))
}

func TestTextIsWrappedBeneathItsBeginning(t *testing.T) {
	assert.Equal(t, "name  a text of\n      several\n      words", strings.Join(wrapped("name  ", "a text of several words", 16), "\n"))
	assert.Equal(t, "name  0123456789\n      0123456789\n      0", strings.Join(wrapped("name  ", "012345678901234567890", 16), "\n"))
	assert.Equal(t, "name  a text of several words", strings.Join(wrapped("name  ", "a text of several words", 0), "\n"))
}
