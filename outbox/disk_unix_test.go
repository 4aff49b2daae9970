//go:build unix

package outbox_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// A file that must not grow any more is to the server as a disk that is full.
func TestDiskThatWasFullIsNamedAndUsedAgain(t *testing.T) {
	p := start(t, "full", "OUTBOX_TEST_DIR="+t.TempDir())
	require.Eventually(t, func() bool { return strings.HasSuffix(p.output.String(), "over\n") }, 3*patience, patience/1000)
	assert.Contains(t, p.output.String(), "the server cannot write to its disk")
	assert.Contains(t, p.output.String(), "file too large")
	assert.Contains(t, p.output.String(), "all sent\n")
}

// fullDiskRole fills the disk, makes room, and sends what Enqueue has confirmed.
func fullDiskRole() error {
	ctx := context.Background()
	server, err := outbox.Embedded(os.Getenv("OUTBOX_TEST_DIR"))
	if err != nil {
		return err
	}
	api := graphtest.New()
	o, err := outbox.Open(ctx, server.JetStream(), api, outbox.WithRate(1e6))
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := limit
	small.Cur = 100_000
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	var ids []string
	for i := 0; err == nil; i++ {
		id := fmt.Sprint(i)
		bounded, cancel := context.WithTimeout(ctx, 4*time.Second)
		err = o.Enqueue(bounded, id, phoneNumberID, payload(strings.Repeat("x", 10_000)))
		cancel()
		if err == nil {
			ids = append(ids, id)
		}
	}
	fmt.Println(err)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for err != nil {
		err = o.Enqueue(ctx, "last", phoneNumberID, payload("x"))
	}
	go o.Run(ctx)
	for _, id := range append(ids, "last") {
		for {
			status, err := o.Status(ctx, id)
			if err == nil && status.State == outbox.StateSent {
				break
			}
		}
	}
	fmt.Println("all sent")
	fmt.Println("over")
	select {}
}
