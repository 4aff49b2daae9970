package page_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/page"
)

func TestOverviewCountsByStateNumberAndLabel(t *testing.T) {
	d := newDesk(t)
	assert.Contains(t, words(d.get("")), "No number has a message here.")
	require.NoError(t, d.Enqueue(t.Context(), "tonight", "333", []byte(payload), outbox.NotBefore(time.Now().Add(12*time.Hour))))
	assert.Contains(t, words(d.get("")), "1 queued 0 sending 0 sent 0 failed 0 unknown – longest wait", "a message for tonight does not wait yet")
	require.NoError(t, d.Delete(t.Context(), "tonight"))
	d.becomes("failed", outbox.StateFailed, outboxtest.Refused)
	d.becomes("sent", outbox.StateSent)
	d.Add("a", "b")
	require.NoError(t, d.Enqueue(t.Context(), "c", "222", []byte(payload), outbox.Label("june")))
	require.NoError(t, d.Pause(t.Context(), "222"))

	text := words(d.get(""))
	assert.Contains(t, text, "3 queued 0 sending 1 sent 1 failed 0 unknown")
	assert.Regexp(t, `\ds longest wait`, text)
	assert.Contains(t, text, "0 live Runs")
	assert.Contains(t, text, "No Run is alive")
	assert.Regexp(t, "222 paused [0-9.–]+ 1 0 0 0 0 Resume 222", text)
	assert.Regexp(t, number+" sends [0-9.–]+ 2 0 1 1 0 Pause "+number, text)
	assert.Less(t, strings.Index(text, "222 paused"), strings.Index(text, number+" sends"), "what needs a person comes first")
	assert.Regexp(t, "Labels label .* june 1 0 0 0 0", text)

	text = words(d.get("?number=222"))
	assert.Contains(t, text, "222 paused")
	assert.NotContains(t, text, number)
}

func TestOverviewSaysWhatIsHeldAndWhy(t *testing.T) {
	d := newDesk(t)
	for i := range 3 {
		d.API.AnswerNext(1, graphtest.Answer{Code: 190})
		d.Add(fmt.Sprint("m", i))
	}
	stop := d.Send()
	defer stop()
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		stats, err := d.Stats(t.Context())
		require.NoError(c, err)
		assert.NotEmpty(c, stats.Numbers[number].HeldFor)
	}, patience, 10*time.Millisecond)
	text := words(d.get(""))
	assert.Regexp(t, number+` held : Access token has expired \(190\); next probe in \ds`, text, "in the words of the command")
	assert.Contains(t, text, "1 live Run")
	assert.Regexp(t, `Runs Run is began last heartbeat messages it has \d+ alive \ds ago \ds ago \d`, text)
}

func TestOverviewSaysWhyAllNumbersAreHeld(t *testing.T) {
	d := newDesk(t)
	_, err := d.db.ExecContext(t.Context(), "INSERT INTO graphretry_number (number, held_at, probe_at, reason) VALUES ('', ?, ?, ?)",
		d.Now().UnixMicro(), d.Now().Add(150*time.Second).UnixMicro(), "graphretry: Graph error 2 (API Service): (#2) the API does not answer [fbtrace_id A]")
	require.NoError(t, err)
	assert.Contains(t, words(d.get("")), "All numbers are held: API Service (2): (#2) the API does not answer. The next probe: in 2m .")
}

func TestListFindsByEachFieldOfTheFilter(t *testing.T) {
	d := newDesk(t)
	d.becomes("failed", outbox.StateFailed, outboxtest.Refused)
	d.becomes("unknown", outbox.StateUnknown, outboxtest.Broken)
	d.Add("queued")
	require.NoError(t, d.Enqueue(t.Context(), "june-1", "222", []byte(payload), outbox.Label("june & july")))

	for query, ids := range map[string][]string{
		"":                            {"failed", "unknown", "queued", "june-1"},
		"state=&number=&label=&code=": {"failed", "unknown", "queued", "june-1"},
		"state=queued":                {"queued", "june-1"},
		"state=queued&state=failed":   {"failed", "queued", "june-1"},
		"number=222":                  {"june-1"},
		"label=june+%26+july":         {"june-1"},
		"code=131026":                 {"failed"},
		"code=+131026+":               {"failed"},
		"older=0s&state=unknown":      {"unknown"},
		"older=1d":                    {},
		"state=failed&label=june":     {},
	} {
		text := d.get("messages?" + query)
		for _, id := range []string{"failed", "unknown", "queued", "june-1"} {
			has := strings.Contains(text, `href="message?id=`+id+`"`)
			assert.Equal(t, slices.Contains(ids, id), has, "%s in the list of %q", id, query)
		}
		if len(ids) == 0 {
			assert.Contains(t, text, "No message matches")
		}
	}
	text := words(d.get("messages?state=failed"))
	assert.Contains(t, text, "failed failed Message Undeliverable (131026) ", "Meta's title comes first")
}

