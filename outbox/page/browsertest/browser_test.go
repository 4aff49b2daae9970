package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// Without JavaScript, as the pages are to work without.
func TestCampaignBehindAHeldNumberIsFoundPausedAndDropped(t *testing.T) {
	t.Parallel()
	d := newDesk(t, withoutJavaScript())
	d.noToken.Store(number)
	d.campaign("june", number, 40)
	require.NoError(t, d.Enqueue(t.Context(), "code-1", "222", payload("4711"), outbox.NotBefore(time.Now().Add(time.Hour))))
	d.Send()
	d.until(func(s outbox.Stats) bool { return s.Numbers[number].HeldFor != "" })

	d.open("")
	d.see("held")
	d.click("Pause " + number)
	d.see("The number was paused.")
	d.see("; paused")
	d.click("june")
	d.see("june-0001")
	d.click("Drop…")
	d.see("Drop 40 messages?")
	d.click("Drop 40 messages")
	d.see("40 messages were dropped.")
	stats, err := d.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[outbox.State]int{outbox.StateFailed: 40}, stats.Labels["june"])
	assert.True(t, stats.Numbers[number].Paused)
	assert.Equal(t, 1, stats.Numbers["222"].States[outbox.StateQueued])
	assert.Contains(t, d.log.String(), "user.name=ana graphretry.outbox.decision=drop graphretry.outbox.messages=40")
}

func TestMessageWhoseTextIsAScriptIsShownAsText(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const script = `<script>document.title = "owned"</script><img src=x onerror="document.title = 'owned'">`
	d.API.AnswerNext(1, graphtest.Answer{Status: 400, Body: fmt.Appendf(nil, `{"error":{"code":131026,"message":%q,"error_data":{"details":%q}}}`, script, script)})
	require.NoError(t, d.Enqueue(t.Context(), script, number, payload(script), outbox.Label(script)))
	d.Send()
	d.until(func(s outbox.Stats) bool { return s.States[outbox.StateFailed] == 1 })
	d.open("")
	d.click(script) // its label
	d.click(script) // it
	d.see("What Meta said")
	assert.Equal(t, 5, strings.Count(d.text(), script), "the id, why it failed, the label, and what Meta said twice:\n%s", d.text())
	assert.Equal(t, "Message · outbox", of[string](d, "document.title"))

	// If one got through, the policy would stop it.
	_ = of[chromedp.Void](d, `{
		const s = document.createElement("script");
		s.textContent = "document.title = 'owned'";
		document.body.append(s);
		document.body.insertAdjacentHTML("beforeend", "<img src='none' onerror='document.title = \"owned\"'>");
	}`)
	d.holds(`[...document.images].every(i => i.complete)`)
	assert.Equal(t, "Message · outbox", of[string](d, "document.title"))
}

