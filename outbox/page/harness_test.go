package page_test

import (
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
	"github.com/graphretry/graphretry/outbox/page"
)

const (
	payload  = outboxtest.Payload
	number   = outboxtest.Number
	patience = outboxtest.Patience
)

// desk is an outbox, and its pages behind a login at /ops/.
type desk struct {
	*outboxtest.Bench
	db  *sql.DB
	web *httptest.Server
	log outboxtest.Buffer
}

func newDesk(t *testing.T, opts ...page.Option) *desk {
	t.Helper()
	db := outboxtest.OpenSQLite(t)
	d := &desk{Bench: outboxtest.New(t, outbox.SQLite(db), nil), db: db}
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

// becomes is Becomes while it sends.
func (d *desk) becomes(id string, state outbox.State, answers ...graphtest.Answer) {
	d.T.Helper()
	defer d.Send()()
	d.Becomes(id, state, answers...)
}

// passes waits until the database's clock has passed each time that a message has. That is at
// once, unless the machine has much else to do.
func (d *desk) passes() {
	d.T.Helper()
	all, err := d.List(d.T.Context(), outbox.Filter{})
	require.NoError(d.T, err)
	for _, s := range all {
		for !d.Now().After(s.Changed) {
			time.Sleep(time.Millisecond)
		}
	}
}

// answer is the answer to a request.
type answer struct {
	*http.Response
	body string
}

// do makes a request, and follows redirects.
func (d *desk) do(method, path string, form url.Values, header ...string) answer {
	d.T.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(d.T.Context(), method, d.web.URL+"/ops/"+path, body)
	require.NoError(d.T, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(d.T, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(d.T, err)
	return answer{resp, string(text)}
}

// get returns a page that exists.
func (d *desk) get(path string) string {
	d.T.Helper()
	got := d.do(http.MethodGet, path, nil)
	require.Equal(d.T, http.StatusOK, got.StatusCode, "%s\n%s", got.body, d.log.String())
	return got.body
}

var (
	hiddenFields = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	tags         = regexp.MustCompile(`<[^>]*>`)
)

// agree opens the page that asks for confirmation, and answers yes.
func (d *desk) agree(query string) answer {
	d.T.Helper()
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
