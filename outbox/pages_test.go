package outbox_test

import (
	"context"
	"database/sql"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/page"
)

// The README and the pages in docs have these lines.

func openPostgres(ctx context.Context, token string) *outbox.Outbox {
	db, err := sql.Open("pgx", "postgres://user@host/database")
	if err != nil {
		log.Fatal(err)
	}
	o, err := outbox.Open(ctx, outbox.Postgres(db), nil, outbox.WithAccessToken(token))
	if err != nil {
		log.Fatal(err)
	}
	return o
}

func webhook(o *outbox.Outbox, appSecret []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3<<20))
		if err != nil {
			http.Error(w, "cannot read", http.StatusBadRequest)
			return
		}
		if err := graphretry.VerifyWebhook(body, r.Header.Get("X-Hub-Signature-256"), appSecret); err != nil {
			http.Error(w, "wrong signature", http.StatusForbidden)
			return
		}
		if err := o.HandleWebhook(r.Context(), body); err != nil {
			http.Error(w, "again, please", http.StatusInternalServerError) // Meta repeats it
		}
	}
}

func outcomes(shop *sql.DB) []outbox.Option {
	return []outbox.Option{
		outbox.WithOutcome(func(ctx context.Context, outcome outbox.Outcome) error {
			_, err := shop.ExecContext(ctx, "UPDATE orders SET message = $1 WHERE id = $2", outcome.Kind, outcome.Status.ID)
			return err
		}),
	}
}

type account struct{ Name string }

func mount(mux *http.ServeMux, o *outbox.Outbox, session interface{ Of(*http.Request) account }, login func(http.Handler) http.Handler) {
	user := func(r *http.Request) string { return session.Of(r).Name } // yours
	mux.Handle("/outbox/", http.StripPrefix("/outbox", login(page.Handler(o, page.WithUser(user)))))
}

var _, _, _, _ = openPostgres, webhook, outcomes, mount

// pages returns the README and the pages in docs, by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	texts := make(map[string]string)
	for _, path := range append(paths, "README.md") {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		texts[path] = string(text)
	}
	return texts
}

// Each snippet is, line for line, in a Go file that is compiled.
func TestSnippetsOfPagesAreCompiled(t *testing.T) {
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			var text []byte
			text, err = os.ReadFile(path)
			sources = append(sources, linesOf(string(text)))
		}
		return err
	}))
	snippet := regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	for path, text := range pages(t) {
		for _, found := range snippet.FindAllStringSubmatch(text, -1) {
			isCompiled := false
			for _, source := range sources {
				// In a list of arguments the snippet ends with a comma.
				isCompiled = isCompiled || strings.Contains(source, linesOf(found[1])) ||
					strings.Contains(source, strings.TrimSuffix(linesOf(found[1]), "\n")+",\n")
			}
			assert.True(t, isCompiled, "%s: no Go file has these lines:\n%s", path, found[1])
		}
	}
}

// linesOf returns a text without its indentation and its empty lines.
func linesOf(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString("\n" + line)
		}
	}
	return lines.String() + "\n"
}

func TestLinksOfPagesLeadToFilesAndHeadings(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for path, text := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(found[1], "https://") {
				continue
			}
			to, heading, _ := strings.Cut(found[1], "#")
			file := filepath.Join(filepath.Dir(path), to)
			if to == "" {
				file = path
			}
			_, err := os.Stat(file)
			assert.NoError(t, err, "%s links to %s", path, found[1])
			if heading == "" || err != nil {
				continue
			}
			target, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Contains(t, headingsOf(string(target)), heading, "%s links to %s", path, found[1])
		}
	}
}

// headingsOf returns the anchors of the headings of a page.
func headingsOf(text string) []string {
	var names []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// The README is read once, in five minutes. The reference is in docs.
func TestReadmeIsShortAndLeadsToEveryPage(t *testing.T) {
	texts := pages(t)
	readme := texts["README.md"]
	assert.LessOrEqual(t, len(strings.Fields(readme)), 1100)
	for path := range texts {
		if path != "README.md" {
			assert.Contains(t, readme, "]("+filepath.ToSlash(path)+")")
		}
	}
}

func TestPageHasTheLinesForPgx(t *testing.T) {
	source, err := os.ReadFile("tx_test.go")
	require.NoError(t, err)
	_, lines, _ := strings.Cut(string(source), "in docs/database.md.\n")
	lines, _, _ = strings.Cut(lines, "\n\n// ")
	assert.Contains(t, pages(t)["docs/database.md"], lines)
}
