package browsertest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

var (
	pictures = flag.String("pictures", "", "draw the pictures of the README and docs into this folder")
	shots    = flag.String("shots", "", "draw every page into this folder, 360 and 1200 pixels wide, light and dark")
)

const (
	heldNumber   = "108112345678901"
	pausedNumber = "109998877665544"
)

// fill puts something of everything into an outbox: a number that is held, one that is paused,
// one that sends, and messages in each state except sending.
func (d *desk) fill() {
	d.T.Helper()
	d.noToken.Store(heldNumber)
	d.Send()
	for i := range 8 {
		switch i {
		case 2:
			d.API.AnswerNext(1, graphtest.Answer{Code: 131026})
		case 5:
			d.API.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
		}
		require.NoError(d.T, d.Enqueue(d.T.Context(), fmt.Sprintf("receipt-%04d", i+1), number, payload("receipt"), outbox.Label("receipts")))
		d.until(func(s outbox.Stats) bool {
			return s.Numbers[number].States[outbox.StateQueued]+s.Numbers[number].States[outbox.StateSending] == 0
		})
	}
	require.NoError(d.T, d.Enqueue(d.T.Context(), "receipt-0009", number, payload("receipt"), outbox.Label("receipts"), outbox.NotBefore(time.Now().Add(time.Hour))))
	d.campaign("spring-sale", heldNumber, 120)
	require.NoError(d.T, d.Pause(d.T.Context(), pausedNumber))
	d.campaign("reminders", pausedNumber, 14)
	d.until(func(s outbox.Stats) bool { return s.Numbers[heldNumber].HeldFor != "" })
}

// age has everything have happened that long ago, except what is still to come.
func (d *desk) age(by time.Duration) {
	d.T.Helper()
	for _, update := range []string{
		"graphretry_message SET enqueued_at = enqueued_at - ?", "graphretry_record SET changed_at = changed_at - ?",
		"graphretry_queue SET place = place - ? WHERE due <= place + 60000000 AND label <> 'receipts'",
	} {
		_, err := d.db.ExecContext(d.T.Context(), "UPDATE "+update, by.Microseconds())
		require.NoError(d.T, err)
	}
}

// picture draws a page as a PNG.
func (d *desk) picture(path string, width, height int64, scheme, file string) {
	d.T.Helper()
	d.do(chromedp.EmulateViewport(width, height), colors(scheme))
	d.open(path)
	shot := chromedp.FullScreenshot(100)
	if *pictures != "" {
		shot = chromedp.CaptureScreenshot()
	}
	png, err := chromedp.Run(d.tab, shot)
	require.NoError(d.T, err)
	require.NoError(d.T, os.WriteFile(file, png, 0o644))
}

func TestPictures(t *testing.T) {
	if *pictures == "" && *shots == "" {
		t.Skip("it draws pictures: see make pictures")
	}
	d := newDesk(t)
	paths := d.shown()
	d.age(4 * time.Minute)
	d.open("")
	if *pictures != "" {
		d.picture("", 1100, 690, "light", filepath.Join(*pictures, "page-overview.png"))
		d.picture("messages?state=failed&state=unknown&state=queued", 1100, 622, "dark", filepath.Join(*pictures, "page-messages.png"))
		return
	}
	for i, path := range paths {
		for _, width := range []int64{360, 1200} {
			for _, scheme := range []string{"light", "dark"} {
				d.picture(path, width, 800, scheme, filepath.Join(*shots, fmt.Sprintf("%02d-%d-%s.png", i, width, scheme)))
			}
		}
	}
}
