package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// serve serves until the test ends, and returns the address and what was logged.
func (c *operator) serve(args ...string) (address string, stop func() string) {
	c.T.Helper()
	ctx, cancel := context.WithCancel(c.T.Context())
	out, printed := io.Pipe()
	var log strings.Builder
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"-db", c.where, "serve", "-addr", "127.0.0.1:0"}, args...), streams{out: printed, err: &log, size: noTerminal})
		printed.Close()
	}()
	line := make([]byte, 100)
	n, err := out.Read(line)
	require.NoError(c.T, err)
	var once sync.Once
	return strings.TrimSpace(string(line[:n])), func() string {
		once.Do(func() {
			cancel()
			assert.NoError(c.T, <-ended)
		})
		return log.String()
	}
}

func TestServeShowsThePageUntilAnInterrupt(t *testing.T) {
	c := newOperator(t, "a")
	address, stop := c.serve("-payloads")
	defer stop()
	resp, err := http.Get(address + "message?id=a")
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	assert.Contains(t, string(text), "hello")
	resp, err = http.PostForm(address+"decide", url.Values{"verb": {"drop"}, "id": {"a"}})
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, outbox.StateFailed, c.State("a"))
	assert.Regexp(t, `user.name=\S+ graphretry.outbox.decision=drop graphretry.outbox.message_id=a`, stop())
	_, err = http.Get(address)
	assert.Error(t, err)
}

// A site can have its own name resolve to 127.0.0.1 after its page was loaded. Its forms are
// then of the same origin.
func TestServeRefusesTheNameOfASite(t *testing.T) {
	c := newOperator(t, "a")
	address, stop := c.serve()
	defer stop()
	req, err := http.NewRequest(http.MethodPost, address+"decide", strings.NewReader("verb=drop&id=a"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Host = "evil.example:8080"
	req.Header.Set("Origin", "http://evil.example:8080")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusMisdirectedRequest, resp.StatusCode)
	assert.Equal(t, outbox.StateQueued, c.State("a"))
}

func TestServeListensOnLoopbackAlone(t *testing.T) {
	c := newOperator(t)
	for _, address := range []string{":8080", "0.0.0.0:0", "192.0.2.1:80", "8080", "example.com:80"} {
		_, err := c.do("", "serve", "-addr", address)
		assert.ErrorIs(t, err, errUsage, address)
	}
	assert.True(t, isLoopback("[::1]") && isLoopback("localhost") && isLoopback("127.0.0.9"))
}