func TestListGoesPageByPage(t *testing.T) {
	d := newDesk(t)
	var messages []outbox.Message
	for i := range 120 {
		messages = append(messages, outbox.Message{ID: fmt.Sprintf("m%03d&", i), PhoneNumberID: number, Payload: []byte(payload)})
	}
	require.NoError(t, d.EnqueueAll(t.Context(), messages))
	seen, at := 0, "messages?state=queued"
	for range 3 {
		text := d.get(at)
		seen += strings.Count(text, `href="message?id=`)
		_, next, ok := strings.Cut(text, `rel="next" href="`)
		if at = ""; ok {
			at, _, _ = strings.Cut(next, `"`)
			at = strings.ReplaceAll(at, "&amp;", "&")
		}
	}
	assert.Equal(t, 120, seen)
	assert.Empty(t, at, "the third page is the last")
}

func TestMessageShowsItsLifeAndWhatMetaSaid(t *testing.T) {
	d := newDesk(t)
	d.becomes("a message", outbox.StateFailed, outboxtest.Refused)
	text := d.get("message?id=a+message")
	for _, part := range []string{"a message", "failed : Message Undeliverable", "Enqueued", "Last changed", "What Meta said", "131026", "fbtrace_id", "What to do"} {
		assert.Contains(t, words(text), part)
	}
	assert.NotContains(t, words(text), "Retried", "what is empty is left out")
	assert.NotContains(t, text, "15550001111", "no payload")
	assert.NotContains(t, words(text), "Drop", "a failed message cannot be dropped")
	assert.Contains(t, words(text), "Resend… Delete…")
}

func TestPayloadIsShownWithTheOptionAlone(t *testing.T) {
	d := newDesk(t, page.WithPayload())
	d.becomes("a", outbox.StateSent)
	assert.Contains(t, d.get("message?id=a"), "15550001111")
	require.NoError(t, d.HandleWebhook(t.Context(), delivered(d, "a")))
	text := words(d.get("message?id=a"))
	assert.Contains(t, text, "Delivered")
	assert.Contains(t, text, "Payload It is not kept any more.")
}

// delivered is a webhook that says that a message was delivered.
func delivered(d *desk, id string) []byte {
	d.T.Helper()
	status, err := d.Status(d.T.Context(), id)
	require.NoError(d.T, err)
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"messaging_product":"whatsapp","metadata":{"phone_number_id":%q},`+
		`"statuses":[{"id":%q,"status":"delivered","timestamp":"%d","recipient_id":"15550001111","biz_opaque_callback_data":%q}]}}]}]}`,
		number, status.MessageID, time.Now().Unix(), id)
}

func TestTextsOfOthersAreEscaped(t *testing.T) {
	d := newDesk(t, page.WithPayload())
	const script = `<script>alert("1")</script>`
	hostile := graphtest.Answer{Body: []byte(`{"error":{"message":"<img src=x onerror=alert(1)>","code":131026,"error_user_title":"</dd><script>alert(2)</script>","error_data":{"details":"\u202e<b>"},"fbtrace_id":"\"><script>"}}`), Status: 400}
	d.API.AnswerNext(1, hostile)
	require.NoError(t, d.Enqueue(t.Context(), script, number, []byte(strings.ReplaceAll(payload, "hello", `<script>alert(3)</script>`)), outbox.Label(`"'><script>`)))
	stop := d.Send()
	<-d.Outcomes
	stop()
	id := url.QueryEscape(script)
	for _, path := range []string{"", "messages", "messages?label=" + url.QueryEscape(`"'><script>`), "message?id=" + id, "confirm?verb=delete&id=" + id,
		"confirm?verb=delete&label=" + url.QueryEscape(`"'><script>`), "messages?label=%3Cscript%3E%E2%80%AE", "confirm?verb=delete&label=%E2%80%AE"} {
		text := d.get(path)
		assert.Equal(t, 1, strings.Count(text, "<script"), "refresh.js alone, on %s:\n%s", path, text)
		assert.NotContains(t, text, "<img", path)
		assert.NotContains(t, words(text), "\u202e", "a field has it as it was given, and keeps it inside: "+path)
	}
	assert.Contains(t, d.get("message?id="+id), "&lt;img src=x onerror=alert(1)&gt;")
	wrong := d.do(http.MethodGet, "messages?code=%3Cscript%3E&number=%3Cscript%3E&state=%3Cscript%3E&older=%3Cscript%3E", nil)
	assert.Equal(t, http.StatusBadRequest, wrong.StatusCode)
	assert.Equal(t, 1, strings.Count(wrong.body, "<script"))
}

