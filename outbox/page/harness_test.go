package page_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/page"
	"github.com/graphretry/graphretry/outbox/sqlite"
)

const (
	payload = `{"messaging_product":"whatsapp","to":"15550001111","type":"text","text":{"body":"hello"}}`
	number  = "106540352242922"
	// patience bounds what usually takes milliseconds.
	patience = 20 * time.Second
)

// desk is an outbox, and its pages behind a login at /ops/.
type desk struct {
	t   *testing.T
	api *graphtest.API
	*outbox.Outbox
	db       *sql.DB
	web      *httptest.Server
	log      buffer
	outcomes chan outbox.Outcome
}

func newDesk(t *testing.T, opts ...page.Option) *desk {
	t.Helper()
	d := &desk{t: t, api: graphtest.New(), outcomes: make(chan outbox.Outcome, 1000)}
	api := httptest.NewServer(d.api)
	t.Cleanup(api.Close)
	var err error
	d.db, err = sqlite.Open(filepath.Join(t.TempDir(), "outbox.db"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.db.Close()) })
	d.Outbox, err = outbox.Open(t.Context(), outbox.SQLite(d.db), nil, outbox.WithBaseURL(api.URL+"/v25.0"),
		outbox.WithOutcome(func(_ context.Context, o outbox.Outcome) error {
			d.outcomes <- o
			return nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	opts = append([]page.Option{
		page.WithLogger(slog.New(slog.NewTextHandler(&d.log, nil))),
		page.WithUser(func(r *http.Request) string { return r.Header.Get("X-User") }),
	}, opts...)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page.Handler(d.Outbox, opts...)))
	d.web = httptest.NewServer(mux)
	t.Cleanup(d.web.Close)
	return d
}

func (d *desk) enqueue(ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		require.NoError(d.t, d.Enqueue(d.t.Context(), id, number, []byte(payload)))
	}
}

// becomes enqueues and sends a message, and has the API answer like that.
func (d *desk) becomes(id string, state outbox.State, answers ...graphtest.Answer) {
	d.t.Helper()
	for _, answer := range answers {
		d.api.AnswerNext(1, answer)
	}
	d.enqueue(id)
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	select {
	case o := <-d.outcomes:
		require.Equal(d.t, id, o.Status.ID)
		require.Equal(d.t, state, o.Status.State)
	case <-time.After(patience):
		require.FailNow(d.t, "no outcome", id)
	}
	cancel()
	require.NoError(d.t, <-ended)
}

// passes waits until the database's clock has passed each time that a message has. That is at
// once, unless the machine has much else to do.
func (d *desk) passes() {
	d.t.Helper()
	all, err := d.List(d.t.Context(), outbox.Filter{})
	require.NoError(d.t, err)
	for _, s := range all {
		for !d.Now().After(s.Changed) {
			time.Sleep(time.Millisecond)
		}
	}
}

// state returns the state of a message, "" if there is none.
func (d *desk) state(id string) outbox.State {
	d.t.Helper()
	status, err := d.Status(d.t.Context(), id)
	if err != nil {
		require.ErrorIs(d.t, err, outbox.ErrNotFound)
	}
	return status.State
}

// answer is the answer to a request.
type answer struct {
	*http.Response
	body string
}

// do makes a request, and follows redirects.
func (d *desk) do(method, path string, form url.Values, header ...string) answer {
	d.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.web.URL+"/ops/"+path, body)
	require.NoError(d.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(d.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	return answer{resp, string(text)}
}

// get returns a page that exists.
func (d *desk) get(path string) string {
	d.t.Helper()
	got := d.do(http.MethodGet, path, nil)
	require.Equal(d.t, http.StatusOK, got.StatusCode, "%s\n%s", got.body, d.log.String())
	return got.body
}

var (
	hiddenFields = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	tags         = regexp.MustCompile(`<[^>]*>`)
)

// agree opens the page that asks for confirmation, and answers yes.
func (d *desk) agree(query string) answer {
	d.t.Helper()
	return d.do(http.MethodPost, "decide", fields(d.get("confirm?"+query)), "X-User", "ana")
}

// fields returns the fields of the form on a page.
func fields(text string) url.Values {
	form := url.Values{}
	for _, field := range hiddenFields.FindAllStringSubmatch(text, -1) {
		form.Add(field[1], field[2])
	}
	return form
}

// words returns the text of a page, with single blanks.
func words(text string) string {
	return strings.Join(strings.Fields(tags.ReplaceAllString(text, " ")), " ")
}

// buffer is a buffer for several writers.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
