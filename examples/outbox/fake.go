package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// acceptedFile has what the fake API has accepted, one message a line. It outlives the
// process, as Meta would.
const acceptedFile = "fake-api-accepted.jsonl"

// fakeAPI is a fake of Meta's API in this process.
type fakeAPI struct {
	api *graphtest.API
	out io.Writer

	mu      sync.Mutex
	file    string
	written int
	isDown  bool
}

func newFakeAPI(dir string, down time.Duration, out io.Writer) *fakeAPI {
	// The seed makes each run's wamids its own.
	f := &fakeAPI{api: graphtest.New(graphtest.WithSeed(uint64(time.Now().UnixNano()))), out: out, file: filepath.Join(dir, acceptedFile)}
	f.api.SetLatency(20 * time.Millisecond)
	f.api.DownAfter(0, down, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	return f
}

func (f *fakeAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := f.api.RoundTrip(req)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.isDown != (resp.StatusCode >= http.StatusBadRequest) {
		f.isDown = !f.isDown
		fmt.Fprintln(f.out, map[bool]string{true: "the fake API is down", false: "the fake API is up"}[f.isDown])
	}
	// An accepted message is written before the caller gets the answer.
	accepted := f.api.Accepted()
	for _, message := range accepted[f.written:] {
		if err := appendAccepted(f.file, message); err != nil {
			return nil, err
		}
		f.written++
	}
	return resp, err
}

func appendAccepted(name string, message graphtest.Message) error {
	message.Body = nil
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	// In one write, so that a kill leaves a whole line or none.
	_, err = file.Write(append(line, '\n'))
	return closed(file, err)
}

func closed(file *os.File, err error) error {
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

// accepted returns what the fake API has accepted, in this run and in earlier ones.
func accepted(dir string) ([]graphtest.Message, error) {
	text, err := os.ReadFile(filepath.Join(dir, acceptedFile))
	if err != nil {
		return nil, err
	}
	var messages []graphtest.Message
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var message graphtest.Message
		if err := json.Unmarshal(lines.Bytes(), &message); err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, lines.Err()
}

// acceptedBy returns how many messages the fake API has accepted, and how many of them twice.
func acceptedBy(dir string) (all, twice int, err error) {
	messages, err := accepted(dir)
	if err != nil {
		return 0, 0, err
	}
	times := map[string]int{}
	for _, message := range messages {
		if times[message.CallbackData]++; times[message.CallbackData] == 2 {
			twice++
		}
	}
	return len(messages), twice, nil
}

// webhooks is the part of the fake API that reports what became of messages. A run begins
// with the messages of earlier runs, since Meta repeats a webhook for days until it is
// accepted.
type webhooks struct {
	dir       string
	delivered int
}

func (w *webhooks) deliver(ctx context.Context, o *outbox.Outbox) error {
	messages, err := accepted(w.dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, message := range messages[w.delivered:] {
		if time.Since(message.Time) < time.Second {
			break
		}
		if err := o.HandleWebhook(ctx, graphtest.StatusWebhook(message, "delivered")); err != nil {
			return err
		}
		w.delivered++
	}
	return nil
}