func TestFormThatIsPostedFromAnotherOriginChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	require.NoError(t, d.Enqueue(t.Context(), "a", number, payload("a")))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<main><form method="post" action="%s/ops/decide"><input name="verb" value="drop"><input name="id" value="a"><button>Win a prize</button></form></main>`, d.web.URL)
	}))
	defer other.Close()
	for _, origin := range []string{other.URL, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)} {
		d.do(chromedp.Navigate(origin))
		d.click("Win a prize")
		d.see("This form came from another site")
		status, err := d.Status(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, outbox.StateQueued, status.State)
	}
	// The same form from these pages.
	d.open("confirm?verb=drop&id=a")
	d.click("Drop 1 message")
	d.see("1 message was dropped.")
}

func TestPageRefreshesItselfAndKeepsTheFocus(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.campaign("june", number, 1)
	d.campaign("july", "222", 2)
	d.open("")
	d.see("3 queued")
	_ = of[chromedp.Void](d, `document.querySelector('form[action=decide]:has([value="222"]) button').focus()`)
	require.NoError(t, d.Pause(t.Context(), number))
	d.campaign("august", number, 4)
	d.see("7 queued")
	d.holds(`document.activeElement.tagName === "BUTTON" && document.activeElement.isConnected`)
	d.web.CloseClientConnections()
	d.web.Config.Handler = http.NotFoundHandler()
	_ = of[chromedp.Void](d, `refresh()`)
	d.see("What you see is old")
}

func TestPagesWorkByKeyboard(t *testing.T) {
	d := newDesk(t)
	d.campaign("june", number, 3)
	d.open("")
	// tabTo presses the tab key until the element with the focus has that text.
	tabTo := func(text string) {
		t.Helper()
		for range 40 {
			d.do(chromedp.KeyEvent(kb.Tab))
			if of[string](d, `document.activeElement.textContent.replace(/\s+/g, " ").trim()`) == text {
				assert.Equal(t, "solid", of[string](d, `getComputedStyle(document.activeElement).outlineStyle`), "the focus can be seen")
				return
			}
		}
		require.FailNow(t, "the tab key does not lead to it", text)
	}
	enter := func() {
		t.Helper()
		_, err := chromedp.RunResponse(d.tab, chromedp.KeyEvent(kb.Enter))
		require.NoError(t, err)
	}
	tabTo("Skip to the content")
	tabTo("Pause " + number)
	enter()
	d.see("The number was paused.")
	tabTo("june")
	enter()
	d.see("june-0003")
	tabTo("Park…")
	enter()
	d.see("Park 3 messages?")
	tabTo("Park 3 messages")
	enter()
	d.see("3 messages were parked.")
	stats, err := d.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3, stats.States[outbox.StateUnknown])
}

// shown is an outbox with something of everything, and its pages.
func (d *desk) shown() (paths []string) {
	d.T.Helper()
	d.fill()
	return []string{
		"", "?number=" + heldNumber, "messages", "messages?state=failed&state=unknown", "messages?label=none", "messages?code=x",
		"message?id=receipt-0003", "message?id=spring-sale-0007", "confirm?verb=drop&label=spring-sale", "confirm?verb=pause", "confirm?verb=delete&id=receipt-0003",
	}
}

func TestPagesAreReadableAt360PixelsAndInTheDark(t *testing.T) {
	d := newDesk(t)
	paths := d.shown()
	for _, path := range paths {
		d.open(path)
		for _, width := range []int64{360, 1200} {
			for _, scheme := range []string{"light", "dark"} {
				d.do(chromedp.EmulateViewport(width, 800), colors(scheme))
				assert.Empty(t, of[[]string](d, tooWide), "beyond %d pixels on /%s", width, path)
				assert.Empty(t, of[[]string](d, tooFaint), "less than 4.5 times as light or dark as what is behind, %s, on /%s", scheme, path)
			}
		}
	}
	assert.Equal(t, "rgb(20, 24, 26)", of[string](d, `getComputedStyle(document.body).backgroundColor`), "it is dark")
}

const (
	// tooWide lists the elements that are wider than the window, except hidden ones.
	tooWide = `[...document.querySelectorAll("body *")].filter(e => !e.closest(innerWidth < 700 ? ".hidden, .skip, thead" : ".hidden, .skip"))
		.filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 200))`
	// tooFaint lists the texts whose contrast is below what WCAG 2 asks for (AA).
	tooFaint = `{
		const channels = c => c.match(/[\d.]+/g).map(Number);
		const light = c => {
			const [r, g, b] = channels(c).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const behind = e => {
			for (; e; e = e.parentElement) {
				const c = getComputedStyle(e).backgroundColor;
				if (channels(c)[3] !== 0) return c;
			}
			return "rgb(255, 255, 255)";
		};
		[...document.querySelectorAll("body *")].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).filter(e => {
			const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
			return (a + 0.05) / (b + 0.05) < 4.5;
		}).map(e => e.outerHTML.slice(0, 200))
	}`
)

// At both widths, since a table that is drawn as blocks may not be a table for a screen reader.
func TestTablesHaveHeadersAndControlsHaveNames(t *testing.T) {
	d := newDesk(t)
	paths := d.shown()
	for _, path := range paths {
		d.open(path)
		for _, width := range []int64{360, 1200} {
			d.do(chromedp.EmulateViewport(width, 800))
			tree, err := chromedp.Call(d.tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
			require.NoError(t, err)
			roles := make(map[string]int)
			for _, node := range tree.Nodes {
				if node.Ignored || node.Role == nil {
					continue
				}
				role := strings.Trim(string(node.Role.Value), `"`)
				roles[role]++
				switch role {
				case "button", "link", "textbox", "checkbox", "table", "columnheader", "rowheader", "navigation", "heading":
					assert.True(t, node.Name != nil && len(node.Name.Value) > 2, "a %s without a name on /%s", role, path)
				}
			}
			tables := of[int](d, `document.querySelectorAll("table").length`)
			assert.Equal(t, tables, roles["table"], "/%s", path)
			assert.Equal(t, of[int](d, `document.querySelectorAll("thead th").length`), roles["columnheader"], "/%s", path)
			assert.Equal(t, 1, of[int](d, `document.querySelectorAll("h1").length`), "/%s", path)
			assert.Zero(t, of[int](d, `{ const names = [...document.querySelectorAll("main button")].map(b => b.textContent); names.length - new Set(names).size }`), "two buttons of the same name on /%s", path)
			if tables > 0 {
				assert.GreaterOrEqual(t, roles["cell"], tables, "/%s", path)
				assert.NotZero(t, roles["rowheader"], "/%s", path)
			}
		}
	}
}