func TestEachAnswerHasAStrictPolicy(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"", "messages", "message?id=none", "none", "style.css", "refresh.js", "icon.svg", "confirm?verb=pause"} {
		got := d.do(http.MethodGet, path, nil)
		policy := got.Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'", path)
		assert.Contains(t, policy, "frame-ancestors 'none'", path)
		assert.NotContains(t, policy, "unsafe", path)
		assert.Equal(t, "nosniff", got.Header.Get("X-Content-Type-Options"), path)
		assert.NotContains(t, got.body, " style=", path)
		assert.NotRegexp(t, `(src|href|action)="[^"]*//`, got.body, "nothing is loaded from elsewhere: "+path)
	}
	assert.Equal(t, "no-store", d.do(http.MethodGet, "messages", nil).Header.Get("Cache-Control"))
	assert.Equal(t, "text/css; charset=utf-8", d.do(http.MethodGet, "style.css", nil).Header.Get("Content-Type"))
}

func TestWhatCannotBeShownHasAPageThatSaysSo(t *testing.T) {
	d := newDesk(t)
	d.Add("a")
	for _, test := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"POST", "", 405, "takes only GET, HEAD"},
		{"DELETE", "message?id=a", 405, "The request was DELETE"},
		{"GET", "decide", 405, "takes only POST"},
		{"GET", "messages?state=lost", 400, "There is no state"},
		{"GET", "messages?code=x", 400, "The code is"},
		{"GET", "messages?code=-1", 400, "The code is"},
		{"GET", "messages?older=-1h", 400, "The age is"},
		{"GET", "messages?older=tomorrow", 400, "want a time such as"},
		{"GET", "messages?number=x&code=x", 400, "; the code is"},
		{"GET", "messages?number=abc", 400, "want digits"},
		{"GET", "messages?label=" + strings.Repeat("x", 200), 400, "Label"},
		{"GET", "messages?after=gone", 404, "There is no such message"},
		{"GET", "message?id=gone", 404, "There is no such message"},
		{"GET", "message", 400, "The id is empty"},
		{"GET", "confirm?verb=drop&id=gone", 404, "There is no such message"},
		{"GET", "confirm?verb=explode", 400, "There is no such decision"},
		{"GET", "confirm?verb=drop&state=sent", 400, "You can drop only messages that are queued or unknown."},
		{"GET", "?number=333", 404, "There is no such number"},
		{"GET", "none", 404, "There is no such page"},
	} {
		got := d.do(test.method, test.path, nil)
		assert.Equal(t, test.status, got.StatusCode, "%s %s", test.method, test.path)
		assert.Contains(t, words(got.body), test.says, "%s %s", test.method, test.path)
		assert.Contains(t, got.body, `<a href="./">Overview</a>`)
	}
	assert.Equal(t, "POST", d.do(http.MethodGet, "decide", nil).Header.Get("Allow"))
	assert.Equal(t, "GET, HEAD", d.do(http.MethodPut, "messages", nil).Header.Get("Allow"))
	require.NoError(t, d.Close())
	got := d.do(http.MethodGet, "", nil)
	assert.Equal(t, http.StatusServiceUnavailable, got.StatusCode)
	assert.Contains(t, got.body, "The outbox is closed")
	assert.Contains(t, d.log.String(), "url.path=/ ")
}
