package browsertest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/page"
)

const (
	number = outboxtest.Number
	// patience bounds what usually takes milliseconds, or seconds if a browser starts or a page
	// refreshes itself.
	patience = 60 * time.Second
)

var (
	browser      context.Context
	browserError error
	startOnce    sync.Once
	stopBrowser  = func() {}
)

func TestMain(m *testing.M) {
	code := m.Run()
	stopBrowser()
	os.Exit(code)
}

// start starts the browser that all tests share. Without one the test is skipped.
func start(t *testing.T) {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Skip("SKIPPED: there is no Chromium here; tools/get-chromium gets it")
	}
	startOnce.Do(func() {
		dir, err := os.MkdirTemp("", "outbox-browser")
		if err != nil {
			browserError = err
			return
		}
		// Without these flags it asks hosts of Google, and a machine that cannot reach them
		// waits.
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(program), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
			chromedp.Flag("force-color-profile", "srgb"), chromedp.WSURLReadTimeout(patience))
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		var stopFirst context.CancelFunc
		browser, stopFirst = chromedp.NewContext(allocator)
		stopBrowser = func() {
			stopFirst()
			stopAllocator()
			_ = os.RemoveAll(dir)
		}
		browserError = chromedp.Do(browser)
	})
	require.NoError(t, browserError)
}

// desk is an outbox, its pages, and a tab of the browser with them.
type desk struct {
	*outboxtest.Bench
	db  *sql.DB
	web *httptest.Server
	tab context.Context
	// noToken is the phone number whose token has expired, "" for none.
	noToken atomic.Value
	log     outboxtest.Buffer
}

func newDesk(t *testing.T, before ...chromedp.Action[chromedp.Void]) *desk {
	t.Helper()
	start(t)
	d := &desk{db: outboxtest.OpenSQLite(t)}
	d.Bench = outboxtest.New(t, outbox.SQLite(d.db), d)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page.Handler(d.Outbox,
		page.WithLogger(slog.New(slog.NewTextHandler(&d.log, nil))),
		page.WithUser(func(*http.Request) string { return "ana" }))))
	d.web = httptest.NewServer(mux)
	t.Cleanup(d.web.Close)
	tab, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	var cancel context.CancelFunc
	require.NoError(t, chromedp.Do(tab)) // its first call opens it, and must have no timeout
	d.tab, cancel = context.WithTimeout(tab, 2*patience)
	t.Cleanup(cancel)
	d.do(before...)
	d.open("")
	return d
}

// RoundTrip makes an attempt to send a message.
func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	if number := d.noToken.Load(); number != nil && strings.Contains(r.URL.Path, number.(string)) {
		_ = r.Body.Close()
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(graphtest.ErrorBody(190))), Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

// do carries out an action in the tab.
func (d *desk) do(actions ...chromedp.Action[chromedp.Void]) {
	d.T.Helper()
	require.NoError(d.T, chromedp.Do(d.tab, actions...), "the log:\n%s", d.log.String())
}

// of returns the value of an expression on the page.
func of[T any](d *desk, expression string) T {
	d.T.Helper()
	value, err := chromedp.Run(d.tab, chromedp.Evaluate[T](expression))
	require.NoError(d.T, err, expression)
	return value
}

// withoutJavaScript stops the tab from running scripts of the pages.
func withoutJavaScript() chromedp.Action[chromedp.Void] {
	return command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// colors has the tab prefer "light" or "dark".
func colors(scheme string) chromedp.Action[chromedp.Void] {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// command is a command to the browser that returns nothing.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, c, params)
		return err
	})
}

// open opens one of the pages.
func (d *desk) open(path string) {
	d.T.Helper()
	d.do(chromedp.Navigate(d.web.URL + "/ops/" + path))
}

// click follows the link, or pushes the button, with that text, and waits for the next page.
func (d *desk) click(text string) {
	d.T.Helper()
	d.holds(fmt.Sprintf(`{
		const found = [...document.querySelectorAll("main a, main button")].find(e => e.textContent.replace(/\s+/g, " ").trim() === %q);
		found?.setAttribute("data-test", "");
		found
	}`, text))
	ctx, cancel := context.WithTimeout(d.tab, patience)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, chromedp.Click("[data-test]"))
	require.NoError(d.T, err, "click %q on:\n%s", text, d.text())
}

// text returns the text of the page.
func (d *desk) text() string {
	d.T.Helper()
	return of[string](d, `document.body.innerText`)
}

// see waits until the page has a text.
func (d *desk) see(text string) {
	d.T.Helper()
	d.holds(fmt.Sprintf(`document.querySelector("main")?.textContent.replace(/\s+/g, " ").includes(%q)`, text))
}

// holds waits until an expression is true on the page.
func (d *desk) holds(expression string) {
	d.T.Helper()
	deadline := time.Now().Add(patience)
	for {
		// An error means that another page has just come.
		holds, err := chromedp.Run(d.tab, chromedp.Evaluate[bool]("!!eval("+strconv.Quote(expression)+")"))
		if err == nil && holds {
			return
		}
		if time.Now().After(deadline) {
			require.FailNow(d.T, "it never happened", "%s on:\n%s", expression, d.text())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// payload is a text message.
func payload(text string) []byte {
	return fmt.Appendf(nil, `{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":%q}}`, text)
}

// campaign enqueues messages with a label.
func (d *desk) campaign(label, number string, n int) {
	d.T.Helper()
	var messages []outbox.Message
	for i := range n {
		messages = append(messages, outbox.Message{ID: fmt.Sprintf("%s-%04d", label, i+1), PhoneNumberID: number, Payload: payload(label), Options: []outbox.EnqueueOption{outbox.Label(label)}})
	}
	require.NoError(d.T, d.EnqueueAll(d.T.Context(), messages))
}

// until waits until something is true of the outbox.
func (d *desk) until(such func(outbox.Stats) bool) {
	d.T.Helper()
	deadline := time.Now().Add(patience)
	for {
		stats, err := d.Stats(d.T.Context())
		require.NoError(d.T, err)
		if such(stats) {
			return
		}
		require.True(d.T, time.Now().Before(deadline), "%+v", stats)
		time.Sleep(10 * time.Millisecond)
	}
}
