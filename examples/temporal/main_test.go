package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWrongUseIsExplained(t *testing.T) {
	t.Setenv("WHATSAPP_TOKEN", "")
	t.Setenv("APP_SECRET", "")
	for want, args := range map[string][]string{
		"set WHATSAPP_TOKEN": nil,
		"takes flags alone":  {"-fake", "x"},
		"want 0 or more":     {"-fake", "-n", "-1"},
		"set APP_SECRET":     {"-fake", "-listen", ":0"},
		"no Temporal server": {"-fake", "-address", "127.0.0.1:1"},
	} {
		assert.ErrorContains(t, command(t.Context(), args, io.Discard), want)
	}
}
